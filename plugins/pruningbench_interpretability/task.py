"""The task: explain a network's predictions with saliency maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.components import (
    Attributions,
    Context,
    DatasetRef,
    Exhibit,
    Samples,
    Task,
    VisionModel,
    param,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench_interpretability.methods import Settings
    from pruningbench_interpretability.subjects import Subjects


@dataclass(frozen=True)
class Interpretability(Task):
    """Saliency maps of the class that the network predicts, one variant a method.

    A network without gradients (all its paths pruned) gives maps of zeros or NaN, on which the metrics
    are undefined and counted as such.
    """

    metrics = ("gini", "relevance-mass", "relevance-rank", "deletion")

    data: DatasetRef = param(doc="data set to explain; object masks allow the localisation metrics")
    methods: tuple[Literal["saliency", "integrated-gradients"], ...] = param(
        ("saliency", "integrated-gradients"), doc="attribution methods"
    )
    samples: Literal["all", "correct-dense", "correct"] = param(
        "all", doc="which images are explained: all, those the dense model gets right, or this one does"
    )
    count: int | None = param(None, doc="look at the first samples only; none = all")
    pooling: Literal["l1", "l2-squared", "max"] = param(
        "l1", doc="over channels: sum of absolute values, sum of squares, or largest absolute value"
    )
    steps: int = param(16, doc="points of the integral of integrated gradients, >= 1")
    rule: Literal["gausslegendre", "riemann_trapezoid"] = param(
        "gausslegendre", doc="quadrature of integrated gradients (captum's name)"
    )
    baseline: Literal["zero", "black"] = param(
        "zero", doc="start of integrated gradients: zero in normalised units (the mean colour), or black"
    )
    exhibits: int = param(6, doc="number of images kept for figures", identity=False)

    def problem(self) -> str | None:
        """Refuse empty or doubled methods and numbers out of range."""
        if not self.methods or len(set(self.methods)) != len(self.methods):
            return f"methods must be distinct and at least one, got {list(self.methods)}"
        if self.steps < 1 or (self.rule == "riemann_trapezoid" and self.steps < 2):
            return f"steps must be at least {1 if self.rule == 'gausslegendre' else 2}, got {self.steps}"
        if self.count is not None and self.count < 1:
            return f"count must be at least 1, got {self.count}"
        return None if self.exhibits >= 0 else f"exhibits must not be negative, got {self.exhibits}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Attributions]]:
        """Yield the maps of each method."""
        from pruningbench_interpretability.methods import attribute
        from pruningbench_interpretability.subjects import choose

        data = context.open_dataset(self.data)
        subjects = choose(model, data, context, which=self.samples, count=self.count)
        settings = self._settings(model, context, subjects.images)
        for name in self.methods:
            maps = attribute(
                name,
                model.logits,
                subjects.images,
                subjects.predicted,
                settings=settings,
                pooling=self.pooling,
            )
            yield (
                name,
                Attributions(
                    maps=maps,
                    images=subjects.images,
                    targets=subjects.predicted,
                    predict=_Predict(model),
                    labels=subjects.labels,
                    masks=subjects.masks,
                    batch_size=context.batch_size,
                    seed=context.seed,
                    exhibit=self._exhibit(model, data, subjects, maps),
                ),
            )

    def _settings(self, model: VisionModel, context: Context, images: Tensor) -> Settings:
        import torch

        from pruningbench_interpretability.methods import Settings

        black = torch.zeros(1, images.shape[1], 1, 1, dtype=torch.uint8, device=images.device)
        baseline = model.preprocessing.normalise(black) if self.baseline == "black" else black.to(images.dtype)
        return Settings(self.steps, self.rule, baseline, context.batch_size)

    def _exhibit(self, model: VisionModel, data: Samples, subjects: Subjects, maps: Tensor) -> Exhibit | None:
        n = min(self.exhibits, len(maps))
        if not n:
            return None
        shown = [data[i] for i in subjects.index[:n]]
        predicted = [_name(model.classes, p) for p in subjects.predicted[:n].tolist()]
        true = ["" if sample.label is None else _name(data.classes, sample.label) for sample in shown]
        return Exhibit(
            "maps",
            model.preprocessing.denormalise(subjects.images[:n]).cpu(),
            tuple(sample.key for sample in shown),
            maps=maps[:n].cpu(),
            captions=tuple(p if t in (p, "") else f"{p} (true {t})" for p, t in zip(predicted, true, strict=True)),
        )


@dataclass(frozen=True)
class _Predict:
    """Softmax probabilities of a model, without gradient."""

    model: VisionModel

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes)."""
        import torch

        with torch.no_grad():
            return self.model.logits(images).softmax(dim=1)


def _name(classes: tuple[str, ...], position: int) -> str:
    return classes[position] if 0 <= position < len(classes) else str(position)
