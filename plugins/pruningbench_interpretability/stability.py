"""Stability of maps under small changes of the image, and how well they predict the effect of such changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from torch import Tensor

from pruningbench.contract import generator_for, isolated_randomness
from pruningbench_interpretability.ranking import is_ranked

Explain = Callable[[Tensor, Tensor], Tensor]


def max_sensitivity(
    explain: Explain,
    images: Tensor,
    targets: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    index: Sequence[int] | None = None,
) -> Tensor:
    """Return the largest relative change of each image's map in a small box around the image, by captum.

    max_k |map(x + e_k) - map(x)| / |map(x)| in the Euclidean norm, e_k uniform in [-radius, radius].
    Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019.

    Args:
        explain: (B, C, H, W) images and (B,) targets -> (B, H, W) maps.
        images: (N, C, H, W) normalised images.
        targets: (N,) int64 explained classes.
        radius: half the side of the box, in normalised units.
        samples: number of points drawn in the box.
        seed: seed of the draws, which also depend on the image's index.
        index: N numbers that identify the images; None = 0 to N - 1.

    Returns:
        (N,) float64 >= 0; NaN for a map of zeros and where any map has non-finite values.
    """
    numbers = range(len(images)) if index is None else index
    values = torch.full((len(images),), float("nan"), dtype=torch.float64, device=images.device)
    for i, number in enumerate(numbers):
        image, target = images[i : i + 1], targets[i : i + 1]
        usual = explain(image, target)
        if not bool(is_ranked(usual)):
            continue

        def shift(copies: Tensor, reach: float) -> Tensor:
            return copies + torch.empty_like(copies).uniform_(-reach, reach)

        # captum passes the image itself, which is already explained, as a tuple, and the copies as a tensor
        def again(
            copies: Tensor | tuple[Tensor, ...], target: Tensor = target, usual: Tensor = usual
        ) -> Tensor | tuple[Tensor, ...]:
            return (usual,) if isinstance(copies, tuple) else explain(copies, target.expand(len(copies)))

        with isolated_randomness(seed, "max-sensitivity", number):
            values[i] = sensitivity_max(again, image, shift, perturb_radius=radius, n_perturb_samples=samples)[0]
    return values


def infidelity(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    *,
    noise: float = 0.2,
    samples: int = 32,
    seed: int = 0,
    index: Sequence[int] | None = None,
    batch_size: int = 128,
) -> Tensor:
    """Return the error of attributions in predicting the drop of the target's score under noise, by captum.

    Mean over I of (I . attributions - (f(x) - f(x - I)))^2, where I is normal noise, after scaling the attributions
    by the best factor. Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations,
    NeurIPS 2019.

    Args:
        score: (B, C, H, W) -> (B, classes).
        images: (N, C, H, W) normalised images.
        attributions: (N, C, H, W) signed attributions.
        targets: (N,) int64 explained classes.
        noise: standard deviation of I, in normalised units.
        samples: number of draws of I.
        seed: seed of the draws, which also depend on the image's index.
        index: N numbers that identify the images; None = 0 to N - 1.
        batch_size: largest batch given to `score`.

    Returns:
        (N,) float64 >= 0; NaN for attributions of zeros or with non-finite values.
    """
    numbers = range(len(images)) if index is None else index
    values = torch.full((len(images),), float("nan"), dtype=torch.float64, device=images.device)
    usable = is_ranked(attributions.flatten(1)[:, None])

    def disturb(copies: Tensor) -> tuple[Tensor, Tensor]:
        shift = torch.randn_like(copies) * noise
        return shift, copies - shift

    with torch.no_grad():
        for i, number in enumerate(numbers):
            if not bool(usable[i]):
                continue
            with isolated_randomness(seed, "infidelity", number):
                values[i] = captum_infidelity(
                    score,
                    disturb,
                    images[i : i + 1],
                    attributions[i : i + 1],
                    target=targets[i : i + 1],
                    n_perturb_samples=samples,
                    max_examples_per_batch=min(batch_size, samples),
                    normalize=True,
                )[0]
    return values


def other_classes(targets: Tensor, classes: int, *, seed: int, index: Sequence[int] | None = None) -> Tensor:
    """Return (N,) int64 classes drawn uniformly from all but each target; the target itself if there is no other."""
    if classes < 2:
        return targets.clone()
    numbers = range(len(targets)) if index is None else index
    steps = [int(torch.randint(1, classes, (), generator=generator_for(seed, "other class", i))) for i in numbers]
    return (targets + torch.tensor(steps, dtype=torch.int64, device=targets.device)) % classes
