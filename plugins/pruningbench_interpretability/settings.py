"""What attribution methods are given, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruningbench.contract import VisionModel


@dataclass(frozen=True)
class Settings:
    """What methods may ask for.

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


class Logits(nn.Module):
    """A model's logits as a module, for captum methods that hook into the network."""

    def __init__(self, model: VisionModel) -> None:
        super().__init__()
        self.network = model.network
        self._logits = model.logits

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes)."""
        return self._logits(images)


def split(images: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut images and their targets into batches of at most `size`."""
    yield from zip(torch.split(images, max(1, size)), torch.split(targets, max(1, size)), strict=True)


@contextmanager
def out_of_place(network: nn.Module) -> Iterator[None]:
    """Let activations leave their inputs alone inside the block, as hooks on gradients need it."""
    inside = [module for module in network.modules() if getattr(module, "inplace", None) is True]
    for module in inside:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in inside:
            module.inplace = True  # type: ignore[assignment]


def watching(images: Tensor) -> Tensor:
    """Return images that gradients can be taken for, apart from the graph that they come from."""
    return images.detach().clone().requires_grad_()


def at_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over images of each one's logit of its target, a scalar to take gradients of."""
    return torch.gather(logits, 1, targets[:, None]).sum()
