"""Sites for tests: how one is built, and what its pages hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "../../../escape",
    "\u202egnp.exe\u200b",
    "\x1b[31mred\x00",
    "e\u0301\u05e9\u05dc\u05d5\u05dd 🙂",
    "long " * 2000,
    "' onclick='alert(1)",
    "CON",
)
"""Names that a page could obey, hide or break on."""
ACTIVE = frozenset(("iframe", "object", "embed", "base", "style", "applet", "frame", "audio", "video"))


@dataclass
class Parsed(HTMLParser):
    """What a page holds.

    Attributes:
        tags: names of all elements.
        attributes: names of all attributes.
        links: values of ``href`` and ``src``.
        ids: values of ``id``.
        pieces: all pieces of text outside scripts.
        scripts: text inside scripts.
    """

    tags: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    scripts: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts += data
        else:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        """All text, as it is."""
        return "".join(self.pieces)

    @property
    def words(self) -> str:
        """All text with one space between words and between elements."""
        return " ".join(" ".join(self.pieces).split())


@cache
def parsed(page: Path) -> Parsed:
    """Parse a page; a page must not change while tests read it."""
    parser = Parsed()
    parser.feed(page.read_text("utf-8"))
    parser.close()
    return parser


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def broken_links(site: Path) -> list[str]:
    """Return the links of all pages that lead to no file of the site, or to no place in it."""
    broken = []
    for page in pages_of(site):
        for link in parsed(page).links:
            address, _, place = link.partition("#")
            target = (page.parent / unquote(address)).resolve() if address else page
            inside = target.is_relative_to(site.resolve()) or target == page
            scripted = "=" in place  # the state of a page that scripts read
            if not inside or not target.is_file():
                broken.append(f"{page.relative_to(site)}: {link}")
            elif place and not scripted and place not in parsed(target).ids:
                broken.append(f"{page.relative_to(site)}: {link} (no such place)")
    return broken


def active_content(site: Path) -> list[str]:
    """Return what in the pages could run, load or send anything that the site did not bring."""
    found = []
    for page in pages_of(site):
        one = parsed(page)
        found += [f"{page.name}: <{tag}>" for tag in one.tags & ACTIVE]
        found += [f"{page.name}: {name}=" for name in one.attributes if name.startswith("on") or name == "style"]
        found += [f"{page.name}: {link}" for link in one.links if ":" in link.partition("#")[0].partition("?")[0]]
        found += [f"{page.name}: {one.scripts}"] if one.scripts.strip() else []
    return found
