"""Methods that tasks accept: attribution methods and object discovery methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract.component import Component, Kind

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.vision import VisionModel

Pooling = Literal["l1", "l2-squared", "max", "sum", "positive"]
"""How attributions are pooled over channels: the sum of absolute values, of squares, the largest absolute value,
the signed sum, or the positive part of that sum."""


@dataclass(frozen=True)
class AttributionSettings:
    """What the task passes to its attribution methods; a method with its own fields may ignore it.

    Attributes:
        baseline: (1, C, 1, 1) the image without information, normalised.
        batch_size: largest batch that the network is given.
        steps: integration points of integrated gradients.
        rule: captum's name for the quadrature rule.
        samples: noisy copies for SmoothGrad, draws for GradientShap.
        noise: standard deviation of the noise on these copies, in normalised units.
        masks: random masks for RISE.
        cells: cells per side of a random mask's grid.
        window: side of the occluded square in pixels; None = an eighth of the image's shorter side.
        stride: pixels between two squares; None = half the window.
        seed: seed of all random draws. Every image gets the same draws, so that a map depends neither on
            the batch nor on the other images.
    """

    baseline: Tensor
    batch_size: int = 128
    steps: int = 16
    rule: str = "gausslegendre"
    samples: int = 16
    noise: float = 0.5
    masks: int = 1024
    cells: int = 7
    window: int | None = None
    stride: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class AttributionMethod(Component, ABC):
    """Gives the relevance of every pixel for the logit of a class.

    Attributes:
        pooling: pooling over channels, if the method's definition fixes it; None leaves it to the user.
        needs_classes: whether it explains a class; such a method is refused for a network without a classifier.
    """

    kind: ClassVar[Kind] = "attribution-method"
    plain: ClassVar[bool] = True
    pooling: ClassVar[Pooling | None] = None
    needs_classes: ClassVar[bool] = True

    @abstractmethod
    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the attributions of images, passing at most ``settings.batch_size`` through the network at once.

        Two methods that share this very function and have equal fields share its result.

        Args:
            model: the network to explain, in eval mode; it is left unchanged.
            images: (N, C, H, W) normalised images, N >= 1.
            targets: (N,) int64 explained classes, each a class of the model.
            settings: the settings of the task.

        Returns:
            (N, C, H, W) float of both signs, or maps (N, H, W).

        Raises:
            ViewUnavailableError: for a network whose architecture the method does not support.
        """


@dataclass(frozen=True)
class Patches:
    """Patch features of a batch.

    Attributes:
        features: (B, N, D) float, rows in row-major order of the grid.
        grid: (h, w) with h * w = N.
        size: pixels of a patch's side.
        attention: returns (B, heads, N) >= 0, the last block's attention of the class token to the patches; for
            a network without attention, one head that says how active each patch is.
    """

    features: Tensor
    grid: tuple[int, int]
    size: int
    attention: Callable[[], Tensor]


@dataclass(frozen=True)
class DiscoverySettings:
    """What the task passes to its method; a method with its own fields may ignore it.

    Attributes:
        k: candidate patches of low degree; None = the method's own number.
        tau: threshold of the cosine, in [-1, 1]; None = the method's own.
        objects: maximum number of objects per image, >= 1.
    """

    k: int | None = None
    tau: float | None = None
    objects: int = 3


@dataclass(frozen=True)
class FoundObjects:
    """What an object discovery method finds in a batch, patch by patch.

    Attributes:
        foreground: (B, h, w) bool, True on all objects.
        objects: (B, K, h, w) bool, one mask per object; an empty mask stands for no object.
    """

    foreground: Tensor
    objects: Tensor


@dataclass(frozen=True)
class DiscoveryMethod(Component, ABC):
    """Finds objects in patch features, without labels."""

    kind: ClassVar[Kind] = "discovery-method"
    plain: ClassVar[bool] = True

    @abstractmethod
    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        """Return the objects in the images of a batch."""
