"""captum's stability metrics image by image, with the draws of each image from the global generator: the peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

from pruningbench.contract import isolated_randomness


def sensitivity_one_by_one(
    explain: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    radius: float,
    samples: int,
    seed: int,
    index: Sequence[int],
) -> Tensor:
    """Return captum's largest sensitivity of each image, (N,) float64; of a map of zeros, it is not relative."""
    values = []
    for image, target, number in zip(images.split(1), targets.split(1), index, strict=True):
        # captum passes the image as a tuple and the copies as a tensor, and wants the like in return
        def attribute(x: Tensor | tuple[Tensor, ...], target: Tensor = target) -> Tensor | tuple[Tensor, ...]:
            return (explain(x[0], target),) if isinstance(x, tuple) else explain(x, target.expand(len(x)))

        def shift(x: Tensor, reach: float) -> Tensor:
            return x + torch.empty_like(x).uniform_(-reach, reach)

        with isolated_randomness(seed, "max-sensitivity", number):
            values.append(sensitivity_max(attribute, image, shift, perturb_radius=radius, n_perturb_samples=samples))
    return torch.cat(values).double()


def infidelity_one_by_one(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    attributions: Tensor,
    targets: Tensor,
    *,
    noise: float,
    samples: int,
    seed: int,
    index: Sequence[int],
    batch_size: int,
) -> Tensor:
    """Return captum's normalised infidelity of each image, (N,) float64."""

    def disturb(x: Tensor) -> tuple[Tensor, Tensor]:
        step = torch.randn_like(x) * noise
        return step, x - step

    values = []
    for i, number in enumerate(index):
        one = slice(i, i + 1)
        with isolated_randomness(seed, "infidelity", number):
            values.append(
                infidelity(
                    score, disturb, images[one], attributions[one], target=targets[one], n_perturb_samples=samples,
                    max_examples_per_batch=min(batch_size, samples), normalize=True,
                )
            )  # fmt: skip
    return torch.cat(values).detach().double()
