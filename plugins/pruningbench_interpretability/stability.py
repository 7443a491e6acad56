"""Stability of maps under small changes of the image, and how well they predict the effect of such changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from torch import Tensor

from pruningbench.contract import derive_seed, generator_for, isolated_randomness
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
    batch_size: int = 128,
) -> Tensor:
    """Return the largest relative change of each image's map in a small box around the image, by captum.

    max_k |map(x + e_k) - map(x)| / |map(x)| in the Euclidean norm, e_k uniform in [-radius, radius]. The points of
    several images are explained together, but each image has draws of its own: its value depends on other images only
    through the rounding of the network, whose kernels may differ with the size of a batch.
    Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019.

    Args:
        explain: (B, C, H, W) images and (B,) targets -> (B, H, W) maps, one for each image whatever the others are.
        images: (N, C, H, W) normalised images.
        targets: (N,) int64 explained classes.
        radius: half the side of the box, in normalised units.
        samples: number of points drawn in the box.
        seed: seed of the draws, which also depend on the image's index.
        index: N numbers that identify the images; None = 0 to N - 1.
        batch_size: largest batch given to `explain`, or `samples` if that is more.

    Returns:
        (N,) float64 >= 0; NaN for a map of zeros and where any map has non-finite values.
    """
    numbers = range(len(images)) if index is None else index
    values = torch.full((len(images),), float("nan"), dtype=torch.float64, device=images.device)
    # for methods that draw from the global generators
    with isolated_randomness(seed, "max-sensitivity"):
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            maps = explain(images[batch], targets[batch])
            for rows in _rows(is_ranked(maps), batch_size // samples):
                places = rows + start
                draws = _draws(images.device, seed, "max-sensitivity", numbers, places)
                values[places] = _sensitivity(
                    explain, images[places], targets[places], maps[rows], draws, radius, samples
                ).to(values)
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
    by the best factor. Noisy copies of several images are scored together, with draws as for `max_sensitivity`.
    Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019.

    Args:
        score: (B, C, H, W) -> (B, classes).
        images: (N, C, H, W) normalised images.
        attributions: (N, C, H, W) signed attributions.
        targets: (N,) int64 explained classes.
        noise: standard deviation of I, in normalised units.
        samples: number of draws of I, in chunks of at most `batch_size`.
        seed: seed of the draws, which also depend on the image's index.
        index: N numbers that identify the images; None = 0 to N - 1.
        batch_size: largest batch given to `score`.

    Returns:
        (N,) float64 >= 0; NaN for attributions of zeros or with non-finite values.
    """
    numbers = range(len(images)) if index is None else index
    values = torch.full((len(images),), float("nan"), dtype=torch.float64, device=images.device)
    usable = is_ranked(attributions.flatten(1)[:, None])
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            scores: Tensor | None = None
            for rows in _rows(usable[batch], batch_size // samples):
                scores = score(images[batch]) if scores is None else scores
                places = rows + start
                values[places] = _infidelity(
                    score, scores[rows], images[places], attributions[places], targets[places],
                    _draws(images.device, seed, "infidelity", numbers, places), noise, samples, batch_size,
                ).to(values)  # fmt: skip
    return values


def other_classes(targets: Tensor, classes: int, *, seed: int, index: Sequence[int] | None = None) -> Tensor:
    """Return (N,) int64 classes drawn uniformly from all but each target; the target itself if there is no other."""
    if classes < 2:
        return targets.clone()
    numbers = range(len(targets)) if index is None else index
    steps = [int(torch.randint(1, classes, (), generator=generator_for(seed, "other class", i))) for i in numbers]
    return (targets + torch.tensor(steps, dtype=torch.int64, device=targets.device)) % classes


def _sensitivity(
    explain: Explain,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    draws: Sequence[torch.Generator],
    radius: float,
    samples: int,
) -> Tensor:
    """Return captum's value of images that are explained by `maps`, (B,); see `max_sensitivity`."""

    def shift(copies: Tensor, reach: float) -> Tensor:
        steps = torch.empty_like(copies)
        for own, draw in zip(steps.chunk(len(draws)), draws, strict=True):
            own.uniform_(-reach, reach, generator=draw)
        return copies + steps

    # captum passes the images themselves, which are already explained, as a tuple, and the copies as a tensor
    def again(copies: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return (maps,) if isinstance(copies, tuple) else explain(copies, targets.repeat_interleave(samples))

    found: Tensor = sensitivity_max(again, images, shift, perturb_radius=radius, n_perturb_samples=samples)
    return found


def _infidelity(
    score: Callable[[Tensor], Tensor],
    scores: Tensor,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    draws: Sequence[torch.Generator],
    noise: float,
    samples: int,
    batch_size: int,
) -> Tensor:
    """Return captum's value of images with known `scores`, (B,); see `infidelity`."""

    def disturb(copies: Tensor) -> tuple[Tensor, Tensor]:
        shift = torch.empty_like(copies)
        for own, draw in zip(shift.chunk(len(draws)), draws, strict=True):
            own.normal_(generator=draw)
        shift *= noise
        return shift, copies - shift

    found: Tensor = captum_infidelity(
        lambda x: scores if x is images else score(x),
        disturb,
        images,
        attributions,
        target=targets,
        n_perturb_samples=samples,
        max_examples_per_batch=len(images) * min(batch_size, samples),
        normalize=True,
    )
    return found


def _rows(usable: Tensor, size: int) -> Sequence[Tensor]:
    """Return the positions of the true values of (B,) `usable`, at most `size` at a time and at least one."""
    rows = usable.nonzero()[:, 0]
    return torch.split(rows, max(size, 1)) if len(rows) else ()


def _draws(device: torch.device, seed: int, name: str, numbers: Sequence[int], places: Tensor) -> list[torch.Generator]:
    """Return a generator on the device for each image, so that its draws do not depend on the images beside it."""
    return [torch.Generator(device).manual_seed(derive_seed(seed, name, numbers[place])) for place in places.tolist()]
