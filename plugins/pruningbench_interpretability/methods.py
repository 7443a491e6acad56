"""Attribution methods, by name: from a network and images to the relevance of every input value.

A method is a function (network, images, targets, settings) -> (B, C, H, W) signed attributions; add one
to `METHODS` and to the task's field ``methods``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
Pooling = Literal["l1", "l2-squared", "max"]


@dataclass(frozen=True)
class Settings:
    """What methods may ask for.

    Attributes:
        steps: points of the integral of integrated gradients.
        rule: captum's name of the quadrature.
        baseline: (1, C, 1, 1) the image without information, normalised.
        batch_size: largest batch that the network is given.
    """

    steps: int
    rule: str
    baseline: Tensor
    batch_size: int


Method = Callable[[Logits, Tensor, Tensor, Settings], Tensor]


def saliency(logits: Logits, images: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """Gradient of the target's logit (Simonyan et al., ICLR workshop 2014), by captum."""
    method = Saliency(logits)
    parts = [
        method.attribute(x.detach().clone().requires_grad_(), target=t, abs=False).detach()
        for x, t in _split(images, targets, settings.batch_size)
    ]
    return torch.cat(parts)


def integrated_gradients(logits: Logits, images: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """Difference to the baseline times the mean gradient on the way from it, by captum.

    The steps of several images go through the network together, at most ``batch_size`` at a time.
    Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017.
    """
    method = IntegratedGradients(logits)
    together = max(1, settings.batch_size // settings.steps)
    inner = settings.batch_size if settings.steps > settings.batch_size else None
    parts = []
    for x, t in _split(images, targets, together):
        attribution = method.attribute(
            x.detach(),
            baselines=settings.baseline.expand_as(x),
            target=t,
            n_steps=settings.steps,
            method=settings.rule,
            internal_batch_size=inner,
        )
        parts.append(attribution.detach())
    return torch.cat(parts)


METHODS: dict[str, Method] = {"saliency": saliency, "integrated-gradients": integrated_gradients}


def attribute(
    name: str, logits: Logits, images: Tensor, targets: Tensor, *, settings: Settings, pooling: Pooling
) -> Tensor:
    """Return the maps of one method, pooled over channels.

    Args:
        name: a key of `METHODS`.
        logits: (B, C, H, W) -> (B, classes).
        images: (N, C, H, W) normalised images.
        targets: (N,) int64 explained classes.
        settings: of the method.
        pooling: see `pool`.

    Returns:
        (N, H, W) float >= 0; NaN where the network's gradients are.
    """
    if not len(images):
        return images.new_empty(0, *images.shape[-2:])
    return pool(METHODS[name](logits, images, targets, settings), pooling)


def pool(attributions: Tensor, pooling: Pooling) -> Tensor:
    """Pool (B, C, H, W) attributions over channels to (B, H, W) >= 0.

    ``l1`` sums absolute values, ``l2-squared`` sums squares, ``max`` takes the largest absolute value.
    """
    if pooling == "l1":
        return attributions.abs().sum(dim=1)
    if pooling == "l2-squared":
        return attributions.square().sum(dim=1)
    return attributions.abs().amax(dim=1)


def _split(images: Tensor, targets: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(images, size), torch.split(targets, size), strict=True))
