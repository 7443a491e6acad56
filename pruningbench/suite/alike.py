"""Cells that differ only in sparsity and seed, and the work that the cells of a plan share.

A large plan has a hundred thousand cells of a few dozen such groups, so what a group has in common is found once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pruningbench.contract.pruner import ScorePruner
from pruningbench.suite.cells import Cell, pruned_as, pruner_of, recipe_of, scored_as, trainings_in_common

Alike = Sequence[Cell]
"""Cells that differ only in sparsity and seed; at least one."""


def alike(cells: Iterable[Cell]) -> tuple[Alike, ...]:
    """Divide cells into groups that differ only in sparsity and seed; groups and cells keep their order.

    Components are told apart as objects, so two that are equal may be in two groups.
    """
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        components = id(cell.model), id(cell.pruner), id(cell.recipe), id(cell.scope), id(cell.data)
        key = (*components, cell.batch_size, cell.limit, cell.rounds, cell.precision)
        groups.setdefault(key, []).append(cell)
    return tuple(groups.values())


def shared_work(groups: Sequence[Alike]) -> dict[str, int]:
    """Count how often each kind of work is done, and how many cells it serves.

    Args:
        groups: the cells of a plan, as `alike` returns them.
    """
    pruned = [cells for cells in groups if cells[0].pruner is not None]
    at_once = [cells for cells in pruned if recipe_of(cells[0]).prunes_dense()]
    scored = [cells for cells in at_once if isinstance(pruner_of(cells[0]), ScorePruner)]
    return {
        "model_loads": len({cells[0].model.canonical() for cells in groups}),
        "scoring_passes": len({scored_as(cell) for cells in scored for cell in _one_per_seed(cells).values()}),
        "scored_once": sum(map(len, scored)),
        "prunings": _prunings(at_once),
        "pruned_once": sum(map(len, at_once)),
        "trainings": count_trainings(groups),
        "trained": sum(len(cells) for cells in groups if cells[0].trained),
        "cells": sum(map(len, groups)),
    }


def count_trainings(groups: Iterable[Alike]) -> int:
    """Count the different trainings (`pruningbench.suite.cells.trainings_of`) of some groups of cells."""
    numbers: dict[tuple[str, ...], int] = {}
    done = set[tuple[int, int]]()
    for cells in groups:
        of_sparsity: dict[float, list[int]] = {}
        for cell in cells:
            if cell.sparsity not in of_sparsity:
                keys = trainings_in_common(cell)
                of_sparsity[cell.sparsity] = [numbers.setdefault(key, len(numbers)) for key in keys]
            for number in of_sparsity[cell.sparsity]:
                done.add((number, cell.seed))
    return len(done)


def _prunings(groups: Iterable[Alike]) -> int:
    """Count the different masks of dense models: those of other scores, pruners or sparsities."""
    numbers: dict[tuple[str, ...], int] = {}
    masks = set[tuple[int, float]]()
    for cells in groups:
        of_seed = {
            seed: numbers.setdefault(pruned_as(cell), len(numbers)) for seed, cell in _one_per_seed(cells).items()
        }
        masks |= {(of_seed[cell.seed], cell.sparsity) for cell in cells}
    return len(masks)


def _one_per_seed(cells: Alike) -> dict[int, Cell]:
    return {cell.seed: cell for cell in cells}
