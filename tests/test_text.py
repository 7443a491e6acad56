"""Text that may be shown: nothing in it moves a cursor, turns a line around, or hides."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import failure, record, write_run
from kit.hostile import harmless
from kit.toysuite import TOY_SUITE, Command, toy_environment

from pruningbench.base.text import displayable, displayable_json, displayable_lines, last_line

HOSTILE = "\x1b[2J\x9b31m\u202egnp\u2066\u200b\u200f\u061c\ufeff\x07\x08\x7f\udc80\U000e0041"
BAD = [*map(chr, [*range(32), *range(127, 160), 0x61C, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029]),
       *map(chr, [*range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0xAD, 0xD800, 0xDFFF, 0x34F, 0x3164, 0xE0001])]  # fmt: skip
ANYTHING = st.text(st.characters(blacklist_categories=()) | st.sampled_from(BAD))


@pytest.mark.parametrize("character", BAD)
def test_every_bad_character_is_seen(character: str) -> None:
    shown = displayable(f"a{character}b")
    assert shown == "a b" if character in "\n\r\u2028\u2029" else shown[1] == "\\"
    assert harmless(shown)
    assert harmless(displayable_lines(f"a{character}b"), keep="\n\t")


@given(ANYTHING)
def test_what_is_shown_is_harmless_and_stays_as_it_is(text: str) -> None:
    for show, keep in ((displayable, ""), (displayable_lines, "\n\t")):
        shown = show(text)
        assert harmless(shown, keep=keep) and show(shown) == shown
        shown.encode("utf-8")
    if harmless(text) and not set(text) & set(BAD):
        assert displayable(text) == text


@given(
    st.recursive(ANYTHING | st.none() | st.integers(), lambda part: st.lists(part) | st.dictionaries(ANYTHING, part))
)
def test_json_is_harmless_and_says_the_same(value: object) -> None:
    text = displayable_json(value, indent=1)
    assert json.loads(text) == value
    assert harmless(text, keep="\n")


def test_readable_text_is_left_alone() -> None:
    for text in (
        "digits-resnet · magnitude(erk) 0.9",
        "Ölbild ± 3 % ▲ …",
        "日本語 العربية עברית",
        "a\u00a0b\u2009c",
        "\\x1b",
    ):
        assert displayable(text) == displayable_lines(text) == text
    assert displayable("a\n  b\r\nc") == "a b c"
    assert displayable_lines("a\r\nb\tc") == "a\nb\tc"
    assert displayable("\x1b[31m\u202e") == "\\x1b[31m\\u202e"
    assert last_line("Traceback\n  line\nValueError: \x1b[2Jno\n") == "ValueError: \\x1b[2Jno"
    assert last_line(" \n") == ""


def test_the_command_line_prints_in_one_place() -> None:
    """Every print of every command goes through `say`, `say_json` or `complain`."""
    folder = Path(__file__).parents[1] / "pruningbench" / "cli"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            assert name not in ("echo", "secho", "print_exc") or path.name == "common.py", (path.name, node.lineno)


@pytest.fixture()
def hostile_run(tmp_path: Path) -> Path:
    """A run of a stranger: every label and every error is hostile."""
    names = {
        "model": f"m{HOSTILE}",
        "recipe": f"r{HOSTILE}\nforged: line",
        "task": f"t{HOSTILE}",
        "variant": f"v{HOSTILE}",
    }
    some = [record(f"p{HOSTILE}", f"x{HOSTILE}", unit=f"u{HOSTILE}", suite=f"s{HOSTILE}", **names)]
    return write_run(tmp_path / "run", [*some, failure(f"q{HOSTILE}", f"E\n{HOSTILE}", **{**names, "variant": ""})])


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
def test_a_hostile_journal_is_shown_without_harm(format_: str, hostile_run: Path, pruningbench: Command) -> None:
    done = pruningbench("leaderboard", hostile_run, "--format", format_, check=0)
    assert harmless(done.stdout, keep="\n"), ascii(done.stdout)
    assert "\\u202e" in done.stdout
    assert {"json": "\\u001b[2J", "markdown": "\\\\x1b\\[2J"}.get(format_, "\\x1b[2J") in done.stdout
    assert not any(line.startswith("forged") for line in done.stdout.splitlines()) or format_ == "csv"
    pruningbench("leaderboard", hostile_run, "--format", format_, "--out", "tables", check=0)
    (path,) = (hostile_run.parent / "tables").iterdir()
    assert harmless(path.read_text("utf-8"), keep="\n")


def test_errors_about_hostile_suites_are_one_harmless_line(
    pruningbench: Command, suite_file: Callable[..., Path]
) -> None:
    escaped = json.dumps(HOSTILE.replace("\udc80", ""))
    for text in (
        TOY_SUITE.replace("[toy-net]", f"[{escaped}]"),
        TOY_SUITE.replace("[toy-net]", f"[{{use: toy-net, {escaped}: 1}}]"),
        TOY_SUITE + f"{escaped}: 1\n",
        TOY_SUITE.replace("name: toy", f"name: {escaped}"),
    ):
        done = pruningbench("run", suite_file(text), check=2)
        assert harmless(done.stderr, keep="\n") and not done.stdout, ascii(done.stderr)
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr


def test_hostile_paths_and_descriptions_are_shown_without_harm(
    pruningbench: Command, suite_file: Callable[..., Path]
) -> None:
    path = suite_file(
        TOY_SUITE
        + f"description: {json.dumps('evil ' + HOSTILE[:-2] + chr(10) + 'missing nothing')}\n".replace("\\udc80", "")
    )
    done = pruningbench("plan", path, "--out", "run\x1b[2J\u202e", check=0)
    assert harmless(done.stdout, keep="\n"), ascii(done.stdout)
    assert "evil \\x1b[2J" in done.stdout and "run\\x1b[2J\\u202e" in done.stdout
    assert "missing nothing" not in [line.strip() for line in done.stdout.splitlines()]
    done = pruningbench("run", "no\x1b[2J\u202e.yaml", check=2)
    assert harmless(done.stderr, keep="\n") and "no\\x1b[2J\\u202e.yaml" in done.stderr
    done = pruningbench("run", "x", "--progres\u202e", check=2)
    assert harmless(done.stderr, keep="\n")


def test_hostile_plugins_are_named_without_harm(pruningbench: Command, tmp_path: Path) -> None:
    (tmp_path / "bad-2.0.dist-info").mkdir()
    (tmp_path / "bad-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 2.0\n")
    (tmp_path / "bad-2.0.dist-info" / "entry_points.txt").write_text("[pruningbench]\nbad = bad_plugin\n")
    (tmp_path / "bad_plugin.py").write_text(f"raise ImportError({HOSTILE + chr(10) + 'problem: none'!a})\n")
    path = os.pathsep.join([str(tmp_path), toy_environment()["PYTHONPATH"]])
    for command, code in (("list", 0), ("doctor", 1)):
        done = pruningbench(command, check=code, PYTHONPATH=path)
        assert harmless(done.stdout + done.stderr, keep="\n"), ascii(done.stderr)
        assert "bad (bad 2.0)" in done.stderr and "\\u202e" in done.stderr
        assert not any(line.startswith("problem: none") for line in done.stderr.splitlines())


def test_hostile_errors_of_components_reach_progress_and_summary_without_harm(
    pruningbench: Command, suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(f"def build():\n    raise ValueError({'x' + HOSTILE!a})\n")
    text = TOY_SUITE.replace("[toy-net]", "[{use: python, network: own.py:build}]").replace(
        "[none, {use: finetune, epochs: 1}]", "[none]"
    )
    done = pruningbench("run", suite_file(text), check=1)
    assert harmless(done.stdout + done.stderr, keep="\n"), ascii(done.stderr)
    assert done.stderr.count("x\\x1b[2J") > 2
    for line in (tmp_path / "runs/toy/results.jsonl").read_text().splitlines():
        assert harmless(line)
