"""Networks for trainings on several processes, whose parts look at the process in which they are; and what is compared."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Preprocessing, VisionModel
from pruningbench.pruning.masks import Masks

WATCHED = "layers.last"
"""Name of the layer that looks at its own pruned weights."""


def in_member() -> bool:
    """Whether this process was started by a training."""
    return multiprocessing.parent_process() is not None


class Watched(nn.Linear):
    """Refuses to compute, in any process, while a weight that is pruned is not exactly zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("keep", torch.ones(outputs, inputs, dtype=torch.bool), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        keep = self.get_buffer("keep")
        if torch.count_nonzero(self.weight[~keep]):
            raise RuntimeError("a pruned weight is not zero")
        return super().forward(x)


class Net(nn.Module):
    """A small network with a weight that no sample uses, in which further modules may stand."""

    def __init__(self, norm: nn.Module, *more: nn.Module, classes: int = 2) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3, 3))
        self.layers = nn.Sequential()
        for name, module in (
            ("first", nn.Conv2d(1, 4, 3, padding=1)), ("norm", norm), ("act", nn.ReLU()),
            *((f"more{i}", module) for i, module in enumerate(more)),
            ("flat", nn.Flatten()), ("last", Watched(144, classes)),
        ):  # fmt: skip
            self.layers.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Drawing(nn.Module):
    """Draws from all three global generators while training, as third-party networks may."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return nn.functional.dropout(x, 0.2) * (1 + 0.1 * random.random() + 0.1 * float(np.random.normal()))


class Ending(nn.Module):
    """In a member, does something bad when it is called for the so-manieth time.

    Args:
        call: number of the call, from 1.
        how: ``killed``, ``raises``, ``memory`` or ``exits``.
    """

    def __init__(self, call: int, how: str) -> None:
        super().__init__()
        self.left, self.how = call, how

    def forward(self, x: Tensor) -> Tensor:
        if self.training and in_member():
            self.left -= 1
            if self.left == 0:
                time.sleep(0.1)  # the first process is now waiting
                self.end()
        return x

    def end(self) -> None:
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "exits":
            os._exit(3)
        elif self.how == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB\nmore")
        raise ValueError("oops\nand a second line")


def net(norm: str = "batch", *more: nn.Module) -> VisionModel:
    """Return the same network each time, with ``batch``, ``layer`` or ``none`` as its norm."""
    with isolated_randomness("parallel"):
        norms = {"batch": nn.BatchNorm2d(4), "layer": nn.GroupNorm(1, 4), "none": nn.Identity()}
        network = Net(norms[norm], *more)
    return VisionModel(
        network.eval(), Preprocessing((0.5,), (0.25,)), classes=("left", "right"),
        head=(f"{WATCHED}.weight", f"{WATCHED}.bias"),
    )  # fmt: skip


def masks_of(model: VisionModel) -> Masks:
    """Return masks of the watched layer, which the layer is told."""
    layer = model.network.get_submodule(WATCHED)
    assert isinstance(layer, Watched)
    keep = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    layer.get_buffer("keep").copy_(keep)
    return Masks({f"{WATCHED}.weight": keep})


def state(model: VisionModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of two states."""
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def left_behind() -> list[Any]:
    """Return what a training must not leave: processes, a group, a variable."""
    left: list[Any] = list(multiprocessing.active_children())
    return [*left, *(["group"] if torch.distributed.is_initialized() else []), *(
        ["variable"] if "GLOO_SOCKET_IFNAME" in os.environ else [])]  # fmt: skip
