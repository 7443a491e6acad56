"""The pruner `snapvit`: an elastic order of a vision transformer's hidden units and heads, found without labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import Cost, Outline, PruningContext, ScorePruner, param

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks
    from pruningbench_structured.elastic import Order, Units

_START = (1.2, 0.8)
"""Weight of the first and of the last block at the start of the search; those between lie on a line."""


@dataclass(frozen=True)
class SnapVit(ScorePruner):
    """SnapViT: hidden units and heads of a vision transformer in one elastic order, without labels.

    A hidden unit of an MLP scores the mean squared gradient of its row of the first linear map, a head that of its rows
    of the projection to values. The gradients are those of a self-supervised loss over random crops of each image, two
    large ones and `crops` small ones: the sum of the cross-entropies from the softmax of each large crop's embedding to
    that of every other crop, with embeddings divided by their L2 norms and no temperature. The scores of each MLP and
    each head are then multiplied by weights found by xNES, an evolution strategy. It starts at 1.2 (first block)
    to 0.8 (last) with standard deviation 1, takes absolute values, and minimises the mean cosine distance between the
    embeddings of pruned networks and those of the dense one, in principal components of the dense embeddings. The
    pruned networks have lost the `ratios` of the hidden units. One order over all blocks ranks the units, another the
    heads; `floor` and `head_floor` keep the best of each block.
    The share of removed heads is that of removed units less `lag`, as with the ratios of the public code. So both
    orders become one, and each sparsity takes the first of it, as many as bring the pruned share of the prunable
    weights closest: ``sparsity_achieved`` gives the result. What a higher sparsity keeps, a lower one keeps, too.
    The score of a weight is its unit's place in this order, and one scoring serves all sparsities. Biases stay: they
    reach nothing. ``pruningbench_structured.shrink`` builds the smaller network. The public code differs: it crops
    photographs, not the network's inputs, it evaluates in bfloat16 and not the start, and its large crops are all
    equal, as are its small ones, because torchvision draws once for a batch.
    Needs images, no labels and no classifier (timm's is left out; another network's outputs are its embeddings), the
    library Torch-Pruning (``pip install 'pruningbench[structured]'``), and modules `qkv` and `proj` as in timm.
    Cost: for N images, (crops + 2) N forward and backward passes, and (evaluations + 1) x ratios x N forward passes of
    the smaller networks: 200,000 with the defaults, the published ones. The images are kept in memory. Higher = keep.
    Sources: Simoncini et al., Elastic ViTs from pretrained models without retraining (NeurIPS 2025, arXiv 2510.17700);
    Glasmachers et al., Exponential natural evolution strategies (GECCO 2010).
    """

    exact: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    seeded: ClassVar[bool] = True

    samples: int = param(1000, doc="number of images to use, starting with the first; at least 2")
    evaluations: int = param(50, doc="number of weightings that the search draws; 0 keeps the one it starts with")
    ratios: tuple[float, ...] = param(
        (0.15, 0.35, 0.55, 0.65), doc="shares of removed hidden units at which a weighting is judged, each in (0, 1)"
    )
    lag: float = param(0.15, doc="by how much the share of removed heads is below that of hidden units, in [0, 1)")
    floor: float = param(0.05, doc="minimum share of each MLP's units to keep, in [0, 1); one is always kept")
    head_floor: float = param(0.2, doc="minimum share of each block's heads to keep, in [0, 1); one is always kept")
    components: int = param(192, doc="principal components of the embeddings that are compared; at least 1")
    crops: int = param(10, doc="number of small crops of each image; at least 1")

    def problem(self) -> str | None:
        """Refuse values out of range, and a missing library."""
        from pruningbench.contract import range_problem
        from pruningbench_structured.graph import MISSING, installed

        wrong = {
            "samples": self.samples < 2, "evaluations": self.evaluations < 0, "components": self.components < 1,
            "ratios": not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios), "crops": self.crops < 1,
            **{name: not 0 <= getattr(self, name) < 1 for name in ("lag", "floor", "head_floor")},
        }  # fmt: skip
        first = next((name for name, is_wrong in wrong.items() if is_wrong), None)
        if first is not None:
            return range_problem(self, first)
        return None if installed() else MISSING

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse networks without attention modules that have fused projections."""
        from pruningbench_structured.heads import is_attention

        if any(is_attention(module) for module in network.modules()):
            return None
        return "it has no attention with the linear maps `qkv` and `proj`, as in timm's vision transformers"

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: the passes, and copies of the network, float64 gradients, crops, and the images."""
        samples = outline.images(self.samples)
        views = self.crops + 2
        forward = views + (1 + (self.evaluations + 1) * len(self.ratios) if self.evaluations else 0)
        kept = (self.samples if samples is None else samples) * outline.image_bytes
        crops = max(1, outline.batch_size // views) * views
        memory = (
            3 * outline.state_bytes + 16 * outline.weights + 9 * outline.largest + kept + crops * outline.pass_bytes
        )
        formula = (
            "3 S + 16 W + 9 Wmax + N I + c A: copies, gradients, ranks, N images of I bytes, c = crops of one pass"
        )
        return Cost(forward, views, samples, memory, formula)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return the places of all weights in the order of removal, float32 whole numbers from 1 on.

        Raises:
            UsageError: for a network without such blocks, or without Torch-Pruning.
            PruningBenchError: without two images, for a network that does not give one embedding for each image or
                computes something else without the units, and for values that are NaN or infinite.
        """
        from pruningbench_structured.elastic import find_units, ranks

        batches = [images for images, _ in context.first_images("snapvit", self.samples)]
        network = copy.deepcopy(context.network).eval()
        units = find_units(network, batches[0], context.parameters)
        order = self._order(context, _embedding(network), units, batches)
        return ranks(units, order, self.lag, context.parameters)

    def threshold(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        """Return masks of the first units in the order.

        Raises:
            UsageError: for a sparsity that they cannot reach.
        """
        from pruningbench.pruning.masks import Masks
        from pruningbench_structured.elastic import masks_at

        masks, removed = masks_at(scores, sparsity)
        return Masks(masks, {"sparsity": sparsity, "channels_removed": removed})

    def _order(self, context: PruningContext, network: nn.Module, units: Units, batches: list[Tensor]) -> Order:
        from pruningbench_structured import elastic
        from pruningbench_structured.fidelity import Fidelity
        from pruningbench_structured.xnes import minimise

        _check_embedding(network, units, batches[0][:2])
        scores = self._scores(context, network, units, batches)

        def order_of(weights: Tensor) -> Order:
            return elastic.removal_order(units, elastic.weighted(units, scores, weights), self.floor, self.head_floor)

        if not self.evaluations:
            return order_of(_start(units))
        fidelity = Fidelity(network, units, batches, self.components)

        def distance(weights: Tensor) -> float:
            order = order_of(weights)
            return fidelity.distance([elastic.removed_at(units, order, ratio, self.lag) for ratio in self.ratios])

        found = minimise(distance, _start(units), self.evaluations, context.generator("snapvit", "search"))
        tried, before = len(found.values), found.values[0]
        context.report(f"snapvit tried {tried} weightings: cosine distance {before:.4f} -> {found.value:.4f}")
        return order_of(found.best)

    def _scores(self, context: PruningContext, network: nn.Module, units: Units, batches: list[Tensor]) -> list[Tensor]:
        from pruningbench_structured.elastic import raw_scores
        from pruningbench_structured.views import GLOBALS, view_gradients

        own = dict(network.named_parameters())
        names = [f"{group.name}.weight" for group in units.groups]
        for parameter in own.values():
            parameter.grad = None
            parameter.requires_grad_(False)
        weights = [own[name].requires_grad_() for name in names]
        gradients = view_gradients(
            network, weights, batches, self.crops + GLOBALS, lambda image: context.generator("snapvit", "crops", image)
        )
        return raw_scores(units, dict(zip(names, gradients, strict=True)))


def _embedding(network: nn.Module) -> nn.Module:
    """Take the classifier out of a network of timm, in place; any other remains as it is."""
    drop = getattr(network, "reset_classifier", None)
    if callable(drop):
        drop(0)
    return network


def _start(units: Units) -> Tensor:
    """Return the weights at the start: one for each MLP, then one for each head."""
    import torch

    first, last = _START
    mlps = torch.linspace(first, last, len(units.mlps), dtype=torch.float64)
    sizes = torch.tensor([len(group.channels) for group in units.heads])
    return torch.cat([mlps, torch.linspace(first, last, len(sizes), dtype=torch.float64).repeat_interleave(sizes)])


def _check_embedding(network: nn.Module, units: Units, images: Tensor) -> None:
    """Make sure that there is an embedding, and that removing units does what masking them does."""
    import torch

    from pruningbench.contract import PruningBenchError
    from pruningbench_structured.elastic import without_units
    from pruningbench_structured.outputs import check_same

    with torch.no_grad():
        output = network(images)
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise PruningBenchError(
            f"pruner 'snapvit' needs one embedding for each image, but {type(network).__name__} returns {shape}"
        )
    if not torch.isfinite(output).all():
        raise PruningBenchError("pruner 'snapvit': embeddings are NaN or infinite; check the network and its images")
    first = [torch.arange(len(group.channels)) == 0 for group in units.groups]
    masked, smaller = copy.deepcopy(network), copy.deepcopy(network)
    with torch.no_grad():
        own = dict(masked.named_parameters())
        for group, gone in zip(units.groups, first, strict=True):
            for part in group.parts:
                if part.weight:
                    drop = group.drop(part, gone).nonzero().flatten().to(own[part.name].device)
                    own[part.name].index_fill_(part.dim, drop, 0)
        expected = masked(images)
    without_units(smaller, units, first)
    check_same(expected, smaller, images, "units and heads")
