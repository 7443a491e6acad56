"""The packages under examples/: from source beside the built-ins, and installed into a fresh environment."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from kit.docpages import blocks
from kit.scripts import ROOT
from torch import Tensor, nn

from pruningbench.contract import Context, PruningContext
from pruningbench.plugins import Registry
from pruningbench.plugins.loading import ENTRY_POINTS, build_registry
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind
from pruningbench.suite.schema import suite_from_text
from pruningbench.testing import findings

EXAMPLES = ROOT / "examples"
PACKAGES = {"pruningbench-lrp": "lrp", "pruningbench-cifar-resnets": "cifar-resnets"}
"""Distribution -> name of its entry point."""
COMPONENTS = {"pruner": ("lrp", "lrp-weights"), "model": ("cifar-resnet",)}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """The built-ins and both packages, imported from their source."""
    with pytest.MonkeyPatch.context() as patch:
        points = list(entry_points(group=ENTRY_POINTS))
        for distribution, name in PACKAGES.items():
            patch.syspath_prepend(str(EXAMPLES / distribution / "src"))
            points.append(EntryPoint(name, distribution.replace("-", "_"), ENTRY_POINTS))
        made = build_registry(points)
        assert made.broken == []
        yield made


def cifar_resnet(registry: Registry, **fields: Any) -> Any:
    component: Any = bind(registry, "model", {"use": "cifar-resnet", **fields}).component
    return component.load(Context(torch.device("cpu"), 0, Cache(), lambda _: pytest.fail("needs no data")))


def test_the_components_keep_the_contract(registry: Registry) -> None:
    for kind, names in COMPONENTS.items():
        for name in names:
            assert [str(found) for found in findings(kind, name, registry=registry)] == []


@pytest.mark.parametrize("distribution", PACKAGES)
def test_their_suites_bind(registry: Registry, distribution: str) -> None:
    folder = EXAMPLES / distribution
    suite_from_text((folder / "suite.yaml").read_text(), registry, source="suite.yaml")
    shown = [yaml.safe_load(text) for text in blocks(folder / "README.md", "yaml")]
    used = [bind(registry, kind, item) for part in shown for kind in COMPONENTS for item in part.get(f"{kind}s", [])]
    assert used


@pytest.mark.parametrize("depth", [8, 20, 44])
def test_the_networks_are_those_of_the_single_file(registry: Registry, depth: int) -> None:
    """The same parameters, and the same logits for the same weights."""
    packaged = cifar_resnet(registry, depth=depth).network
    single: nn.Module = runpy.run_path(str(EXAMPLES / "cifar_resnets.py"))["cifar_resnet"](depth).eval()
    single.load_state_dict(packaged.state_dict())
    assert list(single.state_dict()) == list(packaged.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(single(images), packaged(images))


def test_relevance_of_a_cifar_resnet_is_gradient_times_input(registry: Registry) -> None:
    """With epsilon = 0 the rules are exact on any rectifier network; those of z-plus share otherwise."""
    from pruningbench_lrp.relevance import relevance  # type: ignore[import-not-found]  # ty: installed by the fixture
    from pruningbench_lrp.rules import Rule  # type: ignore[import-not-found]

    network = cifar_resnet(registry, depth=8).network.double()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    targets = torch.tensor([3, 7])
    inputs = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(inputs).gather(1, targets[:, None]).sum(), inputs)
    found: dict[str, Tensor] = {}
    for name in ("epsilon", "z-plus"):
        rules = relevance(
            network, images, targets, lambda n, name=name: dict.fromkeys(n, Rule(name, 0.0)), start="logit"
        )
        found[name] = rules.inputs
    assert torch.allclose(found["epsilon"], images * gradient)
    assert not torch.allclose(found["z-plus"], images * gradient)


def test_units_of_a_cifar_resnet_are_removed(registry: Registry) -> None:
    """Whole filters go, the classifier stays, and the sparsity is as close as filters allow."""
    network = cifar_resnet(registry, depth=8).network
    pruner: Any = bind(registry, "pruner", {"use": "lrp", "samples_per_class": 1}).component
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    parameters = prunable_parameters(network)
    masks = pruner.prune(PruningContext(network, parameters, 0, lambda: iter([(images, torch.arange(4))])), 0.5)
    filters = {name: mask.flatten(1).any(1) for name, mask in masks.items()}
    assert all(torch.equal(masks[n].flatten(1).all(1), kept) for n, kept in filters.items())
    assert bool(filters["linear.weight"].all())
    assert masks.sparsity == pytest.approx(0.5, abs=max(p[0].numel() for p in parameters.values()) / masks.total)


# ---- installed ---------------------------------------------------------------------------------------

SUITE = """\
name: both
models: [{use: cifar-resnet, depth: 8}]
pruners: [random, magnitude, lrp, lrp-weights]
sparsities: [0, 0.5]
data: {use: cifar10, split: train}
tasks: [{use: classification, data: {use: cifar10, split: test}}]
"""


def stand_in(data: Path) -> None:
    """Write random images in the layout of CIFAR-10's binary version: 20 in each file, two of each class."""
    folder = data / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for seed, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        rows = torch.randint(0, 256, (20, 3073), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
        rows[:, 0] = torch.arange(20) % 10
        (folder / f"{name}.bin").write_bytes(rows.numpy().tobytes())


class Fresh:
    """A fresh environment with a wheel of this checkout and of both packages, whose dependencies come from this one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "environment" / "bin"
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.variables = {
            **kept, "PRUNINGBENCH_CACHE": str(folder / "cache"), "PRUNINGBENCH_DATA": str(folder / "data"),
        }  # fmt: skip
        self.call(sys.executable, "-m", "venv", folder / "environment")
        site = Path(self.call(self.bin / "python", "-c", "import site; print(site.getsitepackages()[0])").strip())
        (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
        self.copies = {name: shutil.copytree(EXAMPLES / name, folder / name) for name in PACKAGES}
        options = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
        self.call(self.bin / "python", "-m", "pip", "install", *options, ROOT, *self.copies.values())

    def call(self, *command: str | Path, where: Path | None = None) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=where or self.folder, env=self.variables, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(tmp_path_factory.mktemp("fresh"))


@pytest.mark.timeout(1800)
@pytest.mark.slow  # makes an environment and builds three wheels
def test_installed_packages_run_beside_built_ins(fresh: Fresh) -> None:
    """They are listed, keep the contract, and share a suite with built-in pruners, data and tasks."""
    code = "import pruningbench; print(pruningbench.__file__)"
    assert fresh.call(fresh.bin / "python", "-c", code).startswith(str(fresh.folder / "environment"))
    command = fresh.bin / "pruningbench"
    listed = fresh.call(command, "list")
    assert all(name in listed for names in COMPONENTS.values() for name in names)
    for distribution in PACKAGES:
        checked = json.loads(fresh.call(command, "plugin", "check", distribution, "--json"))
        assert checked["findings"] == [] and checked["checked"]
    stand_in(fresh.folder / "data")
    (fresh.folder / "suite.yaml").write_text(SUITE)
    fresh.call(command, "run", "suite.yaml", "--out", "run", "--progress", "none")
    code = "import pruningbench as pb; t = pb.load_results('run'); print(sorted(set(t.pruner)), set(t.status))"
    shown = fresh.call(fresh.bin / "python", "-c", code).strip()
    assert shown == "['dense', 'lrp', 'lrp-weights', 'magnitude', 'random'] {'ok'}"


@pytest.mark.timeout(1800)
@pytest.mark.slow  # trains networks; mypy --strict reads torch
@pytest.mark.parametrize("distribution", PACKAGES)
def test_installed_packages_pass_their_own_tests(fresh: Fresh, distribution: str) -> None:
    where = fresh.copies[distribution]
    fresh.call(fresh.bin / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", where=where)
    fresh.call(fresh.bin / "python", "-m", "mypy", where=where)
