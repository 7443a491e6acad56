"""Paired differences to the dense model, what boards show of them, and the two statements on transfer."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit.paired import KEY, N, correct, dense, measured, write
from scipy import stats

from pruningbench.contract.statistics import Floats, bootstrap, mean, paired_bootstrap
from pruningbench.leaderboard import Board, build, render
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.verdicts import with_verdicts
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_arrays

# the paired bootstrap


def test_paired_interval_is_that_of_the_differences() -> None:
    a, b = correct(0.6), correct(0.7)
    assert paired_bootstrap(a, b) == bootstrap(a - b)
    unpaired = bootstrap(a), bootstrap(b)
    paired = paired_bootstrap(a, b)
    assert paired.high - paired.low < 0.7 * min(e.high - e.low for e in unpaired)


def test_paired_of_any_statistic_draws_the_same_samples_of_both() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=60), rng.normal(size=60)
    fast, slow = paired_bootstrap(a, b), paired_bootstrap(a, b, lambda v: float(v.mean()))
    assert (slow.value, slow.low, slow.high) == pytest.approx((fast.value, fast.low, fast.high))
    median = paired_bootstrap(a, a + 3, lambda v: float(np.median(v)))
    assert (median.value, median.low, median.high) == pytest.approx((-3, -3, -3))

    def correlation(columns: Floats) -> float:
        return float(np.corrcoef(columns.T)[0, 1])

    pairs = np.stack([a, b], axis=1)
    assert paired_bootstrap(pairs, pairs[:, ::-1].copy(), correlation, resamples=50).high == pytest.approx(0)


def test_a_sample_undefined_in_either_is_undefined() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 4.0, np.inf]), np.array([0.0, 1.0, np.nan, 2.0, np.inf])
    estimate = paired_bootstrap(a, b)
    assert (estimate.value, estimate.n, estimate.undefined) == (1.5, 2, 3)
    assert paired_bootstrap(a[:4], b[:4], lambda v: mean(v)).n == 2
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap(a, b[:2])


# boards


def test_board_shows_the_paired_difference(tmp_path: Path) -> None:
    (board,) = write(
        tmp_path / "run",
        dense(correct(0.9)),
        measured(correct(0.6), pruner="a"),
        measured(correct(0.9), pruner="b"),
        measured(correct(1.0), pruner="c"),
    )
    rows = {row.pruner: row for row in board.rows}
    expected = bootstrap(correct(0.6) - correct(0.9))
    change = rows["a"].differences[KEY]
    assert (change.value, change.low, change.high, change.n) == (expected.value, expected.low, expected.high, N)
    assert rows["dense"].differences == {}
    verdicts = {pruner: row.verdicts.get(KEY, "") for pruner, row in rows.items()}
    assert verdicts == {"dense": "", "a": "worse", "b": "", "c": "better"}
    table = render([board], "table")
    lines = {line.split()[1]: line for line in table.splitlines() if line.lstrip()[:1].isdigit()}
    assert "▼" in lines["a"] and "▲" in lines["c"] and not set("▲▼") & set(lines["b"] + lines["dense"])
    assert "▲ ▼ better, worse than the dense model" in " ".join(table.split())
    markdown = render([board], "markdown")
    assert "Δ -.300 [" in markdown and "▼ worse than the dense model" in markdown
    (values,) = json.loads(render([board], "json"))
    cells = {row["pruner"]: row["cells"][0] for row in values["rows"]}
    difference = cells["a"]["difference"]
    assert [difference[name] for name in ("value", "ci_low", "ci_high")] == [
        expected.value, expected.low, expected.high,
    ]  # fmt: skip
    assert difference["p"] == stats.binomtest(0, 60).pvalue and difference["p_holm"] == 3 * difference["p"]
    assert cells["dense"]["difference"] is None
    written = {row["pruner"]: row for row in csv.DictReader(io.StringIO(render([board], "csv")))}
    assert float(written["a"]["difference_low"]) == expected.low and written["dense"]["difference"] == ""


def test_lower_is_better_turns_the_verdict(tmp_path: Path) -> None:
    (board,) = write(
        tmp_path / "run",
        dense(correct(0.9), higher_is_better=False),
        measured(correct(0.6), higher_is_better=False),
    )
    (pruned,) = [row for row in board.rows if not row.dense]
    assert pruned.verdicts[KEY] == "better"
    undirected = [replace(board.columns[0], higher_is_better=None)]
    assert with_verdicts(board.rows, undirected)[-1].verdicts == {}


def test_seeds_are_compared_each_with_its_own_dense_model(tmp_path: Path) -> None:
    (board,) = write(
        tmp_path / "run",
        dense(correct(0.9, 0), seed=0), dense(correct(0.7, 1), seed=1),
        measured(correct(0.8, 0), seed=0), measured(correct(0.5, 1), seed=1), measured(correct(0.5, 2), seed=2),
    )  # fmt: skip
    (pruned,) = [row for row in board.rows if not row.dense]
    change = pruned.differences[KEY]
    assert (change.value, change.seeds) == (pytest.approx((-0.1 - 0.2) / 2), 2)


@pytest.mark.parametrize("trouble", ["no file", "damaged", "no mean", "other length", "no folder", "other data"])
def test_no_difference_without_the_samples_behind_both_values(tmp_path: Path, trouble: str) -> None:
    folder = tmp_path / "run"
    one, values = measured(correct(0.6), **({"data_fingerprint": "d2"} if trouble == "other data" else {}))
    boards = write(folder, dense(correct(0.9)), (one, values))
    file = RunFolder(folder).samples_file(one.cell, one.task)
    if trouble == "no file":
        file.unlink()
    elif trouble == "damaged":
        file.write_bytes(b"PK\x03\x04 no archive")
    elif trouble == "no mean":
        write_arrays(file, {"|accuracy": np.flip(values) * 2})
    elif trouble == "other length":
        write_arrays(file, {"|accuracy": values[np.r_[:N, :N]]})
    boards = build(load_results(folder), [] if trouble == "no folder" else [folder])
    assert all(row.differences == {} for board in boards for row in board.rows)
    assert "▼" not in render(boards, "table") and "Δ" not in render(boards, "markdown")


def test_runs_of_one_name_are_told_apart_by_their_values(tmp_path: Path) -> None:
    for place, share in (("a", 0.6), ("b", 0.4)):
        write(tmp_path / place / "run", dense(correct(0.9)), measured(correct(share)))
    folders = [tmp_path / place / "run" for place in "ab"]
    frame = load_results(folders[1])
    pairs = Pairs(folders)
    of_dense, pruned = sorted(frame.to_dict("records"), key=lambda m: m["sparsity"])
    difference = pairs.difference(pruned, of_dense)
    assert difference is not None and difference["value"] == pytest.approx(-0.5)


# statements


def transfer_run(folder: Path, after: float = 0.0, targets: int = 2) -> list[Board]:
    """Accuracy of a source and its targets over sparsity; training adds `after` to the targets."""
    rows = [(0.0, "dense", "none", 0.0), (0.5, "a", "none", -0.005), (0.8, "a", "none", -0.3)]
    rows += [(0.5, "a", "finetune", -0.005 + after), (0.8, "a", "finetune", -0.3 + after)]
    measurements = []
    for sparsity, pruner, recipe, change in rows:
        common = {"task": "zero-shot", "pruner": pruner, "sparsity": sparsity, "recipe": recipe}
        measurements.append(measured(correct(0.9 if sparsity < 0.8 else 0.85), variant="source", **common))
        for i in range(targets):
            measurements.append(measured(correct(0.8 + change, i + 1), variant=f"target-{i}", **common))
    return write(folder, *measurements)


def test_statements_on_what_is_kept_and_what_is_lifted(tmp_path: Path) -> None:
    (board,) = transfer_run(tmp_path / "run", after=0.1)
    kept, kept_trained, lifted = board.statements
    assert kept.startswith(
        "P1, net, a, none (zero-shot accuracy): disagrees: the source kept within 1 point up to 50% (+0.0 ["
    )
    assert "unseen tasks undecided at 50% (-0.5 [" in kept  # by its interval, it may be more than a point worse
    assert kept_trained.startswith("P1, net, a, finetune")
    assert lifted.startswith(
        "P2, net, a, finetune (zero-shot accuracy): agrees: unseen tasks lifted at 2 of 2 sparsities"
    )
    assert "most at 50%: +10.0 [" in lifted
    for text in (render([board], "table"), render([board], "markdown")):
        assert "P2, net, a, finetune" in " ".join(text.split())
    assert json.loads(render([board], "json"))[0]["statements"] == list(board.statements)


def test_statements_say_what_is_lowered_and_what_is_lost_at_once(tmp_path: Path) -> None:
    (board,) = transfer_run(tmp_path / "run", after=-0.2)
    _, kept_trained, lifted = board.statements
    assert "unseen tasks lost at 50% (-20.5 [" in kept_trained
    assert "lifted at 0 of 2 sparsities, lowered at 50%, 80%" in lifted


def test_interval_over_targets_is_that_of_independent_samples(tmp_path: Path) -> None:
    width = []
    for targets in (1, 4):
        (board,) = transfer_run(tmp_path / f"run{targets}", after=0.1, targets=targets)
        limits = board.statements[2].rpartition("[")[2].partition("]")[0].split(", ")
        width.append(float(limits[1]) - float(limits[0]))
    assert width[0] / width[1] == pytest.approx(2, rel=0.15)


def test_no_statements_without_source_and_targets(tmp_path: Path) -> None:
    (board,) = write(tmp_path / "run", dense(correct(0.9)), measured(correct(0.6)))
    assert board.statements == ()
    (board,) = transfer_run(tmp_path / "only-source", targets=0)
    assert board.statements == ()
