"""What the cache may give: only what was made from the same weights, data and code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest
from kit.runs import run

from pruningbench.plugins import Plugin, Registry
from pruningbench.store.code import code_hash

PACKAGE = """
from dataclasses import dataclass
from typing import ClassVar
import torch
from pruningbench.contract import ArraySamples, Dataset, ScorePruner
from edited_plugin.helper import FACTOR, SHADE

@dataclass(frozen=True)
class Counted(ScorePruner):
    \"\"\"Scores by magnitude.\"\"\"
    needs_data: ClassVar[bool] = True
    calls: ClassVar[list] = []
    def score(self, context):
        self.calls.append(sum(float(images.sum()) for images, _ in context.batches()))
        return {name: FACTOR * p.detach().abs() for name, p in context.parameters.items()}

@dataclass(frozen=True)
class Shades(Dataset):
    \"\"\"Grey squares.\"\"\"
    shade: ClassVar[list] = [SHADE]
    def load(self, context):
        images = torch.full((8, 1, 6, 6), self.shade[0], dtype=torch.uint8)
        return ArraySamples(images, torch.arange(8) % 2, classes=("dark", "bright"))
"""
SUITE = """\
name: keyed
models: [toy-net]
pruners: [counted]
sparsities: [0.5]
recipes: [RECIPE]
data: shades
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
"""


class Edited:
    """A plugin on disk that can be edited and imported again."""

    def __init__(self, folder: Path, toy_registry: Registry) -> None:
        self.folder, self.toys = folder / "edited_plugin", toy_registry
        self.folder.mkdir()
        (self.folder / "__init__.py").write_text(PACKAGE)
        self.write("FACTOR, SHADE = 1.0, 10")

    def write(self, helper: str) -> None:
        (self.folder / "helper.py").write_text(helper)

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "edited_plugin"]:
            del sys.modules[name]
        invalidate_caches()

    def run(self, out: Path, recipe: str = "none", shade: int | None = None) -> list[float]:
        """Run the suite as a new process would; return what each scoring pass saw."""
        self.forget()
        sys.dont_write_bytecode = True  # sources of one length and second would be taken for the same
        module = import_module("edited_plugin")
        if shade is not None:
            module.Shades.shade[0] = shade
        registry = Registry({kind: dict(entries) for kind, entries in self.toys.entries.items()}, [*self.toys.plugins])
        registry.add("pruner", "counted", module.Counted, Plugin("edited", "edited", "1"))
        registry.add("dataset", "shades", module.Shades, Plugin("edited", "edited", "1"))
        assert run(SUITE.replace("RECIPE", recipe), registry, out).ok
        return list(module.Counted.calls)


@pytest.fixture
def edited(toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edited]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    plugin = Edited(tmp_path, toy_registry)
    yield plugin
    plugin.forget()


def test_the_same_weights_data_and_code_are_scored_once(edited: Edited, tmp_path: Path) -> None:
    assert len(edited.run(tmp_path / "a")) == 1
    assert edited.run(tmp_path / "b") == []


def test_data_replaced_under_one_name_is_scored_again(edited: Edited, tmp_path: Path) -> None:
    (first,) = edited.run(tmp_path / "a", shade=10)
    (second,) = edited.run(tmp_path / "b", shade=200)
    assert second > first
    assert edited.run(tmp_path / "c", shade=200) == []


def test_code_edited_without_a_new_version_is_run_again(edited: Edited, tmp_path: Path) -> None:
    edited.run(tmp_path / "a")
    edited.write("FACTOR, SHADE = 2.0, 10")  # a module that the component imports
    assert len(edited.run(tmp_path / "b")) == 1


def test_the_hash_is_of_the_package(edited: Edited) -> None:
    one = code_hash(import_module("edited_plugin").Counted)
    assert len(one) == 16
    edited.write("FACTOR, SHADE = 2.0, 10")
    edited.forget()
    assert code_hash(import_module("edited_plugin").Counted) != one
    assert code_hash(type("Made", (), {"__module__": "nowhere"})) == ""


def test_the_hash_covers_modules_beside_the_package_that_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a plugin of several modules that is installed in editable mode, or a file with a helper."""
    sources = {
        "edited_plugin.py": "import os, edited_first as first\n\nclass Part: ...\n",
        "edited_first.py": "def f():\n    from edited_second.deep import g\n",
        "edited_second/__init__.py": "",
        "edited_second/deep.py": "import edited_first\n\ng = 1\n",
        "edited_third.py": "unused = 1\n",
    }

    def hash_in(folder: Path, **changed: str) -> str:
        for name, text in {
            **sources,
            **{key.replace("__", "/") + ".py": text for key, text in changed.items()},
        }.items():
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        try:
            return code_hash(import_module("edited_plugin").Part)
        finally:
            for name in [name for name in sys.modules if name.startswith("edited_")]:
                del sys.modules[name]

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = hash_in(tmp_path / "a")
    assert hash_in(tmp_path / "b") == first
    assert hash_in(tmp_path / "c", edited_first="from edited_second.deep import g as h\n") != first
    assert hash_in(tmp_path / "d", edited_second__deep="g = 2\n") != first
    assert hash_in(tmp_path / "e", edited_third="unused = 2\n") == first
    installed = hash_in(tmp_path / "f" / "site-packages")
    assert hash_in(tmp_path / "g" / "site-packages", edited_second__deep="g = 2\n") == installed != first
