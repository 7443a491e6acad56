"""Two keys: what was asked for, and what it was really made from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from kit.changing import Changing, changing
from kit.toysuite import TOY, TOY_SUITE, Command

from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.provenance import SIGN
from pruningbench.leaderboard.results import load_results
from pruningbench.store.journal import read_journal
from pruningbench.store.records import Record

__all__ = ["changing"]


def records(out: Path) -> list[Record]:
    return read_journal(out / "results.jsonl")[0]


def test_records_hold_the_parts_and_the_versions(changing: Changing, tmp_path: Path) -> None:
    assert changing.run(tmp_path / "a").summary.ok
    kinds = (("dense", "none"), ("dense", "fin"), ("scores", "fin"))
    dense, reference, trained = (
        next(r for r in records(tmp_path / "a") if r.pruner == pruner and r.recipe.startswith(recipe))
        for pruner, recipe in kinds
    )
    common = {
        "model",
        "weights",
        "preprocessing",
        "libraries",
        "task",
        "task data",
        "metric right",
        "metric wrong",
        "network",
    }
    assert set(dense.made_of) == common
    assert set(reference.made_of) == common | {"recipe", "data", "rounds"}
    assert set(trained.made_of) == common | {"pruner", "recipe", "data"}
    # distribution, its version, the class's own version, hash of the source
    assert trained.made_of["pruner"].startswith("changing-scores 1.0 v1 ")
    assert trained.made_of["metric right"].startswith("changing-right 2.0 v1 ")
    assert trained.made_of["recipe"].split()[0] == "pruningbench"
    assert reference.made_of["recipe"] == trained.made_of["recipe"]
    assert len(trained.made_of["pruner"].split()[-1]) == 16
    assert dense.made_of["network"][:16] == dense.made_of["weights"]
    assert len({record.made_of["network"] for record in (dense, reference, trained)}) == 3
    assert trained.made_of["task data"] == trained.data_fingerprint.partition(":")[0]


def test_the_plan_key_is_of_the_suite_and_the_artifact_key_of_what_was_there(
    changing: Changing, tmp_path: Path
) -> None:
    changing.run(tmp_path / "a")
    changing.run(tmp_path / "same")
    changing.write_weights(4)
    changing.run(tmp_path / "other")
    one, same, other = (records(tmp_path / name) for name in ("a", "same", "other"))
    assert [r.plan for r in one] == [r.plan for r in other]
    assert [r.artifact for r in one] == [r.artifact for r in same]
    assert not {r.artifact for r in one} & {r.artifact for r in other}
    assert len({r.artifact for r in one}) == len(one)
    assert len({r.plan for r in one}) == len({r.cell for r in one})


def test_the_plan_key_leaves_versions_out(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "a")
    changing.edit("changing_scores", "VERSION = 2")
    changing.run(tmp_path / "b")
    a, b = records(tmp_path / "a"), records(tmp_path / "b")
    assert {r.plan for r in a} == {r.plan for r in b}
    assert {r.cell for r in a} != {r.cell for r in b}


def test_a_table_of_two_runs_says_which_part_differs(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "a")
    changing.edit("changing_scores", "FACTOR = 2.0")
    changing.run(tmp_path / "b")
    runs = [tmp_path / "a", tmp_path / "b"]
    (board,) = build(load_results(runs, details=True), runs)
    assert not [note for note in board.notes if "Not the same" in note]  # of two values of a cell the last counts
    changing.write_weights(4)
    changing.run(tmp_path / "c", changing.text.replace("[0, 0.5]", "[0.7]"))
    (board,) = build(load_results([*runs, tmp_path / "c"], details=True))
    assert any(note.startswith("Not the same in all rows: weights of model net ") for note in board.notes)


def test_failures_know_their_code(changing: Changing, tmp_path: Path) -> None:
    changing.edit("changing_look", "FAILS = True")
    changing.run(tmp_path / "a")
    assert {r.status for r in records(tmp_path / "a")} == {"failed"}
    changing.edit("changing_look")
    again = changing.run(tmp_path / "a")
    assert again.summary.ok
    assert "the code of task look changed" in again.text


def test_lines_of_parts_are_checked(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "a")
    line = json.loads((tmp_path / "a" / "results.jsonl").read_text().splitlines()[0])
    assert Record.from_json(line).made_of == line["made_of"]
    for wrong in ([1], {"a": 1}, None):
        with pytest.raises(TypeError):
            Record.from_json({**line, "made_of": wrong})


def test_code_that_cannot_be_read_counts_by_its_version(
    changing: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruningbench.store.code._package", lambda module: {})
    changing.run(tmp_path / "a")
    assert records(tmp_path / "a")[-1].made_of["pruner"] == "changing-scores 1.0 v1 unread"
    table = load_results(tmp_path / "a", details=True)
    assert set(table["mark"]) == {
        "version alone: the code of metric right, metric wrong, model, task cannot be read",
        "version alone: the code of metric right, metric wrong, model, pruner, task cannot be read",
    }
    text = render(build(table), "table")
    assert f"scores{SIGN}" in text
    assert "version alone" in " ".join(text.split())


def test_doctor_names_plugins_whose_source_cannot_be_read(pruningbench: Command, tmp_path: Path) -> None:
    """Of an installation without sources: its module is there as bytecode only."""
    import py_compile
    import shutil

    assert "unread code" not in pruningbench("doctor", check=0).stdout
    shutil.copytree(TOY / "toybench-1.0.dist-info", tmp_path / "site" / "toybench-1.0.dist-info")
    for name in ("toybench", "toybench_parts", "toybench_faults"):
        py_compile.compile(str(TOY / f"{name}.py"), cfile=str(tmp_path / "site" / f"{name}.pyc"))
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    text = pruningbench("doctor", check=0, PYTHONPATH=path).stdout
    assert "unread code  toy (toybench 1.0): the source of toybench_parts cannot be read" in text
    assert "only its version is compared, and its rows are marked" in text
    (tmp_path / "suite.yaml").write_text(TOY_SUITE)
    done = pruningbench("run", "suite.yaml", "--only", "recipe=none", check=0, PYTHONPATH=path)
    assert "version alone: the code of metric" in " ".join(done.stdout.split())
    assert {record.made_of["model"] for record in records(tmp_path / "runs" / "toy")} == {"toybench 1.0 v1 unread"}
