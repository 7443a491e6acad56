"""What the detail pages share: what they are made from, and the parts that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pruningbench.base.text import displayable
from pruningbench.leaderboard.labels import elide
from pruningbench.site.components import Catalogue
from pruningbench.site.html import Content, Html, e
from pruningbench.site.links import PAGE_KINDS, PageKind
from pruningbench.site.pictures import PicturePage
from pruningbench.site.source import Source
from pruningbench.site.tables import LONGEST, LONGEST_STATE, Lines

if TYPE_CHECKING:
    import pandas as pd

STYLES = ("assets/details.css",)
FULL = 500
"""Number of pages of a kind that hold tables; later ones only say what the thing is, so that a site stays small."""
TOO_MANY = f"This site has tables on the first {FULL} pages of a kind only; the link above leads to the values."
PLURALS: dict[PageKind, str] = {kind: f"{kind}s" for kind in PAGE_KINDS}
"""Each kind of page in the plural, which is also its place in the index of pages."""


NOTHING_PRUNED = "Nothing is pruned: the reference that pruned networks are compared with."


@dataclass(frozen=True)
class Site:
    """What pages are made from.

    Attributes:
        source: the results.
        catalogue: looks up names.
        lines: the lines of each board.
        pictures: the pages of pictures.
    """

    source: Source
    catalogue: Catalogue
    lines: tuple[Lines, ...]
    pictures: tuple[PicturePage, ...]

    def names(self, kind: PageKind) -> list[str]:
        """Return the names of a kind in the results, in their order."""
        return [str(name) for name in self.source.results[kind].unique().tolist() if name]

    def results_of(self, run: str) -> pd.DataFrame:
        """Return the rows of a run."""
        return self.source.results[self.source.results["run"] == run]


def trail(kind: PageKind) -> tuple[tuple[str, str], ...]:
    """Return the breadcrumbs of a page of a kind."""
    return (("pages.html", "Pages"), (f"pages.html#{PLURALS[kind]}", PLURALS[kind]))


def title_of(name: str) -> str:
    """Return a name as the heading of its page."""
    return elide(name, 2 * LONGEST)


def views(kind: PageKind, name: str) -> Html:
    """Return a link to the rows of a thing in the table."""
    by_value = {"view": "values"} if kind in ("task", "metric") else {}
    state = urlencode({**by_value, kind: f"={displayable(name)}"})
    address = f"../table.html#{state}" if len(state) <= LONGEST_STATE else "../table.html"
    return e("p", e("a", "Its rows in the table", href=address))


def too_many(full: bool) -> Html | None:
    """Return why a page has no tables, if the number of pages is the reason."""
    return None if full else e("p", TOO_MANY, class_="note")


def board_title(site: Site, lines: Lines) -> Html | None:
    """Return the heading of a board's tables; None if there is only one board."""
    return e("h3", elide(lines.board.title, 200)) if len(site.lines) > 1 else None


def picture_links(listed: Sequence[PicturePage]) -> Html | None:
    """Return a section with links to pages of pictures; None if there are none."""
    if not listed:
        return None
    links = [
        e("li",
          e("a", f"{elide(one.task, LONGEST)} on {elide(one.model, LONGEST)}", href=f"../{one.address}"),
          e("span", f"{elide(one.kind, LONGEST)}, from {elide(one.run, LONGEST)}", class_="summary"))
        for one in listed
    ]  # fmt: skip
    return e("section", e("h2", "Pictures"), e("ul", links, class_="cards"))


def scrolled(table: Html, label: str) -> Html:
    """Return a table that scrolls sideways on its own, also from the keyboard."""
    return e("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def plain_table(
    heads: Sequence[Content], rows: Sequence[Sequence[Content]], *, label: str, caption: Content = None
) -> Html:
    """Return a table of text whose first column names its rows."""
    body = [
        e("tr", [e("td" if i else "th", cell, scope=None if i else "row", class_="text") for i, cell in enumerate(row)])
        for row in rows
    ]
    head = e("thead", e("tr", [e("th", word, scope="col") for word in heads]))
    return scrolled(e("table", e("caption", caption) if caption else None, head, e("tbody", body)), label)
