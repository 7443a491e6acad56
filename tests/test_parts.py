"""A failure costs itself: a metric, a variant, a data set of several; the others stand, and the row says what lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from kit.human import answers, stimuli
from kit.runs import run
from kit.toysuite import TOY_SUITE

from pruningbench.contract import (
    Context,
    Curve,
    DatasetRef,
    Metric,
    Missing,
    Outputs,
    Predictions,
    Task,
    VisionModel,
    param,
)
from pruningbench.leaderboard import build, render, render_failures
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

Log = Callable[[], list[str]]


@dataclass(frozen=True)
class Breaks(Metric):
    """Raises, or returns what is no value."""

    consumes: ClassVar[type[Outputs]] = Predictions
    how: str = param("raise", doc="raise, shape or memory")

    def values(self, outputs: Predictions) -> torch.Tensor:
        if self.how == "raise":
            raise ZeroDivisionError("no luck")
        if self.how == "memory":
            raise torch.OutOfMemoryError("out of memory")
        return torch.zeros(2, 2, 2)


@dataclass(frozen=True)
class Parts(Task):
    """Yields two variants, a missing one, and may fail before the last."""

    metrics: ClassVar[tuple[str, ...]] = ("toy-accuracy",)
    data: DatasetRef = param(doc="what to predict")
    fail: bool = param(False, doc="raise before the last variant")
    only: bool = param(False, doc="yield nothing but what is missing")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        samples = context.open_dataset(self.data)
        outputs = Predictions(context.logits(model, samples), samples.labels)
        if not self.only:
            yield "first", outputs
        yield "gone", Missing("not on this disk; fetch it")
        if self.fail:
            raise RuntimeError("cable cut")
        if not self.only:
            yield "last", outputs


@pytest.fixture
def registry(toy_registry: Registry) -> Registry:
    extended = Registry({kind: dict(entries) for kind, entries in toy_registry.entries.items()}, toy_registry.plugins)
    extended.add("metric", "breaks", Breaks, Plugin("parts", "tests", "1"))
    extended.add("task", "parts", Parts, Plugin("parts", "tests", "1"))
    return extended


@pytest.mark.parametrize(("how", "words"), [("raise", "ZeroDivisionError: no luck"), ("shape", "metric 'breaks(how=")])
def test_a_failing_metric_costs_itself(how: str, words: str, registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    text = TOY_SUITE.replace("[toy-margin]", f"[toy-margin, {{use: breaks, how: {how}}}]")
    summary = run(text, registry, tmp_path / "run")
    assert len(summary.not_ok) == summary.cells == summary.computed
    assert all(words in record.error and record.metric.startswith("breaks") for record in summary.not_ok)
    frame = load_results(tmp_path / "run")
    clean = load_results(run_clean(registry, tmp_path))
    both = frame[frame["status"] == "ok"]
    assert sorted(both["value"]) == sorted(clean["value"]) and len(frame) == len(both) + summary.cells
    (board,) = build(frame, [tmp_path / "run"])
    assert {column.metric for column in board.columns} == {"toy-accuracy", "toy-margin"}
    assert len(board.failed) == summary.cells and board.failed[0].part.startswith("breaks")
    assert "breaks" in render_failures([board]) and "Task runs without values: 10 failed" in render([board], "table")
    ran = len(toy_log())
    assert run(text, registry, tmp_path / "run").computed == 0 and len(toy_log()) == ran
    again = run(text, registry, tmp_path / "run", retry_failed=True)
    assert again.computed == summary.cells and len(again.not_ok) == summary.cells


def run_clean(registry: Registry, tmp_path: Path) -> Path:
    run(TOY_SUITE, registry, tmp_path / "clean")
    return tmp_path / "clean"


@dataclass(frozen=True)
class HalfWay(Metric):
    """Has values, and then a curve that does not fit them."""

    consumes: ClassVar[type[Outputs]] = Predictions

    def values(self, outputs: Predictions) -> torch.Tensor:
        return torch.ones(len(outputs.labels))

    def curve(self, outputs: Predictions) -> Curve:
        return Curve((0.0, 1.0), "share", torch.zeros(1, 1))


def test_a_metric_that_fails_half_way_has_no_value(registry: Registry, tmp_path: Path) -> None:
    registry.add("metric", "half-way", HalfWay, Plugin("parts", "tests", "1"))
    run(TOY_SUITE.replace("[toy-margin]", "[half-way]"), registry, tmp_path / "run")
    frame = load_results(tmp_path / "run")
    assert set(frame[frame["metric"] == "half-way"]["status"]) == {"failed"}


def test_a_metric_that_fails_alone_fails_its_task(registry: Registry, tmp_path: Path) -> None:
    text = TOY_SUITE.replace("[toy-margin]", "[{use: breaks, how: memory}]")
    summary = run(text, registry, tmp_path / "memory")
    assert {record.status for record in summary.not_ok} == {"oom"}  # smaller batches were tried, for all metrics


def test_variants_that_lack_or_fail_leave_the_others(registry: Registry, tmp_path: Path) -> None:
    text = TOY_SUITE.replace("{use: toy-task, ", "{use: parts, fail: FAIL, ")
    for fail, expected in (("false", {"first", "last"}), ("true", {"first"})):
        out = tmp_path / fail
        summary = run(text.replace("FAIL", fail), registry, out)
        frame = load_results(out)
        assert set(frame[frame["status"] == "ok"]["variant"]) == expected
        lacking = frame[frame["status"] == "failed"]
        assert "not on this disk; fetch it" in set(lacking["error"])
        assert any("RuntimeError: cable cut" in error for error in lacking["error"]) == (fail == "true")
        (board,) = build(frame, [out])
        assert {(failure.part, failure.status) for failure in board.failed} >= {("gone", "failed")}
        assert len(summary.not_ok) == summary.cells
    run(text.replace("fail: FAIL", "only: true"), registry, tmp_path / "only")
    nothing = load_results(tmp_path / "only")
    assert set(nothing["status"]) == {"failed"} and all("gone: not on this disk" in e for e in nothing["error"])


# model-vs-human

HUMAN = """\
name: human
models: [{use: python, network: "NETWORK:network", size: 8, crop: 1.0, classes: imagenet}]
pruners: [random]
sparsities: [0]
tasks:
  - use: model-vs-human
    data: [{use: model-vs-human, experiment: edge}, {use: model-vs-human, experiment: sketch}]
    lowest: 0.0
"""

NETWORK = """\
from torch import nn

def network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1000))
"""


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two experiments of six images each, and the network's file."""
    root = tmp_path / "data"
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(root))
    for experiment in ("edge", "sketch"):
        images = [(animal, f"{animal}{i}") for animal in ("cat", "dog", "bird") for i in range(2)]
        stimuli(root, experiment, [("0", animal, image) for animal, image in images])
        answers(root, experiment, [("subject-01", animal, animal, "0", image) for animal, image in images])
    (tmp_path / "network.py").write_text(NETWORK)
    return root


def human(tmp_path: Path) -> str:
    return HUMAN.replace("NETWORK", str(tmp_path / "network.py"))


def test_a_missing_stimulus_costs_its_experiment_only(
    toy_registry: Registry, tmp_path: Path, experiments: Path
) -> None:
    run(human(tmp_path), toy_registry, tmp_path / "whole")
    whole = load_results(tmp_path / "whole")
    assert set(whole["status"]) == {"ok"} and set(whole["variant"]) == {"", "edge", "sketch"}
    next((experiments / "model-vs-human/stimuli/sketch").rglob("*cat0.png")).unlink()
    plan = make_plan(suite_from_text(human(tmp_path), toy_registry), toy_registry)
    assert plan.missing() == []  # a folder is there: that an image lacks shows when it is read
    summary = run(human(tmp_path), toy_registry, tmp_path / "part")
    part = load_results(tmp_path / "part")
    good, (lost,) = part[part["status"] == "ok"], summary.not_ok
    assert set(good["variant"]) == {""} and (lost.variant, lost.metric) == ("sketch", "")
    assert "cat0" in lost.error and "sketch" in lost.error
    alone = whole[whole["variant"] == "edge"].set_index("metric")["value"]
    assert good.set_index("metric")["value"].to_dict() == alone.to_dict()
    assert set(part["data_fingerprint"]).isdisjoint(whole["data_fingerprint"])  # never ranked together
    boards = build(load_results([tmp_path / "whole", tmp_path / "part"]))
    assert len(boards) == 2 and boards[1].failed[0].part == "sketch"


def test_without_any_experiment_the_task_fails(toy_registry: Registry, tmp_path: Path, experiments: Path) -> None:
    for experiment in ("edge", "sketch"):
        next((experiments / f"model-vs-human/stimuli/{experiment}").rglob("*cat0.png")).unlink()
    (lost,) = run(human(tmp_path), toy_registry, tmp_path / "run").not_ok
    assert lost.variant == "" and "DataError" in lost.error and "edge" in lost.error


# the data of a model


def test_a_model_is_scored_on_the_data_it_was_made_with(toy_registry: Registry) -> None:
    text = (
        "name: own\nmodels: [MODEL]\npruners: [snip]\nsparsities: [0.5]\n"
        "tasks: [{use: classification, data: {use: digits, split: test, classes: [0, 1]}}]\n"
    )

    def data(model: str, more: str = "") -> Any:
        plan = make_plan(suite_from_text(text.replace("MODEL", model) + more, toy_registry), toy_registry)
        used = plan.cells[0].data
        return used and used.fields()["classes"]

    assert list(data("digits-resnet")) == [0, 1, 2, 3, 4, 5]
    assert list(data("{use: digits-resnet, data: {use: digits, classes: [0, 1]}}")) == [0, 1]
    headed = "{use: ridge-headed, model: digits-resnet, data: {use: digits, classes: [6, 7]}}"
    assert list(data(headed)) == [6, 7]
    assert list(data(headed, "data: {use: digits, classes: [8, 9]}\n")) == [8, 9]  # the suite's own comes first
    assert data("{use: python, network: 'x.py:f'}") is None


def test_the_default_data_are_the_same_as_before(toy_registry: Registry) -> None:
    """A model with its default data keeps its cells' keys."""
    from pruningbench_timm.digits import SEEN

    from pruningbench.suite.binding import bind, data_of_model

    model = bind(toy_registry, "model", "digits-vit")
    found = data_of_model(toy_registry, model)
    assert found is not None and found.identity() == bind(toy_registry, "dataset", SEEN).identity()


def test_a_part_that_fails_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of a task may be a value, and a later one a failure."""
    from pruningbench.cli.progress import PlainProgress
    from pruningbench.hookspecs import CellInfo

    cell = CellInfo("key", "net · dense", "net", "dense", "none", 0.0, 0)
    good, bad = {"status": "ok", "error": ""}, {"status": "failed", "error": "Traceback\nValueError: no curve"}
    PlainProgress().pruningbench_task_done(cell, "looking", [good, bad])
    assert capsys.readouterr().err == "  failed: net · dense, task looking: ValueError: no curve\n"
    PlainProgress().pruningbench_task_done(cell, "looking", [good, good])
    assert capsys.readouterr().err == ""
