"""Curves: each metric against sparsity, one line per pruner and recipe."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from pruningbench.contract.reporting import Drawing, ReportedRun
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.board import build
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.references import as_loaded
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.leaderboard.style import (
    CEILING,
    FAINT,
    INK,
    looks_of_pruners,
    looks_of_recipes,
    new_figure,
    plain_axes,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = TypeVar("Item")

PANEL = (3.1, 2.15)
"""Width and height of a panel in inches, without its labels."""
MOST_MODELS, MOST_METRICS = 4, 6
"""Most models and metrics in one figure; the rest go to further figures."""
LEFT, GAP, TOP, BOTTOM = 0.85, 0.3, 0.75, 0.55
"""Space in inches: for the labels on the left, between panels, above and below them."""

Line = tuple[str, str, list[tuple[float, Entry]]]
"""Pruner, recipe, and (sparsity, value) pairs by ascending sparsity."""


def all_curves(run: ReportedRun) -> Iterator[Drawing]:
    """Draw the curves of all boards of a run."""
    for board in build(run.results):
        for parts, figure in curves(board):
            yield ("curves", *parts), partial(_made, figure)


def _made(figure: Figure) -> Figure:
    return figure


def curves(board: Board) -> Iterator[tuple[tuple[str, ...], Figure]]:
    """Draw a grid of panels for each task and variant: rows are metrics, columns are models.

    The horizontal axis is the share of remaining weights, on a log scale with dense on the left; the
    bands are the 95 % intervals. A horizontal line shows the value that people reach on the same samples, if the
    metric knows it.

    Yields:
        The figure's name in parts (task, and the variant unless ""), and the figure.
    """
    models = list(dict.fromkeys(row.model for row in board.rows))
    for (task, variant), group in groupby(board.columns, key=lambda column: column.key[:2]):
        columns = list(group)
        for metrics in _chunks(columns, MOST_METRICS):
            for chosen in _chunks(models, MOST_MODELS):
                yield (task, variant) if variant else (task,), _figure(board, metrics, chosen)


def curve(boards: Sequence[Board], metric: str) -> Figure:
    """Return the curves of one metric on at most `MOST_MODELS` models.

    Args:
        boards: the first board that has the metric is drawn.
        metric: ``metric``, ``task.metric`` or ``task.variant.metric``.

    Raises:
        UsageError: if no board has it.
    """
    known: dict[str, None] = {}
    for board in boards:
        for column in board.columns:
            task, variant, name = column.key
            names = (name, f"{task}.{name}", ".".join(filter(None, (task, variant, name))))
            known |= dict.fromkeys(names)
            if metric in names:
                models = list(dict.fromkeys(row.model for row in board.rows if column.key in row.cells))
                return _shown(_figure(board, [column], models[:MOST_MODELS]))
    hint = did_you_mean(metric, list(known)) or f"; there are {', '.join(known) or 'none'}"
    raise UsageError(f"no metric {metric!r}{hint}")


def _shown(figure: Figure) -> Figure:
    """Let a figure show itself in a notebook, which it does by itself only if pyplot has made it."""

    def png() -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    figure._repr_png_ = png  # type: ignore[attr-defined]
    return figure


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _figure(board: Board, metrics: Sequence[Column], models: Sequence[str]) -> Figure:
    legend = _Legend(board, metrics)
    width = LEFT + len(models) * (PANEL[0] + GAP) + legend.width
    height = TOP + max(len(metrics) * (PANEL[1] + GAP) - GAP, legend.height) + BOTTOM
    figure = new_figure(width, height)
    for i, column in enumerate(metrics):
        row: list[Axes] = []
        for j, model in enumerate(models):
            box = (
                (LEFT + j * (PANEL[0] + GAP)) / width,
                1 - (TOP + PANEL[1] + i * (PANEL[1] + GAP)) / height,
                PANEL[0] / width,
                PANEL[1] / height,
            )
            axes = figure.add_axes(box, sharey=row[0] if row else None)
            _panel(axes, [r for r in board.rows if r.model == model], column, legend)
            _label(axes, column if j == 0 else None, model if i == 0 else None, bottom=i == len(metrics) - 1)
            row.append(axes)
    name = " · ".join(filter(None, metrics[0].key[:2]))
    title = elide(f"{name}  —  {board.title}", max(20, int((width - 0.3) / text_width("x", 11))))
    figure.text(0.15 / width, 1 - 0.13 / height, title, fontsize=11, fontweight="bold", va="top", color=INK)
    legend.draw(figure, 1 - legend.width / width, 1 - TOP / height)
    return figure


class _Legend:
    """The line styles of a figure, and its only legend, to the right of the panels."""

    def __init__(self, board: Board, metrics: Sequence[Column]) -> None:
        pruned = [row for row in board.rows if not row.dense]
        self.pruners = looks_of_pruners(sorted({row.pruner for row in pruned}))
        # the recipe of the dense model as loaded, which trains nothing, comes first and is drawn solid
        plain = {row.recipe for row in board.rows if row.dense and as_loaded(row.recipe)}
        recipes = {row.recipe for row in pruned}
        self.recipes = looks_of_recipes(sorted(recipes, key=lambda recipe: (recipe not in plain, recipe)))
        self.dense = any(row.dense for row in board.rows)
        self.ceiling = any(math.isfinite(column.ceiling) for column in metrics)
        self._labels = compact([*self.pruners, *self.recipes])
        longest = max((text_width(f"recipe {label}", 8.5) for label in self._labels.values()), default=0.0)
        self.width = 0.75 + max(longest, 0.85)
        self.height = 0.19 * (len(self._labels) + 2 + self.ceiling)

    def draw(self, figure: Figure, left: float, top: float) -> None:
        """Draw the legend with its upper left corner at a point given in fractions of the figure."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles: list[Artist] = [
            Line2D([], [], label=self._labels[pruner], linewidth=1.6, markersize=5, **look)
            for pruner, look in self.pruners.items()
        ]
        handles += [
            Line2D([], [], label=f"recipe {self._labels[recipe]}", linewidth=1.6, color=INK, **look)
            for recipe, look in self.recipes.items()
        ]
        if self.dense:
            handles.append(
                Line2D([], [], label="dense", linewidth=1, color=INK, linestyle=":", marker="o", markersize=4.5)
            )
        if self.ceiling:
            handles.append(Line2D([], [], label="people", **CEILING))
        handles.append(Patch(label="95 % interval", facecolor=FAINT, alpha=0.25, linewidth=0))
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(left, top), fontsize=8.5, frameon=False,
            borderaxespad=0, handlelength=2.4, labelcolor=INK,
        )  # fmt: skip


def _panel(axes: Axes, rows: Sequence[Row], column: Column, legend: _Legend) -> None:
    """Draw the lines of one metric and one model; each starts at the dense model that it is compared with."""
    of_recipe = {row.recipe: row.cells[column.key] for row in rows if row.dense and column.key in row.cells}
    starts = {row.recipe: of_recipe.get(row.reference) for row in rows if not row.dense}
    dense = next((of_recipe[recipe] for recipe in sorted(of_recipe, key=lambda name: not as_loaded(name))), None)
    for pruner, recipe, points in _lines(rows, column):
        look = {**legend.pruners[pruner], **legend.recipes[recipe]}
        x = [1 - sparsity for sparsity, _ in points]
        low, high = [_finite(entry.low) for _, entry in points], [_finite(entry.high) for _, entry in points]
        if len(points) > 1:
            axes.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)
        else:
            axes.vlines(x, low, high, color=look["color"], linewidth=1.2, alpha=0.6)
        own = starts[recipe]
        start = [own] if own else []
        values = [_finite(entry.value) for entry in (*start, *(entry for _, entry in points))]
        axes.plot(
            [1.0] * len(start) + x, values, linewidth=1.4, markersize=4, markeredgewidth=0.4,
            markeredgecolor="white", **look,
        )  # fmt: skip
    if dense and math.isfinite(dense.value):
        axes.axhline(dense.value, color=INK, linewidth=0.9, linestyle=":", zorder=1.5)
        axes.vlines([1.0], _finite(dense.low), _finite(dense.high), color=INK, linewidth=1.2, zorder=3)
        axes.plot([1.0], [dense.value], color=INK, marker="o", markersize=4.5, zorder=3)
    if math.isfinite(column.ceiling):
        axes.axhline(column.ceiling, zorder=1.4, **CEILING)
    sparsities = {row.sparsity for row in rows if column.key in row.cells}
    _density_axis(axes, sorted(sparsities))
    plain_axes(axes)


def _finite(value: float) -> float:
    """Replace infinity by NaN, which leaves a gap in the line."""
    return value if math.isfinite(value) else math.nan


def _lines(rows: Sequence[Row], column: Column) -> list[Line]:
    lines: dict[tuple[str, str], list[tuple[float, Entry]]] = {}
    for row in rows:  # by ascending sparsity
        if not row.dense and column.key in row.cells:
            lines.setdefault((row.pruner, row.recipe), []).append((row.sparsity, row.cells[column.key]))
    return [(*key, points) for key, points in sorted(lines.items())]


def _density_axis(axes: Axes, sparsities: Sequence[float]) -> None:
    """Give the horizontal axis a log scale of remaining weights, dense on the left, with ticks in % sparsity."""
    from matplotlib.ticker import NullLocator

    if sparsities:  # before the log scale, which warns about limits around a single point
        axes.set_xlim(1 - sparsities[0] / 2, (1 - sparsities[-1]) / 2)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if not sparsities:
        return
    ends = math.log(1 - sparsities[0]), math.log(1 - sparsities[-1])
    span = max(ends[0] - ends[1], 0.1)
    margin = max(0.05 * span, 0.05)  # a single sparsity needs room as well
    axes.set_xlim(math.exp(ends[0] + margin), math.exp(ends[1] - margin))
    shown: list[float] = []
    for sparsity in reversed(sparsities):  # if two ticks are too close, the sparser one stays
        place = math.log(1 - sparsity)
        if not shown or place - math.log(1 - shown[-1]) > 0.075 * span:
            shown.append(sparsity)
    axes.set_xticks([1 - s for s in shown], [f"{100 * s:.6g}" for s in shown])


def _label(axes: Axes, column: Column | None, model: str | None, *, bottom: bool) -> None:
    """Label the metric on the left, the model above and the sparsity below; inner panels have no labels."""
    if column:
        unit = f" ({column.unit})" if column.unit else ""
        name = elide(f"{column.metric}{unit}", 34)
        axes.set_ylabel(f"{name} {column.arrow}".strip(), fontsize=9, color=INK)
    else:
        axes.tick_params(labelleft=False)
    if model:
        axes.set_title(elide(model, 42), fontsize=9.5, color=INK, loc="left")
    if bottom:
        axes.set_xlabel("sparsity (%)", fontsize=9, color=INK)
    else:
        axes.tick_params(labelbottom=False)
