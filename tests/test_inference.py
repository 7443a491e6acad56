"""Tests of differences, against SciPy, closed forms and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import write_run
from kit.paired import KEY, dense, measured, write
from scipy import stats

from pruningbench.contract.statistics import bootstrap
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.aggregation import average
from pruningbench.leaderboard.inference import crossed, holm, paired_p_value
from pruningbench.leaderboard.results import load_results
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_arrays


def test_one_seed_takes_mcnemars_or_students_test() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random(80) < 0.6).astype(float), (rng.random(80) < 0.45).astype(float)
    table = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    assert paired_p_value(a, b) == pytest.approx(stats.binomtest(table[0], sum(table)).pvalue)
    assert paired_p_value(a, a) == 1
    x, y = rng.normal(size=50), rng.normal(size=50) + 0.3
    assert paired_p_value(x, y) == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert paired_p_value(x, x) == 1
    # four equal differences are no proof: the sign test, not a division by zero
    assert paired_p_value(np.full(4, 0.5), np.full(4, 0.25)) == stats.binomtest(4, 4).pvalue
    assert paired_p_value(np.full(9, 0.3), np.full(9, 0.1)) == stats.binomtest(9, 9).pvalue  # rounding is no variance
    assert math.isnan(paired_p_value(x[:1], y[:1]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_of_bonferroni(ps: list[float]) -> None:
    expected = []
    for p in ps:  # straight from the definition: the largest of (m - j) p_(j) up to its place
        rank = sorted(ps)
        candidates = [min(1.0, (len(ps) - j) * q) for j, q in enumerate(rank) if q <= p]
        expected.append(max(candidates[: max(i for i, q in enumerate(rank) if q == p) + 1]))
    adjusted = holm(ps)
    assert adjusted == pytest.approx(expected) or len(set(ps)) < len(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))
    # a hypothesis falls as the textbook says: smallest first, until one stands
    fallen = 0
    while fallen < len(ps) and sorted(ps)[fallen] <= 0.05 / (len(ps) - fallen):
        fallen += 1
    assert sum(q <= 0.05 for q in adjusted) == fallen


def test_holm_of_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as R's p.adjust


# seeds and samples


def test_seeds_that_agree_leave_students_test_of_the_samples() -> None:
    row = np.random.default_rng(1).normal(0.2, 1, 60)
    spread = crossed(np.stack([row, row, row]))
    assert spread.p_value() == pytest.approx(stats.ttest_1samp(row, 0).pvalue)
    assert spread.interval() == pytest.approx(tuple(stats.ttest_1samp(row, 0).confidence_interval()))


def test_samples_that_agree_leave_students_test_of_the_seeds() -> None:
    means = np.array([0.1, 0.3, 0.2])
    spread = crossed(np.repeat(means[:, None], 50, axis=1))
    assert spread.p_value() == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert spread.freedom == pytest.approx(2)


@pytest.mark.parametrize("scales", [(1.0, 0.0, 1.0), (0.3, 1.0, 1.0), (0.0, 1.0, 0.3), (0.1, 1.0, 3.0)])
def test_crossed_intervals_cover_as_often_as_they_say(scales: tuple[float, float, float]) -> None:
    """Three random seeds on a hundred random samples, with interaction; 1500 experiments."""
    rng = np.random.default_rng(2)
    seeds, samples, trials = 3, 100, 1500
    of_seeds, of_samples, both = scales
    hits = 0
    for _ in range(trials):
        values = (
            0.2
            + of_seeds / 10 * rng.normal(size=(seeds, 1))
            + of_samples * rng.normal(size=(1, samples))
            + both * rng.normal(size=(seeds, samples))
        )
        low, high = crossed(values).interval()
        hits += low <= 0.2 <= high
    assert 0.93 <= hits / trials <= 0.995


def test_the_variance_is_unbiased() -> None:
    rng = np.random.default_rng(3)
    means, errors = [], []
    for _ in range(3000):
        values = 0.2 * rng.normal(size=(4, 1)) + rng.normal(size=(1, 50)) + 0.5 * rng.normal(size=(4, 50))
        spread = crossed(values)
        means.append(spread.value)
        errors.append(spread.error**2)
    assert np.mean(errors) == pytest.approx(np.var(means), rel=0.06)


# boards


def test_marks_are_corrected_for_the_number_of_tests(tmp_path: Path) -> None:
    """One difference of p = .03 is marked alone, and not among twenty."""
    rng = np.random.default_rng(4)
    base = rng.random(200)
    noise = rng.normal(size=200)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    shift = stats.t.isf(0.015, 199) / math.sqrt(200)  # two-sided p = .03
    low = base - (noise + shift)

    def table(pruners: int, folder: Path) -> int:
        others = [measured(base + np.roll(noise, i), pruner=f"p{i}") for i in range(1, pruners)]
        (board,) = write(folder, dense(base), measured(low, pruner="p0"), *others)
        (row,) = [row for row in board.rows if row.pruner == "p0"]
        assert row.differences[KEY].p == pytest.approx(0.03, rel=1e-6)
        assert row.differences[KEY].high < 0  # its own interval is not corrected
        assert row.differences[KEY].p_holm == pytest.approx(min(1.0, 0.03 * pruners), rel=1e-6)
        text = " ".join(render([board], "table").split())
        assert ("Holm's method over all marks of a model" in text) == bool(row.verdicts)
        return len(row.verdicts)

    assert table(1, tmp_path / "alone") == 1
    assert table(20, tmp_path / "among") == 0


def test_several_seeds_are_analysed_with_their_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    easy = rng.normal(size=(1, 40))
    before, after = 0.1 * rng.normal(size=(3, 40)) + easy, 0.1 * rng.normal(size=(3, 40)) + easy - 0.2
    (board,) = write(
        tmp_path / "run",
        *(dense(row, seed=i) for i, row in enumerate(before)),
        *(measured(row, seed=i) for i, row in enumerate(after)),
    )
    (pruned,) = [row for row in board.rows if not row.dense]
    change, expected = pruned.differences[KEY], crossed(after - before)
    assert (change.low, change.high) == pytest.approx(expected.interval())
    assert change.p == pytest.approx(expected.p_value()) and change.seeds == 3


def test_values_of_several_seeds_have_the_interval_over_seeds_and_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    values = 0.3 * rng.normal(size=(3, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(3, 40))
    (board,) = write(tmp_path / "run", *(dense(row, seed=i) for i, row in enumerate(values)))
    entry, expected = board.rows[0].cells[KEY], crossed(values)
    assert (entry.value, entry.seeds) == (pytest.approx(values.mean()), 3)
    assert (entry.low, entry.high) == pytest.approx(expected.interval())
    formula = average([{"value": m.value, "ci_low": m.ci_low, "ci_high": m.ci_high, "n": m.n}
                       for m, _ in (dense(row, seed=i) for i, row in enumerate(values))])  # fmt: skip
    assert abs(formula.half_width - entry.half_width) > 0.01
    for file in (tmp_path / "run" / "samples").rglob("*"):
        file.unlink()
    (without,) = build(load_results(tmp_path / "run"), [tmp_path / "run"])  # no values of samples: the substitute
    assert without.rows[0].cells[KEY].half_width == pytest.approx(formula.half_width)


def test_values_of_seeds_on_other_samples_take_those_that_all_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    folder, names = tmp_path / "run", (["a", "b", "c", "d"], ["d", "c", "b", "x"])
    values = rng.normal(size=(2, 4))
    pairs = [dense(row, seed=i) for i, row in enumerate(values)]
    write_run(folder, [replace(one, part=1, parts=1) for one, _ in pairs])
    for (one, row), keys in zip(pairs, names, strict=True):
        file = RunFolder(folder).samples_file(one.cell, one.task)
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, {"|accuracy": row, "keys of ": np.array(keys)})
    (board,) = build(load_results(folder), [folder])
    entry, shared = board.rows[0].cells[KEY], np.stack([values[0][[1, 2, 3]], values[1][[2, 1, 0]]])
    assert entry.value == pytest.approx(values.mean())
    assert entry.high - entry.low == pytest.approx(np.subtract(*crossed(shared).interval()[::-1]))


def hierarchical_bootstrap(values: np.ndarray, rng: np.random.Generator, draws: int = 300) -> tuple[float, float]:
    """Return the 95 % percentile interval of resamples of the seeds and of the samples, which all seeds share."""
    seeds, samples = values.shape
    rows = rng.integers(seeds, size=(draws, seeds, 1))
    columns = rng.integers(samples, size=(draws, 1, samples))
    low, high = np.quantile(values[rows, columns].mean(axis=(1, 2)), [0.025, 0.975])
    return float(low), float(high)


def covered(seeds: int, samples: int, trials: int, of_seeds: float) -> tuple[float, float, float]:
    """Return how often each interval holds the true mean, and the median ratio of their widths."""
    rng = np.random.default_rng(10)
    hits, ratios = np.zeros(2), []
    for _ in range(trials):
        values = 0.7 + of_seeds * rng.normal(size=(seeds, 1)) + rng.normal(size=(1, samples))
        values = values + 0.5 * rng.normal(size=(seeds, samples))
        intervals = (crossed(values).interval(), hierarchical_bootstrap(values, rng))
        hits += [low <= 0.7 <= high for low, high in intervals]
        ratios.append((intervals[0][1] - intervals[0][0]) / (intervals[1][1] - intervals[1][0]))
    return (*(hits / trials), float(np.median(ratios)))


def test_with_three_seeds_it_covers_and_a_hierarchical_bootstrap_does_not() -> None:
    own, bootstrapped, _ = covered(seeds=3, samples=60, trials=600, of_seeds=0.3)
    assert own >= 0.93 and bootstrapped < 0.9


def test_with_many_seeds_both_are_the_same_interval() -> None:
    own, bootstrapped, ratio = covered(seeds=25, samples=150, trials=150, of_seeds=0.3)
    assert own >= 0.9 and bootstrapped >= 0.9 and ratio == pytest.approx(1, abs=0.1)


def with_keys(folder: Path, *keys: list[str] | None) -> None:
    """Write the dense and the pruned value of a run with keys, in that order."""
    dense_values, pruned_values = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0])
    conditions = [dense(dense_values), measured(pruned_values)]
    records = sorted((one for one, _ in conditions), key=lambda r: (r.cell, r.task))
    write_run(folder, [replace(r, part=1, parts=1) for r in records])
    for (one, values), names in zip(conditions, keys, strict=True):
        file = RunFolder(folder).samples_file(one.cell, one.task)
        file.parent.mkdir(exist_ok=True)
        arrays = {"|accuracy": values, **({} if names is None else {"keys of ": np.array(names)})}
        write_arrays(file, arrays)


def test_samples_are_paired_by_their_keys(tmp_path: Path) -> None:
    with_keys(tmp_path / "keyed", ["a", "b", "c", "d"], ["d", "c", "x"])
    (board,) = build(load_results(tmp_path / "keyed"), [tmp_path / "keyed"])
    change = board.rows[1].differences[KEY]
    assert (change.value, change.n) == (0.0, 2)  # d and c, right in both
    with_keys(tmp_path / "places", None, ["3", "1", "0"])  # without keys: the first samples, in order
    (board,) = build(load_results(tmp_path / "places"), [tmp_path / "places"])
    assert board.rows[1].differences[KEY].value == pytest.approx((0 + 1 - 1) / 3)
    for i, keys in enumerate([(None, None), (["a"] * 4, ["a", "b", "c"]), (["a", "b", "c", "d"], ["x", "y", "z"])]):
        with_keys(tmp_path / f"none{i}", *keys)
        (board,) = build(load_results(tmp_path / f"none{i}"), [tmp_path / f"none{i}"])
        assert board.rows[1].differences == {}


def test_a_statistic_of_single_values_has_differences(tmp_path: Path) -> None:
    """An (N,) metric with an aggregate of its own: here the median."""
    rng = np.random.default_rng(6)
    folder = tmp_path / "run"
    pairs = []
    for pruner, values in (("dense", rng.normal(0, 1, 99)), ("a", rng.normal(3, 1, 99))):
        estimate = bootstrap(values, lambda v: float(np.median(v)))
        fields = {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high, "pruner": pruner}
        one, _ = measured(values, **fields, **({"sparsity": 0.0} if pruner == "dense" else {}))
        pairs.append((one, values, estimate.draws))
    write_run(folder, [replace(one, part=1, parts=1) for one, _, _ in pairs])
    for one, values, draws in pairs:
        file = RunFolder(folder).samples_file(one.cell, one.task)
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, {"|accuracy": values, "|accuracy|draws": draws})
    (board,) = build(load_results(folder), [folder])
    change = board.rows[1].differences[KEY]
    assert change.value == pytest.approx(pairs[1][0].value - pairs[0][0].value)
    difference = pairs[1][2] - pairs[0][2]
    assert (change.low, change.high) == pytest.approx(tuple(np.quantile(difference, [0.025, 0.975])))
    assert change.p == pytest.approx(2 * stats.norm.sf(change.value / difference.std(ddof=1)))
    assert board.rows[1].verdicts == {KEY: "better"}


def test_seeds_on_other_samples_meet_on_those_they_share(tmp_path: Path) -> None:
    """As with `samples: correct`: each seed of a network gets its own images right."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "run"
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # type: ignore[type-arg]
    records, files = [], []
    for seed in (0, 1):
        names = [str(i) for i in range(20) if i % 5 != seed]  # 16 samples, 12 of which both seeds have
        kept[seed] = rng.normal(size=16), rng.normal(size=16) + 1
        for make, values in zip((dense, measured), kept[seed], strict=True):
            one, _ = make(values, seed=seed)
            records.append(replace(one, part=1, parts=1))
            files.append((RunFolder(folder).samples_file(one.cell, one.task), values, names))
    write_run(folder, records)
    for file, values, names in files:
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, {"|accuracy": values, "keys of ": np.array(names)})
    (board,) = build(load_results(folder), [folder])
    change = board.rows[1].differences[KEY]
    difference = {seed: after - before for seed, (before, after) in kept.items()}
    shared = {seed: [k for k, i in enumerate(i for i in range(20) if i % 5 != seed) if i % 5 > 1] for seed in (0, 1)}
    expected = crossed(np.stack([difference[seed][shared[seed]] for seed in (0, 1)]))
    assert change.value == pytest.approx(np.mean([difference[0].mean(), difference[1].mean()]))
    assert change.high - change.low == pytest.approx(np.subtract(*expected.interval()[::-1]))
