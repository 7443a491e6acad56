"""Networks of every make, and how each pruner is called on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import pruningbench as pb
from pruningbench.contract import Pruner
from pruningbench.errors import CollapseWarning, PruningBenchError
from pruningbench.plugins import load_registry
from pruningbench.suite.binding import bind

FAST: dict[str, dict[str, Any]] = {
    **{name: {"rounds": 2} for name in ("iterative-snip", "force", "synflow", "px")},
    **{name: {"epochs": 2} for name in ("gradual", "movement", "rigl")},
    **{name: {"samples": 4} for name in ("oba", "obd", "taylor", "wanda", "layer-obs", "sparse-swaps")},
    **{name: {"samples": 4, "block_size": 8} for name in ("block-fisher", "obs", "cap")},
    "block-hessian": {"samples": 4, "block_size": 8, "probes": 8},
    "ntk-sap": {"rounds": 2, "draws": 1, "batch_size": 2},
    "snapvit": {"samples": 6, "evaluations": 2, "crops": 2},
}
"""Fields that make a pruner quick, for those that are slow by default."""


class FusedQkv(nn.Module):
    """Attention by hand, its projection called as a function, as some libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Linear(4, 8), nn.Linear(8, 24)
        self.proj, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.flatten(2).transpose(1, 2))
        q, k, v = functional.linear(x, self.qkv.weight, self.qkv.bias).chunk(3, -1)
        x = x + self.proj((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v)
        return self.head(x.mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.flatten(2).transpose(1, 2))
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Linear(144, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.stem(images.flatten(1)).relu()).relu()
        return self.head(self.second(x).relu())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.conv(images).relu()


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2, padding=1),
        Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 4))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": linear, "grouped": grouped, "fused-qkv": FusedQkv, "attention": Attention, "tied": Tied,
}  # fmt: skip


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 4, 6, 6, generator=generator), torch.arange(6) % 4) for _ in range(2)]


def component(name: str) -> Pruner:
    found = bind(load_registry(), "pruner", {"use": name, **FAST.get(name, {})}).component
    assert isinstance(found, Pruner)
    return found


def prune(network: nn.Module, name: str, sparsity: float = 0.5, batches: Any = None) -> pb.Masks:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return pb.prune(network, name, sparsity, data() if batches is None else batches, **FAST.get(name, {}))


def check_line(error: BaseException) -> None:
    """An error is one line that ends as a sentence does, not a dump."""
    assert isinstance(error, PruningBenchError), repr(error)
    assert 10 < len(str(error)) < 400, str(error)
    assert "\n" not in str(error)
