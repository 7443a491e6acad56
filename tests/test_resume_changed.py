"""A run folder under which weights, data, code or versions change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kit.changing import Changing, changing

from pruningbench.harness.sources import Sources
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.provenance import SIGN
from pruningbench.leaderboard.results import load_results
from pruningbench.store.journal import read_journal
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

__all__ = ["changing"]

Log = Callable[[], list[str]]
VALUES = ["model", "pruner", "recipe", "sparsity", "seed", "task", "metric"]


def values(out: Path) -> pd.Series:
    """Return the values that a table shows, by what they are of."""
    table = load_results(out)
    assert not table.duplicated(VALUES).any()
    return table.set_index(VALUES)["value"].sort_index()


def weights(plugin: Changing) -> None:
    plugin.write_weights(4)


def images(plugin: Changing) -> None:
    plugin.write_images(5)


def code(plugin: Changing) -> None:
    plugin.edit("changing_scores", "FACTOR = -1.0")


def class_version(plugin: Changing) -> None:
    plugin.edit("changing_scores", "VERSION = 2")


def distribution(plugin: Changing) -> None:
    plugin.versions["changing_scores"] = "1.1"


CHANGES = [
    (weights, "the weights of model net ", 4),
    (images, "the content of dataset stored ", 4),
    (code, "the code of pruner scores changed (changing-scores 1.0 v1 ", 2),
    (class_version, "the code of pruner scores changed (changing-scores 1.0 v1 ", 2),
    (distribution, "the code of pruner scores changed (changing-scores 1.0 v1 ", 2),
]


@pytest.mark.parametrize(("change", "words", "count"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_what_changed_is_said_and_measured_again(
    change: Callable[[Changing], None], words: str, count: int, finished: bool, changing: Changing, tmp_path: Path
) -> None:
    if finished:
        changing.run(tmp_path / "run")
    else:  # one of four task runs is to do; it is a pruned one
        changing.run(tmp_path / "run", stop_after=3)
        count -= 1
    before, _ = read_journal(tmp_path / "run" / "results.jsonl")
    change(changing)
    again = changing.run(tmp_path / "run")
    (line,) = [text for text in again.warnings if text.startswith(words)]
    assert " -> " in line
    runs = "run" if count == 1 else "runs"
    assert line.endswith(f"): {count} finished task {runs} measured again")
    after, _ = read_journal(tmp_path / "run" / "results.jsonl")
    assert [repr(r) for r in after[: len(before)]] == [repr(r) for r in before]  # the old rows stay
    changing.run(tmp_path / "fresh")
    pd.testing.assert_series_equal(values(tmp_path / "run"), values(tmp_path / "fresh"), check_exact=True)
    assert set(load_results(tmp_path / "run")["mark"]) == {""}
    assert changing.run(tmp_path / "run").warnings == []


def test_nothing_is_loaded_and_said_when_nothing_changed(changing: Changing, tmp_path: Path, toy_log: Log) -> None:
    changing.run(tmp_path / "run")
    ran = toy_log()
    again = changing.run(tmp_path / "run")
    assert (again.summary.computed, again.summary.resumed, again.warnings) == (0, 4, [])
    assert toy_log() == ran
    changing.weights.touch()  # looked into, and found to be the same
    again = changing.run(tmp_path / "run")
    assert (again.summary.computed, again.warnings) == (0, [])
    assert toy_log() == [*ran, "net"]
    changing.run(tmp_path / "run")
    assert toy_log() == [*ran, "net"]


def test_an_edited_metric_is_measured_again_alone(changing: Changing, tmp_path: Path, toy_log: Log) -> None:
    changing.run(tmp_path / "run")
    before, lines = values(tmp_path / "run"), len(toy_log())
    changing.edit("changing_wrong", "FACTOR = 0.5")
    again = changing.run(tmp_path / "run")
    (line,) = again.changes
    assert line.startswith("the code of metric wrong changed (changing-wrong 2.0 v1 ")
    assert line.endswith("): 4 finished task runs measured again")
    assert not {"scores", "right"} & set(toy_log()[lines:])
    assert toy_log()[lines:].count("wrong") == 4
    after = values(tmp_path / "run")
    assert (after.xs("wrong", level="metric") == 0.5 * before.xs("wrong", level="metric")).all()
    assert (after.xs("right", level="metric") == before.xs("right", level="metric")).all()


@pytest.mark.parametrize("constants", ["FACTOR = 2.0", "VERSION = 2"])
def test_an_edited_recipe_concerns_its_dense_reference_too(constants: str, changing: Changing, tmp_path: Path) -> None:
    text = changing.text.replace("use: finetune", "use: tune")
    changing.run(tmp_path / "run", text)
    changing.edit("changing_tune", constants)
    again = changing.run(tmp_path / "run", text)
    (line,) = again.changes
    assert line.startswith("the code of recipe tune(epochs=1) changed (changing-tune 2.0 v1 ")
    assert line.endswith("): 2 finished task runs measured again")
    assert (again.summary.computed, again.summary.resumed, again.summary.ok) == (2, 2, True)
    assert changing.run(tmp_path / "run", text).changes == []


@pytest.mark.parametrize(("change", "words", "count"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_changed_can_be_accepted(
    change: Callable[[Changing], None], words: str, count: int, changing: Changing, tmp_path: Path, toy_log: Log
) -> None:
    changing.run(tmp_path / "run")
    before, measured = values(tmp_path / "run"), [line for line in toy_log() if line != "net"]
    change(changing)
    again = changing.run(tmp_path / "run", accept_changed=True)
    assert any(line.startswith(words) and line.endswith("kept, marked as accepted") for line in again.warnings)
    assert again.summary.computed == 0
    assert again.summary.ok
    assert [line for line in toy_log() if not line.startswith(("net", "data"))] == [
        line for line in measured if not line.startswith("data")
    ]
    pd.testing.assert_series_equal(values(tmp_path / "run"), before, check_exact=True)
    table = load_results(tmp_path / "run", details=True)
    marked = table[table["mark"] != ""]
    assert len(marked) in (2 * count, len(table))
    assert all(mark.startswith("accepted: ") and " -> " in mark for mark in marked["mark"])
    text = render(build(table, [tmp_path / "run"]), "table")
    assert f"scores{SIGN}" in text
    assert "values: accepted: " in " ".join(text.split())
    assert f"scores{SIGN}" in render(build(table), "markdown")
    # accepted for good: nothing is said again, and a later change is a change
    assert changing.run(tmp_path / "run").warnings == []
    changing.write_weights(9)
    assert "the weights of model" in changing.run(tmp_path / "run").text


def test_what_failed_is_not_accepted_but_tried_again(changing: Changing, tmp_path: Path) -> None:
    changing.edit("changing_look", "FAILS = True")
    changing.run(tmp_path / "run")
    changing.edit("changing_look")
    again = changing.run(tmp_path / "run", accept_changed=True)
    assert (again.summary.ok, again.summary.computed) == (True, 4)
    (line,) = again.changes
    assert line.endswith("4 finished task runs measured again")
    assert set(load_results(tmp_path / "run")["mark"]) == {""}


@pytest.mark.parametrize("left", [True, False], ids=["work left", "finished"])
def test_data_without_files_are_looked_into_when_there_is_work_left(
    left: bool, changing: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stated limit: a finished folder does not open what has no file whose time of change would tell."""
    from toybench_parts import ToyData

    text = changing.text.replace(f"{{use: stored, file: {changing.images}}}", "{use: toy-data, split: test}")
    changing.run(tmp_path / "run", text)
    load = ToyData.load

    def darker(self: ToyData, context: object) -> object:
        samples = load(self, context)  # type: ignore[arg-type]
        return type(samples)(samples.images // 2, samples.labels, classes=samples.classes)

    monkeypatch.setattr(ToyData, "load", darker)
    grown = text.replace("[0, 0.5]", "[0, 0.5, 0.7]") if left else text
    again = changing.run(tmp_path / "run", grown)
    assert ("the content of dataset toy-data(split=test) changed (" in again.text) is left
    assert again.summary.computed == (6 if left else 0)


def test_a_table_in_between_says_which_rows_are_stale(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "run")
    changing.write_weights(4)
    changing.run(tmp_path / "run", stop_after=1)
    table = load_results(tmp_path / "run", details=True)
    assert len(table) == 8
    stale = table[table["mark"] != ""]
    assert set(zip(stale["sparsity"], stale["recipe"].str.partition("(")[0], strict=True)) == {
        (0.0, "finetune"), (0.5, "none"), (0.5, "finetune"),
    }  # fmt: skip
    assert len(stale) == 6
    assert all(mark.startswith("stale: weights ") for mark in stale["mark"])
    (board,) = build(table, [tmp_path / "run"])
    assert [row.marked for row in board.rows] == [False, True, True, True]
    assert any(note.startswith(f"{SIGN} 6 values: stale: weights") for note in board.notes)
    assert any(note.startswith("Not the same in all rows: weights of model net ") for note in board.notes)
    done = changing.run(tmp_path / "run")
    assert done.summary.computed == 3
    assert set(load_results(tmp_path / "run")["mark"]) == {""}


def test_of_two_values_the_table_takes_the_one_that_stands(changing: Changing, tmp_path: Path) -> None:
    """Also when the one that does not stand is in a folder given later."""
    changing.run(tmp_path / "old")
    changing.write_weights(4)
    changing.run(tmp_path / "new")
    changing.run(tmp_path / "old", accept_changed=True)
    table = load_results([tmp_path / "new", tmp_path / "old"], details=True)
    (board,) = build(table)
    new = build(load_results(tmp_path / "new", details=True))[0]
    assert [[e.value for e in row.cells.values()] for row in board.rows] == [
        [e.value for e in row.cells.values()] for row in new.rows
    ]
    assert not any(row.marked and all(e.value for e in row.cells.values()) for row in board.rows if row.dense)


def test_weights_that_come_back_are_measured_again(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "run")
    first, kept = values(tmp_path / "run"), changing.weights.read_bytes()
    changing.write_weights(4)
    changing.run(tmp_path / "run")
    changing.weights.write_bytes(kept)
    assert "the weights of model" in changing.run(tmp_path / "run").text
    pd.testing.assert_series_equal(values(tmp_path / "run"), first, check_exact=True)


def test_weights_that_are_gone_are_named_and_rows_stay(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "run")
    before = values(tmp_path / "run")
    changing.weights.unlink()
    again = changing.run(tmp_path / "run")
    assert again.summary.ok
    assert any("model net " in line and "cannot be compared" in line for line in again.warnings), again.warnings
    pd.testing.assert_series_equal(values(tmp_path / "run"), before, check_exact=True)


def older(out: Path) -> None:
    """Turn a run folder into one of a version that did not keep what rows are made of."""
    new = ("plan", "artifact", "made_of", "accepted", "stale", "limit")
    path = out / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in line.items() if k not in new}) + "\n" for line in lines))
    for name in ("sources.json", "stale.json"):
        (out / name).unlink(missing_ok=True)


def test_a_folder_of_the_old_format_goes_on_and_says_so(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "run")
    before = values(tmp_path / "run")
    older(tmp_path / "run")
    again = changing.run(tmp_path / "run")
    assert again.summary.ok
    assert again.summary.computed == 0
    assert len(again.warnings) == 1
    assert "4 finished task runs are from an older version" in again.text
    assert "choose another --out" in again.text
    pd.testing.assert_series_equal(values(tmp_path / "run"), before, check_exact=True)
    assert set(load_results(tmp_path / "run")["mark"].str.partition(":")[0]) == {"unchecked"}
    grown = changing.run(tmp_path / "run", changing.text.replace("[0, 0.5]", "[0, 0.5, 0.7]"))
    assert (grown.summary.computed, grown.summary.resumed) == (2, 4)
    (board,) = build(load_results(tmp_path / "run", details=True))
    assert [row.marked for row in board.rows] == [True, True, True, True, False, False]


def in_place(file: Path, change: Callable[[], None]) -> None:
    """Change a file, and set its size and modification time to those before."""
    before = file.stat()
    change()
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_content_that_changed_under_the_same_size_and_time_is_noticed(changing: Changing, tmp_path: Path) -> None:
    changing.run(tmp_path / "run")
    in_place(changing.images, lambda: changing.write_images(5))
    again = changing.run(tmp_path / "run")
    assert any(text.startswith("the content of dataset stored ") for text in again.warnings)


def test_what_has_no_files_is_read_again_only_on_request(changing: Changing, tmp_path: Path) -> None:
    """The path is in the code of the component instead of a field, so nothing shows without opening it."""
    changing.run(tmp_path / "run")
    sources = json.loads((tmp_path / "run" / "sources.json").read_text())
    changing.write_images(5)
    registry = changing.registry()
    plan = make_plan(suite_from_text(changing.text, registry), registry)
    current = Sources(tmp_path / "run" / "sources.json", plan)
    for key in sources:  # as if the files that it is made of were not known
        sources[key]["stamp"] = current.stamp(key)
    (tmp_path / "run" / "sources.json").write_text(json.dumps(sources))
    assert changing.run(tmp_path / "run").warnings == []
    again = changing.run(tmp_path / "run", verify_data=True)
    assert any(text.startswith("the content of dataset stored ") for text in again.warnings)
    assert not any("cannot be compared" in text for text in again.warnings)
    assert changing.run(tmp_path / "run", verify_data=True).changes == []  # it costs reading, and changes nothing
