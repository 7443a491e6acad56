"""Aligned lines from fields of a table, by the width that a terminal gives each character."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from pruningbench.base.text import displayable
from pruningbench.leaderboard.labels import elide, wrap
from pruningbench.leaderboard.rows import Column

BAR = "|"
"""Stands between tasks."""
Span = tuple[int, int]
"""First column of the terminal, and the one behind the last."""


@dataclass(frozen=True)
class Field:
    """A column of the printed table.

    Attributes:
        header: its header lines, safe to display.
        cells: one for each row.
        align: ``left`` or ``right``.
        column: the metric that it shows; None for others.
    """

    header: list[str]
    cells: list[str]
    align: str
    column: Column | None = None

    @cached_property
    def width(self) -> int:
        """Width in columns of the terminal."""
        return max([1, *map(width_of, self.header), widest(self.cells)])

    @property
    def bar(self) -> bool:
        """Whether the field is a bar between others."""
        return bool(self.cells) and self.cells[0] == BAR


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: 2 for wide characters, 0 for combining ones."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def widest(texts: Iterable[str]) -> int:
    """Return the largest width of some texts; 0 if there are none."""
    return max(map(width_of, set(texts)), default=0)


def cut_to(text: str, width: int) -> str:
    """Return a text without the last characters that do not fit into a width."""
    if width_of(text) <= width:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, width).rstrip()


def total(fields: Sequence[Field]) -> int:
    """Return the width of a table of these fields."""
    return sum(field.width for field in fields) + len(fields) - 1


def spans_of(fields: Sequence[Field]) -> list[Span]:
    """Return where each field starts and ends."""
    spans, start = [], 0
    for field in fields:
        spans.append((start, start + field.width))
        start += field.width + 1
    return spans


def row_lines(fields: Sequence[Field]) -> list[str]:
    """Return one aligned line for each row, without blanks at the end."""
    padded = [[_padded(cell, field.width, field.align) for cell in field.cells] for field in fields]
    return [" ".join(cells).rstrip() for cells in zip(*padded, strict=True)]


def header_lines(fields: Sequence[Field]) -> list[str]:
    """Return the header: task and variant across their columns, then each metric, with its arrow last."""
    spans = spans_of(fields)
    height = max(len(field.header) for field in fields)
    lines: list[list[tuple[int, str]]] = [[] for _ in range(height)]
    for field, (start, end) in zip(fields, spans, strict=True):
        pieces = [BAR] * height if field.bar else field.header
        for line, piece in zip(lines[height - len(pieces) :], pieces, strict=True):
            line.append((start if field.align == "left" else end - width_of(piece), piece))
    across = [*_across(fields, spans, 1), *_across(fields, spans, 2)]
    placed = [*across, *map(_placed, lines)]
    return [line for line in placed if line.strip(f" {BAR}")]


def _across(fields: Sequence[Field], spans: Sequence[Span], depth: int) -> list[str]:
    """Return three lines with the names of tasks (depth 1) or variants (depth 2) above their columns."""
    lines: list[list[tuple[int, str]]] = [[] for _ in range(3)]
    shown = [(field.column, span) for field, span in zip(fields, spans, strict=True) if field.column]
    covered: set[int] = set()
    for key, group in groupby(shown, key=lambda pair: pair[0].key[:depth]):
        where = [span for _, span in group]
        start, width = where[0][0], where[-1][1] - where[0][0]
        covered.update(range(start, start + width))
        pieces = [cut_to(piece, width) for piece in wrap(elide(key[-1], 3 * width + 3), width)]
        for line, piece in zip(lines[len(lines) - len(pieces) :], pieces, strict=True):
            room = width - width_of(piece)
            line.append((start + room // 2 + (room & width & 1), piece))
    bars = [(start, BAR) for field, (start, _) in zip(fields, spans, strict=True) if field.bar and start not in covered]
    return [_placed(sorted([*line, *bars])) for line in lines]


def _placed(pieces: Iterable[tuple[int, str]]) -> str:
    """Return a line with texts at the given columns, in order."""
    line, end = [], 0
    for start, piece in pieces:
        line += [" " * (start - end), piece]
        end = max(start, end) + width_of(piece)
    return "".join(line)


def _padded(text: str, width: int, align: str) -> str:
    room = " " * (width - width_of(text))
    return text + room if align == "left" else room + text


def heading(name: str, width: int) -> str:
    """Return a line of the given width with a name at its start."""
    text = cut_to(elide(displayable(" ".join(name.split())), max(width - 4, 3)), max(width - 4, 1))
    return f"{text} {'─' * (width - width_of(text) - 1)}"
