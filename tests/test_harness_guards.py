"""What the harness does not take at its word: pruners, tasks, metrics, kept networks, other runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kit.runs import measured, run, with_task
from kit.toysuite import TOY_SUITE
from safetensors import safe_open
from safetensors.torch import save

from pruningbench.base.identity import tensors_digest
from pruningbench.errors import RunFolderError
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.hookspecs import CellInfo, hookimpl
from pruningbench.leaderboard import build
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.pruning.masks import Masks
from pruningbench.store.cache import Cache
from pruningbench.store.samples import read_arrays
from pruningbench.suite.schema import suite_from_text


@pytest.mark.parametrize(
    ("lie", "words"),
    [("nothing", "pruned 0 of 328 weights, not 164"), ("more", "pruned 312 of 328"), ("other", "'1.weight'")],
)
def test_pruners_are_not_taken_at_their_word(lie: str, words: str, toy_registry: Registry, tmp_path: Path) -> None:
    text = TOY_SUITE.replace(
        "[toy-pruner, {use: toy-pruner, allocation: uniform}]", f"[{{use: toy-pruner, lie: {lie}}}]"
    )
    summary = run(text.replace("[0, 0.5, 0.9]", "[0, 0.5]"), toy_registry, tmp_path / "run")
    assert len(summary.not_ok) == 2
    assert all(words in record.error for record in summary.not_ok), summary.not_ok[0].error


@pytest.mark.parametrize(
    ("fields", "words"),
    [("strange: variant", "variant 3, which is not text"), ("strange: exhibit", "cannot be stored")],
)
def test_what_cannot_be_stored_is_the_tasks_failure(
    fields: str, words: str, toy_registry: Registry, tmp_path: Path
) -> None:
    summary = run(with_task(fields), toy_registry, tmp_path / "run")
    assert len(summary.not_ok) == 10
    assert words in summary.not_ok[0].error


def test_metrics_give_a_value_for_each_sample(toy_registry: Registry, tmp_path: Path) -> None:
    text = TOY_SUITE.replace("metrics: [toy-margin]", "metrics: [{use: toy-margin, short: true}]")
    summary = run(text, toy_registry, tmp_path / "run")
    assert "returned 32 values for 64 samples" in summary.not_ok[0].error


def test_another_protocol_is_another_fingerprint(toy_registry: Registry, tmp_path: Path) -> None:
    """Values of a task with other settings, or other data, must not be ranked together."""
    run(TOY_SUITE, toy_registry, tmp_path / "a")
    run(with_task("noise: true"), toy_registry, tmp_path / "b")
    a, b = (set(load_results(tmp_path / name)["data_fingerprint"]) for name in ("a", "b"))
    assert len(a) == len(b) == 1
    assert a != b
    assert {f.partition(":")[0] for f in a} == {f.partition(":")[0] for f in b}
    boards = build(load_results([tmp_path / "a", tmp_path / "b"]))
    assert len(boards) == 2


def test_models_of_one_name_made_differently_stand_on_boards_of_their_own(
    toy_registry: Registry, tmp_path: Path
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "a")
    run(TOY_SUITE + "scope: {head: false}\n", toy_registry, tmp_path / "b")
    boards = build(load_results([tmp_path / "a", tmp_path / "b"]))
    assert len(boards) == 2
    assert boards[0].title != boards[1].title


def interrupted_after_training(text: str, registry: Registry, out: Path) -> Path:
    """Run until the first trained cell has one of its values; return the file that keeps its network."""

    class Stop:
        @hookimpl
        def pruningbench_task_done(self, cell: CellInfo) -> None:
            if cell.recipe.startswith("finetune"):
                raise KeyboardInterrupt

    before = set(Cache().folder.glob("networks/*/*"))
    prepared = prepare(suite_from_text(text, registry), registry, out, RunOptions(device="cpu"))
    with pytest.raises(KeyboardInterrupt):
        execute(prepared, registry, Stop())
    (network,) = set(Cache().folder.glob("networks/*/*")) - before
    return network


TWO_TASKS = TOY_SUITE.replace(
    "tasks:\n", "tasks:\n  - {use: toy-task, noise: true, data: {use: toy-data, split: test}}\n"
)


@pytest.mark.parametrize("damage", ["none", "cut", "flip", "other", "layout"])
def test_kept_networks_are_used_or_made_again(
    damage: str, toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(TWO_TASKS, toy_registry, tmp_path / "whole")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "another-cache"))
    network = interrupted_after_training(TWO_TASKS, toy_registry, tmp_path / "cut")
    content = bytearray(network.read_bytes())
    if damage == "cut":
        network.write_bytes(content[:-9])
    elif damage == "flip":
        content[-20] ^= 0x40
        network.write_bytes(content)
    elif damage == "other":
        network.write_bytes(b"garbage")
    elif damage == "layout":  # a sound file of this key that does not fit the network
        with safe_open(network, framework="pt") as file:
            meta = file.metadata()
        tensors = {"weights/0.weight": torch.zeros(3)}
        network.write_bytes(save(tensors, {**meta, "digest": tensors_digest(tensors)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(TWO_TASKS, toy_registry, tmp_path / "cut")
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "whole")), measured(load_results(tmp_path / "cut")), check_exact=True
    )
    for name in (path.name for path in (tmp_path / "whole" / "masks").iterdir()):
        one, two = (Masks.load(tmp_path / part / "masks" / name) for part in ("whole", "cut"))
        assert one == two
        assert one.provenance == two.provenance


def test_the_faster_of_two_suites_has_the_folder(toy_registry: Registry, tmp_path: Path) -> None:
    first = prepare(suite_from_text(TOY_SUITE, toy_registry), toy_registry, tmp_path / "run", RunOptions(device="cpu"))
    other = TOY_SUITE.replace("0.9]", "0.8]")
    second = prepare(suite_from_text(other, toy_registry), toy_registry, tmp_path / "run", RunOptions(device="cpu"))
    execute(first, toy_registry)
    with pytest.raises(RunFolderError, match="belongs to another suite"):
        execute(second, toy_registry)


def _of_another(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b"no arrays"),
        _of_another,
    ],
    ids=["empty", "torn", "foreign", "single"],
)
def test_damaged_samples_are_named_and_measured_again(
    damage: Callable[[Path], object], toy_registry: Registry, tmp_path: Path
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    before = measured(load_results(tmp_path / "run"))
    file = next(path for path in sorted((tmp_path / "run").rglob("*.npz")) if "samples" in str(path))
    whole = read_arrays(file)
    damage(file)
    with pytest.raises(ValueError, match="damaged"):
        read_arrays(file)

    class Listener:
        def __init__(self) -> None:
            self.warnings: list[str] = []

        @hookimpl
        def pruningbench_warning(self, message: str) -> None:
            self.warnings.append(message)

    listener = Listener()
    suite = suite_from_text(TOY_SUITE, toy_registry)
    summary = execute(prepare(suite, toy_registry, tmp_path / "run", RunOptions(device="cpu")), toy_registry, listener)
    assert (summary.computed, summary.ok) == (1, True)
    assert [str(file) in text for text in listener.warnings if "damaged" in text] == [True]
    after = measured(load_results(tmp_path / "run"))
    pd.testing.assert_frame_equal(after.drop(columns="attempts"), before.drop(columns="attempts"))
    assert {name: array.tolist() for name, array in read_arrays(file).items()} == {
        name: array.tolist() for name, array in whole.items()
    }
    assert not prepare(suite, toy_registry, tmp_path / "run", RunOptions(device="cpu")).pending
