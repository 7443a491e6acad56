"""Sweet spots and up to where metrics are kept: definitions, words, and a run with per-sample values."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.findings import ACCURACY, COLUMNS, SHARPNESS, board, change, column, dense, row
from kit.paired import N, correct, measured, write
from kit.paired import dense as dense_of
from scipy import stats

from pruningbench.contract.statistics import bootstrap
from pruningbench.errors import UsageError
from pruningbench.leaderboard import Board, Column, Row, render
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.findings import finding_values
from pruningbench.leaderboard.summary import spot_sentences, summary_lines
from pruningbench.leaderboard.sweetspots import not_worse, sweet_spot_table, sweet_spots

KEPT = change(-0.001, 0.004, 0.6)
BETTER = change(0.05, 0.02, 1e-6)
SAME = change(0.001, 0.004, 0.7)
WORSE = change(-0.1, 0.02, 1e-9)
VALUES = {ACCURACY: 0.9, SHARPNESS: 0.55}


def spots_of(*rows: Row, columns: tuple[Column, ...] = COLUMNS, reference: Row | None = None):
    found = sweet_spots(board([reference or dense(), *rows], columns))
    return {(spot.pruner, spot.metric): spot for spot in found}


def pruned(sparsity: float, accuracy: Entry = KEPT, sharpness: Entry = BETTER, **other: object) -> Row:
    return row(sparsity, VALUES, {ACCURACY: accuracy, SHARPNESS: sharpness}, **other)  # type: ignore[arg-type]


# the definition


def test_better_with_accuracy_kept_is_a_sweet_spot() -> None:
    spot = spots_of(pruned(0.5), pruned(0.8), pruned(0.9, WORSE))["a", "sharpness"]
    assert spot.sparsities == (0.5, 0.8)
    assert [(p.accuracy, p.verdict) for p in spot.points] == [("kept", "better")] * 2 + [("lost", "better")]
    assert (spot.epsilon, spot.obstacle, spot.dimension, spot.reference) == (0.01, "", "sharpness", "none")


@pytest.mark.parametrize(
    ("sharpness", "accuracy", "other"),
    [
        (SAME, KEPT, {}),  # not better
        (WORSE, KEPT, {}),
        (change(0.05, 0.06, 1e-6), KEPT, {}),  # a small p-value, but an interval that includes zero
        (change(0.05, 0.02, 0.04), KEPT, {}),  # not after correction for the two tests of the table
        (BETTER, change(-0.001, 0.0095, 0.8), {}),  # accuracy not shown to be kept
        (BETTER, WORSE, {}),
        (BETTER, change(math.nan, math.nan, math.nan), {}),
        (BETTER, KEPT, {"collapsed": True, "at_chance": (ACCURACY,)}),
        (BETTER, KEPT, {"at_chance": (SHARPNESS,)}),
        (BETTER, KEPT, {"at_chance": (ACCURACY,)}),
    ],
)
def test_anything_less_is_none(sharpness: Entry, accuracy: Entry, other: dict[str, object]) -> None:
    spot = spots_of(pruned(0.5, accuracy, sharpness, **other))["a", "sharpness"]
    assert spot.sparsities == () and spot.best is None and spot.obstacle == ""


def test_every_accuracy_has_to_be_kept() -> None:
    second = ("recognising", "", "hits")
    columns = (*COLUMNS, column(second, "accuracy"))
    values = {**VALUES, second: 0.7}
    both = row(0.5, values, {ACCURACY: KEPT, SHARPNESS: BETTER, second: KEPT})
    one = row(0.8, values, {ACCURACY: KEPT, SHARPNESS: BETTER, second: change(-0.02, 0.03, 0.3)})
    spot = spots_of(both, one, columns=columns, reference=dense(values=values))["a", "sharpness"]
    assert spot.sparsities == (0.5,)
    assert spot.points[1].accuracy_difference is not None and spot.points[1].accuracy_difference.value == -0.02
    # only the main metric of such a task counts, and a task that was not measured on this model does not
    columns = (*COLUMNS, column(second, "accuracy", main=False))
    assert spots_of(both, one, columns=columns)["a", "sharpness"].sparsities == (0.5, 0.8)
    columns = (*COLUMNS, column(("elsewhere", "", "hits"), "accuracy"))
    assert spots_of(pruned(0.5), columns=columns)["a", "sharpness"].sparsities == (0.5,)


def test_lower_is_better_turns_the_signs() -> None:
    down = replace(COLUMNS[1], higher_is_better=False)
    spot = spots_of(pruned(0.5, KEPT, WORSE), columns=(COLUMNS[0], down))["a", "sharpness"]
    assert spot.sparsities == (0.5,) and spot.best is not None and spot.best.sparsity == 0.5
    assert spots_of(pruned(0.5), columns=(COLUMNS[0], down))["a", "sharpness"].points[0].state == "lost"
    undirected = replace(COLUMNS[1], higher_is_better=None)
    assert ("a", "sharpness") not in spots_of(pruned(0.5), columns=(COLUMNS[0], undirected))


def test_epsilon_decides_and_is_checked() -> None:
    one = board([dense(), pruned(0.5, change(-0.02, 0.005, 0.001))])
    assert [spot.sparsities for spot in sweet_spots(one, epsilon=0.03)] == [(), (0.5,)]
    assert [spot.sparsities for spot in sweet_spots(one)] == [(), ()]
    for bad in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(UsageError, match="epsilon"):
            sweet_spots(one, epsilon=bad)


def test_what_makes_them_impossible_is_said() -> None:
    no_reference = sweet_spots(board([pruned(0.5, reference="")]))
    assert {spot.obstacle for spot in no_reference} == {"there is no dense reference"}
    blind = spots_of(pruned(0.5), reference=replace(dense(), collapsed=True))["a", "sharpness"]
    assert blind.obstacle == "the dense model is at chance" and blind.sparsities == ()
    no_accuracy = spots_of(pruned(0.5), columns=COLUMNS[1:])["a", "sharpness"]
    assert no_accuracy.obstacle == "no accuracy was measured"
    no_samples = spots_of(row(0.5, VALUES))["a", "sharpness"]
    assert no_samples.obstacle == "there are no per-sample values to compare"
    assert math.isnan(no_samples.kept_up_to) and "because" in no_samples.sentence


# up to where a metric is kept


def test_kept_up_to_has_two_limits() -> None:
    wide = change(-0.005, 0.03, 0.4)
    rows = [pruned(s, change_) for s, change_ in ((0.5, KEPT), (0.6, KEPT), (0.7, wide), (0.8, KEPT), (0.9, WORSE))]
    spot = spots_of(*rows, pruned(0.95, KEPT))["a", "accuracy"]
    assert [p.state for p in spot.points] == ["kept", "kept", "open", "kept", "lost", "kept"]
    assert (spot.shown_up_to, spot.kept_up_to, spot.lost_at) == (0.6, 0.8, 0.9)
    assert "not worse up to 80% (shown up to 60%, lost at 90%)" in spot.sentence


def test_lost_at_once_never_or_by_collapse() -> None:
    lost = spots_of(pruned(0.5, WORSE))["a", "accuracy"]
    assert (lost.shown_up_to, lost.kept_up_to, lost.lost_at) == (0, 0, 0.5) and "lost at 50%." in lost.sentence
    never = spots_of(pruned(0.5, SAME), pruned(0.8, SAME))["a", "accuracy"]
    assert (never.kept_up_to, never.lost_at) == (0.8, math.inf) and "nowhere lost" in never.sentence
    collapsed = spots_of(pruned(0.5), pruned(0.8, collapsed=True, at_chance=(ACCURACY,)))["a", "sharpness"]
    assert collapsed.lost_at == 0.8 and collapsed.kept_up_to == 0.5


def test_what_is_worse_by_more_than_the_margin_is_lost_although_no_correction_allows_a_mark() -> None:
    """With three seeds that differ, a loss of .76 may have p = 8e-4: no mark among 400 tests, and yet it is not kept."""
    far, near = change(-0.76, 0.12, 0.3), change(-0.03, 0.025, 0.3)
    spot = spots_of(pruned(0.5), pruned(0.8, near), pruned(0.9, far))["a", "accuracy"]
    assert [(p.state, p.verdict) for p in spot.points] == [("kept", ""), ("open", ""), ("lost", "")]
    assert (spot.kept_up_to, spot.lost_at) == (0.8, 0.9)
    down = replace(COLUMNS[1], higher_is_better=False)
    up = spots_of(pruned(0.5, KEPT, change(0.4, 0.1, 0.3)), columns=(COLUMNS[0], down))["a", "sharpness"]
    assert up.points[0].state == "lost"
    few = replace(change(-0.03, 0.015, 0.3), n=20)  # one sample more would change it
    assert spots_of(pruned(0.5, few))["a", "accuracy"].points[0].state == "open"


def test_a_small_loss_that_is_certain_is_kept_if_it_is_within_the_margin() -> None:
    spot = spots_of(pruned(0.5, change(-0.004, 0.002, 1e-9)))["a", "accuracy"]
    assert spot.points[0].verdict == "worse" and spot.points[0].state == "kept"


def test_margin_is_epsilon_or_its_share_of_the_dense_value() -> None:
    spots = spots_of(pruned(0.5))
    assert spots["a", "accuracy"].margin == 0.01
    assert spots["a", "sharpness"].margin == pytest.approx(0.01 * 0.5)  # no fraction: 1 % of dense


states = st.sampled_from([KEPT, SAME, WORSE, BETTER, change(-0.02, 0.03, 0.3), change(-0.004, 0.002, 1e-9)])


@given(st.lists(st.tuples(states, states, st.booleans()), min_size=1, max_size=6))
def test_limits_enclose_the_sparsity(changes: list[tuple[Entry, Entry, bool]]) -> None:
    rows = [
        pruned((i + 1) / 8, accuracy, sharpness, collapsed=collapsed)
        for i, (accuracy, sharpness, collapsed) in enumerate(changes)
    ]
    for spot in spots_of(*rows).values():
        assert spot.shown_up_to <= spot.kept_up_to < spot.lost_at
        for point in spot.points:
            if point.sweet:  # a sweet spot is never lost, and its row never collapsed
                assert point.state != "lost" and not point.collapsed and point.p_holm <= 0.05
                assert point.difference is not None and point.difference.low > 0


@given(st.lists(st.tuples(states, states), min_size=1, max_size=4), st.floats(0.001, 0.1), st.floats(1, 5))
def test_a_larger_epsilon_keeps_every_sweet_spot(
    changes: list[tuple[Entry, Entry]], epsilon: float, factor: float
) -> None:
    rows = [pruned((i + 1) / 8, accuracy, sharpness) for i, (accuracy, sharpness) in enumerate(changes)]
    found = board([dense(), *rows])
    for strict, lax in zip(
        sweet_spots(found, epsilon=epsilon), sweet_spots(found, epsilon=factor * epsilon), strict=True
    ):
        assert set(strict.sparsities) <= set(lax.sparsities)
        assert strict.shown_up_to <= lax.shown_up_to and strict.lost_at <= lax.lost_at


# the limit of a loss


def test_without_differing_samples_the_limit_is_not_zero() -> None:
    same = Entry(0.0, 0.0, 0.0, 120, 1)
    assert not not_worse(same, COLUMNS[0], 0.01)  # 3 of 120 might differ
    assert not_worse(replace(same, n=1000), COLUMNS[0], 0.01)
    assert not_worse(same, COLUMNS[1], 1e-9)  # values that are no shares


def test_interval_limit_is_widened_by_one_sample() -> None:
    entry = Entry(-0.003, -0.008, 0.002, 400, 1)
    limit = -0.003 - math.hypot(0.005, 1.96 / 400)
    assert not_worse(entry, COLUMNS[0], -limit + 1e-12) and not not_worse(entry, COLUMNS[0], -limit - 1e-12)
    mirrored = Entry(0.003, -0.002, 0.008, 400, 1)
    down = replace(COLUMNS[0], higher_is_better=False)
    assert not_worse(mirrored, down, -limit + 1e-12) and not not_worse(mirrored, down, -limit - 1e-12)


@pytest.mark.parametrize(("n", "loss", "gain"), [(120, 0.01, 0.0), (359, 0.01, 0.0), (359, 0.02, 0.01)])
def test_accuracy_that_falls_by_epsilon_is_rarely_called_kept(n: int, loss: float, gain: float) -> None:
    """The exact probability of a wrong claim, from the multinomial distribution of lost and gained samples."""
    wrong = plain = 0.0
    for losses in range(round(n * loss) + 14):
        for gains in range(round(n * gain) + 14 if gain else 1):
            p = stats.binom.pmf(losses, n, loss) * stats.binom.pmf(gains, n - losses, gain / (1 - loss))
            if p < 1e-4:
                continue
            e = bootstrap(np.repeat([-1.0, 1.0, 0.0], [losses, gains, n - losses - gains]))
            wrong += p * not_worse(Entry(e.value, e.low, e.high, n, 1), COLUMNS[0], 0.01)
            plain += p * (e.low >= -0.01)
    assert wrong <= 0.035 < plain + 0.01  # nominal .025; the plain interval claims up to 30 %


# a run, from per-sample values


def planted(tmp_path: Path) -> Board:
    rng = np.random.default_rng(3)
    sharp = rng.normal(0.5, 0.1, N)
    looking = {"task": "looking", "metric": "sharpness", "unit": "", "dimension": "sharpness"}
    accuracy = {"dimension": "accuracy", "chance_p": 1e-9}
    same = correct(0.9)
    return write(
        tmp_path / "run",
        dense_of(same, **accuracy), dense_of(sharp, **looking),
        measured(same, sparsity=0.5, **accuracy), measured(sharp + rng.normal(0.05, 0.05, N), sparsity=0.5, **looking),
        measured(correct(0.6), sparsity=0.9, **accuracy), measured(sharp + 0.1, sparsity=0.9, **looking),
    )[0]  # fmt: skip


def test_planted_sweet_spot_of_a_run(tmp_path: Path) -> None:
    found = planted(tmp_path)
    assert [(c.dimension, c.main) for c in found.columns] == [("sharpness", True), ("accuracy", True)]
    by_metric = {spot.metric: spot for spot in sweet_spots(found)}
    assert by_metric["sharpness"].sparsities == (0.5,)
    assert by_metric["sharpness"].lost_at == math.inf and by_metric["accuracy"].lost_at == 0.9
    best = by_metric["sharpness"].best
    assert best is not None and best.difference is not None
    assert best.difference.value == pytest.approx(0.05, abs=0.02) and best.p_holm < 1e-6
    # 200 equal samples show a loss of at most 1.96 / 200
    assert [spot.sparsities for spot in sweet_spots(found, epsilon=0.0097)] == [(), ()]


def test_words_table_and_json(tmp_path: Path) -> None:
    found = board([dense(), pruned(0.5), pruned(0.8), pruned(0.9, WORSE)])
    (spot,) = [one for one in sweet_spots(found) if one.sparsities]
    assert spot.sentence == (
        "net, a, none: looking sharpness better than dense at 50% and 80% with accuracy kept "
        "(most at 50%: +.050 [.030, .070]); not worse up to 90% (shown up to 90%, nowhere lost)."
    )
    header, only = sweet_spot_table(sweet_spots(found))
    cells = dict(zip(header, only, strict=True))
    assert (cells["sweet spots"], cells["kept up to"], cells["lost at"]) == ("50%, 80%", "90%", "")
    shown = render([found], "markdown").partition("**Sweet spots**")[2].strip().splitlines()
    assert [cell.strip() for cell in shown[-1].split("|")][1:5] == ["net", "a", "none", "sharpness"]
    assert len(shown) == 3 and "**Sweet spots**" not in render([board([dense(), pruned(0.5, WORSE)])], "markdown")
    values = json.loads(render([found], "json"))[0]
    assert values["sweet_spots"][1]["sparsities"] == [0.5, 0.8] and values["sweet_spots"][1]["lost_at"] == "inf"
    assert values["sweet_spots"][1]["sentence"] == spot.sentence
    assert set(finding_values(found)) == {"sweet_spots", "pareto", "contests"} <= set(values)


def test_summary_fits(tmp_path: Path) -> None:
    rows = [dense(), *(pruned(s, pruner=f"pruner-{i}") for i in range(30) for s in (0.5, 0.8, 0.9))]
    for width in (40, 80, 200):
        lines = summary_lines(board(rows), width)
        assert 2 <= len(lines) <= 12 and max(map(len, lines)) <= width
    assert lines[0].startswith(
        "* Sweet spots (a metric better than dense while accuracy is not worse by more than 0.01"
    )
    hostile = [dense(), pruned(0.5, pruner="\x1b[31mred\u202e")]
    assert all(line.isprintable() for line in summary_lines(board(hostile), 80))
    assert summary_lines(board([dense()]), 80) == [] and spot_sentences(()) == []
    none = summary_lines(board([dense(), pruned(0.5, KEPT, SAME)]), 300)
    assert none[0].endswith("none of 2 combinations of model, pruner, recipe and metric.")
    open_ = change(-0.001, 0.02, 0.8)
    some = spot_sentences(
        sweet_spots(board([dense(), pruned(0.5, open_), pruned(0.8, WORSE), pruned(0.5, pruner="b")]))
    )
    assert "0.01): 1 of 4 combinations" in some[0] and "; 1 more are better where too few samples show" in some[0]
    assert "No sweet spots can be stated" in summary_lines(board([pruned(0.5, reference="")]), 300)[0]
