"""Detail pages: models, pruners, recipes, tasks, metrics, runs and pictures, and the index of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pruningbench.site import index, metricpages, pictures, runpages
from pruningbench.site.about import about_section
from pruningbench.site.components import Catalogue
from pruningbench.site.files import File
from pruningbench.site.html import Content, Page, e
from pruningbench.site.links import page_of
from pruningbench.site.pictures import PicturePage
from pruningbench.site.source import Source
from pruningbench.site.subjects import (
    FULL,
    NOTHING_PRUNED,
    STYLES,
    Site,
    board_title,
    picture_links,
    title_of,
    too_many,
    trail,
    views,
)
from pruningbench.site.tables import (
    LABELS,
    LEGEND,
    TABLES,
    Label,
    column_heading,
    lines_of,
    main_columns,
    value_table,
)
from pruningbench.suite.labels import DENSE


def pages(source: Source) -> Iterator[Page | File]:
    """Yield all pages that are about one thing, with their pictures, and the index of these pages."""
    shown: list[PicturePage] = []
    yield from pictures.pages(source, shown)
    site = Site(
        source, Catalogue.of(source), tuple(lines_of(board, i) for i, board in enumerate(source.boards)), tuple(shown)
    )
    for label in LABELS:
        for i, name in enumerate(site.names(label)):
            yield condition_page(site, label, name, full=i < FULL)
    for i, name in enumerate(site.names("task")):
        yield task_page(site, name, full=i < FULL)
    yield from metricpages.pages(site)
    yield from runpages.pages(site)
    yield index.page(site)


def condition_page(site: Site, kind: Label, name: str, *, full: bool) -> Page:
    """Return the page of a model, a pruner or a recipe.

    Args:
        site: what pages are made from.
        kind: which of them.
        name: its label in the results.
        full: whether the page holds tables.
    """
    if kind == "pruner" and name == DENSE:
        what: Sequence[Content] = [e("p", NOTHING_PRUNED, class_="lead")]
    else:
        what = about_section(site.catalogue.about(kind, name))
    rest = [label for label in LABELS if label != kind]
    tables: list[Content] = []
    for lines in site.lines if full else ():
        own = lines.of(kind, name)
        model = name if kind == "model" else ""
        made = [
            value_table(c, own, rest, caption=column_heading(lines, c, model=model))
            for c in main_columns(lines.board.columns)
        ]
        kept = [table for table in made if table is not None]
        if kept:
            tables += [board_title(site, lines), *kept[:TABLES]]
        if len(kept) > TABLES:
            tables.append(e("p", f"{len(kept) - TABLES} further tables are left out.", class_="note"))
    note = e("p", "The main metric of each task. ", LEGEND, class_="note") if tables else too_many(full)
    own_pictures = [one for one in site.pictures if one.model == name] if kind == "model" else []
    return Page(
        address=page_of(kind, name),
        title=title_of(name),
        body=e("div", what, picture_links(own_pictures), e("h2", "Results"), views(kind, name), note, tables),
        styles=STYLES,
        trail=trail(kind),
    )


def task_page(site: Site, name: str, *, full: bool) -> Page:
    """Return the page of a task: what it is, its pictures, its metrics, and the results of its main metrics."""
    tables: list[Content] = []
    for lines in site.lines if full else ():
        columns = [column for column in lines.board.columns if column.task == name]
        main = main_columns(columns)[:TABLES]
        made = [value_table(c, lines.pruned or lines.dense, LABELS, caption=column_heading(lines, c)) for c in main]
        if columns:
            tables += [board_title(site, lines), metricpages.levels_table(columns, "metric"), made]
    own = [one for one in site.pictures if one.task == name]
    note = e("p", LEGEND, class_="note") if tables else too_many(full)
    what = about_section(site.catalogue.about("task", name))
    return Page(
        address=page_of("task", name),
        title=title_of(name),
        body=e("div", what, picture_links(own), e("h2", "Results"), views("task", name), note, tables),
        styles=STYLES,
        trail=trail("task"),
    )
