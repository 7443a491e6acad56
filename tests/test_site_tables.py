"""Tables of values against sparsity: which value stands where, with which marks."""

from __future__ import annotations

import math
import re
from html import unescape

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.site import tables
from pruningbench.site.links import page_of
from pruningbench.site.tables import LABELS, column_heading, column_words, lines_of, main_columns, value_table

ACCURACY = Column("sorting", "", "accuracy", "accuracy", True, "fraction", (0.1, 0.9), "d1")
LOSS = Column("sorting", "", "loss", "loss", False, "nats", (0.1, 0.9), "d1")
GINI = Column("looking", "grad", "gini", "grad gini", None, "", (0.1, 0.9), "d2")


def entry(value: float, half: float = 0.01) -> Entry:
    return Entry(value, value - half, value + half, 100, 2)


def row(pruner: str, recipe: str, sparsity: float, value: float, **fields: object) -> Row:
    cells = {ACCURACY.key: entry(value), LOSS.key: entry(1 - value)}
    return Row("net", pruner, recipe, sparsity, sparsity, (0, 1), None, **{"cells": cells, **fields})  # type: ignore[arg-type]


def board(*rows: Row) -> Board:
    return Board("b", ("s",), (ACCURACY, LOSS, GINI), rows, (), ())


def cells_of(html: str) -> list[list[str]]:
    """Return the text of each cell, row by row."""
    lines = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [
        [" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", line)]
        for line in lines
    ]


REFERENCE = (row("dense", "none", 0.0, 0.9), row("dense", "tune", 0.0, 0.8))


def test_values_stand_under_their_sparsity_beside_the_reference_of_their_recipe() -> None:
    lines = lines_of(board(
        *REFERENCE,
        row("a", "tune", 0.5, 0.7, reference="tune", verdicts={ACCURACY.key: "worse", LOSS.key: "better"}),
        row("a", "tune", 0.9, math.nan, reference="tune"),
        row("b", "none", 0.9, 0.25, reference="none", collapsed=True),
    ))  # fmt: skip
    table = value_table(ACCURACY, lines.of("model", "net"), ("pruner", "recipe"), caption="c")
    assert table is not None
    assert cells_of(table) == [
        ["pruner", "recipe", "dense", "50 %", "90 %"],
        ["a", "tune", ".800 ±.010", ".700 ±.010 ▼", "undefined"],
        ["b", "none", ".900 ±.010", "–", ".250 ±.010 †"],
    ]
    assert table.count("number collapsed") == 1 and "95 % interval 0.69 to 0.71; 2 seeds, 100 samples" in table
    loss = value_table(LOSS, lines.of("model", "net"), ("pruner",), caption="c")
    assert loss is not None and cells_of(loss)[1] == ["a", ".200 ±.010", ".300 ±.010 ▲", "undefined"]
    assert value_table(GINI, lines.pruned, LABELS, caption="c") is None


def test_dense_rows_stand_alone_where_nothing_was_pruned() -> None:
    lines = lines_of(board(*REFERENCE, row("a", "tune", 0.5, 0.7, reference="tune")))
    assert [(one.pruner, one.recipe) for one in lines.of("pruner", "dense")] == [("dense", "none"), ("dense", "tune")]
    assert [one.pruner for one in lines.of("model", "net")] == ["a"]
    alone = lines_of(board(*REFERENCE))
    assert [one.recipe for one in alone.of("model", "net")] == ["none", "tune"]
    assert lines.of("recipe", "unknown") == []


def test_a_missing_reference_is_not_replaced_by_another() -> None:
    lines = lines_of(board(REFERENCE[0], row("a", "tune", 0.5, 0.7)))
    table = value_table(ACCURACY, lines.pruned, LABELS, caption="c")
    assert table is not None
    assert cells_of(table) == [["model", "pruner", "recipe", "50 %"], ["net", "a", "tune", ".700 ±.010"]]


def test_long_tables_are_cut_and_say_so() -> None:
    many = [row(f"p{i:03}", "none", 0.5, 0.5, reference="none") for i in range(tables.LINES + 2)]
    fine = [row("p000", "none", i / 100, 0.5, reference="none") for i in range(51, 70)]
    table = value_table(ACCURACY, lines_of(board(*REFERENCE, *many, *fine)).pruned, LABELS, caption="c")
    assert table is not None
    shown = cells_of(table)
    assert len(shown) == 1 + tables.LINES and len(shown[0]) <= 3 + tables.SPARSITIES + 1
    assert shown[0][-1] == "69 %"  # the largest sparsity is always there
    assert f"2 of {tables.LINES + 2} lines are left out" in table and "sparsities are left out" in table


def test_headings_say_direction_and_unit_and_lead_to_the_curves() -> None:
    assert column_words(ACCURACY) == "sorting · accuracy (fraction, higher is better)"
    assert column_words(GINI) == "looking · grad · gini (no direction is better)"
    assert main_columns([ACCURACY, LOSS, GINI]) == [ACCURACY, GINI]
    lines = lines_of(board(*REFERENCE), place=2)
    heading = "".join(str(part) for part in column_heading(lines, GINI, model="a&b"))
    assert 'href="../curves.html#board=2&amp;model=a%26b&amp;metric=grad+gini"' in heading
    assert page_of("metric", "gini") in heading
