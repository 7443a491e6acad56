"""Helpers shared by the attribution methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pruningbench.contract import VisionModel


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
    """Switch off in-place activations inside the block, as gradient hooks require."""
    inside = [module for module in network.modules() if getattr(module, "inplace", None) is True]
    for module in inside:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in inside:
            module.inplace = True  # type: ignore[assignment]


def watching(images: Tensor) -> Tensor:
    """Return the images detached from their graph, with gradients enabled."""
    return images.detach().clone().requires_grad_()


def at_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over images of the target's logit, a scalar to differentiate."""
    return torch.gather(logits, 1, targets[:, None]).sum()
