"""The index of all detail pages."""

from __future__ import annotations

from collections.abc import Iterable

from pruningbench.leaderboard.labels import elide
from pruningbench.site.html import Html, Page, e
from pruningbench.site.links import PageKind, page_of
from pruningbench.site.subjects import NOTHING_PRUNED, PLURALS, STYLES, Site
from pruningbench.site.tables import LONGEST
from pruningbench.suite.labels import DENSE

SUMMARIES = 200
"""Most entries of a kind with a summary: the summary of each needs its component."""


def page(site: Site) -> Page:
    """Return the page that lists all others."""
    sections = [_section(site, kind, words) for kind, words in PLURALS.items()]
    shown = [
        (
            one.address,
            f"{elide(one.task, LONGEST)} on {elide(one.model, LONGEST)}",
            f"{elide(one.kind, LONGEST)}, from {elide(one.run, LONGEST)}",
        )
        for one in site.pictures
    ]
    search = e(
        "div",
        e("label", "Find a page", for_="find"),
        e("input", type="search", id="find", autocomplete="off", spellcheck="false"),
        e("p", "", class_="note", id="matches", role="status"),
        class_="field",
    )
    return Page(
        address="pages.html",
        title="Pages",
        intro="What each name in the results means, where it comes from, and what was measured.",
        body=e("div", search, _list("pictures", "Pictures", shown) if shown else None, sections),
        scripts=("assets/pages.js",),
        styles=STYLES,
    )


def _section(site: Site, kind: PageKind, words: str) -> Html | None:
    names = list(site.source.run_names) if kind == "run" else site.names(kind)
    entries = [
        (page_of(kind, name), elide(name, 2 * LONGEST), _summary(site, kind, name) if i < SUMMARIES else "")
        for i, name in enumerate(dict.fromkeys(names))
    ]
    return _list(words, words.capitalize(), entries) if entries else None


def _summary(site: Site, kind: PageKind, name: str) -> str:
    if kind == "run":
        own = site.results_of(name)
        return elide(f"{own['cell'].nunique():,} cells of {', '.join(map(str, own['suite'].unique()))}", 160)
    if kind == "pruner" and name == DENSE:
        return NOTHING_PRUNED
    return elide(site.catalogue.about(kind, name).summary.replace("``", ""), 160)


def _list(place: str, title: str, entries: Iterable[tuple[str, str, str]]) -> Html:
    items = [
        e("li", e("a", words, href=address), e("span", summary, class_="summary") if summary else None)
        for address, words, summary in entries
    ]
    return e(
        "section",
        e("h2", title, " ", e("span", str(len(items)), class_="quiet")),
        e("ul", items, class_="cards"),
        id=place,
    )
