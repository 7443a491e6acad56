"""Folders and data of the site: all or nothing, only over an own site; data survive as script files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruningbench.errors import UsageError
from pruningbench.site.data import Names, data_file, plain
from pruningbench.site.files import MARKER, File, check_replaceable, write_folder

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def value_of(file: File) -> Any:
    text = file.content.decode("ascii")
    name = file.address.removeprefix("data/").removesuffix(".js")
    head, tail = f'(window.PB_DATA=window.PB_DATA||{{}})["{name}"]=', ";\n"
    assert text.startswith(head)
    assert text.endswith(tail)
    return json.loads(text.removeprefix(head).removesuffix(tail))


@given(JSON)
def test_data_are_read_back_and_cannot_end_their_script(value: Any) -> None:
    file = data_file("any-1", value)
    assert value_of(file) == value
    assert not set(b"<>&") & set(file.content)
    assert file.content.count(b"\n") == 1


@pytest.mark.parametrize("name", ["", "A", "../x", 'x"', "a.b", "1a", "a\n"])
def test_names_of_data_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        data_file(name, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_hold_no_nan(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        data_file("x", [value])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_keep_six_digits(number: float) -> None:
    rounded = plain(number)
    assert rounded is not None
    assert math.isclose(rounded, number, rel_tol=5.1e-6, abs_tol=1e-300)


def test_undefined_numbers_are_null() -> None:
    assert [plain(math.nan), plain(math.inf), plain(-math.inf), plain(None)] == [None] * 4
    assert (plain(2.0), plain(0.1 + 0.2)) == (2, 0.3)
    assert isinstance(plain(2.0), int)


@given(st.lists(st.text()))
def test_names_are_stored_once_and_found_by_their_place(texts: list[str]) -> None:
    names = Names()
    places = [names.place(text) for text in texts]
    assert [names.texts[place] for place in places] == texts
    assert names.texts == list(dict.fromkeys(texts))


def files(*contents: tuple[str, bytes]) -> list[File]:
    return [File(address, content) for address, content in contents]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_site_replaces_a_site_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "site"
    assert write_folder(out, files((MARKER, b"{}"), ("a/b.html", b"old"))) == (2, 5)
    assert check_replaceable(out) == out
    write_folder(out, files((MARKER, b"{}"), ("c.html", b"new")))
    assert contents(out) == {MARKER: b"{}", "c.html": b"new"}
    assert [p.name for p in out.parent.iterdir()] == ["site"], "nothing is left beside it"


def test_a_failure_leaves_the_old_site_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_folder(out, files((MARKER, b"{}"), ("a.html", b"old")))

    def failing() -> Iterator[File]:
        yield File("a.html", b"new")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_folder(out, failing())
    assert contents(out) == {MARKER: b"{}", "a.html": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    "address", ["../x", "a/../b", "/etc/x", "a//b", "", ".hidden", "a b", "a\\b", "a/b/c/d", "x\n", "C:x"]
)
def test_unsafe_addresses_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="not safe"):
        write_folder(tmp_path / "site", files((address, b"")))
    assert list(tmp_path.iterdir()) == []


def test_two_files_of_the_same_address_are_refused_also_where_case_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two files"):
        write_folder(tmp_path / "site", files(("a.html", b""), ("A.html", b"")))


def test_only_own_sites_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty")
    check_replaceable(tmp_path / "missing" / "deep")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / MARKER).mkdir()
    for name in ("full", "file", "link", "trap"):
        with pytest.raises(UsageError, match="choose another --out"):
            check_replaceable(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write_folder(tmp_path / "file" / "site", files(("a.html", b"")))
