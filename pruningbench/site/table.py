"""The table of all values."""

from __future__ import annotations

from collections.abc import Iterator

from pruningbench.site.files import File
from pruningbench.site.html import Html, Page, e, join
from pruningbench.site.parts import BOARD_SCRIPTS, segments
from pruningbench.site.source import Source

LEGEND = (
    "▲▼: better or worse than the dense reference of the same recipe (p ≤ .05 after Holm's correction). Bold: best of "
    "its model and sparsity. †: at chance or collapsed, never ranked. Filters: a part of a text, =exactly, !without; "
    "a number, >= .8, 80%, .5..0.9. The address of this page always leads to what it shows."
)


def pages(source: Source) -> Iterator[Page | File]:  # noqa: ARG001 - as all producers
    """Yield the page of the table."""
    yield Page(
        "table.html",
        "All results",
        _body(),
        scripts=(*BOARD_SCRIPTS, *(f"assets/{name}.js" for name in ("order", "grid", "tablecolumns", "table"))),
        data=("boards",),
        intro="Sort by a column, filter it, search, choose columns. Open a line for its facts and its command.",
        wide=True,
    )


def _body() -> Html:
    search = e(
        "div",
        e("label", "Search", for_="search"),
        e("input", type="search", id="search", autocomplete="off", spellcheck="false"),
        class_="field",
    )
    choose = e(
        "details",
        e("summary", "Columns"),
        e(
            "div",
            e(
                "input",
                type="search",
                id="find",
                aria_label="Search the columns",
                placeholder="search",
                autocomplete="off",
            ),
            e("button", "All", type="button", id="all"),
            e("button", "Usual", type="button", id="usual"),
            class_="line",
        ),
        e("div", id="choices", class_="choices"),
        class_="menu",
    )
    export = e(
        "div",
        e("button", "CSV", type="button", id="csv", aria_label="Export the lines in view as CSV"),
        e("button", "JSON", type="button", id="json", aria_label="Export the lines in view as JSON"),
        e("button", "Reset", type="button", id="reset", class_="quiet"),
        class_="line",
    )
    view = segments("view", "One line per", (("rows", "pruned model"), ("values", "value")))
    return join(
        [
            e("div", e("div", id="boards"), view, search, choose, export, class_="controls"),
            e("div", id="counts"),
            e("div", e("div", id="grid"), id="table"),
            e("noscript", e("p", "This page needs scripts; they are files of this folder.")),
            e("div", e("p", LEGEND, class_="note"), e("div", id="notes")),
        ]
    )
