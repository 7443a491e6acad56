"""Pruners: from a network and a sparsity to masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from pruningbench.contract.component import Component, Kind
from pruningbench.contract.cost import FLOAT, SCORING_BATCH, Cost, Outline

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pruningbench.pruning.allocation import Allocation
    from pruningbench.pruning.masks import Masks

UNDECIDED = 0.01
"""Scores are called undecided if ties make at least this share of a decision; see `pruningbench.pruning.ties`."""

Batches = Callable[[], Iterator[tuple["Tensor", "Tensor | None"]]]
"""Starts a pass over the scoring data: yields (images, labels or None) on the network's device."""


@dataclass
class PruningContext:
    """What a pruner works on.

    Attributes:
        network: the dense network, in eval mode. A pruner that only scores leaves it unchanged.
        parameters: name -> prunable parameter, in the order that breaks ties.
        seed: seed of this pruning; equal seeds give equal masks.
        batches: the scoring data, or None if there is none.
        report: receives short progress notes.
        input_shape: (C, H, W) of the network's inputs if the model states it, or None.
    """

    network: nn.Module
    parameters: Mapping[str, nn.Parameter]
    seed: int = 0
    batches: Batches | None = None
    report: Callable[[str], None] = lambda _message: None
    input_shape: tuple[int, ...] | None = None

    def generator(self, *parts: object) -> torch.Generator:
        """Return a CPU generator whose stream depends on the seed and `parts` only."""
        from pruningbench.base.randomness import generator_for

        return generator_for(self.seed, *parts)

    def first_images(self, pruner: str, samples: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield batches of (images, labels or None) until `samples` images have been seen.

        Raises:
            PruningBenchError: if there are no images; the message names `pruner`.
        """
        from pruningbench.errors import PruningBenchError

        left = samples
        if self.batches is not None:
            for images, labels in self.batches():
                if len(images) and left > 0:
                    yield images[:left], None if labels is None else labels[:left]
                    left -= min(left, len(images))
                if left == 0:
                    return
        if left == samples:
            raise PruningBenchError(f"pruner {pruner!r} needs data, but got no images: give at least one batch")


@dataclass(frozen=True)
class Pruner(Component, ABC):
    """Turns a network and a sparsity into masks.

    `seeded` says whether the masks depend on the seed, and `needs_data` whether they depend on scoring data, whose
    first samples differ between seeds; the harness shares masks between seeds and models' data accordingly. `exact`
    promises exactly ``round(sparsity * prunable)`` pruned weights, which the harness checks; it is False for patterns
    and structures that cannot keep this promise. `updates_weights` says that `prune` also changes the kept weights;
    the masks of all other pruners are made once and shared by recipes and runs. A field ``batches`` (int or None)
    limits the scoring data that the harness provides.
    """

    kind: ClassVar[Kind] = "pruner"
    seeded: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    updates_weights: ClassVar[bool] = False

    @abstractmethod
    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks that prune exactly ``round(sparsity * prunable)`` of ``context.parameters``.

        The caller applies the masks; a pruner that also updates weights does so on
        ``context.network`` in place.
        """

    def refuses(self, network: nn.Module) -> str | None:
        """Return why this pruner cannot work on `network` (an unsuitable architecture), or None.

        Plans call this with a network without weights, on torch's ``meta`` device: look only at modules and
        shapes, never at values.
        """
        return None

    def cost(self, outline: Outline) -> Cost:
        """Return the estimated cost of pruning, which a plan shows and uses to refuse; nothing is computed.

        The default is what common pruners need: scores and masks without data, and one gradient pass in addition
        with data. Override it if rounds, copies or matrices add to that.
        """
        memory, formula = outline.masking_bytes, "S + 6 W + 9 Wmax: state, scores, masks"
        if not self.needs_data:
            return Cost(0, 0, 0, memory, formula)
        most = getattr(self, "batches", None)
        samples = outline.images(None if most is None else most * SCORING_BATCH)
        memory += 2 * FLOAT * outline.weights + 3 * outline.batch_size * outline.pass_bytes // 2
        return Cost(1, 1, samples, memory, "S + 14 W + 9 Wmax + 1.5 b A: state, scores, masks, gradients, one batch")

    def unreachable(self, sparsity: float) -> str | None:
        """Return why this pruner cannot reach that sparsity on any network, and what to ask for instead; or None."""
        return None


@dataclass(frozen=True)
class ScorePruner(Pruner, ABC):
    """A pruner that only scores: scored once, thresholded for every sparsity.

    A field that changes the thresholding but not the scores is declared with ``scores=False``.
    """

    cache_scores: ClassVar[bool] = True
    """Whether scores are worth keeping on disk; False for those cheaper to compute than to read."""

    @abstractmethod
    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return a float tensor for each of ``context.parameters``, of the same shape; higher = keep."""

    def threshold(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        """Turn checked scores into masks of an exact sparsity."""
        from pruningbench.pruning.allocation import allocate
        from pruningbench.pruning.masks import Masks

        return Masks(allocate(scores, sparsity, self.allocate_by()), {"sparsity": sparsity})

    def allocate_by(self) -> Allocation:
        """Return how the sparsity is distributed among layers: the field ``allocation``, or one global threshold."""
        return cast("Allocation", getattr(self, "allocation", "global"))

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Score and threshold."""
        return self.threshold(check_scores(self.score(context), context.parameters), sparsity)


def check_weights(network: nn.Module) -> None:
    """Check that a network's weights can be ranked at all, before a pruner transforms them.

    Raises:
        ScoreError: if there are no values, or NaN or infinite ones, naming the first such parameter or running norm
            statistic.
    """
    import torch

    from pruningbench.errors import ScoreError

    empty = next((name for name, p in network.named_parameters() if p.is_meta), None)
    if empty is not None:
        raise ScoreError(f"weights of {empty!r} are on torch's meta device, without values: load them first")
    statistics = ((name, t) for name, t in network.named_buffers() if name.rpartition(".")[2].startswith("running_"))
    for name, tensor in (*network.named_parameters(), *statistics):
        bad = int((~torch.isfinite(tensor.detach())).sum())
        if bad:
            raise ScoreError(
                f"weights of {name!r}: {bad} of {tensor.numel()} are NaN or infinite, which cannot be ranked"
            )


def check_scores(scores: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores, detached and in the order of `parameters`, or raise an error that names the wrong one.

    Raises:
        ScoreError: for a missing or unknown name, scores that are no tensor, a shape that differs from the parameter's,
            or scores that are NaN or infinite.
    """
    import torch

    from pruningbench.errors import ScoreError

    unknown = sorted(set(scores) - set(parameters))
    missing = [name for name in parameters if name not in scores]
    if unknown or missing:
        problem = f"unknown parameter {unknown[0]!r}" if unknown else f"no scores for {missing[0]!r}"
        raise ScoreError(f"scores: {problem} ({len(unknown)} unknown, {len(missing)} missing)")
    checked = {}
    for name, parameter in parameters.items():
        given: object = scores[name]
        if not isinstance(given, torch.Tensor):
            raise ScoreError(f"scores of {name!r} are of type {type(given).__name__}, but must be a tensor")
        score = given.detach()
        if score.shape != parameter.shape:
            raise ScoreError(f"scores of {name!r} are {tuple(score.shape)}, the parameter {tuple(parameter.shape)}")
        bad = int((~torch.isfinite(score)).sum())
        if bad:
            raise ScoreError(
                f"scores of {name!r}: {bad} of {score.numel()} are NaN or infinite, which cannot be ranked"
            )
        checked[name] = score
    return checked
