"""Pages of metrics: what a value means, its levels, its results, and where they are unreliable."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pruningbench.base.text import displayable
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.rows import Column, Row
from pruningbench.site.about import Fact, about_section
from pruningbench.site.components import About
from pruningbench.site.html import Content, Html, Page, e
from pruningbench.site.links import page_of
from pruningbench.site.parts import percent
from pruningbench.site.subjects import FULL, STYLES, Site, board_title, plain_table, title_of, too_many, trail, views
from pruningbench.site.tables import LABELS, LEGEND, LONGEST, TABLES, column_heading, value_table

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
MOST_UNRELIABLE = 40
"""Largest number of unreliable rows that a page lists."""


def pages(site: Site) -> Iterator[Page]:
    """Yield a page for each metric."""
    by_metric: dict[str, list[tuple[int, Column]]] = {}
    for place, lines in enumerate(site.lines):
        for column in lines.board.columns:
            by_metric.setdefault(column.metric, []).append((place, column))
    for i, name in enumerate(site.names("metric")):
        yield _page(site, name, by_metric.get(name, []), full=i < FULL)


def levels_table(columns: Sequence[Column], by: Literal["metric", "task"]) -> Html:
    """Return the unit, direction and levels of columns: one line per metric of a task, or per task of a metric.

    Args:
        columns: of one board.
        by: what names a line.
    """
    rows = []
    for column in columns[:LONGEST]:
        decimals = decimals_for(v for v in (*column.range, column.chance, column.ceiling) if not math.isnan(v))
        ends = (
            " to ".join(number(value, decimals) for value in column.range) if not math.isnan(column.range[0]) else "–"
        )
        name = getattr(column, by)
        rows.append([
            e("a", elide(name, LONGEST), href=f"../{page_of(by, name)}"),
            elide(column.variant, LONGEST) or "–",
            elide(column.unit, LONGEST) or "–",
            DIRECTIONS[column.higher_is_better],
            *("–" if math.isnan(v) else number(v, decimals) for v in (column.chance, column.ceiling)),
            ends,
        ])  # fmt: skip
    heads = [by, "variant", "unit", "direction", "chance", "people", "values here"]
    caption = (
        "Chance: the best answer that ignores the input. People: what people reach on the same samples. "
        "Values here: smallest and largest of all rows."
    )
    return plain_table(heads, rows, label="units, directions and levels", caption=caption)


def _page(site: Site, name: str, places: Sequence[tuple[int, Column]], *, full: bool) -> Page:
    about = site.catalogue.about("metric", name)
    tables: list[Content] = []
    for place, lines in enumerate(site.lines):
        columns = [column for other, column in places if other == place] if full else []
        if not columns:
            continue
        made = [
            value_table(c, lines.pruned or lines.dense, LABELS, caption=column_heading(lines, c))
            for c in columns[:TABLES]
        ]
        tables += [board_title(site, lines), levels_table(columns, "task"), made]
        if len(columns) > TABLES:
            tables.append(e("p", f"{len(columns) - TABLES} further tables are left out.", class_="note"))
        tables.append(_unreliable_rows(lines.board.rows, columns))
    results = [
        e("h2", "Results"),
        views("metric", name),
        e("p", LEGEND, class_="note") if tables else too_many(full),
        tables,
    ]
    return Page(
        address=page_of("metric", name),
        title=title_of(name),
        body=e("div", about_section(about, _facts(about, [column for _, column in places])), results),
        styles=STYLES,
        trail=trail("metric"),
    )


def _facts(about: About, columns: Sequence[Column]) -> list[Fact]:
    """Return direction, unit and range: of the component if it is installed, else of the records."""
    if about.component is not None:
        try:
            return _stated(about.component)
        except Exception as error:  # noqa: BLE001 - class attributes of a third party, of any type
            warnings.warn(f"{about.kind} {about.label}: {type(error).__name__}: {displayable(error)}", stacklevel=2)
    directions = dict.fromkeys(DIRECTIONS[column.higher_is_better] for column in columns)
    units = dict.fromkeys(elide(column.unit, LONGEST) for column in columns)
    return [("Direction", ", ".join(directions)), ("Unit", ", ".join(filter(None, units)))]


def _stated(component: Any) -> list[Fact]:
    """Return what a metric's class states."""
    return [
        ("Direction", DIRECTIONS[component.higher_is_better]),
        ("Unit", elide(str(component.unit), LONGEST) or "a pure number"),
        ("Range", _range(component.range)),
        ("Applies to", e("code", component.consumes.__name__)),
        ("Repeatable", "" if component.deterministic else "no: a measured quantity differs from run to run"),
        ("Tolerance", _tolerance(component)),
    ]  # fmt: skip


def _range(limits: tuple[float, float]) -> str:
    low, high = limits
    if math.isinf(low) and math.isinf(high):
        return "unlimited"
    return f"{'unlimited' if math.isinf(low) else f'{low:g}'} to {'unlimited' if math.isinf(high) else f'{high:g}'}"


def _tolerance(component: Any) -> str:
    """Return how far a value may deviate when another machine measures it again."""
    share = float(component.rerun_tolerance)
    if not component.deterministic:
        return "not compared when it is measured again"
    of = "its size" if any(map(math.isinf, component.range)) else "its range"
    return f"{100 * share:.4g} % of {of} when another machine measures it again" if share else "none: always equal"


def _unreliable_rows(rows: Sequence[Row], columns: Sequence[Column]) -> Html | None:
    """List the rows in which the metric is unreliable: collapsed networks, degenerate outputs, undefined values."""
    suspect = [(row, why) for row in rows if (why := _why(row, columns))]
    if not suspect:
        return None
    listed: list[list[Content]] = [
        [
            e("a", elide(row.model, LONGEST), href=f"../{page_of('model', row.model)}"),
            elide(row.pruner, LONGEST), elide(row.recipe, LONGEST), percent(row.sparsity), elide("; ".join(why), 300),
        ]
        for row, why in suspect[:MOST_UNRELIABLE]
    ]  # fmt: skip
    heads = ["model", "pruner", "recipe", "sparsity", "why"]
    first = f"; the first {MOST_UNRELIABLE}" if len(suspect) > MOST_UNRELIABLE else ""
    caption = f"{len(suspect)} rows whose values of this metric are unreliable{first}"
    table = plain_table(heads, listed, label="unreliable rows", caption=caption)
    return e("section", e("h3", "Unreliable rows"), table)


def _why(row: Row, columns: Sequence[Column]) -> list[str]:
    """Return why the values of a row in these columns are unreliable; empty if they are sound."""
    measured = [column for column in columns if column.key in row.cells]
    if not measured:
        return []
    reasons = ["collapsed to chance"] if row.collapsed else []
    low = {task for task, _, _ in row.at_chance}
    for column in measured:
        where = " ".join(filter(None, (elide(column.task, LONGEST), elide(column.variant, LONGEST))))
        samples = row.degenerate.get((column.task, column.variant), 0)
        words = [
            "at chance" if column.task in low and not row.collapsed else "",
            f"{samples} degenerate sample{'s' if samples != 1 else ''}" if samples else "",
            "undefined" if math.isnan(row.cells[column.key].value) else "",
        ]
        if any(words):
            reasons.append(f"{where}: {', '.join(filter(None, words))}")
    return reasons
