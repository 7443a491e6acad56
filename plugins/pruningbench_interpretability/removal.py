"""ROAD: a network's predictions while pixels are removed by relevance and imputed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruningbench.contract import generator_for
from pruningbench_interpretability.perturbation import Order, score_of
from pruningbench_interpretability.ranking import is_ranked, pixel_ranks
from pruningbench_interpretability.road import road_impute

NOISE = 0.01
"""Standard deviation of the noise on imputed pixels, in the network's input units, as in the original."""


@dataclass(frozen=True)
class RoadCurves:
    """Predictions at every removed fraction.

    Attributes:
        probability: (N, P) float64 probability of each image's target; NaN for maps of zeros or with non-finite
            values, for a target that is not a class, and where the network predicts NaN.
        predicted: (N, P) int64 predicted class; -1 where there is none.
    """

    probability: Tensor
    predicted: Tensor

    def agreement(self, classes: Tensor) -> Tensor:
        """Return whether the (N,) classes are predicted, (N, P) float64 of 0 and 1; NaN without a prediction."""
        equal = (self.predicted == classes[:, None]).double()
        return equal.masked_fill(self.predicted < 0, float("nan"))


@torch.no_grad()
def road_curves(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    fractions: Sequence[float],
    order: Order = "morf",
    noise: float = NOISE,
    seed: int = 0,
    index: Sequence[int] | None = None,
    batch_size: int = 128,
) -> RoadCurves:
    """Return the predictions with growing shares of pixels removed by noisy linear imputation.

    All images and fractions pass through imputation and network in full batches, and at most one batch of imputed
    images exists at a time. An image has the same noise at every fraction.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022.

    Args:
        predict: (B, C, H, W) -> (B, classes) probabilities.
        images: (N, C, H, W) normalised images.
        maps: (N, H, W) float, larger = more relevant.
        targets: (N,) int64 classes.
        fractions: P shares of pixels to remove, in [0, 1]; rounded down to whole pixels.
        order: ``morf`` removes the most relevant pixels first, ``lerf`` the least relevant; ties by index.
        noise: standard deviation of the noise on removed pixels.
        seed: seed of the noise, which also depends on the image's index.
        index: N numbers that identify the images; None = 0 to N - 1.
        batch_size: largest batch given to `predict`.
    """
    n, points = len(images), len(fractions)
    numbers = range(n) if index is None else index
    pixels = images.shape[-2] * images.shape[-1]
    # 0.29 * 100 is 28.999...: a share that means a whole number of pixels must not lose one
    removed = torch.tensor([int(fraction * pixels + 1e-6) for fraction in fractions], device=images.device)
    probability = torch.full((n * points,), float("nan"), dtype=torch.float64, device=images.device)
    predicted = torch.full((n * points,), -1, dtype=torch.int64, device=images.device)
    ranked = is_ranked(maps)
    ranks = pixel_ranks(maps if order == "morf" else -maps).view(n, 1, *images.shape[-2:])
    todo = torch.arange(n * points, device=images.device)[ranked.repeat_interleave(points)]
    for pairs in torch.split(todo, batch_size) if len(todo) else ():
        image, point = pairs // points, pairs % points
        keep = ranks[image] >= removed[point].view(-1, 1, 1, 1)
        imputed = road_impute(images[image], keep)
        if noise:
            imputed += ~keep * _noise(images, image.tolist(), numbers, seed) * noise
        scores = predict(imputed)
        probability[pairs] = score_of(scores, targets[image])
        predicted[pairs] = scores.argmax(dim=1).masked_fill(scores.isnan().any(dim=1), -1)
    return RoadCurves(probability.view(n, points), predicted.view(n, points))


def _noise(images: Tensor, chosen: list[int], numbers: Sequence[int], seed: int) -> Tensor:
    """Return (B, C, H, W) normal noise for the chosen images, drawn once per image."""
    drawn = {
        i: torch.randn(images.shape[1:], generator=generator_for(seed, "road", numbers[i]))
        for i in dict.fromkeys(chosen)
    }
    return torch.stack([drawn[i] for i in chosen]).to(images)
