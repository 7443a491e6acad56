"""Typed outputs: what tasks yield and metrics consume.

A metric names the type it consumes and can be added to anybody's task that yields it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.degeneracy import Degenerate
    from pruningbench.contract.human import HumanResponses

T = TypeVar("T")


@dataclass(frozen=True)
class Exhibit:
    """A few samples of a task's outputs, kept for figures.

    Attributes:
        kind: ``maps`` (images with saliency maps), ``boxes`` (images with boxes), ``concepts`` (crops of
            images, in rows that show one concept each), or another that a plugin draws
            (`pruningbench_register_exhibits`).
        images: (N, C, H, W) intensities in [0, 1].
        keys: what identifies the N samples; figures line up equal keys. For ``concepts`` it is
            ``ROW/PLACE``: figures line up equal rows, whose crops share a caption.
        maps: (N, H, W) float, for ``maps``.
        predicted, truth: N tensors (K, 4) of boxes in pixels, for ``boxes``.
        captions: N short texts, or empty.
        arrays: further values by name, N of each, for the kinds of plugins.
    """

    kind: str
    images: Tensor
    keys: tuple[str, ...]
    maps: Tensor | None = None
    predicted: list[Tensor] = field(default_factory=list)
    truth: list[Tensor] = field(default_factory=list)
    captions: tuple[str, ...] = ()
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """Base of all outputs.

    Attributes:
        exhibit: samples worth a figure, or None.
        keys: what identifies the samples, in the order of the metrics' values; empty where they are the same ones
            for every network. Differences between networks are paired by them.
    """

    exhibit: Exhibit | None = field(default=None, kw_only=True)
    keys: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def count(self) -> int | None:
        """Number of samples, which metrics must give one value each; None where that is not known."""
        return None

    def degenerate(self) -> Degenerate | None:
        """Return how many samples have an output that says nothing about them, and why; None if that is none."""
        return None


@dataclass(frozen=True)
class Missing(Outputs):
    """A variant that could not be measured, such as a data set of several that is not there; the others stand.

    Attributes:
        reason: what is wrong and what to do, in one line.
    """

    reason: str


@dataclass(frozen=True)
class Predictions(Outputs):
    """Class scores of N samples.

    Attributes:
        scores: (N, classes) logits or any scores whose argmax is the prediction.
        labels: (N,) int64 true classes.
        probabilistic: whether the softmax of the scores is the model's probability of each class, so that
            they have a calibration; true of logits and of log-probabilities.
    """

    scores: Tensor
    labels: Tensor
    probabilistic: bool = False

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def degenerate(self) -> Degenerate | None:
        """Tell whether nearly all samples are predicted as one class."""
        from pruningbench.contract.degeneracy import one_answer

        return one_answer(self.scores.argmax(dim=1), self.labels, "one predicted class")


@dataclass(frozen=True)
class GroupedPredictions(Outputs):
    """Class scores of G samples, each of which stands for M predictions.

    A sample is an image in M versions, or an episode of M queries: what is drawn anew together.

    Attributes:
        scores: (G, M, classes) any scores whose argmax is the prediction.
        labels: (G, M) int64 true classes.
    """

    scores: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.labels)

    def degenerate(self) -> Degenerate | None:
        """Tell whether nearly all predictions are one class; then all groups count."""
        from dataclasses import replace

        from pruningbench.contract.degeneracy import one_answer

        found = one_answer(self.scores.argmax(dim=2).flatten(), self.labels.flatten(), "one predicted class")
        return found and replace(found, count=self.count)


@dataclass(frozen=True)
class ResourceUse(Outputs):
    """What a network costs, as it stands and as a dense network would.

    Attributes:
        parameters, nonzero: numbers of its parameters, and of those that are not exactly zero.
        dense_macs: multiplications with accumulation for one image, all weights counted.
        effective_macs: of these, those with a weight that is not zero: what hardware that skips every
            zero weight would be left with. No time follows from it.
        seconds: (R,) float64 measured seconds for one batch, one a repeat.
        dense_seconds: (R,) the same of the dense network, measured in turns with it; `seconds` itself for
            a network that is only masked, which has the dense network's shapes and so its work.
        batch_size: images in the batch that was timed.
        peak_memory: bytes of the network and of what a batch needs beside it at most, as the device's
            allocator counts them; None where it does not tell.
    """

    parameters: int
    nonzero: int
    dense_macs: int
    effective_macs: float
    seconds: Tensor
    dense_seconds: Tensor
    batch_size: int
    peak_memory: int | None = None


@dataclass(frozen=True)
class Features(Outputs):
    """Embeddings of N images under the pruned model, and of the same images under the dense one.

    Attributes:
        features: (N, D) float.
        dense: (N, D') float of the dense model, rows in the same order, or None.
        labels: (N,) int64 true classes, or None.
    """

    features: Tensor
    dense: Tensor | None = None
    labels: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.features)


@dataclass(frozen=True)
class Responses(Outputs):
    """What a model answered to N trials that people answered too.

    Attributes:
        answers: (N,) int64, the model's choice (a category, or the place in a triplet), -1 for none.
        human: the people's answers to the same trials, in the same order.
        probabilities: (N, choices) float the choices were made from, or None.
    """

    answers: Tensor
    human: HumanResponses
    probabilities: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of trials."""
        return len(self.answers)

    def degenerate(self) -> Degenerate | None:
        """Tell whether nearly all answers are the same."""
        from pruningbench.contract.degeneracy import one_answer

        return one_answer(self.answers, None, "one answer")


class Explainer(Protocol):
    """Explains images the way the maps of `Attributions` were made."""

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """(B, C, H, W) normalised images and (B,) int64 classes -> (B, H, W) maps."""
        ...

    def randomised(self, seed: int, share: float = 1.0) -> Explainer:
        """Return the same method for the network with the last `share` of its layers drawn anew.

        Pruned weights are drawn as well, else the mask would tell of the trained network.
        """
        ...


@dataclass(frozen=True)
class Attributions(Outputs):
    """Saliency maps of N images and what is needed to judge them.

    Attributes:
        maps: (N, H, W) float, larger = more relevant, >= 0 unless the method is signed.
        images: (N, C, H, W) float, normalised: the network's own inputs.
        targets: (N,) int64, the explained class; one that is no class of the model has a map of NaN.
        labels: (N,) int64 true classes, or None.
        masks: (N, H, W) bool, True on the objects, or None.
        predict: (B, C, H, W) normalised images -> (B, classes) softmax probabilities, without gradient.
        batch_size: largest batch `predict` should be given.
        seed: seed for metrics that need one.
        index: the images' positions in the data set, so that what is drawn for an image is the same
            whichever others are explained; empty = 0 to N - 1.
        logits: (B, C, H, W) normalised images -> (B, classes) logits, or None.
        signed: (N, C, H, W) attributions of both signs before pooling over channels; None for methods
            that give maps.
        explain: explains other images by the same method, or None.
        dense_maps: returns the (N, H, W) maps of the dense model on the same images by the same method,
            made when first called; None where there is no dense model.
    """

    maps: Tensor
    images: Tensor
    targets: Tensor
    predict: Callable[[Tensor], Tensor]
    labels: Tensor | None = None
    masks: Tensor | None = None
    batch_size: int = 128
    seed: int = 0
    index: tuple[int, ...] = ()
    logits: Callable[[Tensor], Tensor] | None = None
    signed: Tensor | None = None
    explain: Explainer | None = None
    dense_maps: Callable[[], Tensor] | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.maps)

    def __post_init__(self) -> None:
        """Take the images' positions for their keys, unless they are the first ones."""
        if not self.keys and self.index != tuple(range(len(self.index))):
            object.__setattr__(self, "keys", tuple(map(str, self.index)))

    def degenerate(self) -> Degenerate | None:
        """Count constant maps."""
        from pruningbench.contract.degeneracy import constant_maps

        return constant_maps(self.maps)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Return ``make()``, computed once for these outputs, so that metrics can share costly curves."""
        if key not in self._memo:
            self._memo[key] = make()
        value: T = self._memo[key]
        return value


@dataclass(frozen=True)
class Curve:
    """A curve for each sample behind a metric's values, kept for figures.

    Attributes:
        x: K points of the horizontal axis, ascending.
        x_label: what they are, with the unit.
        values: (N, K) float; NaN where undefined.
    """

    x: tuple[float, ...]
    x_label: str
    values: Tensor


@dataclass(frozen=True)
class Boxes(Outputs):
    """Predicted and true boxes of N images, in pixels: xmin, ymin, xmax, ymax, maximum exclusive.

    Attributes:
        predicted: N tensors (K, 4), the most certain first.
        truth: N tensors (M, 4).
        foreground: N tensors (H, W) bool, True where an object is predicted, or None.
        masks: N tensors (H, W) bool, True on the true objects, or None.
        sizes: N pairs (height, width) of the images, or None where they are not known.
    """

    predicted: list[Tensor]
    truth: list[Tensor]
    foreground: list[Tensor] | None = None
    masks: list[Tensor] | None = None
    sizes: list[tuple[int, int]] | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.predicted)

    def degenerate(self) -> Degenerate | None:
        """Count images in which nothing is found, and those of one box if nearly all have the same."""
        from pruningbench.contract.degeneracy import boxes_alike

        return boxes_alike(self.predicted, self.sizes)


@dataclass(frozen=True)
class Concepts(Outputs):
    """Directions in which a network's activations vary on images of some classes, and crops that show them.

    K = classes x concepts a class: class by class, the most important concept first. P crops, of the images
    of all classes. A concept that is undefined (too few crops, a dead network) has NaN everywhere.

    Attributes:
        directions: (K, D) float32 >= 0, of unit length.
        classes: (K,) int64, the class of each concept, a position among the model's classes.
        importance: (K,) float64 >= 0, total Sobol index of the concept for the logit of its class.
        coefficients: (P, K) float32 >= 0, how much of each concept is in each crop.
        crop_classes: (P,) int64, the class of each crop's image.
        crop_images: (P,) int64, the position of its image in the data set.
        crop_boxes: (P, 4) float32, where it lies: xmin, ymin, xmax, ymax in pixels, maximum exclusive.
        embeddings: (P, E) float32, the crops in a frozen encoder, the same whatever network is measured.
        top: number of concepts of each class that count as its explanation, the first ones.
        dense: the concepts of the dense model on the same crops, or None.
    """

    directions: Tensor
    classes: Tensor
    importance: Tensor
    coefficients: Tensor
    crop_classes: Tensor
    crop_images: Tensor
    crop_boxes: Tensor
    embeddings: Tensor
    top: int
    dense: Concepts | None = None

    def of_class(self, label: int) -> tuple[Tensor, Tensor]:
        """Return the positions (int64) of a class's concepts, in order of importance, and of its crops."""
        return (self.classes == label).nonzero()[:, 0], (self.crop_classes == label).nonzero()[:, 0]

    @property
    def explained(self) -> tuple[int, ...]:
        """The classes, in order."""
        return tuple(dict.fromkeys(self.classes.tolist()))

    @property
    def leading(self) -> Tensor:
        """Positions (int64) of the first `top` concepts of each class, class by class."""
        import torch

        return torch.cat([self.of_class(label)[0][: self.top] for label in self.explained])
