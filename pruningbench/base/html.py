"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pruningbench.base.text import displayable

MOST_ROWS = 200
"""Rows of a table that are shown; a last row says how many more there are."""


def html_text(text: object) -> str:
    """Return text for one line, escaped."""
    return escape(displayable(text))


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as HTML; all texts are escaped, and numbers are aligned to the right."""
    listed = list(rows)
    cells = "".join(f"<th{_style(name == head[0])}>{html_text(name)}</th>" for name in head)
    lines = [
        "<tr>" + "".join(f"<td{_style(isinstance(value, str))}>{_shown(value)}</td>" for value in row) + "</tr>"
        for row in listed[:MOST_ROWS]
    ]
    if len(listed) > MOST_ROWS:
        lines.append(f'<tr><td colspan="{len(head)}">and {len(listed) - MOST_ROWS} more</td></tr>')
    body = "".join(lines)
    return f"<table><caption>{html_text(caption)}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _style(left: bool) -> str:
    return f' style="text-align:{"left" if left else "right"}"'


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return html_text("–" if value is None else value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
