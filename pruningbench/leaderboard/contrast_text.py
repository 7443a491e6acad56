"""Comparisons as text for a terminal, as Markdown for a pull request, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pruningbench.base.text import displayable, displayable_json, displayable_lines
from pruningbench.contract.reporting import percent
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.contrast import Change, Contrast, Place, Unmatched
from pruningbench.leaderboard.inference import LEVEL
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.markdown import escaped
from pruningbench.leaderboard.numbers import decimals_for, number

FORMATS = ("table", "markdown", "json")
"""The formats that `render_contrast` can write."""
SHOWN = 40
"""Largest number of values that a section of the text lists."""
LONGEST_COMMENT = 60_000
"""Largest number of characters of the Markdown; a comment on a pull request holds 65,536."""
_LONGEST = 120
"""Largest number of characters of a name or a reason in Markdown."""
_SCHEMA = 1


def render_contrast(contrast: Contrast, format: str = "table", *, fail_on: str = "worse") -> str:
    """Return a comparison as text, without a newline at the end.

    ``table`` lists at most `SHOWN` values of each kind, ``markdown`` as many as fit into a comment, ``json`` all.

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
        raise UsageError(f"format {format!r} is none of {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}")
    return as_markdown(contrast, fail_on) if format == "markdown" else as_text(contrast, fail_on)


def headline(contrast: Contrast, fail_on: str = "worse") -> str:
    """Return the verdict and the counts in one line."""
    why = contrast.failure(fail_on)
    verdict = "not judged" if fail_on == "none" else "failed" if why else "passed"
    verdict += f" ({why})" if why and not contrast.changes else ""
    counts = [f"{len(contrast.worse)} worse", f"{len(contrast.better)} better"]
    counts += [f"{len(contrast.tolerated)} worse within the margin"] if contrast.tolerated else []
    counts += [f"{len(contrast.undecided)} undecided"] if contrast.undecided else []
    for name, listed in (("new", contrast.new), ("gone", contrast.gone), ("not comparable", contrast.incomparable)):
        counts += [f"{len(listed)} {name}"] if listed else []
    compared = len(contrast.changes)
    unchanged = sum(change.same for change in contrast.changes)
    same = f", {unchanged} of them identical" if unchanged else ""
    return f"{verdict}: {', '.join(counts)}; {compared} {'value' if compared == 1 else 'values'} compared{same}"


def as_text(contrast: Contrast, fail_on: str = "worse") -> str:
    """Return a comparison as plain text, two lines for each value."""
    lines = [
        f"{contrast.before_name} -> {contrast.after_name}",
        headline(contrast, fail_on),
    ]
    for title, changes in _changes(contrast):
        lines += ["", f"{title}:"]
        for change in changes[:SHOWN]:
            lines += [f"  {_row(change.place)}", f"    {_column(change)}: {_numbers(change)}"]
        lines += _rest(len(changes))
    for title, unmatched in _unmatched(contrast):
        lines += ["", f"{title}:"]
        grouped = _grouped(unmatched)
        lines += [f"  {line}" for line in grouped[:SHOWN]]
        lines += _rest(len(grouped))
    for title, listed in (("made from other parts", _parts(contrast)), ("notes", list(contrast.notes))):
        if listed:
            lines += ["", f"{title}:", *(f"  {line}" for line in listed[:SHOWN]), *_rest(len(listed))]
    lines += ["", _legend(contrast)] if contrast.changes else []
    return displayable_lines("\n".join(displayable(line) for line in lines))


def _rest(count: int) -> list[str]:
    return [f"  … and {count - SHOWN} more: --format json lists all"] if count > SHOWN else []


def _changes(contrast: Contrast) -> Iterator[tuple[str, tuple[Change, ...]]]:
    sections = {
        "worse": contrast.worse,
        "better": contrast.better,
        "worse, by less than the margin": contrast.tolerated,
        "undecided: not significantly worse, but the loss may be as large as the margin": contrast.undecided,
    }
    yield from ((title, changes) for title, changes in sections.items() if changes)


def _unmatched(contrast: Contrast) -> Iterator[tuple[str, tuple[Unmatched, ...]]]:
    sections = {"not comparable": contrast.incomparable, "gone": contrast.gone, "new": contrast.new}
    yield from ((title, listed) for title, listed in sections.items() if listed)


def _row(place: Place) -> str:
    return f"{place.model} · {percent(place.sparsity)} {place.pruner} · {place.recipe}"


def _column(change: Change) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[change.higher_is_better]
    return _metric(change.place) + arrow


def _metric(place: Place) -> str:
    return " ".join(filter(None, (place.task, place.variant, place.metric)))


def _numbers(change: Change) -> str:
    entry = change.difference
    decimals = decimals_for((change.before, change.after))
    small = decimals_for((entry.value, entry.low, entry.high))
    small = max(decimals, 3) if decimals is not None and (small is None or small < decimals) else small
    low, high = number(entry.low, small), number(entry.high, small)
    seeds = f", {entry.seeds} seeds" if entry.seeds > 1 else ""
    return (
        f"{number(change.before, decimals)} -> {number(change.after, decimals)}, "
        f"difference {number(entry.value, small)} [{low}, {high}], p {p_value(entry.p_holm)} (n {entry.n}{seeds})"
    )


def p_value(p: float) -> str:
    """Format a p-value: three decimals, ``< .001`` below that, ``-`` if it is unknown."""
    if math.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else number(p, 3)


def _grouped(unmatched: Sequence[Unmatched]) -> list[str]:
    """Return one line for each row of a board and reason, with the metrics that it concerns."""
    groups: dict[tuple[str, str, tuple[int, ...]], dict[str, None]] = {}
    for one in unmatched:
        groups.setdefault((_row(one.place), one.reason, one.seeds), {})[_metric(one.place)] = None
    lines = []
    for (row, reason, seeds), metrics in groups.items():
        names = list(metrics)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        of_seeds = f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" if seeds != (0,) else ""
        lines.append(f"{row}{of_seeds}: {shown}" + (f": {reason}" if reason else ""))
    return lines


def _parts(contrast: Contrast) -> list[str]:
    return [f"{part}: {count} {'value' if count == 1 else 'values'}" for part, count in contrast.parts.items()]


def _legend(contrast: Contrast) -> str:
    margin = " Within the margin: the interval excludes a loss as large as the margin." if contrast.margins else ""
    return (
        f"Differences are after minus before, paired over samples, with 95 % intervals; p is corrected for all tests "
        f"of this comparison (Holm); significant at {number(LEVEL, 2)}.{margin}"
    )


def as_markdown(contrast: Contrast, fail_on: str = "worse") -> str:
    """Return a comparison for a comment on a pull request: the verdict in the first line, details folded.

    Names and reasons are shortened and escaped. What does not fit into `LONGEST_COMMENT` characters is counted.
    """
    failed = fail_on != "none" and bool(contrast.failure(fail_on))
    names = [escaped(elide(name, _LONGEST)) for name in (contrast.before_name, contrast.after_name)]
    head = f"**{'❌' if failed else '✅'} pruningbench {escaped(headline(contrast, fail_on))}**"
    parts = [head, f"{names[0]} → {names[1]}"]
    room = LONGEST_COMMENT - sum(map(len, parts)) - 2_000
    sections = [*_changed_sections(contrast), *_listed_sections(contrast)]
    for place, (title, header, lines) in enumerate(sections):
        share = room // (len(sections) - place)
        text = _folded(title, header, lines, share, is_open=failed and place == 0)
        room -= len(text)
        parts.append(text)
    if contrast.changes:
        parts.append(f"<sub>{escaped(_legend(contrast))}</sub>")
    return displayable_lines("\n\n".join(parts))


_Section = tuple[str, list[str], list[str]]
"""Title, header lines and lines of a folded section."""


def _changed_sections(contrast: Contrast) -> Iterator[_Section]:
    columns = ["model", "sparsity", "pruner", "recipe", "metric", "before", "after", "difference", "p"]
    header = [f"| {' | '.join(columns)} |", "| :-- | --: | :-- | :-- | :-- | --: | --: | --: | --: |"]
    for title, changes in _changes(contrast):
        yield f"{len(changes)} {title}", header, [_table_row(change) for change in changes]


def _table_row(change: Change) -> str:
    entry, place = change.difference, change.place
    decimals = decimals_for((change.before, change.after))
    small = decimals_for((entry.value, entry.low, entry.high)) if decimals is None else max(decimals, 3)
    cells = [
        _short(place.model), percent(place.sparsity), _short(place.pruner), _short(place.recipe),
        _short(_column(change)), number(change.before, decimals), number(change.after, decimals),
        f"{number(entry.value, small)} [{number(entry.low, small)}, {number(entry.high, small)}]",
        p_value(entry.p_holm).replace("<", "&lt;"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _listed_sections(contrast: Contrast) -> Iterator[_Section]:
    listed: list[tuple[str, list[str]]] = [
        (f"{len(unmatched)} {title}", _grouped(unmatched)) for title, unmatched in _unmatched(contrast)
    ]
    listed += [("Made from other parts", _parts(contrast)), ("Notes", list(contrast.notes))]
    for title, lines in listed:
        if lines:
            yield title, [], [f"* {_short(line, 3 * _LONGEST)}" for line in lines]


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
         "counts": {"better", "worse", "tolerated", "undecided", "identical", "compared", "new", "gone",
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
            "identical": sum(change.same for change in contrast.changes),
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
