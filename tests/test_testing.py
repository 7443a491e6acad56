"""The runnable contract: built-ins keep it, and broken twins are found out by the check that is meant for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from kit.conformance import FAST
from torch import Tensor

from pruningbench.contract import ArraySamples, Dataset, PruningContext, ScorePruner, param
from pruningbench.errors import PluginError
from pruningbench.plugins import Plugin, Registry, load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.testing import check, findings

OFFLINE = ("digits", "digit-scenes", "photos")
"""Data sets that ship with a package."""


def test_built_in_pruners_keep_the_contract() -> None:
    registry = load_registry()
    assert len(registry.names("pruner")) > 20
    for name in registry.names("pruner"):
        assert [str(found) for found in findings("pruner", name, **FAST.get(name, {}))] == []


@pytest.mark.parametrize("name", OFFLINE)
def test_built_in_data_sets_keep_the_contract(name: str) -> None:
    check("dataset", name)


@pytest.mark.parametrize("kind", ["recipe", "metric", "attribution-method", "discovery-method"])
def test_other_built_ins_keep_the_contract_of_their_fields(kind: Any) -> None:
    for name in load_registry().names(kind):
        check(kind, name)


@dataclass(frozen=True)
class Good(ScorePruner):
    """Keep the largest weights."""

    power: float = param(1.0, doc="exponent, > 0")

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {name: p.detach().abs() ** self.power for name, p in context.parameters.items()}


@dataclass(frozen=True)
class Undocumented(Good):
    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return super().score(context)


@dataclass(frozen=True)
class Nameless(Good):
    """not a sentence"""

    extra: int = 3


@dataclass(frozen=True)
class Random(Good):
    """Draw from the global state."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {name: torch.rand(p.shape, generator=_GENERATOR) for name, p in context.parameters.items()}


_GENERATOR = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Secret(Good):
    """Depend on the seed and not say so."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {n: torch.rand(p.shape, generator=context.generator(n)) for n, p in context.parameters.items()}


@dataclass(frozen=True)
class Said(Secret):
    """Depend on the seed and say so."""

    seeded: ClassVar[bool] = True


@dataclass(frozen=True)
class Careless(Good):
    """Leave all that can be left."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        scores = super().score(context)
        context.network.train()
        with torch.no_grad():
            for parameter in context.network.parameters():
                parameter.mul_(0.5)
                parameter.grad = torch.zeros_like(parameter)
        context.network[0].register_forward_hook(lambda *_: None)
        return scores


@dataclass(frozen=True)
class Greedy(Good):
    """Prune more than was asked for."""

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        return super().prune(context, 0.9)


@dataclass(frozen=True)
class Partial(Good):
    """Forget a parameter."""

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        masks = super().prune(context, sparsity)
        return Masks({name: mask for name, mask in masks.items() if name != "0.weight"})


@dataclass(frozen=True)
class Raising(Good):
    """Raise."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        raise KeyError("nothing")


@dataclass(frozen=True)
class Drifting(Dataset):
    """Another fingerprint, doubled keys, and a label too large, each time."""

    def load(self, context: Any) -> ArraySamples:
        samples = ArraySamples(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 7]), classes=("a", "b"),
                               keys=["x", "x", "y"])  # fmt: skip
        _COUNT.append(1)
        samples.fingerprint = f"load {len(_COUNT)}"
        return samples


_COUNT: list[int] = []


@pytest.fixture(scope="module")
def registry() -> Registry:
    made, plugin = Registry(), Plugin("twins", "twins", "1")
    for target in (Good, Undocumented, Nameless, Random, Secret, Said, Careless, Greedy, Partial, Raising):
        made.add("pruner", target.__name__.lower(), target, plugin)
    made.add("dataset", "drifting", Drifting, plugin)
    return made


EXPECTED = {
    "good": [],
    "said": [],
    "undocumented": [("documentation", "Undocumented has no docstring")],
    "nameless": [("documentation", "is not a sentence"), ("fields", "field 'extra' has no documentation")],
    "random": [("repeatable", "two calls with one seed give different masks"), ("seeded", "depend on the seed")],
    "secret": [("seeded", "its masks depend on the seed, but it declares seeded = False")],
    "careless": [
        ("leaves no trace", "it changed '0.weight' and"), ("leaves no trace", "training mode"),
        ("leaves no trace", "gradients"), ("leaves no trace", "hooks"),
    ],
    "greedy": [("masks", "it pruned 742 of 824 weights, not 412"), ("half precision", "another number")],
    "partial": [("masks", "lacking ['0.weight']"), ("half precision", "another number")],
    "raising": [("masks", "raised KeyError: 'nothing'"), ("repeatable", "raised"), ("seeded", "raised"),
                ("leaves no trace", "raised"), ("half precision", "raised")],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_a_broken_twin_is_found_out(name: str, registry: Registry) -> None:
    found = list(findings("pruner", name, registry=registry))
    assert [one.check for one in found] == [title for title, _ in EXPECTED[name]]
    for one, (_, words) in zip(found, EXPECTED[name], strict=True):
        assert words in one.what
        assert one.remedy.endswith(".") and one.component == f"pruner {name!r}"


def test_data_that_drift_are_found_out(registry: Registry) -> None:
    with pytest.raises(PluginError) as caught:
        check("dataset", "drifting", registry=registry)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, words in zip(
        lines, ("and then 'load", "2 samples have the key 'x'", "and there are 2 classes"), strict=True
    ):
        assert words in line
