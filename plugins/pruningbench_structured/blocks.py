"""The pruner `blocks`: remove whole residual blocks, or single branches of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.pruning.masks import Masks
    from pruningbench_structured.residual import Unit


@dataclass(frozen=True)
class Blocks(Pruner):
    """Block pruning: remove whole residual blocks, which leaves their shortcuts.

    A residual block is a module that returns its input when all of its parameters are zero: a block of a vision
    transformer (attention and MLP), Swin, MLP-Mixer or ConvNeXt, and a block of a ResNet if its shortcut is the
    identity. All weights of a removed block are masked, and all its biases, norms and other parameters are set to zero
    in place, so the masked network computes the same function as the network without the block. With ``branches``,
    attention and MLP are removed singly where a block adds several branches to its input.
    The score of a block is ``1 - mean cos(x, y)`` over positions and images, where x and y are the channels of its
    input and output (influence: ShortGPT's block influence; for a branch, x is the block's output without it),
    ``sum |f - f'|^2 / sum |f|^2``, where f and f' are the network's outputs with and without it (output), the growth
    of the mean cross-entropy without it (loss), the root mean square of its weights (magnitude), or drawn from
    U(0, 1) (random). Scores are computed once, and the blocks of the lowest scores go, as many as bring the pruned
    share of the prunable weights closest to the requested sparsity. ``sparsity_achieved`` gives the
    result. Blocks used more than once or partly outside the scope are left out. If the network is trained after
    pruning, the weights stay at zero, but the last biases of a removed block may move: it then adds a constant, which
    ``pruningbench_structured.shrink`` keeps. That function builds the smaller network; ``compare_size`` measures it.
    Cost: a copy of the network, a few forward passes of two images, and one pass over the samples (influence) or one
    for each block and one more (output, loss). Needs images, with labels for loss. Higher = keep.
    Sources: Men et al., ShortGPT: Layers in large language models are more redundant than you expect (2024, arXiv
    2403.03853); blocks that are skipped: Huang et al., Deep networks with stochastic depth (ECCV 2016).
    """

    exact: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    updates_weights: ClassVar[bool] = True

    importance: Literal["influence", "output", "loss", "magnitude", "random"] = param(
        "influence", doc="score of a block: influence, output, loss, magnitude or random"
    )
    branches: bool = param(False, doc="whether attention and MLP branches are removed singly instead of whole blocks")
    samples: int = param(256, doc="number of images to use for the scores, starting with the first; at least 1")

    @property
    def seeded(self) -> bool:  # type: ignore[override]  # depends on a field of this pruner
        """Whether scores are random."""
        return self.importance == "random"

    def problem(self) -> str | None:
        """Refuse a number of samples below 1."""
        return "samples must be at least 1" if self.samples < 1 else None

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: copies of the network, masks, and the passes over the samples.

        A block has at least two weights, so half the number of weights limits the number of blocks.
        """
        # passes over batches keep no activations for a backward pass: only those of one layer and of one block's ends
        image = 2 * outline.pass_bytes
        if outline.widest_bytes:
            image = min(image, 2 * outline.image_bytes + 12 * outline.widest_bytes)
        memory = 4 * outline.state_bytes + 2 * outline.weights + 4 * outline.pass_bytes + outline.batch_size * image
        formula = "4 S + 2 W + 4 A + 12 b times the largest tensor of A: copies of the network, masks, activations"
        passes = {"influence": 1, "output": len(outline.shapes) // 2 + 1, "loss": len(outline.shapes) // 2 + 1}
        forward = passes.get(self.importance, 0)
        return Cost(forward or 1, 0, outline.images(self.samples if forward else 2), memory, formula)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks of whole blocks, and zero their other parameters in place.

        Raises:
            UsageError: for a network without such blocks, or a sparsity that they cannot reach.
            PruningBenchError: without images, without labels if they are needed, or if the network without the blocks
                computes something else.
        """
        from pruningbench.contract import UsageError
        from pruningbench.pruning.masks import Masks
        from pruningbench_structured.residual import residual_units
        from pruningbench_structured.skipping import silence_units, without_units

        images = next(images for images, _ in context.first_images("blocks", 2))
        network = copy.deepcopy(context.network).eval()
        units, skipped = residual_units(network, images, context.parameters, branches=self.branches)
        if not units:
            reason = "".join(f"; {name}: {why}" for name, why in sorted(skipped.items())[:1])
            kind = type(context.network).__name__
            raise UsageError(f"pruner 'blocks' cannot find residual blocks to remove in {kind}{reason}")
        removed = self._removed(context, units, self._scores(context, units), sparsity)
        masks = Masks(
            _masks(context, removed),
            {"sparsity": sparsity, "blocks_removed": [unit.name for unit in removed], "left_out": skipped},
        )
        silence_units(network, removed)
        without_units(network, removed, images)  # raises unless masking these blocks is equivalent to removing them
        silence_units(context.network, removed)
        kind = "branches" if self.branches else "blocks"
        context.report(f"blocks removes {len(removed)} of {len(units)} {kind}: sparsity {masks.sparsity:.3f}")
        return masks

    def _scores(self, context: PruningContext, units: Sequence[Unit]) -> list[float]:
        from pruningbench.pruning.preservation import preserved
        from pruningbench_structured import influence

        if self.importance == "magnitude":
            return influence.magnitudes(units, context.parameters)
        if self.importance == "random":
            return influence.random(units, context)
        measures = {
            "influence": influence.influences, "output": influence.output_changes, "loss": influence.loss_changes
        }  # fmt: skip
        with preserved(context.network):
            context.network.eval()
            batches = list(context.first_images("blocks", self.samples))
            return measures[self.importance](context.network, units, batches)

    def _removed(
        self, context: PruningContext, units: Sequence[Unit], scores: Sequence[float], sparsity: float
    ) -> list[Unit]:
        """Return the units of the lowest scores, as many as bring the sparsity closest; of equal ones the last goes."""
        from math import isfinite

        from pruningbench.contract import PruningBenchError, UsageError
        from pruningbench.pruning.allocation import number_to_prune

        if not all(isfinite(score) for score in scores):
            raise PruningBenchError("pruner 'blocks': scores are NaN or infinite; check the network and its images")
        total = sum(p.numel() for p in context.parameters.values())
        requested = number_to_prune(sparsity, total)
        order = sorted(range(len(units)), key=lambda number: (scores[number], -number))
        sizes = [sum(context.parameters[name].numel() for name in units[number].weights) for number in order]
        pruned = [sum(sizes[:count]) for count in range(len(units) + 1)]
        if requested - pruned[-1] > sizes[-1] / 2:
            raise UsageError(
                f"pruner 'blocks' reaches at most sparsity {pruned[-1] / total:.3f} on this network, but {sparsity:g} "
                "was requested: request less"
            )
        count = min(range(len(pruned)), key=lambda count: abs(pruned[count] - requested))
        return [units[number] for number in sorted(order[:count])]


def _masks(context: PruningContext, removed: Sequence[Unit]) -> dict[str, Tensor]:
    import torch

    gone = {name for unit in removed for name in unit.weights}
    return {
        name: torch.full(parameter.shape, name not in gone, dtype=torch.bool)
        for name, parameter in context.parameters.items()
    }
