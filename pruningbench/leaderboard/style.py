"""The look of figures: colours, line styles, markers and sizes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
PRINT_DPI = 2 * DPI
"""Pixels of pictures per inch: as many as printing needs, and twice as many as a PNG has."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
"""Colours that colour-blind readers can tell apart: M. Okabe and K. Ito, Color Universal Design, 2008."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
"""Line styles that stay distinct at a width of 1.5 points."""
INK, FAINT = "#222222", "#777777"
CEILING: dict[str, Any] = {"color": "#8C510A", "linewidth": 1.3, "linestyle": (0, (6, 2))}
"""Style of the line at the value that people reach."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches, independent of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def looks_of_pruners(pruners: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the colour and marker of each pruner; they are all different for up to 70 pruners."""
    return {
        pruner: {"color": colour, "marker": mark}
        for pruner, colour, mark in zip(pruners, cycle(COLOURS), cycle(MARKS), strict=False)
    }


def looks_of_recipes(recipes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the line style of each recipe."""
    return {recipe: {"linestyle": dash} for recipe, dash in zip(recipes, cycle(DASHES), strict=False)}


def plain_axes(axes: Axes) -> None:
    """Keep only the sides of the frame that carry numbers, and draw a faint grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(True, color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK)


def text_width(text: str, size: float) -> float:
    """Return the approximate width in inches of a text of `size` points."""
    return 0.6 * size / 72 * len(text)
