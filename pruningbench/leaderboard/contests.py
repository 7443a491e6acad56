"""Contests: mean ranks of pruners for each dimension, with what can be said about them and what cannot.

    for contest in contests(board):
        print(contest.sentence)

A contest compares the pruners of one recipe in one dimension, on one model or on all models.

* *Comparable cells only.* A cell is a column, a sparsity and a seed of a model. Pruners take places (1 = best) in each
  cell among themselves, so only values of the same model, data, sparsity and seed are compared. A collapsed row, or one
  at chance in the task, comes last; equal values share the mean of their places.
* *Coverage.* A contest needs at least three pruned sparsities and two pruners. Sparsities and seeds that fewer than
  half of the pruners have are left out. A pruner that lacks a value in any other cell is unranked, with the reason: no
  mean ever skips a missing cell.
* *Blocks.* A block is a task, a model and a seed: the cells inside share images and networks and are no independent
  evidence. Seeds at which two or more pruners have the very same values are one block. In each block, the pruners are
  ranked by their mean place over its cells; `mean_rank` is the mean of these ranks over the blocks.
* *Ties.* Friedman's test asks whether the pruners differ at all. If it does not reject at .05, or cannot because there
  are too few blocks (fewer than three, or four for two pruners), all of them are tied. Else two pruners are tied unless
  their mean ranks differ by the critical difference of Nemenyi's test or more. The tests take blocks as independent,
  although seeds share the images of a task, and tasks share networks: a difference that they show holds for these data
  and models, and has yet to be seen on others.
* *Interval.* Up to 1000 draws: the seeds are drawn with replacement, and each value is moved by its standard error over
  samples (from its stored interval), each independently. Values on the same images move together in truth, so the
  interval is rather too wide than too narrow. Noise moves ranks towards the middle; the interval is extended to the
  mean rank where it would not contain it. Tasks and models are fixed.

Sources: M. Friedman, The use of ranks to avoid the assumption of normality, JASA 1937; P. Nemenyi, Distribution-free
multiple comparisons, 1963; J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pruningbench.leaderboard.coverage import Grid, cells_of, grid_of
from pruningbench.leaderboard.friedman import critical_difference, friedman, groups_of, smallest_p
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.places import block_ranks, interval_of_ranks
from pruningbench.leaderboard.rows import Board, Column, Row

SPARSITIES = 3
"""Smallest number of pruned sparsities of a contest."""
LEVEL = 0.05
"""Level of Friedman's and Nemenyi's tests."""
ALL_MODELS = ""
"""Stands for all models of a board."""


@dataclass(frozen=True)
class Contestant:
    """A pruner that is ranked.

    Attributes:
        pruner: label.
        mean_rank: mean over blocks of its rank, 1 = best.
        low, high: limits of its 95 % interval.
        places: first and last place that it may have: pruners that it is tied with may come before or after it.
        collapsed: number of its rows (model and sparsity) that have collapsed.
    """

    pruner: str
    mean_rank: float
    low: float
    high: float
    places: tuple[int, int]
    collapsed: int = 0


@dataclass(frozen=True)
class Contest:
    """Pruners of one recipe, ranked in one dimension.

    Attributes:
        model: label; `ALL_MODELS` for all models together.
        recipe, dimension: what is compared.
        contestants: ranked pruners, best first; those of equal mean rank by label.
        unranked: pruners without a rank, and the reason.
        sparsities, seeds, tasks, models: of the compared cells.
        blocks: number of blocks.
        cells: number of cells of each pruner.
        statistic, p: of Friedman's test, corrected for ties; NaN with fewer than two blocks or pruners.
        critical_difference: of Nemenyi's test at the level .05; NaN with fewer than two blocks or pruners.
        groups: pruners that are tied: the largest sets within which no two differ, best first. A pruner may be in
            several.
        sentence: the result in words, with a full stop.
    """

    model: str
    recipe: str
    dimension: str
    contestants: tuple[Contestant, ...]
    unranked: tuple[tuple[str, str], ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    blocks: int
    cells: int
    statistic: float
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    sentence: str = field(default="", compare=False)

    @property
    def testable(self) -> bool:
        """Whether there are enough blocks for Friedman's test to show a difference, if all of them agree."""
        return smallest_p(len(self.contestants), self.blocks) <= LEVEL

    @property
    def decided(self) -> bool:
        """Whether Friedman's test shows that the pruners differ."""
        return self.p <= LEVEL


def contests(board: Board, *, draws: int = 1000) -> tuple[Contest, ...]:
    """Return the contests of a board: for each dimension and recipe, on each model and (if several) on all together.

    Args:
        board: what `pruningbench.leaderboard.build` returned.
        draws: number of draws behind the intervals; fewer for many cells, see `places.interval_of_ranks`. 0 leaves the
            intervals out (NaN).

    Returns:
        In the order of the board's columns, recipes and models; the contest of all models first. Only those with at
        least two pruners and `SPARSITIES` pruned sparsities; `contestants` is empty if fewer than two can be ranked.
    """
    models = list(dict.fromkeys(row.model for row in board.rows))
    dimensions: dict[str, list[Column]] = {}
    for column in board.columns:
        if column.higher_is_better is not None:
            dimensions.setdefault(column.dimension, []).append(column)
    by_recipe: dict[str, dict[str, list[Row]]] = {}
    for row in board.rows:
        if not row.dense:
            by_recipe.setdefault(row.recipe, {}).setdefault(row.model, []).append(row)
    listed = []
    for dimension, columns in dimensions.items():
        for recipe, of_models in by_recipe.items():
            grids = [grid for model in models if (grid := grid_of(of_models.get(model, ()), columns, SPARSITIES))]
            scopes = [(grid.model, [grid]) for grid in grids]
            if len(grids) > 1:
                scopes.insert(0, (ALL_MODELS, grids))
            listed += [_contest(model, recipe, dimension, scope, draws) for model, scope in scopes]
    return tuple(contest for contest in listed if contest.contestants or contest.model)


def _contest(model: str, recipe: str, dimension: str, grids: Sequence[Grid], draws: int) -> Contest:
    entered = list(dict.fromkeys(pruner for grid in grids for pruner in grid.pruners))
    reasons = {pruner: next(filter(None, (grid.missing(pruner) for grid in grids)), "") for pruner in entered}
    ranked = [pruner for pruner in entered if not reasons[pruner]]
    unranked = tuple((pruner, reason) for pruner, reason in reasons.items() if reason)
    contest = Contest(
        model, recipe, dimension, (), unranked,
        sparsities=tuple(sorted({s for grid in grids for s in grid.sparsities})),
        seeds=tuple(sorted({s for grid in grids for s in grid.seeds})),
        tasks=tuple(dict.fromkeys(column.task for grid in grids for column in grid.columns)),
        models=tuple(grid.model for grid in grids),
        blocks=0, cells=0, statistic=math.nan, p=math.nan, critical_difference=math.nan, groups=(),
    )  # fmt: skip
    if len(ranked) > 1:
        contest = _ranked(contest, grids, ranked, draws)
    return replace(contest, sentence=_sentence(contest))


def _ranked(contest: Contest, grids: Sequence[Grid], pruners: Sequence[str], draws: int) -> Contest:
    import numpy as np

    cells = cells_of(grids, pruners)
    ranks = block_ranks(cells.values, cells.blocks)
    means = ranks.mean(axis=0)
    unknown = np.full(len(pruners), math.nan)
    low, high = interval_of_ranks(cells, draws) if draws else (unknown, unknown)
    statistic, p = friedman(ranks)
    critical = critical_difference(len(pruners), len(ranks))
    threshold = critical if p <= LEVEL else math.inf
    order = sorted(range(len(pruners)), key=lambda i: (means[i], pruners[i]))
    ordered = [float(means[i]) for i in order]
    contestants = tuple(
        Contestant(
            pruners[i], float(means[i]), float(min(low[i], means[i])), float(max(high[i], means[i])),
            places=(
                1 + sum(bool(means[i] - other >= threshold) for other in ordered),
                len(ordered) - sum(bool(other - means[i] >= threshold) for other in ordered),
            ),
            collapsed=sum(grid.collapsed.get(pruners[i], 0) for grid in grids),
        )
        for i in order
    )  # fmt: skip
    groups = tuple(tuple(contestants[i].pruner for i in group) for group in groups_of(ordered, threshold))
    return replace(
        contest, contestants=contestants, blocks=len(ranks), cells=len(cells.blocks),
        statistic=statistic, p=p, critical_difference=critical, groups=groups,
    )  # fmt: skip


def _sentence(contest: Contest) -> str:
    """Return one sentence: who is first, or that nobody is shown to be."""
    scope = f"on {elide(contest.model, 34)}" if contest.model else f"on {len(contest.models)} models"
    what = f"{elide(contest.dimension, 34)}, {compact([contest.recipe])[contest.recipe]}, {scope}"
    if not contest.contestants:
        return f"{what}: no ranks, because fewer than two pruners have all cells."
    names = compact(contestant.pruner for contestant in contest.contestants)
    ranks = ", ".join(f"{names[c.pruner]} {_rank(c.mean_rank)}" for c in contest.contestants)
    if not contest.testable:
        few = (
            "one task and seed is" if contest.blocks == 1 else f"{contest.blocks} blocks of tasks, models and seeds are"
        )
        return f"{what}: mean ranks {ranks}; {few} too little to test differences."
    test = f"Friedman p = {p_text(contest.p)} over {contest.blocks} blocks"
    if not contest.decided:
        return f"{what}: no difference shown ({test}; mean ranks {ranks})."
    first = [names[pruner] for pruner in contest.groups[0]]
    lead = f"{first[0]} is first" if len(first) == 1 else f"{', '.join(first[:-1])} and {first[-1]} are tied first"
    return (
        f"{what}: {lead} ({test}; mean ranks {ranks}; less than {_rank(contest.critical_difference)} apart is a tie)."
    )


def p_text(p: float) -> str:
    """Return a p-value with two significant digits, without a zero before the point: ``.034``, ``3.1e-05``."""
    return f"{p:.2g}".removeprefix("0") if p >= 1e-4 else f"{p:.1e}"


def _rank(rank: float) -> str:
    return f"{rank:.3g}"
