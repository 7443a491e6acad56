"""The data of the heat map: what each pruner keeps of each ability, and which pruner is best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pruningbench.base.text import displayable
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.rows import Board, ColumnKey, Row
from pruningbench.site.answers import (
    Kept,
    Line,
    common_reference,
    kept,
    level,
    lines_of,
    main_metrics,
    references,
    scale_of,
)
from pruningbench.site.boards import names_data
from pruningbench.site.contenders import Contenders
from pruningbench.site.data import Names, data_file, plain
from pruningbench.site.files import File
from pruningbench.site.source import Source

ALL = "all"
"""The contest among the rows of all recipes."""
COLLAPSED, CHANCE = 1, 2
"""Bits of the flags of a cell."""


def answer_files(source: Source) -> Iterator[File]:
    """Yield ``answers-N.js`` for each board."""
    pairs = Pairs(source.runs)
    for place, board in enumerate(source.boards):
        contenders = Contenders(board, source.results, pairs, main_metrics(board.columns))
        yield data_file(f"answers-{place}", answers(board, contenders))


def answers(board: Board, contenders: Contenders) -> dict[str, Any]:
    """Return the answers of a board as JSON values.

    ::

        {"names": {"model", "pruner", "recipe": see `boards.board_data`},
         "models": [{"model": place, "sparsities": [number],
                     "options": [{"pruner", "recipe": place}],
                     "lines": [{"name": str, "parent": place | -1, "columns": [place in the board]}],
                     "cells": [[[cell | null, one for each option], for each line], for each sparsity],
                     "best": [[{contest: {"option": place, "equal": [place], "of": int}}, for each line], for each sparsity]}]}

    A cell is ``[value, low, high, better, worse, metrics, flags, row]``. A contest is ``all`` or a place of a recipe.
    ``equal`` are the options that are not significantly behind the best one, out of ``of`` others that take part.
    """
    names = {kind: Names() for kind in ("model", "pruner", "recipe")}
    lines = lines_of(board)
    places = {column.key: i for i, column in enumerate(board.columns)}
    models = dict.fromkeys(row.model for row in board.rows)
    made = [_model(board, model, lines, places, names, contenders) for model in models]
    return {
        "names": {kind: names_data(kind, listed.texts) for kind, listed in names.items()},  # type: ignore[arg-type]
        "models": [one for one in made if one["options"]],
    }


def _model(
    board: Board,
    model: str,
    lines: Sequence[Line],
    places: Mapping[ColumnKey, int],
    names: dict[str, Names],
    contenders: Contenders,
) -> dict[str, Any]:
    pruned = [(i, row) for i, row in enumerate(board.rows) if row.model == model and not row.dense]
    sparsities = sorted({row.sparsity for _, row in pruned})
    options = sorted({(row.recipe, row.pruner) for _, row in pruned})
    dense, common = references(board), common_reference(board, model)
    rows = {(row.sparsity, row.recipe, row.pruner): (i, row) for i, row in pruned}
    cells, best = [], []
    for sparsity in sparsities:
        there = [rows.get((sparsity, *option)) for option in options]
        own = [[_kept(found, line, dense, model) for found in there] for line in lines]
        cells.append([[_cell(found, share) for found, share in zip(there, line, strict=True)] for line in own])
        best.append(
            [_contests(there, line, shares, common, names, contenders) for line, shares in zip(lines, own, strict=True)]
        )
    return {
        "model": names["model"].place(model),
        "sparsities": sparsities,
        "options": [
            {"pruner": names["pruner"].place(pruner), "recipe": names["recipe"].place(recipe)}
            for recipe, pruner in options
        ],
        "lines": [_line(line, places) for line in lines],
        "cells": cells,
        "best": best,
    }  # fmt: skip


Found = tuple[int, Row] | None


def _line(line: Line, places: Mapping[ColumnKey, int]) -> dict[str, Any]:
    first = line.columns[0]
    return {
        "name": displayable(line.name or " ".join((first.variant or first.task, first.metric))),
        "parent": line.parent,
        "columns": [places[column.key] for column in line.columns],
    }


def _kept(found: Found, line: Line, dense: dict[tuple[str, str], Row], model: str) -> Kept | None:
    return None if found is None else kept(found[1], line, dense.get((model, found[1].reference)))


def _cell(found: Found, share: Kept | None) -> list[Any] | None:
    if found is None or share is None:
        return None
    place, row = found
    flags = COLLAPSED * row.collapsed | CHANCE * share.chance
    return [
        plain(share.value, 4), plain(share.low, 4), plain(share.high, 4),
        share.better, share.worse, share.metrics, flags, place,
    ]  # fmt: skip


def _contests(
    there: Sequence[Found],
    line: Line,
    shares: Sequence[Kept | None],
    common: Row | None,
    names: dict[str, Names],
    contenders: Contenders,
) -> dict[str, Any]:
    """Return the winner of each contest; a row that collapsed or is at chance takes part in none."""
    able = []
    for i, (found, share) in enumerate(zip(there, shares, strict=True)):
        if found is None or share is None or found[1].collapsed or share.chance:
            continue
        own = level(found[1], line, common)
        if not math.isnan(own):
            able.append((i, found[1], own))
    contests = {ALL: able}
    for recipe in dict.fromkeys(row.recipe for _, row, _ in able):
        contests[str(names["recipe"].place(recipe))] = [one for one in able if one[1].recipe == recipe]
    return {name: _winner(rivals, line, common, contenders) for name, rivals in contests.items() if rivals and common}


def _winner(
    rivals: Sequence[tuple[int, Row, float]], line: Line, common: Row | None, contenders: Contenders
) -> dict[str, Any]:
    place, best, _ = max(rivals, key=lambda one: one[2])
    others = [one for one in rivals if one[0] != place]
    scales = {column.key: scale_of(column, common) for column in line.columns if common}
    equal = contenders.not_behind(best, [row for _, row, _ in others], line, scales)
    return {"option": place, "equal": [others[i][0] for i in equal], "of": len(others)}
