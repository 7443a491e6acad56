"""Trained networks: kept in the cache, never two in a cell, and in the run folder on request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from kit.changing import Changing, changing
from kit.runs import measured, run, with_task
from kit.toysuite import TOY_SUITE

import pruningbench.training.fit as training
from pruningbench.base.identity import tensors_digest
from pruningbench.errors import SuiteError, UsageError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.pruning.masks import Masks
from pruningbench.store.cache import Cache
from pruningbench.store.weights import load_weights
from pruningbench.suite.schema import suite_from_text

__all__ = ["changing"]

Log = Callable[[], list[str]]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a network is trained."""
    counted: list[int] = []
    real = training.fit

    def fit(*arguments: object, **options: object) -> object:
        counted.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "fit", fit)
    return counted


def test_adding_a_metric_trains_nothing(changing: Changing, tmp_path: Path, trainings: list[int]) -> None:
    changing.run(tmp_path / "run")
    assert len(trainings) == 2  # the dense reference, and the pruned network
    changing.run(tmp_path / "run", changing.text + "metrics: [toy-margin]\n")
    assert len(trainings) == 2
    made = load_results(tmp_path / "run", details=True)["made_of"]
    assert len({parts["network"] for parts in made}) == 4  # one for each cell


def test_trying_again_trains_nothing(changing: Changing, tmp_path: Path, trainings: list[int]) -> None:
    changing.edit("changing_look", "FAILS = True")
    changing.run(tmp_path / "run")
    assert len(trainings) == 2
    failed = changing.run(tmp_path / "run", retry_failed=True)
    assert (failed.summary.computed, len(failed.summary.not_ok)) == (4, 4)
    assert len(trainings) == 2
    changing.edit("changing_look")
    assert changing.run(tmp_path / "run").summary.ok
    assert len(trainings) == 2


def test_another_recipe_code_or_data_is_another_network(
    changing: Changing, tmp_path: Path, trainings: list[int]
) -> None:
    changing.run(tmp_path / "a")
    assert len(trainings) == 2
    changing.edit("changing_scores", "FACTOR = 2.0")
    changing.run(tmp_path / "b")
    assert len(trainings) == 3  # the dense reference is none of the pruner's
    changing.write_weights(4)
    changing.run(tmp_path / "c")
    assert len(trainings) == 5
    changing.run(tmp_path / "d")
    assert len(trainings) == 5


def test_two_networks_never_share_a_cell(changing: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that left the cache and comes out with other bits, as on GPUs: the cell is measured anew."""
    both = changing.text + "  - {use: toy-task, data: {use: toy-data, split: test}}\n"
    changing.run(tmp_path / "run", both)
    before = load_results(tmp_path / "run")
    shutil.rmtree(Cache().folder / "networks")
    real = training.fit

    def fit(model: object, *arguments: object, **options: object) -> object:
        done = real(model, *arguments, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            next(model.network.parameters()).mul_(1 + 2**-20)  # type: ignore[attr-defined]
        return done

    monkeypatch.setattr(training, "fit", fit)
    grown = both + "metrics: [toy-margin]\n"
    assert changing.run(tmp_path / "run", grown).summary.ok
    table = load_results(tmp_path / "run", details=True)
    assert not table.duplicated(["cell", "task", "metric"]).any()
    assert set(table["metric"]) == {"right", "wrong", "toy-accuracy", "toy-margin"}
    for _, cell in table.groupby("cell"):
        assert len({parts["network"] for parts in cell["made_of"]}) == 1
    assert len(table) == len(before) + 2 * 4


def test_a_finished_task_of_another_network_is_measured_again(
    changing: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing.run(tmp_path / "run")
    shutil.rmtree(Cache().folder / "networks")
    real = training.fit

    def fit(model: object, *arguments: object, **options: object) -> object:
        done = real(model, *arguments, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            next(model.network.parameters()).mul_(1 + 2**-20)  # type: ignore[attr-defined]
        return done

    monkeypatch.setattr(training, "fit", fit)
    again = changing.run(tmp_path / "run", changing.text + "  - {use: toy-task, data: {use: toy-data, split: test}}\n")
    assert again.summary.computed == 4 + 2  # the new task on four cells, and the old one on the trained cells
    table = load_results(tmp_path / "run", details=True)
    assert all(len({parts["network"] for parts in cell["made_of"]}) == 1 for _, cell in table.groupby("cell"))


KEEP = TOY_SUITE + "keep: weights\n"


def test_weights_are_kept_on_request(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    run(KEEP, toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run", details=True).drop_duplicates("cell")
    for row in table[table["sparsity"] > 0].itertuples():
        weights = load_weights(tmp_path / "run", row.cell)
        assert tensors_digest(weights)[:16] == row.made_of["network"]
        masks = Masks.load(tmp_path / "run" / "masks" / f"{row.cell}.safetensors")
        assert all(bool((weights[name][~mask] == 0).all()) for name, mask in masks.items())
    assert len(list((tmp_path / "run" / "weights").iterdir())) == 8
    from toybench_parts import ToyModel

    network = ToyModel().build()
    network.load_state_dict(load_weights(tmp_path / "run", table.iloc[-1].cell))


def test_asking_for_weights_later_measures_nothing(
    toy_registry: Registry, tmp_path: Path, toy_log: Log, trainings: list[int]
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    assert not (tmp_path / "run" / "weights").exists()
    before, tasks, trained = (
        load_results(tmp_path / "run"),
        sum(x.startswith("task") for x in toy_log()),
        len(trainings),
    )
    summary = run(KEEP, toy_registry, tmp_path / "run")
    assert (summary.computed, summary.resumed) == (0, 10)
    assert len(list((tmp_path / "run" / "weights").iterdir())) == 8
    assert sum(line.startswith("task") for line in toy_log()) == tasks
    assert len(trainings) == trained
    pd.testing.assert_frame_equal(load_results(tmp_path / "run"), before, check_exact=True)
    ran = toy_log()
    run(KEEP, toy_registry, tmp_path / "run")
    assert toy_log() == ran


def test_weights_that_are_not_there_or_damaged_are_named(toy_registry: Registry, tmp_path: Path) -> None:
    run(KEEP, toy_registry, tmp_path / "run")
    with pytest.raises(UsageError, match="keeps no weights of cell 'abc'; write `keep: weights`"):
        load_weights(tmp_path / "run", "abc")
    path = next((tmp_path / "run" / "weights").iterdir())
    content = bytearray(path.read_bytes())
    content[-10] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"damaged \(wrong digest\)"):
        load_weights(tmp_path / "run", path.stem)


def test_what_to_keep_is_checked(toy_registry: Registry) -> None:
    assert suite_from_text(TOY_SUITE + "keep: [weights]\n", toy_registry).keep == "weights"
    assert suite_from_text(KEEP, toy_registry).digest == suite_from_text(TOY_SUITE, toy_registry).digest
    with pytest.raises(SuiteError, match=r"keep must be weights, or left out, got 'wieghts'"):
        suite_from_text(TOY_SUITE + "keep: wieghts\n", toy_registry)


def test_kept_networks_give_the_same_values(toy_registry: Registry, tmp_path: Path, trainings: list[int]) -> None:
    run(with_task("noise: true"), toy_registry, tmp_path / "a")
    trained = len(trainings)
    run(with_task("noise: true"), toy_registry, tmp_path / "b")
    assert len(trainings) == trained
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "a")), measured(load_results(tmp_path / "b")), check_exact=True
    )
