"""HTML that is safe whatever the text holds: elements escape their text, and a page has one layout.

Names, messages and docstrings of others become text: their special characters are escaped, and characters that are
invisible or change the writing direction are shown as escapes (`pruningbench.base.text`). No page holds an inline
script, an inline style or a handler; the Content-Security-Policy of every page forbids them, and all requests.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pruningbench.base.text import displayable, displayable_lines

PLOT_STYLE = "'sha256-+TfQir1nvDucAdvE6XUQBt4ayUjpAWkbw2kCdSfekHM='"
"""Hash of the only style that Observable Plot writes into the charts of this site (class ``plot``)."""
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {PLOT_STYLE}; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""The Content-Security-Policy of every page.

``'self'`` covers the files of the folder, opened from disk or from a web server. Hashes of the files are not used,
because browsers refuse a script with an ``integrity`` attribute that comes from disk.
"""
SECTIONS = (("index.html", "Answers"), ("table.html", "Table"), ("curves.html", "Curves"), ("pages.html", "Pages"))
"""Address and name of what the navigation lists."""

_VOID = frozenset(("br", "col", "hr", "img", "input", "link", "meta"))
_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_ADDRESSES = ("action", "formaction", "href", "src")


class Html(str):
    """Text that is HTML already; other text is escaped when it becomes part of a page."""

    __slots__ = ()


Content = str | Html | None | Iterable["Content"]
"""What an element may hold: text, HTML, nothing, or several of these."""


def e(tag: str, *content: Content, **attributes: str | int | bool | None) -> Html:
    """Return an element: ``e("a", "all rows", href="table.html", class_="more")``.

    Args:
        tag: its name.
        content: text, which is escaped, and elements.
        attributes: a trailing underscore is dropped, and other underscores become "-"; None and False leave the
            attribute out, and True gives it without a value.

    Raises:
        ValueError: for a handler (``onclick``), an inline style, or an address that is not relative or ``http(s)``.
    """
    parts = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if not _NAME.match(name) or name.startswith("on") or name == "style":
            raise ValueError(f"attribute {name!r} is not allowed in a page")
        text = _checked_address(str(value)) if name in _ADDRESSES else displayable(value)
        parts.append(name if value is True else f'{name}="{html.escape(text)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if tag in _VOID else f"{opening}{join(content)}</{tag}>")


def join(content: Content) -> Html:
    """Return content as HTML, without an element around it."""
    if content is None:
        return Html("")
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return Html(html.escape(displayable(content), quote=False))
    return Html("".join(join(part) for part in content))


def pre(text: str, **attributes: str | int | bool | None) -> Html:
    """Return text of several lines as it is."""
    first = "\n" if text.startswith("\n") else ""  # a browser drops the line break that a block begins with
    lines = Html(first + html.escape(displayable_lines(text), quote=False))
    return e("pre", lines, tabindex="0", **attributes)


def _checked_address(address: str) -> str:
    """Return an address that leads to a page of the site or of the web.

    Raises:
        ValueError: for any other address, such as ``javascript:``.
    """
    scheme = re.match(r"[^/?#]*:", address)
    if (
        (scheme and scheme[0].lower() not in ("http:", "https:"))
        or address.startswith(("/", "\\"))
        or address != address.strip()
    ):
        raise ValueError(f"address {address!r} is neither relative nor http(s)")
    return address


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Attributes:
        address: its file, relative to the site's folder.
        title: title of the window and heading of the page.
        body: what follows the heading.
        scripts: files under the site's folder that the page runs, in this order, after the ones of every page.
        styles: style sheets under the site's folder, after the one of every page.
        data: names of the data that the page needs (`pruningbench.site.data`), loaded before its scripts.
        intro: one sentence below the heading.
        trail: pages above this one, for the breadcrumbs: (address, name).
        wide: whether the page uses the whole width of the window.
    """

    address: str
    title: str
    body: Html
    scripts: Sequence[str] = ()
    styles: Sequence[str] = ()
    data: Sequence[str] = ()
    intro: Content = ""
    trail: Sequence[tuple[str, str]] = ()
    wide: bool = False


def document(page: Page, site_title: str) -> str:
    """Return the whole text of a page's file."""
    up = "../" * page.address.count("/")
    scripts = [*(f"data/{name}.js" for name in page.data), "assets/common.js", *page.scripts]
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", http_equiv="Content-Security-Policy", content=POLICY),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("meta", name="referrer", content="no-referrer"),
        e("meta", name="color-scheme", content="light dark"),
        e("title", f"{page.title} · {site_title}" if page.address != "index.html" else site_title),
        e("link", rel="icon", type="image/svg+xml", href=f"{up}assets/icon.svg"),
        [e("link", rel="stylesheet", href=up + address) for address in ("assets/site.css", *page.styles)],
        e("script", src=f"{up}assets/theme.js"),
        [e("script", src=up + address, defer=True) for address in scripts],
    )
    trail = [e("a", name, href=up + address) if address else e("span", name) for address, name in page.trail]
    main = e(
        "main",
        e("nav", *trail, class_="trail", aria_label="Breadcrumbs") if trail else None,
        e("h1", page.title),
        e("p", page.intro, class_="intro") if page.intro else None,
        page.body,
        id="main",
        tabindex="-1",
        class_="wide" if page.wide else None,
    )
    body = e("body", e("a", "Skip to the content", href="#main", class_="skip"), _header(page, up), main, _footer(up))
    return f"<!doctype html>\n{e('html', head, body, lang='en', data_up=up or './')}\n"


def _header(page: Page, up: str) -> Html:
    links = [
        e("a", name, href=up + address, aria_current="page" if address == page.address else None)
        for address, name in SECTIONS
    ]
    switch = e("button", "Theme: auto", type="button", id="theme", class_="quiet")
    return e(
        "header",
        e("a", "pruningbench", href=f"{up}index.html", class_="home"),
        e("nav", links, aria_label="Site"),
        switch,
        class_="top",
    )


def _footer(up: str) -> Html:
    return e(
        "footer",
        e("p", "Made by pruningbench. This folder needs no server and makes no request. ",
          e("a", "Licences of the libraries", href=f"{up}vendor/LICENCES.txt"), "."),
    )  # fmt: skip
