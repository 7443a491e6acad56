"""The task: explain a network's predictions with saliency maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.contract import (
    AttributionMethod,
    AttributionMethodRef,
    Attributions,
    AttributionSettings,
    Context,
    DatasetRef,
    Exhibit,
    Samples,
    Task,
    ViewUnavailableError,
    VisionModel,
    class_title,
    param,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench_interpretability.explaining import ModelExplainer
    from pruningbench_interpretability.subjects import Choice, Subjects

PLANES_OF_METRICS = 12
"""Numbers per pixel that metrics hold at a time: orders of pixels, masks, maps of the dense model."""
QUICK = 256 << 20
"""Bytes of a part that is explained quickly: the allocator keeps tensors of a few megabytes for the next part, but
gives larger ones back to the system, which costs as much time as the work on them."""


@dataclass(frozen=True)
class Interpretability(Task):
    """Saliency maps of the class that the network predicts, one variant per method.

    A network without gradients (all its paths pruned) produces maps of zeros or NaN. Metrics are undefined on
    these, and they are counted.
    """

    version = 2
    dimension = "interpretability"
    metrics = ("gini", "relevance-mass", "relevance-rank", "deletion")

    data: DatasetRef = param(doc="data set to explain; localisation metrics need object masks")
    methods: tuple[AttributionMethodRef, ...] = param(("saliency", "integrated-gradients"), doc="attribution methods")
    unsupported: Literal["refuse", "skip"] = param(
        "refuse", doc="what to do with methods that the model's architecture does not support"
    )
    samples: Literal["all", "correct-dense", "correct", "correct-both"] = param(
        "all", doc="images to explain: all, or those classified correctly by the dense model, this one, or both"
    )
    target: Literal["predicted", "dense", "label"] = param(
        "predicted", doc="explained class: predicted by this model, by the dense model, or the true one"
    )
    count: int | None = param(None, doc="use only the first samples; none = all")
    pooling: Literal["l1", "l2-squared", "max", "sum", "positive"] = param(
        "l1",
        doc="over channels: sum of absolute values, sum of squares, largest absolute value, signed sum, or its "
        "positive part; saliency always takes the largest absolute value",
    )
    steps: int = param(16, doc="quadrature points of integrated gradients, >= 1")
    rule: Literal["gausslegendre", "riemann_trapezoid"] = param(
        "gausslegendre", doc="quadrature of integrated gradients (captum's name)"
    )
    baseline: Literal["zero", "black"] = param(
        "zero", doc="image without information: zero in normalised units (the mean colour), or black"
    )
    noisy: int = param(16, doc="noisy copies per image for SmoothGrad and GradientShap, >= 1")
    noise: float = param(0.5, doc="standard deviation of their noise, in normalised units, >= 0")
    masks: int = param(1024, doc="random masks of RISE, >= 1")
    cells: int = param(7, doc="cells per side of a random mask of RISE, >= 1")
    window: int | None = param(None, doc="side of an occluding square, in pixels; none = an eighth of the image's side")
    stride: int | None = param(None, doc="step between occluding squares, in pixels; none = half the window")
    exhibits: int = param(6, doc="number of images kept for figures", identity=False)

    def problem(self) -> str | None:
        """Refuse empty or duplicate methods and numbers out of range."""
        if not self.methods or any(method in self.methods[:i] for i, method in enumerate(self.methods)):
            return f"methods must be distinct and at least one, got {list(self.methods)}"
        if self.rule == "riemann_trapezoid" and self.steps < 2:
            return f"steps must be at least 2 for {self.rule}, got {self.steps}"
        for name in ("steps", "count", "noisy", "masks", "cells", "window", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                return f"{name} must be at least 1, got {value}"
        for name in ("noise", "exhibits"):
            if not getattr(self, name) >= 0:
                return f"{name} must not be negative, got {getattr(self, name)}"
        return None

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Attributions]]:
        """Yield the maps of each method.

        Raises:
            ViewUnavailableError: for a method that the architecture does not support, unless such methods are skipped.
        """
        from pruningbench_interpretability.subjects import Choice, choose

        data = context.open_dataset(self.data)
        choice = Choice(self.samples, self.count, self.target)
        most = self._most(model, data, context)
        divided = most is not None and len(choice.index(data)) > most
        parts = choose(model, data, context, choice, most=most)
        # nothing here holds on to a part while the next one is read
        while (subjects := next(parts, None)) is not None:
            for pair in self._explained(model, data, context, choice, subjects):
                yield pair[0], replace(pair[1], part=True) if divided else pair[1]
                del pair
            del subjects

    def _most(self, model: VisionModel, data: Samples, context: Context) -> int | None:
        """Return how many images may be held at a time, a multiple of the batch size; None if there is no bound.

        Per image there are the image, a map and signed attributions for each method, the maps of the dense model and
        what metrics make of them; the harness holds a copy of the outputs of one method.
        """
        if context.whole or not len(data):
            return None
        batch = next(iter(model.batches(data, 1, index=[0])))
        channels, height, width = batch.images.shape[1:]
        planes = 2 * (channels + len(self.methods) * (channels + 1)) + PLANES_OF_METRICS
        fits = min(context.memory, QUICK) // (planes * height * width * 4)
        return max(fits // context.batch_size, 1) * context.batch_size

    def _explained(
        self, model: VisionModel, data: Samples, context: Context, choice: Choice, subjects: Subjects
    ) -> Iterator[tuple[str, Attributions]]:
        """Yield the maps of each method on some images."""
        from pruningbench_interpretability.explaining import ModelExplainer

        settings = self._settings(model, context, subjects.images)
        maps_by_function: dict[Any, Tensor] = {}  # by function: saliency and vanilla gradients share one backward pass
        for reference in self.methods:
            use = context.component("attribution-method", reference)
            method = use.component
            assert isinstance(method, AttributionMethod)  # noqa: S101 - binding checked the kind
            explain = ModelExplainer(model, method, settings, self.pooling)
            key = (type(method).attributions, repr(use.fields()))
            try:
                if method.needs_classes and not model.has_classifier:
                    raise ViewUnavailableError(
                        f"{use.label} explains a class, but the network has no classifier; "
                        "use last-attention or attention-rollout"
                    )
                if key not in maps_by_function:
                    maps_by_function[key] = explain.attributions(subjects.images, subjects.targets)
            except ViewUnavailableError as error:
                if self.unsupported == "refuse":
                    raise
                context.report(f"{use.label} is skipped: {error}")
                continue
            attributions = maps_by_function[key]
            maps = explain.pooled(attributions)
            yield (
                use.label,
                Attributions(
                    maps=maps,
                    images=subjects.images,
                    targets=subjects.targets,
                    predict=_Predict(model) if model.has_classifier else None,
                    labels=subjects.labels,
                    masks=subjects.masks,
                    batch_size=context.batch_size,
                    seed=context.seed,
                    index=subjects.index,
                    logits=_Logits(model) if model.has_classifier else None,
                    signed=attributions if attributions.ndim == 4 else None,
                    explain=explain,
                    dense_maps=self._dense_maps(explain, data, context, subjects, choice),
                    exhibit=self._exhibit(model, data, subjects, maps),
                ),
            )

    def _settings(self, model: VisionModel, context: Context, images: Tensor) -> AttributionSettings:
        import torch

        black = torch.zeros(1, images.shape[1], 1, 1, dtype=torch.uint8, device=images.device)
        return AttributionSettings(
            baseline=model.preprocessing.normalise(black) if self.baseline == "black" else black.to(images.dtype),
            batch_size=context.batch_size,
            steps=self.steps,
            rule=self.rule,
            samples=self.noisy,
            noise=self.noise,
            masks=self.masks,
            cells=self.cells,
            window=self.window,
            stride=self.stride,
            seed=context.seed,
        )

    def _dense_maps(
        self, explain: ModelExplainer, data: Samples, context: Context, subjects: Subjects, choice: Choice
    ) -> Callable[[], Tensor] | None:
        """Return a function for the dense model's maps of the same images, computed once for all cells."""
        if not context.compares:
            return None
        from pruningbench_interpretability.subjects import dense_maps_of

        def maps() -> Tensor:  # the dense reference is made only for metrics that use it
            assert context.dense is not None  # noqa: S101 - the context compares
            dense = replace(explain, model=context.dense)
            return dense_maps_of(dense, data, context, subjects, choice)

        return maps

    def _exhibit(self, model: VisionModel, data: Samples, subjects: Subjects, maps: Tensor) -> Exhibit | None:
        n = min(self.exhibits, len(maps))
        if not n:
            return None
        samples = [data[i] for i in subjects.index[:n]]
        names = [_name(model.classes, p) if model.has_classifier else "" for p in subjects.predicted[:n].tolist()]
        true = ["" if sample.label is None else _name(data.classes, sample.label) for sample in samples]
        return Exhibit(
            "maps",
            model.preprocessing.denormalise(subjects.images[:n]).cpu(),
            tuple(sample.key for sample in samples),
            maps=maps[:n].cpu(),
            captions=tuple(p if t in (p, "") else f"{p} (true {t})" for p, t in zip(names, true, strict=True)),
        )


@dataclass(frozen=True)
class _Logits:
    """Logits of a model, without gradient."""

    model: VisionModel

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes)."""
        import torch

        with torch.no_grad():
            return self.model.logits(images)


@dataclass(frozen=True)
class _Predict(_Logits):
    """Softmax probabilities of a model, without gradient."""

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes)."""
        return super().__call__(images).softmax(dim=1)


def _name(classes: tuple[str, ...], position: int) -> str:
    return class_title(classes[position], longest=20) if 0 <= position < len(classes) else str(position)
