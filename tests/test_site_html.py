"""HTML of the site: text stays text, addresses are checked, every page has the strict policy."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.hostile import harmless
from kit.smallruns import HOSTILE

from pruningbench.base.text import displayable
from pruningbench.site.html import POLICY, Html, Page, document, e, join, pre


class Reader(HTMLParser):
    """Collects tags, attributes and text as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text() | st.sampled_from(HOSTILE))
def test_any_text_is_read_back_as_text(text: str) -> None:
    read = Reader(e("p", text, title=text))
    assert read.tags == ["p"]
    assert read.text == displayable(text)
    assert read.attributes == [("title", displayable(text))]
    assert harmless(read.text)


@given(st.lists(st.text(), max_size=4))
def test_content_may_be_nested_and_is_joined_in_order(texts: list[str]) -> None:
    nested = [texts[:1], None, (text for text in texts[1:])]
    assert Reader(join(nested)).text == "".join(map(displayable, texts))


def test_elements_are_not_escaped_again_and_attributes_follow_their_values() -> None:
    assert e("p", Html("<b>x</b>"), e("i", "&")) == "<p><b>x</b><i>&amp;</i></p>"
    assert e("input", type="text", disabled=True, hidden=False, id=None) == '<input type="text" disabled>'
    assert e("td", "1", class_="number", data_row=3, aria_label="one") == (
        '<td class="number" data-row="3" aria-label="one">1</td>'
    )


def test_lines_of_preformatted_text_stay_lines() -> None:
    assert Reader(pre("a: <b>\n\tc: 1\u202e\n")).text == "a: <b>\n\tc: 1\\u202e\n"
    assert pre("\na").startswith('<pre tabindex="0">\n\na')


@pytest.mark.parametrize(
    "address", ["index.html", "../run/x-1.html#a:b", "#main", "https://example.org/a?b=c:d", "a/b.js"]
)
def test_relative_and_web_addresses_are_kept(address: str) -> None:
    assert Reader(e("a", "x", href=address)).attributes == [("href", address)]


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x",
     "vbscript:x", "file:///etc/passwd", "//host/x", "/etc/passwd", "\\\\host\\x", "\tjavascript:x", "x\x00:y"],
)  # fmt: skip
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        e("a", "x", href=address)


@pytest.mark.parametrize("name", ["onclick", "onload", "style", 'x" onload', "ON"])
def test_handlers_and_inline_styles_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        e("p", "x", **{name: "alert(1)"})


@pytest.mark.parametrize("address", ["index.html", "run/a-1.html"])
def test_every_page_has_the_policy_and_only_files_as_scripts(address: str) -> None:
    page = Page(
        address, HOSTILE[0], e("p", HOSTILE[7]), scripts=("assets/x.js",), data=("boards",), trail=[("", HOSTILE[1])]
    )
    text = document(page, HOSTILE[2])
    read = Reader(text)
    assert ("content", POLICY) in read.attributes
    assert text.index("Content-Security-Policy") < text.index("<script")
    up = "../" * address.count("/")
    scripts = [value for name, value in read.attributes if name == "src"]
    assert scripts == [
        f"{up}{name}" for name in ("assets/theme.js", "data/boards.js", "assets/common.js", "assets/x.js")
    ]
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "style"]
    assert "b" not in read.tags
    assert "img" not in read.tags


def test_policy_allows_no_request_and_nothing_inline_but_the_style_of_plot() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["style-src"].split(" ")[0] == "'self'"
    assert all(word == "'self'" or word.startswith("'sha256-") for word in rules["style-src"].split(" "))
    assert rules["base-uri"] == rules["form-action"] == "'none'"
