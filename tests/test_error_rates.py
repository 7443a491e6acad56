"""How often tables of several seeds claim what is not so: from records and per-sample values, as users have them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from kit.boards import record
from kit.paired import correct, store
from numpy.typing import NDArray
from scipy import stats

from pruningbench.leaderboard import Board, build
from pruningbench.leaderboard.aggregation import Entry, average, p_value_of_mean
from pruningbench.leaderboard.changes import Change, Place
from pruningbench.leaderboard.comparing import judged
from pruningbench.leaderboard.inference import Variances, crossed, holm, variances
from pruningbench.leaderboard.pooling import FEWEST, cautious
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.sweetspots import sweet_spots

SEEDS, SAMPLES = 3, 60
SPARSITIES = (0.5, 0.8, 0.9)
METRICS = tuple(f"metric-{i}" for i in range(8))
Values = NDArray[np.float64]


def board_of(folder: Path, models: int, planted: float = 0.0, seed: int = 1) -> Board:
    """A board with the tables of many models, from a run folder: 24 tests each, and nothing differs but what is planted.

    Seeds differ by a quarter of what samples do, so that the mean square between seeds is 16 times that of the
    interaction. In the published results, half of these ratios are between 1 and 40.
    """
    rng = np.random.default_rng(seed)
    shape = (len(METRICS), SEEDS, SAMPLES)
    measurements = []
    for number in range(models):
        easy = rng.normal(size=(len(METRICS), 1, SAMPLES))
        for sparsity in (0.0, *SPARSITIES):
            values = easy + 0.25 * rng.normal(size=(*shape[:2], 1)) + 0.5 * rng.normal(size=shape)
            values[0] += planted * (sparsity == 0.8)
            of = {"model": f"net-{number}", "pruner": "a" if sparsity else "dense", "sparsity": sparsity, "n": SAMPLES}
            for s in range(SEEDS):
                of |= {"seed": s}
                for metric, own in zip(METRICS, values[:, s], strict=True):
                    one = record(metric=metric, value=float(own.mean()), unit="", dimension="looking", **of)
                    measurements.append((one, own))
    store(folder, *measurements)
    (board,) = build(load_results(folder), [folder])
    return board


def without_pooling(board: Board) -> set[str]:
    """The models of which a difference is significant if the variance between seeds is that of three seeds alone."""
    found = set()
    for model in {row.model for row in board.rows}:
        entries = [e for row in board.rows if row.model == model for e in row.differences.values()]
        p = [e.variances.spread(e.value).p_value() for e in entries if e.variances is not None]
        assert len(p) == len(METRICS) * len(SPARSITIES)
        if min(holm(p)) <= 0.05:
            found.add(model)
    return found


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: thousands of small files need not survive a power cut."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.parametrize("tables", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_tables_of_three_seeds_in_which_nothing_differs_rarely_show_a_mark(tmp_path: Path, tables: int) -> None:
    board = board_of(tmp_path / "run", tables)
    wrong = {row.model for row in board.rows if row.verdicts}
    assert len(wrong) <= 0.05 * tables
    assert len(without_pooling(board)) > 0.1 * tables  # three seeds agree by chance far too often


def test_a_difference_that_is_planted_in_three_seeds_is_found(tmp_path: Path) -> None:
    board = board_of(tmp_path / "run", 40, planted=10.0, seed=2)
    marks = [(row.sparsity, key[2], verdict) for row in board.rows for key, verdict in row.verdicts.items()]
    assert marks.count((0.8, METRICS[0], "better")) >= 36
    assert len([mark for mark in marks if mark != (0.8, METRICS[0], "better")]) <= 4


def test_a_planted_sweet_spot_of_three_seeds_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    right = correct(0.9)
    easy = rng.normal(size=len(right))
    measurements = []
    for sparsity in (0.0, *SPARSITIES):
        of = {"pruner": "a" if sparsity else "dense", "sparsity": sparsity, "n": len(right)}
        for seed in range(SEEDS):
            hits = right if sparsity < 0.9 else correct(0.6)
            one = record(value=float(hits.mean()), seed=seed, dimension="accuracy", chance_p=1e-9, **of)
            measurements.append((one, hits))
            sharp = easy + 0.02 * rng.normal() + 0.1 * rng.normal(size=len(right)) + 0.5 * (sparsity >= 0.8)
            one = record(task="looking", metric="sharp", value=float(sharp.mean()), unit="", seed=seed, **of)
            measurements.append((one, sharp))
    store(tmp_path / "run", *measurements)
    (board,) = build(load_results(tmp_path / "run"), [tmp_path / "run"])
    assert {spot.metric: spot.sparsities for spot in sweet_spots(board)} == {"accuracy": (), "sharp": (0.8,)}


def test_comparisons_of_three_seeds_without_a_change_rarely_call_one_worse() -> None:
    rng = np.random.default_rng(4)
    wrong = alone = 0
    for _ in range(400):
        changes = []
        for metric in METRICS:
            for sparsity in SPARSITIES:
                shape = (SEEDS, SAMPLES)
                values = 0.35 * rng.normal(size=(SEEDS, 1)) + 0.7 * rng.normal(size=shape)
                known, mean = variances(values), float(values.mean())
                entry = Entry(mean, -math.inf, math.inf, SAMPLES, SEEDS, p=crossed(values).p_value(), variances=known)
                place = Place("net", "a", "none", sparsity, "looking", "", metric)
                changes.append(Change(place, (0, 1, 2), 0.0, mean, entry, True))
        alone += min(holm([change.difference.p for change in changes])) <= 0.05
        wrong += any(change.verdict for change in judged(changes, {"before": set(), "after": set()}))
    assert wrong <= 0.05 * 400 < alone


# the pooled variance


def entry(mean: float, of_seeds: float, of_samples: float = 0.0) -> Entry:
    return Entry(mean, -1.0, 1.0, 50, 3, variances=Variances(3, 51, of_seeds, of_samples))


def group(_: object) -> int:
    return 0


def test_equal_variances_have_the_freedom_that_a_shared_reference_leaves() -> None:
    """Against the sampling variance of the mean of such variances, for seeds that all differ from the same reference."""
    rows = {i: entry(1.0, 0.04) for i in range(4)}
    (freedom,) = {spread.freedom for spread in cautious(rows, [group]).values()} - {2.0} or {math.nan}
    assert math.isnan(freedom)  # the safer one is that of three seeds alone, where both variances are the same
    small = rows | {4: entry(1.0, 1e-6)}
    spread = cautious(small, [group])[4]
    assert spread.error == pytest.approx(math.sqrt((4 * 0.04 + 1e-6) / 5))
    rng = np.random.default_rng(5)
    draws = rng.normal(size=(40_000, 4, 3)) - rng.normal(size=(40_000, 1, 3))
    means = draws.var(axis=2, ddof=1).mean(axis=1)
    assert spread.freedom == pytest.approx(2 * means.mean() ** 2 / means.var(), rel=0.05)


def test_p_values_of_a_group_are_never_smaller_than_those_of_the_differences_alone() -> None:
    rng = np.random.default_rng(6)
    rows = {i: entry(*row) for i, row in enumerate(np.abs(rng.normal(size=(12, 3))).tolist())}
    for i, spread in cautious(rows, [group]).items():
        known = rows[i].variances
        assert known is not None and spread.p_value() >= known.spread(rows[i].value).p_value()


def test_small_groups_take_the_next_larger_one_and_seeds_that_agree_take_none() -> None:
    rows = {(p, s): entry(1.0, 0.5 if s else 0.001) for p in "ab" for s in range(FEWEST - 1)} | {
        ("c", 0): entry(1.0, 0.0, 0.01)
    }
    alone = cautious(rows, [lambda key: key[0]])
    together = cautious(rows, [lambda key: key[0], group])
    assert alone["a", 0].p_value() < 0.01 < together["a", 0].p_value()
    student = 2 * stats.t.sf(1.0 / 0.1, 50)
    assert together["c", 0].p_value() == alone["c", 0].p_value() == pytest.approx(student)
    assert cautious({0: Entry(1.0, 0.0, 2.0, 9, 1, p=0.5)}, [group]) == {}  # one seed


def test_seeds_that_agree_without_any_interval_are_no_proof() -> None:
    """A count of multiplications has one value and no scatter: three seeds that agree say nothing about chance."""
    same = average([{"value": 0.3, "ci_low": math.nan, "ci_high": math.nan, "n": 1}] * 3)
    assert math.isnan(p_value_of_mean(same))
    apart = average([{"value": v, "ci_low": math.nan, "ci_high": math.nan, "n": 1} for v in (0.2, 0.3, 0.4)])
    assert p_value_of_mean(apart) == pytest.approx(stats.ttest_1samp([0.2, 0.3, 0.4], 0).pvalue)
    assert crossed(np.full((3, 5), 0.25)).p_value() == stats.binomtest(5, 5).pvalue
