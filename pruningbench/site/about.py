"""What a component is, as a part of its page: docstring, fields, origin, data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pruningbench.base.scrubbing import scrubbed
from pruningbench.base.text import displayable_lines
from pruningbench.leaderboard.labels import elide
from pruningbench.site.components import About, Field, links_in
from pruningbench.site.html import Content, Html, e, join

KNOB = " (a knob: it changes no result)"
LONGEST_PARAGRAPH = 4000
"""Most characters of a paragraph of a docstring."""
_CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)

Fact = tuple[str, Content]
"""A term and what it is."""


def facts(listed: Sequence[Fact]) -> Html | None:
    """Return terms and what they are; empty ones are left out, None if all are."""
    given = [(term, html) for term, said in listed if (html := join(said))]
    if not given:
        return None
    return e("dl", [[e("dt", term), e("dd", said)] for term, said in given], class_="facts")


def about_section(about: About, further: Sequence[Fact] = ()) -> list[Content]:
    """Return what is known of a component.

    Args:
        about: what is known.
        further: facts that the kind of page adds.
    """
    if about.description is None or about.registration is None:
        why = elide(scrubbed(about.problem), 300) or "no installed plugin knows it"
        unknown = e(
            "p",
            "What it is cannot be said here: ",
            why,
            ". The results below are as the records have them.",
            class_="note",
        )
        return [unknown, facts(further)]
    said, registered = about.description, about.registration
    origin = f"{registered.plugin.distribution} {registered.plugin.version}"
    return [
        e("p", prose(said.summary), class_="lead"),
        e("div", [paragraph(text) for text in said.body], class_="doc") if said.body else None,
        facts([
            *further,
            ("Sources", prose(said.sources)),
            ("Cost", prose(said.cost)),
            ("Needs", prose(said.needs)),
            *(("Data", _data(about)) for _ in about.data[:1]),
            ("Component", [e("code", registered.full_name), ", version ", str(getattr(about.component, "version", 1))]),
            ("Class", e("code", registered.where)),
            ("Distribution", f"{origin}, {f'licence {about.licence}' if about.licence else 'which states no licence'}"),
        ]),
        fields_table(about.fields),
    ]  # fmt: skip


def fields_table(fields: Sequence[Field]) -> Html | None:
    """Return the fields with their defaults and the values that a suite gave them; None if there are no fields."""
    if not fields:
        return None
    changed = any(field.value for field in fields)
    heads = ["field", *(["value here"] if changed else []), "default", "type", "meaning"]
    rows = [
        e("tr",
          e("th", e("code", field.name), scope="row"),
          _value(field) if changed else None,
          e("td", e("code", elide(field.default, 200)), class_="text"),
          e("td", field.type, class_="text"),
          e("td", prose(field.doc), "" if field.identity else KNOB, class_="text"))
        for field in fields
    ]  # fmt: skip
    table = e("table", e("thead", e("tr", [e("th", head, scope="col") for head in heads])), e("tbody", rows))
    return e(
        "section", e("h2", "Fields"), e("div", table, class_="scroll", tabindex="0", role="region", aria_label="fields")
    )


def _value(field: Field) -> Html:
    if not field.value:
        return e("td", "default", class_="text quiet")
    return e("td", e("code", elide(field.value, 200)), class_="text")


def paragraph(text: str) -> Html:
    """Return a paragraph of a docstring; one of ``* item`` lines becomes a list."""
    if text.startswith("* "):
        items = [line[2:] for line in displayable_lines(text).split("\n") if line.startswith("* ")]
        return e("ul", [e("li", prose(item)) for item in items])
    return e("p", prose(text))


def prose(text: str) -> list[Content]:
    """Return text with code in backticks and plain web addresses as elements; everything else is text."""
    clipped = text if len(text) <= LONGEST_PARAGRAPH else f"{text[:LONGEST_PARAGRAPH]}…"
    return list(_pieces(clipped))


def _pieces(text: str) -> Iterator[Content]:
    place = 0
    for match in _CODE.finditer(text):
        yield from _linked(text[place : match.start()])
        yield e("code", match[1] or match[2])
        place = match.end()
    yield from _linked(text[place:])


def _linked(text: str) -> Iterator[Content]:
    for words, address in links_in(text):
        yield e("a", words, href=address, rel="noopener noreferrer nofollow") if address else words


def _data(about: About) -> list[Content]:
    listed: list[Content] = []
    for use in about.data[:20]:
        said = "; ".join(filter(None, (f"licence: {use.licence}" if use.licence else "", use.citation)))
        listed.append(
            e("div", e("code", elide(use.label, 200)), f" ({use.field}) ", e("span", prose(said), class_="quiet"))
        )
    return listed
