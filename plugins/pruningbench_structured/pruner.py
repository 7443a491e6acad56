"""The pruner `structured`: whole channels, in all layers that share them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.pruning.masks import Masks
    from pruningbench_structured.graph import ChannelGraph


@dataclass(frozen=True)
class Structured(Pruner):
    """Structured pruning: remove whole channels, together in all layers that depend on each other (DepGraph).

    A channel owns a row of the layers that write it and a column of those that read it; all of them are masked,
    and biases and batch-norm scales and shifts of removed channels are set to zero in place, so that the masked
    network computes what the smaller one does. The score of a channel over all the weights it owns is
    ``sqrt(sum w^2)`` divided by the group's mean (l2), ``sum (g w)^2`` with g the gradient of the mean loss
    (taylor), or drawn from U(0, 1) (random). Channels go in the order of their scores (global) or each group
    loses the same share of its channels (uniform), until the pruned share of the prunable weights is as near to
    the sparsity asked for as whole channels allow: ``sparsity_achieved`` says how near.
    Left out are the network's outputs, layers outside the scope, shared weights, and channels that meet layer,
    group or instance norm, attention or added embeddings: of a vision transformer the hidden units of its MLPs
    can be removed, heads and the embedding cannot. A masked network is not faster:
    ``pruningbench_structured.shrink`` makes the smaller one and ``compare_size`` measures it.
    Cost: a traced forward and backward graph of one image, a copy of the network, and for taylor one backward
    pass a batch. Needs Torch-Pruning (``pip install 'pruningbench[structured]'``) and images, with labels for
    taylor. Higher = keep.
    Sources: Fang et al., DepGraph: Towards any structural pruning (CVPR 2023); taylor: Molchanov et al.,
    Importance estimation for neural network pruning (CVPR 2019), equation 8.
    """

    exact: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    updates_weights: ClassVar[bool] = True

    importance: Literal["l2", "taylor", "random"] = param("l2", doc="score of a channel: l2, taylor or random")
    allocation: Literal["global", "uniform"] = param(
        "global", doc="one order over all groups, or the same share of channels of each"
    )
    floor: float = param(0.1, doc="share of each group's channels kept at least, in [0, 1); one is always kept")
    samples: int = param(256, doc="images used for taylor, from the first on; at least 1")

    @property
    def seeded(self) -> bool:  # type: ignore[override]  # of this pruner it depends on a field
        """Whether scores are drawn."""
        return self.importance == "random"

    def problem(self) -> str | None:
        """Refuse values out of range, and any use without the library."""
        from importlib.util import find_spec

        if not 0 <= self.floor < 1:
            return f"floor must lie in [0, 1), got {self.floor:g}"
        if self.samples < 1:
            return "samples must be at least 1"
        if find_spec("torch_pruning") is None:
            return "needs the Torch-Pruning library: pip install 'pruningbench[structured]'"
        return None

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: four copies of the network, the masks, one traced image; taylor's passes."""
        memory = 4 * outline.state_bytes + 2 * outline.weights + 20 * outline.largest + 2 * outline.pass_bytes
        if self.importance != "taylor":
            return Cost(3, 0, 1, memory, "4 S + 2 W + 20 Wmax + 2 A: copies of the network, masks, one traced image")
        memory += 16 * outline.weights + 3 * outline.batch_size * outline.pass_bytes // 2
        samples = outline.images(self.samples)
        formula = "4 S + 18 W + 20 Wmax + (2 + 1.5 b) A: copies, masks, float64 gradients, one batch"
        return Cost(1, 1, samples, memory, formula)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks of whole channels, and zero their biases and norms in place.

        Raises:
            UsageError: without the library, or for a sparsity that removable channels cannot reach.
            PruningBenchError: without images, for a network that cannot be traced, or one that computes
                something else without the channels.
        """
        from pruningbench.pruning.masks import Masks
        from pruningbench_structured.graph import channel_graph
        from pruningbench_structured.shrinking import removal_masks, silence, without

        images = next(images for images, _ in context.first_images("structured", 2))
        graph = channel_graph(context.network, images, frozenset(context.parameters))
        removed = self._removed(context, graph, sparsity)
        skipped = dict(sorted(graph.skipped.items()))
        masks = Masks(
            removal_masks(graph, context.parameters, removed),
            {"sparsity": sparsity, "channels_removed": self._counts(graph, removed), "left_out": skipped},
        )
        masked = copy.deepcopy(context.network).eval()
        masks.apply(masked)
        without(masked, graph, removed, images)  # raises unless masking these channels is removing them
        silence(context.network, graph, removed)
        gone, channels = sum(int(r.sum()) for r in removed), sum(len(r) for r in removed)
        context.report(f"structured removes {gone} of {channels} channels: sparsity {masks.sparsity:.3f}")
        return masks

    def _counts(self, graph: ChannelGraph, removed: list[Tensor]) -> dict[str, list[int]]:
        pairs = zip(graph.groups, removed, strict=True)
        return {group.name: [int(gone.sum()), len(gone)] for group, gone in pairs}

    def _removed(self, context: PruningContext, graph: ChannelGraph, sparsity: float) -> list[Tensor]:
        """Return the removed channels of each group: those whose number brings the sparsity nearest."""
        from pruningbench.contract import UsageError
        from pruningbench.pruning.allocation import number_to_prune
        from pruningbench_structured import order
        from pruningbench_structured.importance import group_norms, random, taylor

        if self.importance == "taylor":
            scores = taylor(graph, context, self.samples)
        else:
            l2 = self.importance == "l2"
            scores = group_norms(graph, context.parameters) if l2 else random(graph, context)
        sequence = order.removals(scores, self.allocation, self.floor)
        total = sum(p.numel() for p in context.parameters.values())
        asked = number_to_prune(sparsity, total)
        removed, most = order.nearest(graph, context.parameters, sequence, asked)
        if most < asked:
            raise UsageError(
                f"pruner 'structured' reaches sparsity {most / total:.3f} at most on this network, {sparsity:g} was "
                f"asked for: ask for less{self._why(graph)}"
            )
        return removed

    def _why(self, graph: ChannelGraph) -> str:
        if not graph.skipped:
            return ", or lower `floor`"
        name, reason = min(graph.skipped.items())
        return f", or lower `floor` ({len(graph.skipped)} layers are left out; {name}: {reason})"
