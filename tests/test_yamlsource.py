"""YAML with positions: safe, strict, and every error says where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pruningbench.base.yamlsource import parse_yaml, read_yaml
from pruningbench.errors import SuiteError
from pruningbench.suite.settings import apply_setting

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abcxyz-. ", max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
def test_reads_what_yaml_writes(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value), "x").value == value


@pytest.mark.parametrize(
    ("text", "number"), [("1e-4", 1e-4), ("1E3", 1000.0), (".5", 0.5), ("-2.5e+1", -25.0), ("0.", 0.0)]
)
def test_floats_as_everybody_writes_them(text: str, number: float) -> None:
    value = parse_yaml(f"lr: {text}", "x").value["lr"]
    assert isinstance(value, float)
    assert value == number


@pytest.mark.parametrize("text", ["12:30", "1.2.3", "e4", "v1e4", "2026-01-01"])
def test_what_is_no_number_stays_text_or_int(text: str) -> None:
    assert not isinstance(parse_yaml(f"a: {text}", "x").value["a"], float)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "x:3:1", "is repeated here (first on line 1)"),
        ("a: {b: 1, c: 2, b: 3}\n", "x:1:17", "is repeated here"),
        ("a: [1, 2\nb: 3\n", "x:2:2", "not valid YAML"),
        ("a: 'open\n", "x:", "not valid YAML"),
        ("a:\n\t- b\n", "x:2:1", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "x:1:4", "python/object"),
        ("a: &x [*x]\n", "x:", "refers to itself"),
        ("a: {<<: {b: 1}}\n", "x:1:5", "merge keys"),
        ("? [1, 2]\n: 3\n", "x:1:3", "plain text"),
        ("a: *nowhere\n", "x:1:4", "undefined alias"),
        ("a: \x00", "x", "not valid YAML"),
    ],
)
def test_errors_name_line_and_column(text: str, place: str, words: str) -> None:
    with pytest.raises(SuiteError) as caught:
        parse_yaml(text, "x")
    assert str(caught.value).startswith(place)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exploding_aliases_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(SuiteError, match="more than"):
        parse_yaml("\n".join(lines), "x")


def test_positions_of_values_and_keys() -> None:
    document = parse_yaml("models:\n  - resnet\n  - use: vit\n    depth: 3\n", "s.yaml")
    assert document.where(("models", 0)) == "s.yaml:2:5"
    assert document.where(("models", 1, "depth")) == "s.yaml:4:12"
    assert document.where(("models", 1, "depth"), key=True) == "s.yaml:4:5"
    assert document.where(("models", 1, "lacking")) == "s.yaml:3:5"  # the nearest parent


@pytest.mark.parametrize("content", [b"\xff\xfea: 1", b"a: \xc3"])
def test_files_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match="UTF-8"):
        read_yaml(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cannot be read"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(SuiteError, match="folder"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("sparsities=[0, .9]", ("sparsities",), [0, 0.9]),
        ("recipes.1.epochs=5", ("recipes", 1, "epochs"), 5),
        ("pruners.0.allocation=erk", ("pruners", 0), {"use": "magnitude", "allocation": "erk"}),
        ("name=other=one", ("name",), "other=one"),
        ("scope.head=false", ("scope", "head"), False),
        ("batch_size=7", ("batch_size",), 7),
    ],
)
def test_settings(setting: str, path: tuple[str | int, ...], value: object) -> None:
    document = parse_yaml("name: a\nscope: {head: true}\npruners: [magnitude]\nrecipes: [none, {use: finetune}]", "x")
    apply_setting(document, setting)
    found = document.value
    for step in path:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sparsities", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("recipes.7.epochs=1", "items 0 to 1"),
        ("recipes.first.epochs=1", "items 0 to 1"),
        ("pruner.0.allocation=erk", "did you mean 'pruners'"),
        ("scope.head.deep=1", "single value"),
        ("name=[", "not valid YAML"),
    ],
)
def test_settings_that_lead_nowhere(setting: str, words: str) -> None:
    document = parse_yaml("name: a\nscope: {head: true}\npruners: [magnitude]\nrecipes: [none, {use: finetune}]", "x")
    with pytest.raises(SuiteError) as caught:
        apply_setting(document, setting)
    assert words in str(caught.value)
    assert "--set" in str(caught.value)


def test_a_named_pipe_is_refused_and_a_shell_s_pipe_is_read(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes waits for ever; ``run <(...)`` gives one that somebody writes."""
    os.mkfifo(tmp_path / "suite.yaml")
    with pytest.raises(SuiteError, match=r"suite.yaml: is a named pipe, not a suite file$"):
        read_yaml(tmp_path / "suite.yaml")
    reader, writer = os.pipe()
    os.write(writer, b"name: piped")
    os.close(writer)
    try:
        assert read_yaml(Path(f"/dev/fd/{reader}")).value == {"name": "piped"}
    finally:
        os.close(reader)
