"""Methods that tasks are open to: attribution methods, and methods of object discovery."""

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
the signed sum, or what of that sum is positive."""


@dataclass(frozen=True)
class AttributionSettings:
    """What the task gives to its attribution methods; a method of its own fields need not look at it.

    Attributes:
        baseline: (1, C, 1, 1) the image without information, normalised.
        batch_size: largest batch that the network is given.
        steps: points of the integral of integrated gradients.
        rule: captum's name of the quadrature.
        samples: noisy copies of SmoothGrad, draws of GradientShap.
        noise: standard deviation of the noise on these copies, in normalised units.
        masks: random masks of RISE.
        cells: cells a side of a random mask's grid.
        window: side of the occluded square in pixels; None = an eighth of the image's shorter side.
        stride: pixels between two squares; None = half the window.
        seed: seed of all that is drawn. Every image gets the same draws, so that a map depends neither on
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
        pooling: over channels, where the method's definition says it; None leaves it to the user.
    """

    kind: ClassVar[Kind] = "attribution-method"
    plain: ClassVar[bool] = True
    pooling: ClassVar[Pooling | None] = None

    @abstractmethod
    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the attributions of images, at most ``settings.batch_size`` of them through the network at once.

        Two methods that share this very function, and have equal fields, share its result.

        Args:
            model: the network to explain, in eval mode; it is left as it was.
            images: (N, C, H, W) normalised images, N >= 1.
            targets: (N,) int64 explained classes, each a class of the model.
            settings: of the task.

        Returns:
            (N, C, H, W) float of both signs, or maps (N, H, W).

        Raises:
            ViewUnavailableError: for a network whose architecture the method does not allow.
        """


@dataclass(frozen=True)
class Patches:
    """Patch features of a batch.

    Attributes:
        features: (B, N, D) float, rows in row-major order of the grid.
        grid: (h, w) with h * w = N.
        size: pixels of a patch's side.
        attention: returns (B, heads, N) >= 0, the last block's attention of the class token to the patches; for
            a network without attention one head, how active each patch is.
    """

    features: Tensor
    grid: tuple[int, int]
    size: int
    attention: Callable[[], Tensor]


@dataclass(frozen=True)
class DiscoverySettings:
    """What the task gives to its method; a method of its own fields need not look at it.

    Attributes:
        k: candidate patches of low degree; None = the method's own number.
        tau: threshold of the cosine, in [-1, 1]; None = the method's own.
        objects: most objects an image, >= 1.
    """

    k: int | None = None
    tau: float | None = None
    objects: int = 3


@dataclass(frozen=True)
class FoundObjects:
    """What a method of object discovery finds in a batch, patch by patch.

    Attributes:
        foreground: (B, h, w) bool, True on all that is an object.
        objects: (B, K, h, w) bool, one mask per object; an empty mask is no object.
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
