"""Names in tables are text: no spreadsheet runs them, and no renderer makes links, images or HTML of them."""

from __future__ import annotations

import csv
import io
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pruningbench.base.text import displayable, displayable_lines
from pruningbench.leaderboard import Board, Column, Entry, Row, render

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
SIGNS = "\\`*_{}[]()<>#+-.!|~&$\"'=:;/@ \n\tx1é"
EVIL = [
    "[click](http://evil.example)", "![x](http://evil.example/a.png)", "<script>alert(1)</script>", "<img src=x onerror=y>",
    "a|b", "a\\|b", "\\", "`code` ``", "x`http://e.example`y", "http://evil.example", "www.evil.example", "a@evil.example",
    "@everyone", "mailto:a@b.example", "&lt;b&gt;", "~~gone~~", "*a* **b** _c_ __d__", "a_b_c", "$x_{$", "\\frac", "[x]: http://e",
    "line\nforged | row |\n| --- |", "# head", "- item", "=1+1", "x\\`http://e|e`", "<!-- -->", "\\[a](b)", "`|`",
]  # fmt: skip


def board(name: str) -> Board:
    """One value of a pruner, metric, model and suite of that name."""
    column = Column("t", "", name, name, True, "", (0.5, 0.5), "d")
    row = Row(name, name, "none", 0.5, 0.5, (0,), 1.0, {column.key: Entry(-0.5, math.nan, math.nan, 9, 1)})
    return Board(name, (name,), (column,), (row,), (), (), (f"P1, {name}: kept.",))


class Page(HTMLParser):
    """The tags of a page, and the text of its cells and paragraphs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = [""]
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag in ("td", "th", "p", "li"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data


@given(st.text(SIGNS, min_size=1, max_size=12) | st.text(min_size=1, max_size=12) | st.sampled_from(EVIL))
def test_markdown_shows_names_as_they_are(name: str) -> None:
    page = Page(RENDERER.render(render([board(name)], "markdown")))
    assert page.tags <= {"p", "table", "thead", "tbody", "tr", "th", "td", "strong", "code", "ul", "li"}
    cells = [text.strip() for text in page.texts]
    shown = displayable(" ".join(name.split())).strip()
    if "|" not in shown and shown:
        assert cells.count(shown) >= 3, (name, cells)  # title, model, pruner; the metric has an arrow
    assert [cell for cell in cells if cell == "50%"] == ["50%"]  # the table has its one row


@pytest.mark.parametrize("name", EVIL)
def test_markdown_of_evil_names_has_five_cells_a_row(name: str) -> None:
    page = RENDERER.render(render([board(name)], "markdown"))
    assert len(re.findall("<td[ >]", page)) == len(re.findall("<th[ >]", page)) == 5
    assert not {"a", "img", "script", "em", "s", "del", "h1"} & Page(page).tags


@given(
    st.text(SIGNS, max_size=8)
    | st.text(max_size=8)
    | st.sampled_from(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "-0.5"])
)
@example("")
def test_csv_cells_are_no_formulas_and_numbers_stay_numbers(name: str) -> None:
    text = render([board(name)], "csv")
    (line,) = csv.DictReader(io.StringIO(text))
    assert float(line["value"]) == -0.5 and line["value"] == "-0.5"
    for key in ("board", "model", "pruner", "metric"):
        cell = line[key]
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) and cell[:1] not in (
            "\t",
            "\r",
            "\n",
        )
        assert cell in (displayable_lines(name), f"'{displayable_lines(name)}")
    if name[:1].isalnum() or not name:
        assert line["model"] == displayable_lines(name)
