"""`pruningbench plugin check`: what it finds in imports, models and packages; broken twins have one defect each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.toysuite import Command
from torch import Tensor, nn

from pruningbench.contract import Context, Model, Preprocessing, ScorePruner, VisionModel, param
from pruningbench.errors import UsageError
from pruningbench.plugins import Plugin, Registry, load_registry
from pruningbench.testing import check, checks_of, findings, package_findings
from pruningbench.testing.imports import import_findings

CLEAN = "from pruningbench.contract import hookimpl\n"
IMPORTS = {
    "prints": ("print('hello')", "print"),
    "loads torch": ("import torch", "heavy import"),
    "loads scipy": ("import scipy", "heavy import"),
    "changes the folder": ("import os; os.chdir('/')", "global state"),
    "filters warnings": ("import warnings; warnings.simplefilter('ignore')", "global state"),
    "handles signals": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", "global state"),
    "seeds random": ("import random; random.seed(0)", "global state"),
    "sets variables": ("import os; os.environ['OMP_NUM_THREADS'] = '7'", "global state"),
    "starts a thread": (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "global state",
    ),
    "raises": ("raise RuntimeError('boom')", "import"),
    "exits": ("import os; os._exit(3)", "import"),
    "is slow": ("import time; time.sleep(1.2)", "slow import"),
}
"""Name of the twin -> (its defect, the check that finds it)."""
WITH_TORCH = {
    "sets the type": ("torch.set_default_dtype(torch.float64)", "the default type of torch"),
    "seeds torch": ("torch.manual_seed(0)", "torch's random state"),
    "sets threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", "the number of torch's threads"),
    "stops gradients": ("torch.set_grad_enabled(False)", "whether torch records gradients"),
    "seeds NumPy": ("import numpy; numpy.random.seed(0)", "NumPy's random state"),
    "sets the backend": ("import matplotlib; matplotlib.use('svg')", "the backend of matplotlib"),
}
"""As above, for libraries that a program has imported before; what finds them is "global state"."""


@pytest.fixture()
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module that other processes can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code: str) -> str:
        (tmp_path / "twin.py").write_text(CLEAN + code)
        return "twin"

    return write


def test_a_clean_module_has_no_findings(module: Any) -> None:
    assert list(import_findings(module(""))) == []


@pytest.mark.parametrize("name", IMPORTS)
def test_a_defect_of_an_import_is_found(module: Any, name: str) -> None:
    code, expected = IMPORTS[name]
    assert [found[0] for found in import_findings(module(code))] == [expected]


@pytest.mark.parametrize("name", WITH_TORCH)
def test_a_change_of_a_library_is_found(module: Any, name: str) -> None:
    code, expected = WITH_TORCH[name]
    guarded = f"import sys\ntorch = sys.modules.get('torch')\nif torch is not None:\n    {code}\n"
    assert [(found[0], expected in found[1]) for found in import_findings(module(guarded))] == [("global state", True)]


def test_built_in_packages_import_without_trace(module: Any) -> None:
    names = {r.where.partition(".")[0] for r in load_registry() if r.plugin.distribution == "pruningbench"}
    assert len(names) > 10
    assert list(import_findings(module("".join(f"import {name}\n" for name in sorted(names))))) == []


# ---- models ------------------------------------------------------------------------------------------


def network(seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made.eval()


class Shared(VisionModel):
    """A clone that is none."""

    def clone(self) -> VisionModel:
        return self


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.constant = torch.ones(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.constant  # type: ignore[no-any-return]


class Centred(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) - self.inner(x).mean(0)  # type: ignore[no-any-return]


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)


@dataclass(frozen=True)
class Good(Model):
    """A small network."""

    defect: str = param("", doc="what is wrong with it")

    def load(self, context: Context) -> VisionModel:
        made = network(context.seed if self.defect == "drawn by the run's seed" else 0)
        kind, classes = VisionModel, ("a", "b")
        if self.defect == "in training mode":
            made.train()
        elif self.defect == "other classes":
            classes = ("a", "b", "c")
        elif self.defect == "not finite":
            made[5].bias.data.fill_(float("nan"))
        elif self.defect == "shared weights":
            kind = Shared
        elif self.defect == "depends on the batch":
            return VisionModel(Centred(made).eval(), Preprocessing((0.5,), (0.5,), 16), classes=classes)
        elif self.defect == "a constant beside the buffers":
            return VisionModel(Wrapped(made).eval(), Preprocessing((0.5,), (0.5,), 16), classes=classes)
        elif self.defect == "one number per image":
            return VisionModel(nn.Sequential(made, Flat()).eval(), Preprocessing((0.5,), (0.5,), 16))
        elif self.defect == "a network alone":
            return made  # type: ignore[return-value]
        return kind(made, Preprocessing((0.5,), (0.5,), 16), classes=classes)


MODELS = {
    "drawn by the run's seed": "same weights",
    "in training mode": "batch invariance",
    "other classes": "logits",
    "not finite": "logits",
    "shared weights": "clones",
    "depends on the batch": "batch invariance",
    "a constant beside the buffers": "half precision",
    "one number per image": "logits",
    "a network alone": "logits",
}


@pytest.fixture()
def registry() -> Registry:
    made = Registry()
    made.add("model", "good", Good, Plugin("twins", "twinbench", "1"))
    return made


def test_a_good_model_has_no_findings(registry: Registry) -> None:
    assert list(map(str, findings("model", "good", registry=registry))) == []


@pytest.mark.parametrize("defect", MODELS)
def test_a_broken_model_is_found_by_its_check(registry: Registry, defect: str) -> None:
    found = list(findings("model", "good", registry=registry, defect=defect))
    assert MODELS[defect] in {finding.check for finding in found}
    if defect not in (
        "in training mode",
        "depends on the batch",
        "a network alone",
        "not finite",
    ):  # these break more than one
        assert {finding.check for finding in found} == {MODELS[defect]}


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_built_in_models_keep_the_contract(name: str) -> None:
    few = {"use": "digits", "classes": [0, 1], "limit": 16}
    check("model", name, data=few, epochs=1, plain_epochs=1)


# ---- packages ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hidden(ScorePruner):
    """Needs a field that nobody can guess."""

    odd: int = param(doc="an even number, > 1")

    def problem(self) -> str | None:
        return None if self.odd % 2 == 0 else f"odd is {self.odd}, but must be even"

    def score(self, context: Any) -> dict[str, Tensor]:
        return {name: p.detach().abs() for name, p in context.parameters.items()}


@dataclass(frozen=True)
class Shown(Hidden):
    """Needs a field, and says which value is good."""

    example = {"odd": 2}  # noqa: RUF012 - a constant of a frozen dataclass


def test_a_component_whose_example_does_not_bind_is_named(registry: Registry) -> None:
    plugin = Plugin("twins", "twinbench", "1")
    registry.add("pruner", "hidden", Hidden, plugin)
    registry.add("pruner", "shown", Shown, plugin)
    registry.add("pruner", "lazy", "no_such_module:Lazy", plugin)
    found = [
        (f.component, f.check) for f in package_findings("twinbench", registry=registry) if "module" not in f.component
    ]
    assert found == [("pruner 'hidden'", "example"), ("pruner 'lazy'", "load")]


def test_an_unknown_plugin_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'magnitude'"):
        list(package_findings("magnitud"))


def test_parameters_for_pytest_are_the_components() -> None:
    made = checks_of("magnitude")
    assert {"pruner-magnitude", "pruner-random"} <= {one.id for one in made}
    for one in made:
        one.values[0]()


def test_the_command_says_what_it_checked(pruningbench: Command) -> None:
    done = json.loads(pruningbench("plugin", "check", "magnitude", "--json", check=0).stdout)
    assert "pruner magnitude" in done["checked"] and done["findings"] == []
    assert "no plugin 'magnitud'" in pruningbench("plugin", "check", "magnitud", check=2).stderr
