"""The pruner `structured`: remove whole channels, in all layers that share them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.pruning.masks import Masks
    from pruningbench_structured.groups import ChannelGraph


@dataclass(frozen=True)
class Structured(Pruner):
    """Structured pruning: remove whole channels, together in all layers that depend on each other (DepGraph).

    A channel owns a row of each layer that writes it and a column of each layer that reads it. All of them are
    masked, and biases and batch-norm scales and shifts of removed channels are set to zero in place, so the masked
    network computes the same function as the smaller one. The score of a channel, over all weights that it owns,
    is ``sqrt(sum w^2)`` divided by the group's mean (l2), ``sum (g w)^2`` with g the gradient of the mean loss
    (taylor), or drawn from U(0, 1) (random). Channels are removed in the order of their scores (global), or each
    group loses the same share of its channels (uniform), or each class of groups whose dependency graphs are
    isomorphic loses the same share, in the order of the scores within the class (isomorphic), until the pruned
    share of the prunable weights is as close to the requested sparsity as whole channels allow:
    ``sparsity_achieved`` gives the result.
    With ``heads``, the heads of each attention module are a group, too: a head owns its rows of the projection to
    queries, keys and values, and its columns of the projection after it. This needs modules with fused projections
    `qkv` and `proj`, as in timm's vision transformers, whose forward pass runs with fewer heads: timm's has to take
    its width from the module, as releases from 1.0.23 on do, and torch's ``MultiheadAttention`` does not.
    The pruner leaves out the network's outputs, layers outside the scope, shared weights, and channels that pass
    through layer, group or instance norm, attention or added embeddings; of a vision transformer it takes the hidden
    units of MLPs. With ``embedding``, the channels of its residual stream are a group, too, in networks built as timm's
    vision transformers are: a channel owns its rows of all that writes to the stream and its columns of all that reads
    it, and its position embeddings, tokens, norms and scales are set to zero. A layer norm over fewer channels would
    give other values than one over channels of zeros, so the smaller network's norms count the removed channels as
    zeros. Training after pruning moves these zeros where they are biases, tokens or positions; ``shrink`` sets them to
    zero again, so it equals the masked network before training only. A masked network is not faster:
    ``pruningbench_structured.shrink`` builds the smaller one and ``compare_size`` measures it.
    Cost: a traced forward and backward graph of one image, a copy of the network, and for taylor one backward
    pass per batch. Needs Torch-Pruning (``pip install 'pruningbench[structured]'``) and images, with labels for
    taylor. Higher = keep.
    Sources: Fang et al., DepGraph: Towards any structural pruning (CVPR 2023); isomorphic: Fang et al., Isomorphic
    pruning for vision models (ECCV 2024); taylor: Molchanov et al., Importance estimation for neural network
    pruning (CVPR 2019), equation 8; heads: Michel et al., Are sixteen heads really better than one? (NeurIPS 2019).
    """

    exact: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    updates_weights: ClassVar[bool] = True

    importance: Literal["l2", "taylor", "random"] = param("l2", doc="score of a channel: l2, taylor or random")
    allocation: Literal["global", "uniform", "isomorphic"] = param(
        "global",
        doc="one order over all groups (global), or the same share of channels from each group (uniform) or from each "
        "class of groups with isomorphic dependency graphs (isomorphic)",
    )
    floor: float = param(0.1, doc="minimum share of each group's channels to keep, in [0, 1); one is always kept")
    samples: int = param(256, doc="number of images to use for taylor, starting with the first; at least 1")
    heads: bool = param(False, doc="whether whole attention heads are removed, too", later=True)
    embedding: bool = param(False, doc="whether channels of the embedding are removed, too", later=True)

    @property
    def seeded(self) -> bool:  # type: ignore[override]  # depends on a field of this pruner
        """Whether scores are random."""
        return self.importance == "random"

    def problem(self) -> str | None:
        """Refuse values out of range, and a missing library."""
        from importlib.util import find_spec

        if not 0 <= self.floor < 1:
            return f"floor must lie in [0, 1), got {self.floor:g}"
        if self.samples < 1:
            return "samples must be at least 1"
        if find_spec("torch_pruning") is None:
            return "needs the Torch-Pruning library: pip install 'pruningbench[structured]'"
        return None

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: four copies of the network, the masks, one traced image, and taylor's passes."""
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
            PruningBenchError: without images, for a network that cannot be traced, or one that computes a
                different function without the channels.
        """
        from pruningbench.pruning.masks import Masks
        from pruningbench_structured.embedding import ROOT
        from pruningbench_structured.graph import channel_graph
        from pruningbench_structured.shrinking import removal_masks, silence, without

        images = next(images for images, _ in context.first_images("structured", 2))
        graph = channel_graph(
            context.network, images, frozenset(context.parameters), heads=self.heads, embedding=self.embedding
        )
        if self.embedding and ROOT in graph.skipped:
            context.report(f"structured leaves the channels of the embedding as they are: {graph.skipped[ROOT]}")
        removed = self._removed(context, graph, sparsity)
        skipped = dict(sorted(graph.skipped.items()))
        masks = Masks(
            removal_masks(graph, context.parameters, removed),
            {"sparsity": sparsity, "channels_removed": self._counts(graph, removed), "left_out": skipped},
        )
        masked = copy.deepcopy(context.network).eval()
        masks.apply(masked)
        without(masked, graph, removed, images)  # raises unless masking these channels is equivalent to removing them
        silence(context.network, graph, removed)
        removed_channels, channels = sum(int(r.sum()) for r in removed), sum(len(r) for r in removed)
        context.report(f"structured removes {removed_channels} of {channels} channels: sparsity {masks.sparsity:.3f}")
        return masks

    def _counts(self, graph: ChannelGraph, removed: list[Tensor]) -> dict[str, list[int]]:
        pairs = zip(graph.groups, removed, strict=True)
        return {group.name: [int(channels.sum()), len(channels)] for group, channels in pairs}

    def _removed(self, context: PruningContext, graph: ChannelGraph, sparsity: float) -> list[Tensor]:
        """Return the removed channels of each group, as many as bring the sparsity closest to the requested one."""
        from pruningbench.contract import UsageError
        from pruningbench.pruning.allocation import number_to_prune
        from pruningbench_structured import order
        from pruningbench_structured.importance import group_norms, random, taylor

        if self.importance == "taylor":
            scores = taylor(graph, context, self.samples)
        else:
            l2 = self.importance == "l2"
            scores = group_norms(graph, context.parameters) if l2 else random(graph, context)
        sequence = order.removals(scores, self.allocation, self.floor, [group.structure for group in graph.groups])
        total = sum(p.numel() for p in context.parameters.values())
        requested = number_to_prune(sparsity, total)
        removed, most = order.nearest(graph, context.parameters, sequence, requested)
        if most < requested:
            raise UsageError(
                f"pruner 'structured' reaches at most sparsity {most / total:.3f} on this network, but "
                f"{sparsity:g} was "
                f"requested: request less{self._why(graph)}"
            )
        return removed

    def _why(self, graph: ChannelGraph) -> str:
        if not graph.skipped:
            return ", or lower `floor`"
        name, reason = min(graph.skipped.items())
        return f", or lower `floor` ({len(graph.skipped)} layers are left out; {name}: {reason})"
