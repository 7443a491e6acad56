"""The Python interface as somebody new uses it: own pruners, suites as dictionaries, short and escaped texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.contract import PruningContext, ScorePruner, param
from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.pruning.scope import Scope

SUITE: dict[str, Any] = {
    "name": "from-python", "models": [{"use": "digits-resnet", "epochs": 1, "plain_epochs": 0}], "pruners": ["magnitude"],
    "sparsities": [0, 0.5], "tasks": [{"use": "classification", "data": {"use": "digits", "classes": [0, 1, 2, 3, 4, 5], "limit": 30}}],
}  # fmt: skip


@dataclass(frozen=True)
class Mine(ScorePruner):
    """Keep the largest weights."""

    power: float = param(1.0, doc="exponent, > 0")

    def problem(self) -> str | None:
        return None if self.power > 0 else f"power must be positive, got {self.power}"

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {name: p.detach().abs() ** self.power for name, p in context.parameters.items()}


@pytest.fixture()
def network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    made = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return made


def test_an_own_pruner_needs_no_registration(network: nn.Module) -> None:
    mine, theirs = pb.prune(network, Mine(), 0.5), pb.prune(network, "magnitude", 0.5)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert mine.provenance["pruner"] == "Mine"
    assert torch.equal(pb.score(network, Mine(2.0))["0.weight"], network[0].weight.detach() ** 2)  # type: ignore[index]


@pytest.mark.parametrize(
    ("pruner", "params", "words"),
    [
        (Mine, {}, r"give an instance, Mine\(...\)"),
        (Mine(), {"power": 2.0}, "has its fields already; give power when"),
        (Mine(power=-1.0), {}, "'Mine': power must be positive"),
        (3, {}, "must be the name of a pruner or a Pruner, got int"),
        ("magnitud", {}, "did you mean 'magnitude'"),
    ],
)
def test_other_pruners_are_refused_in_one_line(
    network: nn.Module, pruner: Any, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(PruningBenchError, match=words) as raised:
        pb.prune(network, pruner, 0.5, **params)
    assert "\n" not in str(raised.value)


def test_a_scope_may_be_a_dictionary(network: nn.Module) -> None:
    named = pb.prune(network, "magnitude", 0.5, scope=Scope(exclude=("0.*",)))
    spelled = pb.prune(network, "magnitude", 0.5, scope={"exclude": "0.*"})
    assert list(spelled) == list(named) == ["2.weight"]
    with pytest.raises(UsageError, match="scope has no 'exlude'; did you mean 'exclude'"):
        pb.prune(network, "magnitude", 0.5, scope={"exlude": "0.*"})
    with pytest.raises(UsageError, match="scope must be a Scope or a dictionary, got list"):
        pb.prune(network, "magnitude", 0.5, scope=["0.*"])  # type: ignore[arg-type]


def test_a_suite_may_be_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "cache"))
    done = pb.run(SUITE, tmp_path / "run", settings=["sparsities=[0,.8]"])
    assert sorted(done.results()["sparsity"].unique()) == [0, 0.8]
    assert repr(done) == f"<Run {str(tmp_path / 'run')!r}: 2 cells, 2 task runs computed, 0 done before>"
    assert "accuracy" in done.table() and done.table("csv").count("\n") >= 2
    assert done._repr_html_().startswith("<p>&lt;Run &#x27;")
    assert "<pre>" in done._repr_html_() and done._repr_html_().count("<") == 4


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ({**SUITE, "pruners": ["magnitud"]}, "did you mean 'magnitude'"),
        ({**SUITE, "pruners": [Mine()]}, "plain values"),
        (3, "suite must be a path, a name or a dictionary, got int"),
    ],
)
def test_other_suites_are_refused_in_one_line(suite: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(PruningBenchError, match=words) as raised:
        pb.run(suite, tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_run_with_failures_has_a_short_text(tmp_path: Path) -> None:
    from kit.boards import failure

    many = tuple(failure("a", "Traceback\n" * 500) for _ in range(10))
    text = repr(pb.Run(10, 20, 0, many, folder=tmp_path))
    assert len(text) < 200 and "10 task runs not ok" in text


class Lists(ScorePruner):
    """Gives lists."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {name: p.detach().abs().tolist() for name, p in context.parameters.items()}


@pytest.mark.parametrize(
    ("pruner", "images", "device", "words"),
    [
        (Lists(), None, "cpu", r"^scores of '0\.weight' are of type list, but must be a tensor$"),
        ("magnitude", None, "meta", r"^weights of '0\.weight' are on torch's meta device, without values"),
        ("snip", torch.zeros(2, 5), "cpu", r"^Sequential cannot take images \(2, 5\): mat1 and mat2 shapes"),
    ],
)
def test_what_torch_would_say_is_said_in_the_words_of_pruning(
    network: nn.Module, pruner: Any, images: Tensor | None, device: str, words: str
) -> None:
    batches = None if images is None else [(images, torch.zeros(len(images), dtype=torch.long))]
    with pytest.raises(PruningBenchError, match=words):
        pb.prune(network.to(device), pruner, 0.5, batches)
