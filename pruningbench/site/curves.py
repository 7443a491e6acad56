"""Curves of every metric against sparsity, and a scatter of two metrics."""

from __future__ import annotations

from collections.abc import Iterator

from pruningbench.site.files import File
from pruningbench.site.html import Html, Page, e, join
from pruningbench.site.parts import BOARD_SCRIPTS, segments
from pruningbench.site.source import Source

LEGEND = (
    "Bands are 95 % intervals over samples and seeds. Horizontal lines: the dense reference of each recipe, the value "
    "that people reach on the same samples, and chance, where they are known. Hollow marks: collapsed or at chance. "
    "The Pareto front joins the pruned networks that no other one beats in both metrics; marks at chance take no part."
)


def pages(source: Source) -> Iterator[Page | File]:  # noqa: ARG001 - as all producers
    """Yield the page of the curves."""
    yield Page(
        "curves.html",
        "Metrics against sparsity",
        _body(),
        scripts=("vendor/d3.min.js", "vendor/plot.umd.min.js", *BOARD_SCRIPTS, "assets/charts.js", "assets/curves.js"),
        data=("boards",),
        intro="Point at a value for its numbers and its command, click to pin it. The table below says the same.",
    )


def _body() -> Html:
    view = segments("view", "Chart", (("curves", "over sparsity"), ("scatter", "two metrics")))
    choices = [e("div", id=name, class_="field") for name in ("model", "metric", "x", "y")]
    values = e(
        "div", id="alternative", class_="scroll", tabindex="0", role="region", aria_label="The values as a table"
    )
    return join(
        [
            e("div", e("div", id="boards"), view, choices, class_="controls"),
            e("div", id="legend", class_="legends"),
            e(
                "div",
                e("div", id="chart", role="img"),
                e("p", id="hover", class_="hover"),
                e("div", id="pinned"),
                e("details", e("summary", "The values as a table"), values, open=True),
                id="charts",
            ),
            e("noscript", e("p", "This page needs scripts; they are files of this folder.")),
            e("p", LEGEND, class_="note"),
        ]
    )
