"""Metrics of faithfulness: whether the network needs the pixels that a map marks as relevant.

A map of zeros or NaN, as from a network without gradients, is undefined for all of them: NaN, and counted.
Metrics with equal settings share their curves.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.contract import Attributions, Curve, Metric, Outputs, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench_interpretability.perturbation import Order
    from pruningbench_interpretability.removal import RoadCurves


@dataclass(frozen=True)
class _OfProbabilities(Metric):
    """A metric of the network's class probabilities."""

    consumes = Attributions

    def applies(self, outputs: Outputs) -> bool:
        """Whether the network has a classifier."""
        return isinstance(outputs, Attributions) and outputs.predict is not None


@dataclass(frozen=True)
class _Stepwise(_OfProbabilities):
    """A metric of a curve with equal steps."""

    unit = "probability"
    range = (0.0, 1.0)

    steps: int = param(16, doc="number of steps between the whole image and the empty one, >= 1")

    def problem(self) -> str | None:
        """Refuse fewer than one step."""
        return None if self.steps >= 1 else f"steps must be at least 1, got {self.steps}"

    @abstractmethod
    def _points(self, outputs: Attributions) -> Tensor:
        """(N, steps + 1) float64 probabilities."""

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1]."""
        from pruningbench_interpretability.perturbation import area_under_curve

        return area_under_curve(self._points(outputs))

    def curve(self, outputs: Attributions) -> Curve:
        """Return the probabilities against the share of pixels replaced."""
        shares = tuple(step / self.steps for step in range(self.steps + 1))
        return Curve(shares, "share of pixels, most relevant first", self._points(outputs))


@dataclass(frozen=True)
class Deletion(_Stepwise):
    """Area under the probability of the explained class while relevant pixels are removed; lower is better.

    Pixels are set to zero in normalised units in decreasing relevance (ties by index), in steps of equal
    size; the area is the trapezoid rule over the removed share. The explained class is the one predicted on the
    whole image.
    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018.
    """

    higher_is_better = False

    def _points(self, outputs: Attributions) -> Tensor:
        return _deletion(outputs, self.steps)


@dataclass(frozen=True)
class Insertion(_Stepwise):
    """Area under the probability of the explained class while relevant pixels are restored; higher is better.

    Pixels are restored in a blurred image in decreasing relevance (ties by index), in steps of equal size; the
    area is the trapezoid rule over the restored share. Source: Petsiuk, Das and Saenko, RISE, BMVC 2018.
    """

    kernel: int = param(11, doc="side of the Gaussian window in pixels, odd")
    sigma: float = param(5.0, doc="standard deviation of the Gaussian in pixels, > 0")

    def problem(self) -> str | None:
        """Refuse windows without a centre and numbers out of range."""
        if self.kernel < 1 or self.kernel % 2 == 0:
            return f"kernel must be odd and at least 1, got {self.kernel}"
        return super().problem() if self.sigma > 0 else f"sigma must be positive, got {self.sigma}"

    def _points(self, outputs: Attributions) -> Tensor:
        from pruningbench_interpretability.perturbation import insertion_curve

        def make() -> Tensor:
            return insertion_curve(
                outputs.classifier, outputs.images, outputs.maps, outputs.targets,
                steps=self.steps, kernel=self.kernel, sigma=self.sigma, batch_size=outputs.batch_size,
            )  # fmt: skip

        return outputs.once(("insertion", self.steps, self.kernel, self.sigma), make)


@dataclass(frozen=True)
class PixelFlipping(_OfProbabilities):
    """Mean drop of the explained class's probability while relevant pixels are removed; higher is better.

    Mean over the steps of f(x) - f(x_k), with pixels removed as in ``deletion``. Source: Bach et al., On
    Pixel-Wise Explanations for Non-Linear Classifier Decisions, PLOS ONE 10 (2015).
    """

    unit = "probability"
    range = (-1.0, 1.0)

    steps: int = param(16, doc="number of steps between the whole image and the empty one, >= 1")

    def problem(self) -> str | None:
        """Refuse fewer than one step."""
        return None if self.steps >= 1 else f"steps must be at least 1, got {self.steps}"

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [-1, 1]."""
        curve = _deletion(outputs, self.steps)
        return (curve[:, :1] - curve[:, 1:]).mean(dim=1)


@dataclass(frozen=True)
class Aopc(_OfProbabilities):
    """Area over the curve of f(x) - f(x_k) while square regions are removed by relevance (AOPC).

    Sum over k = 0 to L of f(x) - f(x_k), divided by L + 1, where f is the probability of the explained class;
    regions are set to zero in normalised units. Most relevant first: higher is better. Source: Samek et al.,
    Evaluating the Visualization of What a Deep Neural Network has Learned, IEEE TNNLS 28 (2017).
    """

    unit = "probability"
    range = (-1.0, 1.0)

    region: int = param(8, doc="side of a region in pixels, >= 1")
    regions: int | None = param(None, doc="number of regions removed, one at a time; none = all")

    def problem(self) -> str | None:
        """Refuse numbers below one."""
        for name in ("region", "regions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                return f"{name} must be at least 1, got {value}"
        return None

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [-1, 1]."""
        from pruningbench_interpretability.perturbation import mean_drop

        return mean_drop(self._points(outputs))

    def curve(self, outputs: Attributions) -> Curve:
        """Return the probabilities against the number of regions removed."""
        points = self._points(outputs)
        return Curve(tuple(map(float, range(points.shape[1]))), "regions removed, most relevant first", points)

    def _points(self, outputs: Attributions) -> Tensor:
        from pruningbench_interpretability.perturbation import region_perturbation_curve

        def make() -> Tensor:
            return region_perturbation_curve(
                outputs.classifier, outputs.images, outputs.maps, outputs.targets,
                region=self.region, regions=self.regions, batch_size=outputs.batch_size,
            )  # fmt: skip

        return outputs.once(("aopc", self.region, self.regions), make)


Measure = Literal["probability", "accuracy", "agreement"]


@dataclass(frozen=True)
class _Road(_OfProbabilities):
    """A metric of ROAD's curves; metrics with equal fractions and noise share them."""

    unit = "fraction"
    range = (0.0, 1.0)

    fractions: tuple[float, ...] = param(
        (0.01, 0.11, 0.21, 0.31, 0.41, 0.51, 0.61, 0.71, 0.81, 0.91),
        doc="shares of pixels removed, ascending, each in [0, 1]",
    )
    of: Measure = param(
        "probability",
        doc="probability of the explained class, accuracy against the labels, or agreement with the explained class",
    )
    noise: float = param(0.01, doc="standard deviation of the noise on removed pixels, in normalised units, >= 0")

    def problem(self) -> str | None:
        """Refuse fractions that are out of range or not ascending, and negative noise."""
        ascending = all(a < b for a, b in zip(self.fractions, self.fractions[1:], strict=False))
        if not self.fractions or not ascending or not self.fractions[0] >= 0 or not self.fractions[-1] <= 1:
            return f"fractions must ascend within [0, 1], got {list(self.fractions)}"
        return None if self.noise >= 0 else f"noise must not be negative, got {self.noise}"

    def applies(self, outputs: Outputs) -> bool:
        """Whether the network has a classifier, and the labels that accuracy needs exist."""
        labelled = isinstance(outputs, Attributions) and outputs.labels is not None
        return super().applies(outputs) and (self.of != "accuracy" or labelled)

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1]: the mean over the fractions."""
        return self._points(outputs).mean(dim=1)

    def curve(self, outputs: Attributions) -> Curve | None:
        """Return probability, accuracy or agreement against the share of pixels removed."""
        which = "most" if self._order == "morf" else "least"
        return Curve(self.fractions, f"share of pixels removed, {which} relevant first", self._points(outputs))

    @property
    def _order(self) -> Order:
        return "morf"

    def _points(self, outputs: Attributions) -> Tensor:
        """(N, fractions) float64."""
        from pruningbench_interpretability.removal import road_curves

        def make() -> RoadCurves:
            return road_curves(
                outputs.classifier, outputs.images, outputs.maps, outputs.targets,
                fractions=self.fractions, order=self._order, noise=self.noise, seed=outputs.seed,
                index=outputs.index or None, batch_size=outputs.batch_size,
            )  # fmt: skip

        curves = outputs.once(("road", self.fractions, self._order, self.noise), make)
        if self.of == "probability":
            return curves.probability
        classes = outputs.labels if self.of == "accuracy" else outputs.targets
        if classes is None:
            raise ValueError("the attributions have no labels")
        return curves.agreement(classes)


@dataclass(frozen=True)
class RoadMorf(_Road):
    """ROAD, most relevant pixels removed first by noisy linear imputation; mean over fractions, lower is better.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022.
    """

    higher_is_better = False


@dataclass(frozen=True)
class RoadLerf(_Road):
    """ROAD, least relevant pixels removed first by noisy linear imputation; mean over fractions, higher is better.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022.
    """

    @property
    def _order(self) -> Order:
        return "lerf"


@dataclass(frozen=True)
class RoadAopc(_Road):
    """Area over ROAD's curve, most relevant first: sum over k of (a_1 - a_k) / (n + 1); higher is better.

    a_k is the score after removing the k-th of n fractions; the first fraction is the reference. The curve is that
    of ``road-morf``, which stores it. Source: Do Sparse Subnetworks Exhibit Cognitively Aligned Attention?,
    arXiv 2509.21387, which uses accuracy and the fractions .01, .11 ... .91 (the defaults here, except for
    ``of: accuracy``).
    """

    range = (-1.0, 1.0)

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in (-1, 1)."""
        points = self._points(outputs)
        return (points[:, :1] - points).sum(dim=1) / (points.shape[1] + 1)

    def curve(self, outputs: Attributions) -> None:
        """Return no curve: ``road-morf`` stores it."""
        return


def _deletion(outputs: Attributions, steps: int) -> Tensor:
    from pruningbench_interpretability.perturbation import deletion_curve

    def make() -> Tensor:
        return deletion_curve(
            outputs.classifier, outputs.images, outputs.maps, outputs.targets,
            steps=steps, batch_size=outputs.batch_size,
        )  # fmt: skip

    return outputs.once(("deletion", steps), make)
