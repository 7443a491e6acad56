"""The data of the heat map: what each pruner keeps of each ability, and which pruner is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pruningbench.base.text import displayable
from pruningbench.contract.findings import SweetSpot
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
from pruningbench.site.links import PageKind
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
        yield data_file(f"answers-{place}", answers(board, contenders, source.spots[place]))


def answers(board: Board, contenders: Contenders, spots: Iterable[SweetSpot]) -> dict[str, Any]:
    """Return the answers of a board as JSON values.

    ::

        {"names": {"model", "pruner", "recipe": see `boards.board_data`},
         "models": [{"model": place, "sparsities": [number],
                     "options": [{"pruner", "recipe": place}],
                     "lines": [{"name": str, "parent": place | -1, "columns": [place in the board]}],
                     "cells": [[[cell | null, one for each option], for each line], for each sparsity],
                     "kept": [[[kept up to, shown up to, lost at | null, [sweet sparsities]] | null, for each option],
                              for each line] (null for lines of several metrics),
                     "best": [[{contest: {"option": place, "equal": [place], "of": int}}, for each line], ...]}]}

    A cell is ``[value, low, high, better, worse, metrics, flags, row]``. A contest is ``all`` or a place of a recipe.
    ``equal`` are the options that are not significantly behind the best one, out of ``of`` others that take part.
    """
    answering = _Answering(board, contenders, spots)
    made = [answering.of(model) for model in dict.fromkeys(row.model for row in board.rows)]
    names = {kind: names_data(kind, listed.texts) for kind, listed in answering.names.items()}
    return {"names": names, "models": [one for one in made if one["options"]]}


Found = tuple[int, Row] | None
"""Place of a row on its board, and the row; None if nothing was measured."""


class _Answering:
    """Makes the answers of each model of a board."""

    def __init__(self, board: Board, contenders: Contenders, spots: Iterable[SweetSpot]) -> None:
        self.names: dict[PageKind, Names] = {kind: Names() for kind in ("model", "pruner", "recipe")}
        self._board = board
        self._contenders = contenders
        self._dense = references(board)
        self._places = {column.key: i for i, column in enumerate(board.columns)}
        self._spots = {(spot.model, spot.pruner, spot.recipe, spot.key): spot for spot in spots}
        self._rows: dict[str, list[tuple[int, Row]]] = {}
        for i, row in enumerate(board.rows):
            if not row.dense:
                self._rows.setdefault(row.model, []).append((i, row))

    def of(self, model: str) -> dict[str, Any]:
        """Return the answers of a model."""
        pruned = self._rows.get(model, [])
        lines = lines_of(self._board, model)
        sparsities = sorted({row.sparsity for _, row in pruned})
        options = sorted({(row.recipe, row.pruner) for _, row in pruned})
        common = common_reference(self._dense, model)
        rows = {(row.sparsity, row.recipe, row.pruner): (i, row) for i, row in pruned}
        cells, best = [], []
        for sparsity in sparsities:
            there = [rows.get((sparsity, *option)) for option in options]
            own = [[self._kept(found, line, model) for found in there] for line in lines]
            cells.append([[_cell(found, share) for found, share in zip(there, line, strict=True)] for line in own])
            best.append([self._contests(there, *both, common) for both in zip(lines, own, strict=True)])
        return {
            "model": self.names["model"].place(model),
            "sparsities": sparsities,
            "options": [
                {"pruner": self.names["pruner"].place(pruner), "recipe": self.names["recipe"].place(recipe)}
                for recipe, pruner in options
            ],
            "lines": [_line(line, self._places) for line in lines],
            "cells": cells,
            "kept": [[self._reach(model, *option, line) for option in options] for line in lines],
            "best": best,
        }

    def _kept(self, found: Found, line: Line, model: str) -> Kept | None:
        return None if found is None else kept(found[1], line, self._dense.get((model, found[1].reference)))

    def _reach(self, model: str, recipe: str, pruner: str, line: Line) -> list[Any] | None:
        """Return up to which sparsity a metric is kept, shown to be kept, and lost, and its sweet spots."""
        if len(line.columns) > 1:
            return None
        spot = self._spots.get((model, pruner, recipe, line.columns[0].key))
        if spot is None or math.isnan(spot.kept_up_to):
            return None
        return [spot.kept_up_to, spot.shown_up_to, plain(spot.lost_at), list(spot.sparsities)]

    def _contests(
        self, there: Sequence[Found], line: Line, shares: Sequence[Kept | None], common: Row | None
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
            contests[str(self.names["recipe"].place(recipe))] = [one for one in able if one[1].recipe == recipe]
        return {
            name: _winner(rivals, line, common, self._contenders)
            for name, rivals in contests.items()
            if rivals and common
        }


def _line(line: Line, places: Mapping[ColumnKey, int]) -> dict[str, Any]:
    first = line.columns[0]
    return {
        "name": displayable(line.name or " ".join((first.variant or first.task, first.metric))),
        "parent": line.parent,
        "columns": [places[column.key] for column in line.columns],
    }


def _cell(found: Found, share: Kept | None) -> list[Any] | None:
    if found is None or share is None:
        return None
    place, row = found
    flags = COLLAPSED * row.collapsed | CHANCE * share.chance
    return [
        plain(share.value, 4), plain(share.low, 4), plain(share.high, 4),
        share.better, share.worse, share.metrics, flags, place,
    ]  # fmt: skip


def _winner(
    rivals: Sequence[tuple[int, Row, float]], line: Line, common: Row | None, contenders: Contenders
) -> dict[str, Any]:
    place, best, _ = max(rivals, key=lambda one: one[2])
    others = [one for one in rivals if one[0] != place]
    scales = {column.key: scale_of(column, common) for column in line.columns if common}
    equal = contenders.not_behind(best, [row for _, row, _ in others], line, scales)
    return {"option": place, "equal": [others[i][0] for i in equal], "of": len(others)}
