"""The context: what the harness lends to a component while it works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pruningbench.contract.component import ComponentRef, Kind, Use
from pruningbench.errors import PruningBenchError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pruningbench.contract.samples import Samples
    from pruningbench.contract.vision import VisionModel

T = TypeVar("T")


class TensorCache(Protocol):
    """A content-addressed store of named tensors that outlives the process."""

    def tensors(self, room: str, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors stored under `identity` in `room`, making and storing them if absent."""
        ...

    def find(self, room: str, identity: Any) -> dict[str, Tensor] | None:
        """Return the tensors stored under `identity` in `room`, or None."""
        return None

    def forget(self, room: str, identity: Any) -> None:
        """Remove the tensors stored under `identity` in `room`, if there are any."""


def _silent(_message: str) -> None:
    return None


def _no_components(kind: Kind, reference: ComponentRef) -> Use:
    raise PruningBenchError(f"{kind} {reference!r} cannot be looked up here: this context has no plugins")


def _no_models(reference: ComponentRef) -> VisionModel:
    raise PruningBenchError(f"model {reference!r} cannot be loaded here: this context has no models")


MEMORY = 4 << 30
"""Bytes that a task may hold for its samples, unless the user says otherwise."""


@dataclass
class Context:
    """What the harness lends to a component while it works.

    Attributes:
        device: where networks and batches live.
        seed: seed of this piece of work; equal seeds give equal results.
        batch_size: largest batch to use; halved when memory runs out.
        cache: weights and scores that outlive the process.
        open_dataset: opens a data set by reference; each is loaded once per process.
        dense: the dense model to compare with. For a task, it is the dense reference of the cell's recipe: the model
            as loaded or, if the recipe trains, the dense network that the recipe trained with the same seed. It may be
            made on first access, which raises `PruningBenchError` if it cannot be made; `compares` costs nothing.
        as_loaded: the dense model as loaded, whatever the recipe; for what depends only on the architecture.
        open_model: loads a dense model by reference (a field of type `ModelRef`), such as an encoder that
            judges other models; each is loaded once per process.
        component: looks up a component by kind and reference, such as an attribution method from a field of type
            ``tuple[AttributionMethodRef, ...]``; the functions above open data sets and models.
        report: receives short progress notes ("epoch 3/12").
        memory: bytes that a task may hold at a time for its samples and what it makes of them; a task whose outputs
            can be larger yields them in parts (`Outputs.part`).
        whole: whether a requested metric needs all samples of a variant at once (`Metric.joint`), so that outputs must
            not be divided.
        shared: whether other workers of the run compute on the same device meanwhile; the harness marks metrics that
            are not `deterministic`, such as times.
    """

    device: torch.device
    seed: int
    cache: TensorCache
    open_dataset: Callable[[ComponentRef], Samples]
    batch_size: int = 128
    memory: int = MEMORY
    whole: bool = False
    shared: bool = False
    dense: VisionModel | None = None
    open_model: Callable[[ComponentRef], VisionModel] = _no_models
    component: Callable[[Kind, ComponentRef], Use] = _no_components
    report: Callable[[str], None] = _silent
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    _of_dense: dict[Any, Any] = field(default_factory=dict, repr=False)
    _of_pruned: dict[Any, Any] = field(default_factory=dict, repr=False)
    _of_others: dict[int, tuple[VisionModel, dict[Any, Any]]] = field(default_factory=dict, repr=False)
    _pruned: VisionModel | None = field(default=None, repr=False)
    as_loaded: VisionModel | None = None
    _of_loaded: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Without a model as loaded of its own, it is the dense model."""
        if self.as_loaded is None:
            self.as_loaded = self.dense

    @property
    def compares(self) -> bool:
        """Whether there is a dense model to compare with; unlike `dense`, this makes none."""
        return self.dense is not None

    def generator(self, *parts: object) -> torch.Generator:
        """Return a CPU generator whose stream depends on the seed and `parts` only."""
        from pruningbench.base.randomness import generator_for

        return generator_for(self.seed, *parts)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Return ``make()``, computed once per dense model, task and seed and shared by the cells that compare with it.

        Use it for values that do not depend on the pruned network, such as features of the dense model.
        """
        if key not in self._memo:
            self._memo[key] = make()
        value: T = self._memo[key]
        return value

    def of_model(self, model: VisionModel, key: Any, make: Callable[[], T]) -> T:
        """Return ``make()``, computed once for this very model and shared by all tasks of its cell.

        Values from the dense model (``model is context.dense``) are shared by all cells that compare with it. Keep
        only values that depend on nothing but the model's weights and `key`; see `features` for the common case.
        """
        memo = self._memo_of(model)
        if key not in memo:
            memo[key] = make()
        value: T = memo[key]
        return value

    def _memo_of(self, model: VisionModel) -> dict[Any, Any]:
        if model is self._opened_dense():
            return self._of_dense
        if model is self._pruned:
            return self._of_pruned
        if model is self.as_loaded:
            return self._of_loaded
        # a third model, such as an encoder: kept with its memo, so that no other object gets its id
        return self._of_others.setdefault(id(model), (model, {}))[1]

    def _opened_dense(self) -> VisionModel | None:
        """Return the dense model if it is already there."""
        return self.dense

    def features(self, model: VisionModel, samples: Samples, index: Sequence[int] | None = None) -> Tensor:
        """Return the embeddings of samples; each image passes through each model once, however many tasks ask.

        Args:
            model: the pruned model that a task was given, or the dense one.
            samples: the data set.
            index: positions of the wanted samples, in order; all of them by default.

        Returns:
            (N, D) float32 on the CPU, in the order of `index`.
        """
        return self._rows(model, samples, index, "embed", model.embed)

    def logits(self, model: VisionModel, samples: Samples, index: Sequence[int] | None = None) -> Tensor:
        """Return the logits of samples, shared and computed as by `features`: (N, classes) float32 on the CPU."""
        return self._rows(model, samples, index, "logits", model.logits)

    def _rows(
        self,
        model: VisionModel,
        samples: Samples,
        index: Sequence[int] | None,
        view: str,
        compute: Callable[[Tensor], Tensor],
    ) -> Tensor:
        import torch

        rows: dict[int, Tensor] = self.of_model(model, ("rows", view, samples.fingerprint), dict)
        positions = list(range(len(samples))) if index is None else [int(i) for i in index]
        lacking = [i for i in dict.fromkeys(positions) if i not in rows]
        before: tuple[Tensor, Tensor] | None = None
        with torch.inference_mode():
            for batch in model.batches(samples, self.batch_size, index=lacking):
                images = batch.images
                if images.is_cuda:
                    images = images.contiguous(memory_format=torch.channels_last)  # faster convolutions
                out = compute(images)
                if before is not None:  # copied one batch late: the GPU computes while the next batch is read
                    rows.update(_by_position(*before))
                before = (batch.index, out)
            if before is not None:
                rows.update(_by_position(*before))
        if not positions:
            raise ValueError("no samples to compute features of")
        return torch.stack([rows[i] for i in positions])


def _by_position(index: Tensor, out: Tensor) -> zip[tuple[int, Tensor]]:
    return zip(index.tolist(), out.float().cpu(), strict=True)
