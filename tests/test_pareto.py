"""Pareto fronts: against comparing all pairs, with ties, gaps and collapsed rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kit.findings import ACCURACY, COLUMNS, SHARPNESS, board, column, dense, row

from pruningbench.leaderboard.pareto import non_dominated, pareto_fronts

few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few values, so that ties are common


def dominated(mine: tuple[float, ...], others: list[tuple[float, ...]]) -> bool:
    return any(
        all(o >= m for o, m in zip(other, mine, strict=True)) and any(o > m for o, m in zip(other, mine, strict=True))
        for other in others
    )


@given(st.lists(st.tuples(few, few, few), max_size=25))
def test_front_is_what_comparing_all_pairs_gives(points: list[tuple[float, ...]]) -> None:
    flags = non_dominated(np.array(points, dtype=np.float64).reshape(-1, 3))
    assert flags.tolist() == [not dominated(point, points) for point in points]


@given(st.lists(st.tuples(few, few, few, st.booleans(), st.booleans()), min_size=1, max_size=12), st.booleans())
def test_front_of_a_board(drawn: list[tuple[float, float, float, bool, bool]], up: bool) -> None:
    columns = (COLUMNS[0], replace(COLUMNS[1], higher_is_better=up))
    rows, kept = [], []
    for i, (sparsity, accuracy, value, collapsed, undefined) in enumerate(drawn):
        value = math.nan if undefined else value
        own = row((1 + sparsity) / 4, {ACCURACY: accuracy, SHARPNESS: value}, pruner=f"p{i}", collapsed=collapsed)
        rows.append(own)
        if not (collapsed or undefined):
            kept.append((f"p{i}", (own.sparsity, accuracy, value if up else -value)))
    fronts = {front.column: front for front in pareto_fronts(board(rows, columns))}
    expected = {name for name, point in kept if not dominated(point, [other for _, other in kept])}
    if not kept:
        assert SHARPNESS not in fronts
        return
    front = fronts[SHARPNESS]
    assert {point.pruner for point in front.points} == expected
    assert (front.compared, front.excluded) == (len(kept), len(rows) - len(kept))
    assert [point.sparsity for point in front.points] == sorted(point.sparsity for point in front.points)


def test_equal_rows_are_all_on_the_front_and_weights_decide_nothing() -> None:
    same = {ACCURACY: 0.9, SHARPNESS: 0.5}
    rows = [row(0.5, same, pruner="a"), replace(row(0.5, same, pruner="b"), sparsity_achieved=0.50004)]
    for front in pareto_fronts(board(rows)):
        assert [point.pruner for point in front.points] == ["a", "b"]
    # a pruner that prunes less than it should is compared at what it achieves
    less = [row(0.5, same, pruner="a"), replace(row(0.6, same, pruner="b"), sparsity_achieved=0.4)]
    for front in pareto_fronts(board(less)):
        assert [point.pruner for point in front.points] == ["a"]


def test_one_front_for_each_accuracy_and_main_metric() -> None:
    second, side = ("recognising", "", "hits"), ("looking", "", "spread")
    columns = (*COLUMNS, column(second, "accuracy"), column(side, "sharpness", main=False))
    values = {ACCURACY: 0.9, SHARPNESS: 0.5, second: 0.7, side: 0.2}
    found = board([dense(values=values), row(0.5, values)], columns)
    pairs = {(front.accuracy, front.column) for front in pareto_fronts(found)}
    assert pairs == {(ACCURACY, ACCURACY), (second, second), (ACCURACY, SHARPNESS), (second, SHARPNESS)}
    asked = pareto_fronts(found, [side])
    assert {(front.accuracy, front.column) for front in asked} == {(ACCURACY, side), (second, side)}
    assert {front.dimension for front in asked} == {"sharpness"}
    # without losses, only the sparser of two equal rows remains; a dense model may be on the front
    assert {len(front.points) for front in asked} == {1}
    assert pareto_fronts(board([row(0.5, {SHARPNESS: 0.5})], COLUMNS[1:])) == ()


def test_a_row_at_chance_in_the_task_is_left_out() -> None:
    values = {ACCURACY: 0.9, SHARPNESS: 0.5}
    blind = row(0.9, values, at_chance=(SHARPNESS,))
    fronts = {front.column: front for front in pareto_fronts(board([row(0.5, values), blind]))}
    assert [point.sparsity for point in fronts[SHARPNESS].points] == [0.5]
    assert [point.sparsity for point in fronts[ACCURACY].points] == [0.9]
