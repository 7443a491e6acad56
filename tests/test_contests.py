"""Ranks of pruners: Friedman's and Nemenyi's tests against SciPy and published values, coverage, blocks, intervals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import boards_of, record
from kit.findings import ACCURACY, COLUMNS, SHARPNESS, board, column, row
from scipy import stats

from pruningbench.leaderboard import Row, render
from pruningbench.leaderboard.contests import ALL_MODELS, Contest, contests
from pruningbench.leaderboard.friedman import critical_difference, friedman, groups_of, studentised_range
from pruningbench.leaderboard.places import Cells, block_ranks, interval_of_ranks, places
from pruningbench.leaderboard.ranking import ranks
from pruningbench.leaderboard.summary import rank_sentences

few = st.sampled_from([0.0, 0.5, 1.0, -math.inf])

# places and ranks


@given(st.lists(st.lists(few, min_size=4, max_size=4), min_size=1, max_size=6))
def test_places_are_those_of_scipy_and_of_the_table(rows: list[list[float]]) -> None:
    found = places(np.array(rows))
    assert found.tolist() == [stats.rankdata([-v for v in one], method="average").tolist() for one in rows]
    assert found.tolist() == [ranks(one, higher_is_better=True) for one in rows]


def test_ranks_in_a_block_are_by_mean_place() -> None:
    # block 0: places (1, 2, 3) and (1, 3, 2) tie the last two; block 1: one cell
    values = np.array([[9.0, 5.0, 1.0], [9.0, 1.0, 5.0], [1.0, 2.0, 3.0]])
    assert block_ranks(values, np.array([0, 0, 1])).tolist() == [[1.0, 2.5, 2.5], [3.0, 2.0, 1.0]]


# Friedman and Nemenyi


@given(st.integers(3, 6).flatmap(lambda k: st.lists(st.lists(few, min_size=k, max_size=k), min_size=2, max_size=8)))
def test_friedman_is_that_of_scipy(blocks: list[list[float]]) -> None:
    values = np.array(blocks)
    statistic, p = friedman(places(values))
    if all(len(set(block)) == 1 for block in blocks):
        assert (statistic, p) == (0.0, 1.0)  # SciPy divides by zero
        return
    expected = stats.friedmanchisquare(*(-np.where(np.isinf(values), -9.0, values)).T)
    assert statistic == pytest.approx(expected.statistic, abs=1e-9) and p == pytest.approx(expected.pvalue, abs=1e-12)


def test_friedman_of_two_is_the_sign_test_without_continuity() -> None:
    wins, losses = 9, 3
    statistic, p = friedman(np.array([[1.0, 2.0]] * wins + [[2.0, 1.0]] * losses))
    assert statistic == pytest.approx((wins - losses) ** 2 / (wins + losses))
    assert p == pytest.approx(2 * stats.norm.sf((wins - losses) / math.sqrt(wins + losses)))
    assert all(map(math.isnan, friedman(np.array([[1.0, 2.0]])))) and all(map(math.isnan, friedman(np.ones((5, 1)))))


# J. Demšar, JMLR 2006, table 5: critical values of the two-tailed Nemenyi test, k = 2 .. 10
PUBLISHED = {
    0.05: (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164),
    0.10: (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920),
}


@pytest.mark.parametrize("level", PUBLISHED)
def test_nemenyi_has_the_published_critical_values(level: float) -> None:
    for competitors, published in enumerate(PUBLISHED[level], start=2):
        assert studentised_range(competitors, level) / math.sqrt(2) == pytest.approx(
            published, abs=1e-3
        )  # cut, not rounded
        blocks = 14
        expected = published * math.sqrt(competitors * (competitors + 1) / (6 * blocks))
        assert critical_difference(competitors, blocks, level) == pytest.approx(expected, rel=5e-4)
    assert math.isnan(critical_difference(1, 5)) and math.isnan(critical_difference(3, 1))


def test_studentised_range_is_that_of_scipy_and_has_a_closed_form_for_two() -> None:
    for competitors in (3, 7, 20):
        expected = stats.studentized_range.isf(0.05, competitors, np.inf)
        assert studentised_range(competitors) == pytest.approx(expected, rel=1e-6)
    assert studentised_range(2, 0.01) == pytest.approx(math.sqrt(2) * stats.norm.isf(0.005), rel=1e-8)


@given(st.lists(st.floats(1, 9), min_size=1, max_size=9), st.floats(0.1, 9))
def test_groups_are_the_largest_sets_without_a_difference(means: list[float], difference: float) -> None:
    means.sort()
    groups = groups_of(means, difference)
    assert sorted({i for group in groups for i in group}) == list(range(len(means)))
    for group in groups:
        assert group == tuple(range(group[0], group[-1] + 1))
        assert len(group) == 1 or means[group[-1]] - means[group[0]] < difference
        assert not any(set(group) < set(other) for other in groups)
        after = group[-1] + 1
        assert after == len(means) or not means[after] - means[group[0]] < difference


# contests


def rows_of(
    quality: dict[str, float], *, models: tuple[str, ...] = ("net",), seeds: tuple[int, ...] = (0, 1, 2),
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9),
) -> list[Row]:  # fmt: skip
    """Rows in which a pruner's values are its quality, a bit lower with each sparsity and higher with each seed."""
    return [
        row(
            sparsity, {ACCURACY: q - sparsity / 10, SHARPNESS: q},
            by_seed={key: {seed: (q - sparsity / 10 + seed / 100, 0.01) for seed in seeds} for key in VALUED},
            model=model, pruner=pruner, seeds=seeds,
        )
        for model in models for pruner, q in quality.items() for sparsity in sparsities
    ]  # fmt: skip


VALUED = (ACCURACY, SHARPNESS)
QUALITY = {"good": 0.9, "fair": 0.7, "poor": 0.5, "bad": 0.3}


def contest(rows: list[Row], dimension: str = "accuracy", model: str = "net", **options: object) -> Contest:
    found = contests(board(rows, options.pop("columns", COLUMNS)), **options)  # type: ignore[arg-type]
    (only,) = [one for one in found if (one.dimension, one.model) == (dimension, model)]
    return only


def test_order_over_enough_blocks_is_shown() -> None:
    found = contest(rows_of(QUALITY, models=("net", "other", "third")), model=ALL_MODELS)
    assert [c.pruner for c in found.contestants] == list(QUALITY)
    assert [c.mean_rank for c in found.contestants] == [1, 2, 3, 4]
    assert (found.blocks, found.cells, found.models) == (9, 27, ("net", "other", "third"))
    expected = stats.friedmanchisquare(*np.tile([1, 2, 3, 4], (9, 1)).T)
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert found.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / 54), rel=1e-3)  # 1.56
    assert found.groups == (("good", "fair"), ("fair", "poor"), ("poor", "bad"))
    assert [c.places for c in found.contestants] == [(1, 2), (1, 3), (2, 4), (3, 4)]
    assert "good and fair are tied first" in found.sentence


def test_few_blocks_are_ties() -> None:
    one = contest(rows_of(QUALITY, seeds=(0,)))
    assert one.blocks == 1 and math.isnan(one.p) and math.isnan(one.critical_difference) and not one.decided
    assert one.groups == (tuple(QUALITY),) and {c.places for c in one.contestants} == {(1, 4)}
    assert "no difference is tested" in one.sentence
    two = contest(rows_of(QUALITY, seeds=(0, 1)))
    assert two.blocks == 2 and not two.decided and len(two.groups) == 1
    assert two.sentence == (
        "accuracy, none, on net: no difference shown (Friedman p = .11 over 2 blocks; "
        "mean ranks good 1, fair 2, poor 3, bad 4)."
    )


def test_equal_pruners_share_ranks() -> None:
    found = contest(rows_of({"a": 0.5, "b": 0.5, "c": 0.5}))
    assert [c.mean_rank for c in found.contestants] == [2, 2, 2] and (found.statistic, found.p) == (0, 1)
    assert found.groups == (("a", "b", "c"),)


def test_dimensions_and_tasks_are_apart() -> None:
    second = ("looking more", "", "spread")
    columns = (*COLUMNS, column(second, "sharpness", up=False))
    rows = rows_of(QUALITY)
    rows = [replace(one, by_seed={**one.by_seed, second: one.by_seed[SHARPNESS]}) for one in rows]
    found = contest(rows, "sharpness", columns=columns)
    assert found.tasks == ("looking", "looking more") and found.blocks == 6
    assert {c.mean_rank for c in found.contestants} == {2.5}  # the second task turns the order round
    assert found.groups == (tuple(sorted(QUALITY)),)


@pytest.mark.parametrize(
    ("gap", "reason"),
    [
        ("row", "not measured at 80% on net"),
        ("seed", "no value of sorting  accuracy at 80%, seed 1, on net"),
        ("nan", "no value of sorting  accuracy at 80%, seed 1, on net"),
        ("column", "not measured at 80% on net"),
    ],
)
def test_a_pruner_with_a_gap_is_not_ranked(gap: str, reason: str) -> None:
    rows = rows_of(QUALITY)
    (i,) = [i for i, one in enumerate(rows) if (one.pruner, one.sparsity) == ("fair", 0.8)]
    values = dict(rows[i].by_seed)
    seeds = dict(values[ACCURACY])
    if gap == "row":
        del rows[i]
    else:
        if gap == "seed":
            del seeds[1]
        seeds[1 if gap == "nan" else 0] = (math.nan, math.nan) if gap == "nan" else (0.5, 0.1)
        values[ACCURACY] = seeds
        if gap == "column":
            del values[ACCURACY]
        rows[i] = replace(rows[i], by_seed=values)
    found = contest(rows)
    assert [c.pruner for c in found.contestants] == ["good", "poor", "bad"]
    assert [(pruner, " ".join(why.split())) for pruner, why in found.unranked] == [("fair", " ".join(reason.split()))]


def test_coverage() -> None:
    assert contests(board(rows_of(QUALITY, sparsities=(0.5, 0.8)))) == ()  # fewer than three sparsities
    assert contests(board(rows_of({"only": 0.5}))) == ()
    # a sparsity and a seed that one of four pruners adds cost the others nothing
    more = rows_of({"good": 0.9}, sparsities=(0.99,), seeds=(0, 1, 2, 3))
    found = contest([*rows_of(QUALITY), *more])
    assert found.sparsities == (0.5, 0.8, 0.9) and found.seeds == (0, 1, 2) and found.unranked == ()
    # two models: a pruner that was measured on one is ranked there only
    rows = [*rows_of(QUALITY), *rows_of({"good": 0.9, "bad": 0.3}, models=("other",))]
    everywhere = contest(rows, model=ALL_MODELS)
    assert [c.pruner for c in everywhere.contestants] == ["good", "bad"]
    assert dict(everywhere.unranked) == {"fair": "not measured on other", "poor": "not measured on other"}
    assert len(contest(rows, model="net").contestants) == 4


def test_collapsed_rows_come_last_and_may_be_undefined() -> None:
    rows = rows_of({"good": 0.9, "bad": 0.3, "worst": 0.2})
    values = {key: dict.fromkeys((0, 1, 2), (math.nan, math.nan)) for key in VALUED}
    rows = [
        replace(one, collapsed=True, by_seed=values) if one.pruner == "good" and one.sparsity > 0.5 else one
        for one in rows
    ]
    found = contest(rows)
    assert found.unranked == () and [c.pruner for c in found.contestants] == ["bad", "good", "worst"]
    # places of good: 1, 3, 3; of bad: 2, 1, 1; of worst: 3, 2, 2: two of them share a mean place
    assert [c.mean_rank for c in found.contestants] == [1, 2.5, 2.5]
    assert {c.pruner: c.collapsed for c in found.contestants} == {"good": 2, "bad": 0, "worst": 0}


# intervals


def test_interval_of_two_close_pruners_covers_both_places() -> None:
    cells = Cells(np.array([[0.5, 0.5 + 1e-6]]), np.full((1, 2), 0.1), *np.zeros((3, 1), dtype=np.int64))
    low, high = interval_of_ranks(cells, 1000)
    assert low.tolist() == [1, 1] and high.tolist() == [2, 2]
    sure = replace(cells, errors=np.full((1, 2), 1e-9))
    assert interval_of_ranks(sure, 1000)[0].tolist() == interval_of_ranks(sure, 1000)[1].tolist() == [2, 1]


def test_interval_follows_the_normal_distribution() -> None:
    """With 20 tasks that agree, the mean rank is 1 plus the share of tasks in which noise turns the order round."""
    tasks, gap, error = 40, 0.1, 0.1
    turned = stats.norm.sf(gap / (error * math.sqrt(2)))
    values = np.tile([gap, 0.0], (tasks, 1))
    one = np.zeros(tasks, dtype=np.int64)
    low, high = interval_of_ranks(Cells(values, np.full(values.shape, error), np.arange(tasks), one, one), 1000)
    expected = 1 + stats.binom.ppf([0.025, 0.975], tasks, turned) / tasks
    assert [low[0], high[0]] == pytest.approx(expected.tolist(), abs=1.01 / tasks)


def test_seeds_are_drawn_within_their_model_and_together_over_tasks() -> None:
    # one of three seeds reverses the order in both tasks: the mean rank is 1 + k / 3 with k from a binomial
    order = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]] * 2)
    seeds = np.array([0, 1, 2] * 2)
    cells = Cells(order, np.zeros_like(order), np.arange(6), seeds, np.zeros(6, dtype=np.int64))
    low, high = interval_of_ranks(cells, 1000)
    k = stats.binom.ppf([0.025, 0.975], 3, 1 / 3)
    assert [low[0], high[0]] == pytest.approx((1 + k / 3).tolist())


def test_values_without_intervals_and_draws() -> None:
    found = contest(rows_of(QUALITY), draws=0)
    assert all(math.isnan(c.low) and math.isnan(c.high) for c in found.contestants)
    sure = contest(rows_of(QUALITY))
    assert [(c.low, c.high) for c in sure.contestants] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert contests(board(rows_of(QUALITY))) == contests(board(rows_of(QUALITY)))


# error rates


def test_ranks_of_equal_pruners_rarely_differ() -> None:
    """Among 1000 simulated contests of 4 equal pruners in 12 blocks, at most 5 % and a margin show a difference."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1000, 12, 4))
    shown = sum(friedman(one)[1] <= 0.05 for one in places(values))
    assert 10 < shown <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)


def test_a_better_pruner_is_shown() -> None:
    """One of four pruners, better by two standard deviations in 12 blocks, beats another in at least 80 % of pairs."""
    values = np.random.default_rng(2).normal(size=(300, 12, 4))
    values[:, :, 0] += 2
    means = places(values).mean(axis=1)
    assert (means[:, 0] == means.min(axis=1)).mean() > 0.95
    assert (means[:, 1:] - means[:, :1] >= critical_difference(4, 12)).mean() > 0.8


def test_sentences_of_the_summary() -> None:
    held = contests(board(rows_of(QUALITY, models=("net", "other", "third"))))
    said = rank_sentences(held)
    assert len(said) == 2 and all("on 3 models" in sentence for sentence in said)
    undecided = rank_sentences(contests(board(rows_of(QUALITY, seeds=(0, 1)))))
    assert undecided == ["No difference between pruners is shown (Friedman's test) in accuracy (none, p = .11), "
                         "sharpness (none, p = .11)."]  # fmt: skip
    single = rank_sentences(contests(board(rows_of(QUALITY, seeds=(0,)))))
    assert single == ["Best mean rank on a single task and seed, which no test supports: accuracy (none) good, "
                      "sharpness (none) good."]  # fmt: skip


def test_contests_of_measured_runs(tmp_path: Path) -> None:
    """Seeds and intervals come from the journal; the result is plain JSON."""
    records = [
        record(
            pruner, value=(v := quality + seed / 100), ci_low=v - 0.3, ci_high=v + 0.3, sparsity=sparsity, seed=seed,
            dimension="order",
        )
        for pruner, quality in QUALITY.items() for sparsity in (0.5, 0.8, 0.9) for seed in (0, 1, 2)
    ]  # fmt: skip
    (found,) = boards_of(tmp_path, records)
    one = next(r for r in found.rows if r.pruner == "good")
    value, half = one.by_seed[ACCURACY][2]
    assert (value, half) == (pytest.approx(0.92), pytest.approx(0.3))
    (only,) = json.loads(render([found], "json"))[0]["contests"]
    assert [c["pruner"] for c in only["contestants"]] == list(QUALITY) and only["dimension"] == "order"
    assert (only["blocks"], only["seeds"], only["contestants"][0]["places"]) == (3, [0, 1, 2], [1, 3])
    assert only["p"] == pytest.approx(stats.friedmanchisquare(*np.tile([1, 2, 3, 4], (3, 1)).T).pvalue)
    # good and fair differ by one standard error of their difference: the order turns round now and then
    assert only["contestants"][0]["low"] == 1 < only["contestants"][0]["high"] < 2.5
