"""The precision of evaluation: what runs in it, what does not, and where it is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.runs import run
from torch import Tensor, nn

from pruningbench.contract import Preprocessing, VisionModel
from pruningbench.contract.precision import computed_in, in_full, refusal
from pruningbench.errors import SuiteError, UsageError
from pruningbench.harness.comparing import Reference
from pruningbench.harness.passes import passes_of
from pruningbench.harness.run import RunOptions, default_folder
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.comparing import compare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.store.cache import Cache
from pruningbench.store.journal import read_journal
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
"""
SUITE = """\
name: small
models: [{use: python, network: 'FILE:build', size: 8, mean: [0.5], std: [0.25], as: net}]
pruners: [magnitude]
sparsities: [0, 0.5]
tasks:
  - {use: classification, data: {use: digits, limit: 40}}
  - {use: interpretability, data: {use: digits, limit: 8}, methods: [saliency]}
  - {use: efficiency, data: digits, repeats: 1, warmup: 0}
metrics: [nll, map-ssim]
"""
WHERE = [("cpu", "float32"), ("cpu", "bf16")]
if torch.cuda.is_available():
    WHERE += [("cuda", "float32"), ("cuda", "tf32"), ("cuda", "bf16")]


class Views(VisionModel):
    """A model with a view that calls another one and a view that returns functions."""

    def embed(self, images: Tensor) -> Tensor:
        """Return features of half the precision inside, to show that the inner view belongs to the outer one."""
        inner = self.logits(images)
        self.seen = inner.dtype
        return inner

    def head_split(self) -> tuple[Any, Any]:
        """Return both halves of the network."""
        network: Any = self.network
        return network[:2], network[2:]

    def activation_module(self) -> tuple[nn.Module, Any]:
        """Return a module of the network itself, for a hook."""
        return self.network[2], lambda output, _images: output @ output.T  # type: ignore[index]


@pytest.fixture()
def model() -> Views:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))
    return Views(nn.Sequential(*layers).eval(), Preprocessing((0.5,), (0.25,), 8))


@pytest.fixture()
def images() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_views_run_in_bf16_and_return_float32(model: Views, images: Tensor) -> None:
    exact = model.logits(images)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = model.network(images).float()
    with computed_in("bf16"):
        assert torch.equal(model.logits(images), lowered)
        assert torch.equal(model.clone().logits(images), lowered)
        assert model.embed(images).dtype == torch.float32
        assert model.seen == torch.bfloat16
        first, _ = model.head_split()
        assert first(images).dtype == torch.float32
        assert not torch.equal(first(images), model.network[:2](images))
        module, grid = model.activation_module()
        assert module is model.network[2]  # type: ignore[index]
        assert grid(images.flatten(1), images).dtype == torch.float32
        assert torch.equal(model.network(images), exact)  # only the networks that are named
        with in_full():
            assert torch.equal(model.logits(images), exact)
    assert not torch.equal(exact, lowered)
    assert torch.equal(model.logits(images), exact)
    assert torch.equal(first(images), model.network[:2](images))


def test_gradients_follow_their_pass(model: Views, images: Tensor) -> None:
    def gradient() -> Tensor:
        leaf = images.clone().requires_grad_()
        (found,) = torch.autograd.grad(model.logits(leaf)[:, 0].sum(), leaf)
        return found

    exact = gradient()
    with computed_in("bf16"):
        lowered = gradient()
    assert lowered.dtype == torch.float32
    assert not torch.equal(lowered, exact)
    assert torch.allclose(lowered, exact, atol=0.02 * float(exact.abs().max()))


def test_a_named_network_may_be_called_itself_and_nothing_stays_on_it(model: Views, images: Tensor) -> None:
    exact, network = model.network(images), model.network
    with computed_in("bf16", network):
        lowered = network(images)
        assert lowered.dtype == torch.float32
        assert torch.equal(lowered, model.logits(images))
        with pytest.raises(RuntimeError):
            network(images[:, :, :4])
        assert not torch.is_autocast_enabled("cpu")
        assert torch.equal(network(images), lowered)
    assert not torch.equal(lowered, exact)
    assert torch.equal(network(images), exact)
    assert not (network._forward_hooks or network._forward_pre_hooks or network._forward_hooks_always_called)


def test_a_reference_that_a_task_asks_for_is_made_in_full_precision(model: Views, images: Tensor) -> None:
    made: list[Tensor] = []

    def make() -> VisionModel:
        made.append(model.logits(images).detach())
        return model

    exact = model.logits(images)
    with computed_in("bf16"):
        reference = Reference("trained", make).model()
        assert not torch.equal(reference.logits(images), exact)  # but compared in the precision of the task
    assert torch.equal(made[0], exact)


def test_calibration_keeps_one_choice_for_each_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pruningbench.harness import passes

    seen: list[bool] = []

    def timed(model: VisionModel, shape: tuple[int, ...]) -> float:
        linear = model.network[1](torch.ones(1, 3 * 96 * 96))  # type: ignore[index]
        whole = model.network(torch.ones(1, *shape[1:]))
        seen.append(bool(torch.equal(linear, whole)))
        return 1.0

    monkeypatch.setattr(passes, "seconds_of", timed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 2))
    large, cache = VisionModel(network, Preprocessing((0.5,) * 3, (0.25,) * 3, 96)), Cache(tmp_path)
    for precision in ("float32", "bf16", "bf16"):
        passes_of(large, 4, cache, precision)
    assert seen == [True, False]


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The built-in components."""
    return load_registry()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The suite in float32 and in bf16."""
    file = tmp_path_factory.mktemp("network") / "net.py"
    file.write_text(NETWORK)
    text = SUITE.replace("FILE", str(file))
    return text, text + "precision: bf16\n"


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, registry: Registry, texts: tuple[str, str]
) -> Iterator[tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("precision")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNINGBENCH_CACHE", str(folder / "cache"))
        for name, text in zip(("full", "low"), texts, strict=True):
            assert run(text, registry, folder / name).not_ok == ()
        yield folder / "full", folder / "low"


def test_values_of_bf16_differ_a_little_and_never_share_a_key(runs: tuple[Path, Path]) -> None:
    full, low = (read_journal(path / "results.jsonl")[0] for path in runs)
    assert [(r.task, r.variant, r.metric) for r in full] == [(r.task, r.variant, r.metric) for r in low]
    assert not {r.artifact for r in full} & {r.artifact for r in low}
    assert not {r.cell for r in full} & {r.cell for r in low}
    assert {r.made_of.get("precision") for r in low} == {"bf16"}
    assert {r.made_of.get("precision") for r in full} == {None}
    assert [r.made_of["network"] for r in full] == [r.made_of["network"] for r in low]
    pairs = [(one, other) for one, other in zip(full, low, strict=True) if "latency" not in one.metric]
    losses = [(one.value, other.value) for one, other in pairs if one.metric in ("nll", "gini", "deletion")]
    assert all(one != other and one == pytest.approx(other, rel=0.1) for one, other in losses)
    counts = [
        (one.value, other.value) for one, other in pairs if one.task == "efficiency" and "speedup" not in one.metric
    ]
    assert len(counts) >= 8
    assert all(one == other for one, other in counts)


def test_the_dense_model_has_the_same_precision(runs: tuple[Path, Path]) -> None:
    """The dense cell's maps are compared with maps of the same network: they are the same only in one precision."""
    low, _ = read_journal(runs[1] / "results.jsonl")
    same = [r.value for r in low if r.metric == "map-ssim" and r.sparsity == 0]
    assert same
    assert all(value == pytest.approx(1, abs=1e-6) for value in same)


def test_tables_and_comparisons_name_it(runs: tuple[Path, Path]) -> None:
    full, low = runs
    sentence = "Precision of the forward passes: bf16."
    assert sentence in _text(low)
    assert "Precision" not in _text(full)
    both = _text(full, low)
    assert both.count("Precision") == 1  # each has its own table
    contrast = compare(full, low)
    assert {entry.reason for entry in contrast.incomparable} == {"other precision: float32 before, bf16 after"}


def _text(*folders: Path) -> str:
    return " ".join(render(build(load_results(list(folders), details=True)), "table").split())


def test_a_device_without_it_is_refused_before_anything_is_written(
    registry: Registry, tmp_path: Path, texts: tuple[str, str]
) -> None:
    with pytest.raises(UsageError, match="precision tf32: device cpu does not have it; choose precision: float32 or"):
        run(texts[0] + "precision: tf32\n", registry, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert refusal("bf16", torch.device("cpu")) == ""
    assert "choose precision: float32, or" in refusal("bf16", torch.device("mps"))


@pytest.mark.parametrize(("capability", "fits"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_old_devices_are_refused(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fits: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "a card")
    cuda = torch.device("cuda")
    assert [bool(refusal(p, cuda)) for p in ("float32", "tf32", "bf16")] == [False, not fits, not fits]


def test_it_is_part_of_the_suite(registry: Registry, texts: tuple[str, str]) -> None:
    full, low = (suite_from_text(text, registry) for text in texts)
    assert suite_from_text(low.to_yaml(), registry).precision == "bf16"
    assert suite_from_text(texts[0] + "precision: float32\n", registry).digest == full.digest != low.digest
    assert "precision" not in full.to_yaml()
    assert default_folder(low, RunOptions()) == Path("runs/small-bf16")
    cells = [make_plan(suite, registry).cells for suite in (full, low)]
    assert all(
        one.key != other.key and one.reference().precision == "float32" for one, other in zip(*cells, strict=True)
    )
    assert {cell.reference().precision for cell in cells[1]} == {"bf16"}
    with pytest.raises(SuiteError, match=r"precision must be one of float32, tf32, bf16, got 'bf15'.*bf16"):
        suite_from_text(texts[0] + "precision: bf15\n", registry)


@pytest.mark.parametrize(("device", "precision"), WHERE)
def test_a_device_computes_in_it(device: str, precision: str, model: Views, images: Tensor) -> None:
    """On a machine with a GPU this covers it too."""
    model.network.to(device)
    images = images.to(device)
    exact = model.logits(images)
    with computed_in(precision, model.network):
        found = model.logits(images)
        assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.05)
    assert torch.equal(found, exact) == (precision == "float32")
    assert torch.equal(model.logits(images), exact)
