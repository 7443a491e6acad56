"""Comparisons as text for a terminal, as Markdown for a pull request, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pruningbench.base.text import displayable_json, displayable_lines
from pruningbench.contract.reporting import percent
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.changes import Change, Unmatched
from pruningbench.leaderboard.contrast import Contrast
from pruningbench.leaderboard.contrast_words import column_words, numbers_of, p_value
from pruningbench.leaderboard.inference import LEVEL
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.markdown import escaped

FORMATS = ("table", "markdown", "json")
"""The formats that `render_contrast` can write."""
LONGEST_COMMENT = 60_000
"""Largest number of characters of the Markdown; a comment on a pull request holds 65,536."""
_LONGEST = 120
"""Largest number of characters of a name in Markdown; a line has three times as many."""
_SCHEMA = 1


def render_contrast(contrast: Contrast, format: str = "table", *, fail_on: str = "worse") -> str:
    """Return a comparison as text, without a newline at the end.

    ``table`` lists at most `contrast.SHOWN` values of each kind, ``markdown`` as many as fit into a comment, ``json``
    all.

    Args:
        contrast: the comparison.
        format: one of `FORMATS`.
        fail_on: as for `Contrast.failure`; the first line gives its verdict.

    Raises:
        UsageError: for another format.
    """
    if format == "json":
        return displayable_json(contrast_values(contrast, fail_on), indent=1)
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is not one of {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}")
    return as_markdown(contrast, fail_on) if format == "markdown" else contrast.text(fail_on)


def as_markdown(contrast: Contrast, fail_on: str = "worse") -> str:
    """Return a comparison for a comment on a pull request: the verdict in the first line, details folded.

    Names and reasons are shortened and escaped. What does not fit into `LONGEST_COMMENT` characters is counted.
    """
    failed = bool(contrast.failure(fail_on))
    names = [escaped(elide(name, _LONGEST)) for name in (contrast.before_name, contrast.after_name)]
    head = f"**{'❌' if failed else '✅'} pruningbench {escaped(contrast.headline(fail_on))}**"
    parts = [head, f"{names[0]} → {names[1]}"]
    room = LONGEST_COMMENT - sum(map(len, parts)) - 1_000
    sections = list(_sections(contrast))
    for place, (title, header, lines) in enumerate(sections):
        share = room // (len(sections) - place)
        text = _folded(title, header, lines, share, is_open=failed and place == 0)
        room -= len(text)
        parts.append(text)
    if contrast.changes:
        parts.append(f"<sub>{escaped(contrast.legend())}</sub>")
    return displayable_lines("\n\n".join(parts))


_COLUMNS = ["model", "sparsity", "pruner", "recipe", "metric", "before", "after", "difference", "p"]
_HEADER = [f"| {' | '.join(_COLUMNS)} |", "| :-- | --: | :-- | :-- | :-- | --: | --: | --: | --: |"]


def _sections(contrast: Contrast) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the title, the header lines and the lines of each folded section."""
    for title, changes in contrast.changed_sections().items():
        yield f"{len(changes)} {title}", _HEADER, [_table_row(change) for change in changes]
    counts = {"not comparable": contrast.incomparable, "gone": contrast.gone, "new": contrast.new}
    for title, lines in contrast.listed_sections().items():
        count = f"{len(counts[title])} " if title in counts else ""
        yield f"{count}{title}", [], [f"* {_short(line, 3 * _LONGEST)}" for line in lines]


def _table_row(change: Change) -> str:
    place = change.place
    cells = [
        _short(place.model), percent(place.sparsity), _short(place.pruner), _short(place.recipe),
        _short(column_words(change)), *numbers_of(change), p_value(change.difference.p_holm).replace("<", "&lt;"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _short(text: str, longest: int = _LONGEST) -> str:
    return escaped(elide(" ".join(text.split()), longest))


def _folded(title: str, header: list[str], lines: list[str], room: int, *, is_open: bool) -> str:
    """Return a folded section that takes about `room` characters; the lines that do not fit are counted."""
    kept, used = 0, sum(map(len, header)) + 200
    for line in lines:
        used += len(line) + 1
        if used > room:
            break
        kept += 1
    rest = [f"… and {len(lines) - kept} more"] if kept < len(lines) else []
    block = "\n".join([*header, *lines[:kept]])
    body = "\n\n".join([*([block] if kept else []), *rest])
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>\n\n{body}\n\n</details>"


def contrast_values(contrast: Contrast, fail_on: str = "worse") -> dict[str, Any]:
    """Return a comparison as JSON values; NaN becomes null, and infinity the text "inf" or "-inf".

    ::

        {"schema": 1, "before": str, "after": str, "failed": bool, "why": str, "level": number,
         "counts": {"better", "worse", "tolerated", "undecided", "unchanged", "compared", "new", "gone",
                    "incomparable": int},
         "changes": [{"model", "pruner", "recipe": str, "sparsity": number, "task", "variant", "metric": str,
                      "seeds": [int], "before", "after", "difference", "ci_low", "ci_high": number, "n": int,
                      "p", "p_holm": number | null, "higher_is_better": bool | null, "unit": str,
                      "verdict": "better" | "worse" | null, "within_margin": bool | null, "identical": bool,
                      "parts": [str]}],
         "new", "gone", "incomparable": [{"model", ..., "metric", "seeds", "reason": str}],
         "parts": {str: int}, "notes": [str]}
    """
    why = contrast.failure(fail_on)
    return {
        "schema": _SCHEMA,
        "before": contrast.before_name,
        "after": contrast.after_name,
        "failed": bool(why),
        "why": why,
        "level": LEVEL,
        "counts": {
            "better": len(contrast.better),
            "worse": len(contrast.worse),
            "tolerated": len(contrast.tolerated),
            "undecided": len(contrast.undecided),
            "unchanged": sum(change.unchanged for change in contrast.changes),
            "compared": len(contrast.changes),
            "new": len(contrast.new),
            "gone": len(contrast.gone),
            "incomparable": len(contrast.incomparable),
        },
        "changes": [_change_values(change) for change in contrast.changes],
        "new": [*map(_unmatched_values, contrast.new)],
        "gone": [*map(_unmatched_values, contrast.gone)],
        "incomparable": [*map(_unmatched_values, contrast.incomparable)],
        "parts": contrast.parts,
        "notes": list(contrast.notes),
    }


def _change_values(change: Change) -> dict[str, Any]:
    entry = change.difference
    return {
        **vars(change.place), "seeds": list(change.seeds), "before": _plain(change.before),
        "after": _plain(change.after), "difference": _plain(entry.value), "ci_low": _plain(entry.low),
        "ci_high": _plain(entry.high), "n": entry.n, "p": _plain(entry.p), "p_holm": _plain(entry.p_holm),
        "higher_is_better": change.higher_is_better, "unit": change.unit, "verdict": change.verdict,
        "within_margin": change.within_margin, "identical": change.same, "parts": list(change.parts),
    }  # fmt: skip


def _unmatched_values(one: Unmatched) -> dict[str, Any]:
    return {**vars(one.place), "seeds": list(one.seeds), "reason": one.reason}


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else f"{value}"
