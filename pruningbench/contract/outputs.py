"""Typed outputs: what tasks yield and metrics consume.

A metric names the type that it consumes and can be added to any task that yields that type.
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
            images, in rows that show one concept each), or another kind that a plugin draws
            (`pruningbench_register_exhibits`).
        images: (N, C, H, W) intensities in [0, 1].
        keys: identifiers of the N samples; figures align equal keys. For ``concepts`` a key is
            ``ROW/PLACE``: figures align equal rows, whose crops share a caption.
        maps: (N, H, W) float, for ``maps``.
        predicted, truth: N tensors (K, 4) of boxes in pixels, for ``boxes``.
        captions: N short texts, or empty.
        arrays: further values by name, N of each, for kinds that plugins add.
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
        keys: identifiers of the samples, in the order of the metrics' values; empty if the samples are the same
            for every network. Differences between networks are paired by key.
        settings: settings that the task chose for this model, by name, such as those of a field that is ``auto``;
            they are stored with the values.
        part: whether these are some of the variant's samples only. A task with more samples than fit into memory
            yields a variant several times, each time with the next samples; the harness joins their values.
    """

    exhibit: Exhibit | None = field(default=None, kw_only=True)
    keys: tuple[str, ...] = field(default=(), kw_only=True)
    settings: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    part: bool = field(default=False, kw_only=True)

    @property
    def count(self) -> int | None:
        """Number of samples, for each of which a metric must give one value; None if unknown."""
        return None

    def degenerate(self) -> Degenerate | None:
        """Return how many samples have an output that says nothing about them, and why; None if there are none."""
        return None


@dataclass(frozen=True)
class Missing(Outputs):
    """A variant that could not be measured, such as one missing data set out of several; the others remain valid.

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
            calibration is defined; true for logits and for log-probabilities.
    """

    scores: Tensor
    labels: Tensor
    probabilistic: bool = False

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def degenerate(self) -> Degenerate | None:
        """Report whether nearly all samples are predicted as one class."""
        from pruningbench.contract.degeneracy import one_answer

        return one_answer(self.scores.argmax(dim=1), self.labels, "one predicted class")


@dataclass(frozen=True)
class GroupedPredictions(Outputs):
    """Class scores of G samples, each of which stands for M predictions.

    A sample is an image in M versions, or an episode of M queries: its predictions are resampled together.

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
        """Report whether nearly all predictions are one class; if so, all groups count."""
        from dataclasses import replace

        from pruningbench.contract.degeneracy import one_answer

        constant = one_answer(self.scores.argmax(dim=2).flatten(), self.labels.flatten(), "one predicted class")
        return constant and replace(constant, count=self.count)


@dataclass(frozen=True)
class ResourceUse(Outputs):
    """What a network costs as it is, and what it would cost as a dense network.

    Attributes:
        parameters, nonzero: numbers of its parameters, and of those that are not exactly zero.
        dense_macs: multiply-accumulate operations for one image, counting all weights.
        effective_macs: those of them whose weight is not zero: what would remain on hardware that skips every
            zero weight. It does not imply a running time.
        seconds: (R,) float64 measured seconds for one batch, one per repeat.
        dense_seconds: (R,) the same for the dense network, measured alternately with it; `seconds` itself for
            a network that is only masked, which has the dense network's shapes and so does the same work.
        batch_size: images in the timed batch.
        peak_memory: peak bytes of the network and of what a batch needs in addition, as the device's
            allocator counts them; None if it does not report them.
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
    """Embeddings of N images by the pruned model, and of the same images by the dense one.

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
    """A model's answers to N trials that people answered too.

    Attributes:
        answers: (N,) int64, the model's choice (a category, or the position in a triplet), -1 for none.
        human: the people's answers to the same trials, in the same order.
        probabilities: (N, choices) float from which the choices were made, or None.
    """

    answers: Tensor
    human: HumanResponses
    probabilities: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of trials."""
        return len(self.answers)

    def degenerate(self) -> Degenerate | None:
        """Report whether nearly all answers are the same."""
        from pruningbench.contract.degeneracy import one_answer

        return one_answer(self.answers, None, "one answer")


class Explainer(Protocol):
    """Explains images by the method that made the maps of `Attributions`."""

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """(B, C, H, W) normalised images and (B,) int64 classes -> (B, H, W) maps."""
        ...

    def randomised(self, seed: int, share: float = 1.0) -> Explainer:
        """Return the same method for the network with the last `share` of its layers reinitialised.

        Pruned weights are reinitialised as well; otherwise the mask would carry information about the trained network.
        """
        ...


@dataclass(frozen=True)
class Attributions(Outputs):
    """Saliency maps of N images and what is needed to judge them.

    Attributes:
        maps: (N, H, W) float, larger = more relevant, >= 0 unless the method is signed.
        images: (N, C, H, W) float, normalised: the network's own inputs.
        targets: (N,) int64, the explained class; a target that is not a class of the model has a map of NaN.
        labels: (N,) int64 true classes, or None.
        masks: (N, H, W) bool, True on the objects, or None.
        predict: (B, C, H, W) normalised images -> (B, classes) softmax probabilities, without gradient; None for a
            network without a classifier, whose targets mean nothing.
        batch_size: largest batch `predict` should be given.
        seed: seed for metrics that need one.
        index: the images' positions in the data set, so that the random draws for an image do not depend on
            which other images are explained; empty = 0 to N - 1.
        logits: (B, C, H, W) normalised images -> (B, classes) logits, or None.
        signed: (N, C, H, W) attributions of both signs before pooling over channels; None for methods
            that give maps.
        explain: explains other images by the same method, or None.
        dense_maps: returns the (N, H, W) maps of the dense model on the same images by the same method,
            computed on the first call; None if there is no dense model.
    """

    maps: Tensor
    images: Tensor
    targets: Tensor
    predict: Callable[[Tensor], Tensor] | None
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

    @property
    def classifier(self) -> Callable[[Tensor], Tensor]:
        """`predict`, for metrics that need it.

        Raises:
            ValueError: if the network has no classifier.
        """
        if self.predict is None:
            raise ValueError("the network has no classifier")
        return self.predict

    def __post_init__(self) -> None:
        """Use the images' positions as keys, unless they are the first positions of the data set in order."""
        if not self.keys and (self.part or self.index != tuple(range(len(self.index)))):
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
        x: K points on the horizontal axis, ascending.
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
        sizes: N pairs (height, width) of the images, or None if unknown.
        remedy: what is likely to help if the boxes are degenerate, in a few words; "" if unknown.
    """

    predicted: list[Tensor]
    truth: list[Tensor]
    foreground: list[Tensor] | None = None
    masks: list[Tensor] | None = None
    sizes: list[tuple[int, int]] | None = None
    remedy: str = ""

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.predicted)

    def degenerate(self) -> Degenerate | None:
        """Count images in which nothing is found and, if nearly all images have the same box, these too."""
        from pruningbench.contract.degeneracy import boxes_alike

        return boxes_alike(self.predicted, self.sizes, self.remedy)


@dataclass(frozen=True)
class Concepts(Outputs):
    """Directions in which a network's activations vary on images of some classes, and crops that show them.

    K = classes x concepts per class: class by class, the most important concept first. P crops come from the
    images of all classes. A concept that is undefined (too few crops, a dead network) has NaN everywhere.

    Attributes:
        directions: (K, D) float32 >= 0, of unit length.
        classes: (K,) int64, the class of each concept, a position among the model's classes.
        importance: (K,) float64 >= 0, total Sobol index of the concept for the logit of its class.
        coefficients: (P, K) float32 >= 0, how much of each concept is in each crop.
        crop_classes: (P,) int64, the class of each crop's image.
        crop_images: (P,) int64, the position of its image in the data set.
        crop_boxes: (P, 4) float32, where each crop lies: xmin, ymin, xmax, ymax in pixels, maximum exclusive.
        embeddings: (P, E) float32, the crops embedded by a frozen encoder, the same for all networks of a recipe.
        top: number of leading concepts of each class that count as its explanation.
        dense: the concepts of the dense model on the same crops, or None.
        lacking: why there are none although the dense model was asked for; "" otherwise.
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
    lacking: str = ""

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
