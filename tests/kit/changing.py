"""A plugin on disk whose weights, data, code and versions the tests change under a run folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path

import numpy as np
import pytest
import torch

from kit.runs import Said, said
from pruningbench.plugins import Plugin, Registry

SOURCES = {
    "changing_net": '''
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
import torch
from pruningbench.contract import ArraySamples, Dataset, Model, Preprocessing, param
from toybench_parts import ToyModel, ToyVision, log

@dataclass(frozen=True)
class Net(Model):
    """A network whose weights are in a file."""
    weights: str = param(doc="file of the weights")
    training_data: ClassVar = "toy-data"
    def load(self, context):
        log("net")
        network = ToyModel().build()
        network.load_state_dict(torch.load(self.weights, weights_only=True))
        return ToyVision(network, Preprocessing((0.5,), (0.5,)), classes=("dark", "bright"), head=("4.weight", "4.bias"))

@dataclass(frozen=True)
class Stored(Dataset):
    """Images in a file."""
    file: str = param(doc="file of the images")
    def load(self, context):
        images = torch.from_numpy(np.load(self.file))
        return ArraySamples(images, torch.arange(len(images)) % 2, classes=("dark", "bright"))
''',
    "changing_scores": '''
from dataclasses import dataclass
from typing import ClassVar
from pruningbench.contract import ScorePruner
from changing_scores.helper import FACTOR, VERSION
from toybench_parts import log

@dataclass(frozen=True)
class Scores(ScorePruner):
    """Scores by magnitude."""
    version: ClassVar[int] = VERSION
    def score(self, context):
        log("scores")
        return {name: FACTOR * p.detach().abs() for name, p in context.parameters.items()}
''',
    "changing_tune": '''
from dataclasses import dataclass
from typing import ClassVar
from changing_tune.helper import VERSION
from pruningbench_recipes.basic import Finetune

@dataclass(frozen=True)
class Tune(Finetune):
    """Fine-tuning."""
    version: ClassVar[int] = VERSION
''',
    "changing_look": '''
from dataclasses import dataclass
from typing import ClassVar
from changing_look.helper import FAILS
from toybench_parts import ToyTask

@dataclass(frozen=True)
class Look(ToyTask):
    """The toy task, with metrics of its own."""
    metrics: ClassVar = ("right", "wrong")
    def run(self, model, context):
        if FAILS:
            raise ValueError("not yet")
        yield from super().run(model, context)
''',
    "changing_wrong": '''
from dataclasses import dataclass
from changing_wrong.helper import FACTOR
from toybench_parts import ToyAccuracy, log

@dataclass(frozen=True)
class Wrong(ToyAccuracy):
    """Share of wrong predictions."""
    def values(self, outputs):
        log("wrong")
        return FACTOR * (1 - super().values(outputs))
''',
    "changing_right": '''
from dataclasses import dataclass
from toybench_parts import ToyAccuracy, log

@dataclass(frozen=True)
class Right(ToyAccuracy):
    """Share of right predictions."""
    def values(self, outputs):
        log("right")
        return super().values(outputs)

@dataclass(frozen=True)
class Never(ToyAccuracy):
    """Applies to nothing."""
    def applies(self, outputs):
        return False
''',
}
COMPONENTS = (
    ("model", "net", "changing_net", "Net"), ("dataset", "stored", "changing_net", "Stored"),
    ("pruner", "scores", "changing_scores", "Scores"), ("recipe", "tune", "changing_tune", "Tune"),
    ("task", "look", "changing_look", "Look"),
    ("metric", "right", "changing_right", "Right"), ("metric", "wrong", "changing_wrong", "Wrong"),
    ("metric", "never", "changing_right", "Never"),
)  # fmt: skip
CONSTANTS = "FACTOR, FAILS, VERSION = 1.0, False, 1\n"

SUITE = """\
name: changing
models: [{use: net, weights: WEIGHTS}]
pruners: [scores]
sparsities: [0, 0.5]
recipes: [none, {use: finetune, epochs: 1}]
tasks:
  - {use: look, data: {use: stored, file: IMAGES}}
"""


class Changing:
    """The plugin, its files, and runs of its suite as new processes would do them.

    Attributes:
        text: the suite.
        versions: version of the distribution of a package.
    """

    def __init__(self, folder: Path, toy_registry: Registry) -> None:
        self.folder, self.toys = folder, toy_registry
        self.weights, self.images = folder / "weights.pt", folder / "images.npy"
        self.text = SUITE.replace("WEIGHTS", str(self.weights)).replace("IMAGES", str(self.images))
        self.versions = {"changing_scores": "1.0"}
        for name, source in SOURCES.items():
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(source)
            (folder / name / "helper.py").write_text(CONSTANTS)
        self.write_weights(3)
        self.write_images(2)

    def edit(self, package: str, constants: str = "") -> None:
        """Set constants of one of the packages; those of the first day come back without any."""
        (self.folder / package / "helper.py").write_text(f"{CONSTANTS}{constants}\n" if constants else CONSTANTS)

    def write_weights(self, seed: int) -> None:
        from toybench_parts import ToyModel

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            torch.save(ToyModel().build().state_dict(), self.weights)

    def write_images(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shade = 60 * (np.arange(64) % 2)[:, None, None, None]
        np.save(self.images, (rng.integers(0, 120, (64, 1, 6, 6)) + shade).astype(np.uint8))

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in SOURCES]:
            del sys.modules[name]
        invalidate_caches()

    def registry(self) -> Registry:
        self.forget()
        registry = Registry({kind: dict(entries) for kind, entries in self.toys.entries.items()}, [*self.toys.plugins])
        for kind, name, package, attribute in COMPONENTS:
            plugin = Plugin(package, package.replace("_", "-"), self.versions.get(package, "2.0"))
            registry.add(kind, name, getattr(import_module(package), attribute), plugin)  # type: ignore[arg-type]
        return registry

    def run(self, out: Path, text: str | None = None, **options: object) -> Said:
        """Run the suite as a new process would; return the summary and what was said."""
        return said(text or self.text, self.registry(), out, **options)


@pytest.fixture
def changing(toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Changing]:
    (tmp_path / "plugin").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # sources of one length and second would pass for the same
    plugin = Changing(tmp_path / "plugin", toy_registry)
    yield plugin
    plugin.forget()
