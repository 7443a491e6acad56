"""Shards: the parts of a plan for several machines, of about the same cost and with families of cells together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from pruningbench.contract.component import Use
from pruningbench.errors import UsageError
from pruningbench.suite.cells import Cell, trainings_of
from pruningbench.suite.plan import Plan

TRAINING = 10.0
"""Cost of one training, in task runs: a coarse guess, as nothing has been measured yet."""
Family = tuple[str, str]


def family_of(cell: Cell) -> Family:
    """Return the model, and what is pruned and trained for all sparsities of a family."""

    def spell(use: Use) -> str:
        return use.canonical(without="training") if use is cell.recipe else use.canonical()

    return cell.model.canonical(), cell.canonical(spell, without="sparsity")


def shard(plan: Plan, index: int, count: int) -> tuple[Cell, ...]:
    """Return the cells of part `index` of `count` (from 1), in the order of the plan.

    Each task run costs the same, and each training as much as `TRAINING` of them. Families are given, the most
    expensive first, to the part that has the least so far, so that each part gets its share of every model. A family
    that costs more than a whole part is split.

    Raises:
        UsageError: unless 1 <= index <= count.
    """
    if not 1 <= index <= count:
        raise UsageError(f"--shard {index}/{count}: must be I/N with 1 <= I <= N")
    families: dict[Family, list[int]] = {}
    for place, cell in enumerate(plan.cells):
        families.setdefault(family_of(cell), []).append(place)
    whole = sum(_cost(plan, places) for places in families.values())
    pieces = [piece for places in families.values() for piece in _split(plan, places, whole / count)]
    costs = [_cost(plan, piece) for piece in pieces]
    loads, chosen = [0.0] * count, list[int]()
    for number in sorted(range(len(pieces)), key=lambda n: (-costs[n], n)):
        least = loads.index(min(loads))
        loads[least] += costs[number]
        if least == index - 1:
            chosen += pieces[number]
    return tuple(plan.cells[place] for place in sorted(chosen))


def _cost(plan: Plan, places: Sequence[int]) -> float:
    """Return the cost of some cells, in which what they train in common counts once."""
    cells = [plan.cells[place] for place in places]
    trainings = {key for cell in cells for key in trainings_of(cell)}
    return TRAINING * len(trainings) + sum(len(plan.tasks_of(cell)) for cell in cells)


def _split(plan: Plan, places: list[int], most: float) -> list[list[int]]:
    """Divide the cells of a family into as few runs of cells as may cost `most` each."""
    parts = min(len(places), math.ceil(_cost(plan, places) / most)) if most else 1
    bounds = [round(i * len(places) / parts) for i in range(parts + 1)]
    return [places[start:end] for start, end in itertools.pairwise(bounds)]
