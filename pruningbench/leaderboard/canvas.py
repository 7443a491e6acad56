"""A canvas: pictures, boxes and text at given positions in one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruningbench.leaderboard.style import DPI, INK, PRINT_DPI, new_figure

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FOUND, TRUE = "#FF8C1A", "#FFFFFF"
"""Colours of found and true boxes."""


class Canvas:
    """A figure on which pictures and text are placed, in inches from its upper left corner.

    Args:
        width, height: size of the figure.
        tile: side of the square for one picture.

    Attributes:
        side: side of that square in pixels of pictures.
    """

    def __init__(self, width: float, height: float, tile: float) -> None:
        import numpy as np

        self.side = round(tile * PRINT_DPI)
        # whole pixels of a PNG, so that those of pictures fit into them
        height, width = round(height * DPI) / DPI, round(width * DPI) / DPI
        self._pixels = np.full((round(height * PRINT_DPI), round(width * PRINT_DPI), 3), 255, np.uint8)
        self._figure = new_figure(width, height)
        self._axes = self._figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[])
        self._corners = (0, width, height, 0)
        self._boxes: dict[str, list[list[tuple[float, float]]]] = {FOUND: [], TRUE: []}

    def picture(self, left: float, top: float, tile: NDArray[np.float64] | float) -> tuple[float, float]:
        """Paint a tile in the middle of a square, or fill the square with a grey level; return the corner in inches."""
        x, y = round(left * PRINT_DPI), round(top * PRINT_DPI)
        if isinstance(tile, float):
            self._pixels[y : y + self.side, x : x + self.side] = round(tile * 255)
            return left, top
        height, width = tile.shape[:2]
        y, x = y + (self.side - height) // 2, x + (self.side - width) // 2
        self._pixels[y : y + height, x : x + width] = (tile * 255).round()
        return x / PRINT_DPI, y / PRINT_DPI

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Write text at a point."""
        self._axes.text(x, y, text, fontsize=size, **{"color": INK, "parse_math": False, **style})

    def box(self, colour: str, corners: tuple[float, float, float, float]) -> None:
        """Outline a box given by xmin, ymin, xmax, ymax in inches."""
        x0, y0, x1, y1 = corners
        self._boxes[colour].append([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])

    def finish(self) -> Figure:
        """Return the figure."""
        from matplotlib.collections import LineCollection

        self._axes.imshow(self._pixels, extent=self._corners, aspect="auto", zorder=-1)
        # a solid line of a box is closed by the square end at the corner where it begins
        for colour, dash, end in ((TRUE, (0, (2.2, 1.2)), "butt"), (FOUND, "solid", "projecting")):
            lines = self._boxes[colour]
            under = {"colors": "black", "linewidths": 2.6, "alpha": 0.75, "capstyle": "projecting"}
            over = {"colors": colour, "linewidths": 1.4, "linestyles": [dash], "capstyle": end}
            for look in (under, over):
                self._axes.add_collection(LineCollection(lines, **look))  # type: ignore[arg-type]
        return self._figure


def spread(sparsities: list[float], most: int) -> list[float]:
    """Choose at most `most` evenly spaced values, including the first and the last."""
    if len(sparsities) <= most:
        return sparsities
    return [sparsities[round(i * (len(sparsities) - 1) / (most - 1))] for i in range(most)]
