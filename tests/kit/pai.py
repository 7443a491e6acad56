"""The pruners at initialisation in quick forms, and the networks they are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pruningbench_pai.flow import SynFlow
from pruningbench_pai.kernel import NtkSap, PathExclusion
from pruningbench_pai.sensitivity import Force, Grasp, IterativeSnip, Snip
from torch import Tensor, nn
from torch.nn import functional

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Pruner, PruningContext
from pruningbench.pruning.scope import prunable_parameters

DATA = Path(__file__).parents[1] / "data/pai"
TOY: dict[str, Tensor] = {k: torch.from_numpy(np.array(v)) for k, v in np.load(DATA / "toy_conv.npz").items()}
NTK: dict[str, Tensor] = {k: torch.from_numpy(np.array(v)) for k, v in np.load(DATA / "ntk_sap.npz").items()}
PRUNERS: dict[str, Pruner] = {
    "snip": Snip(),
    "grasp": Grasp(),
    "synflow": SynFlow(rounds=4),
    "iterative-snip": IterativeSnip(rounds=3),
    "force": Force(rounds=3),
    "ntk-sap": NtkSap(rounds=2, draws=2, batch_size=4),
    "px": PathExclusion(rounds=3),
}


def toy() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5, bias=False),
    ).double()  # fmt: skip
    net.load_state_dict({name: TOY[name] for name in ("0.weight", "2.weight", "6.weight")})
    return net.eval()


def job(net: nn.Module, *batches: tuple[Tensor, Tensor | None], seed: int = 0) -> PruningContext:
    return PruningContext(net, prunable_parameters(net), seed, (lambda: iter(batches)) if batches else None)


def toy_job() -> PruningContext:
    return job(toy(), (TOY["x"][:20], TOY["y"][:20]), (TOY["x"][20:], TOY["y"][20:]))


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensors[name].flatten().double() for name in tensors])


def relative(found: Tensor, reference: Tensor) -> float:
    return float((found - reference).norm() / reference.norm())


def everything(parameters: Any) -> dict[str, Tensor]:
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}


class Mixed(nn.Module):
    """Grouped convolution, batch norm, a tied pair of linear maps, functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.group = nn.Conv2d(8, 8, 3, groups=4, bias=False)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.group(functional.relu(self.norm(self.stem(x))))).mean((2, 3))
        return self.head(functional.relu(self.two(functional.relu(self.one(x)))))


def mixed_job(seed: int = 0) -> PruningContext:
    with isolated_randomness("mixed"):
        net = Mixed()
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2)
        images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 4
    return job(net.eval(), (images[:7], labels[:7]), (images[7:], labels[7:]), seed=seed)
