"""`compare`: text, Markdown and JSON of a comparison, and the command as a gate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kit.boards import record, write_run
from kit.compared import two, worse_by
from kit.paired import correct, measured
from kit.toysuite import Command

import pruningbench as pb
from pruningbench.cli.main import cli, guarded
from pruningbench.errors import RunFolderError, UsageError
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.changes import Change, Place
from pruningbench.leaderboard.contrast import Contrast
from pruningbench.leaderboard.contrast_formats import LONGEST_COMMENT, render_contrast

# output


def _big(count: int, name: str) -> Contrast:
    changes = tuple(
        Change(Place(f"{name}{i}", "p|`*_<b>", "none", 0.5, "t", "", "m"), (0,), 0.5, 0.4,
               Entry(-0.1, -0.2, -0.05, 9, 1, p=0.0, p_holm=0.0), True, verdict="worse")
        for i in range(count)
    )  # fmt: skip
    return Contrast("a", "b", changes, (), (), ())


def test_markdown_fits_a_comment_and_shows_names_literally(tmp_path: Path) -> None:
    text = render_contrast(_big(5000, "<script>alert(1)</script>@someone" + "x" * 10_000), "markdown")
    assert 30_000 < len(text) <= LONGEST_COMMENT
    first, *_ = text.splitlines()
    assert first == "**❌ pruningbench failed: 5000 worse, 0 better; 5000 values compared**"
    assert "<script" not in text.replace("`", "") or "`<script" in text
    assert "more\n\n</details>" in text and text.count("<details") == text.count("</details>") == 1
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| :"):
            assert line.replace("\\|", "").count("|") == 10
    table = render_contrast(_big(50, "n"))
    assert "… and 10 more: --format json lists all" in table
    assert len(json.loads(render_contrast(_big(50, "n"), "json"))["changes"]) == 50


def test_hostile_names_show_as_text(tmp_path: Path) -> None:
    a = correct(0.8)
    name = "\x1b[31m\u202ex\n| # <img src=x onerror=y> [l](javascript:z)"
    before, after = two(tmp_path, (measured(a, pruner=name), measured(worse_by(0.1, a), pruner=name)))
    contrast = pb.compare(before, after)
    for format in ("table", "markdown", "json"):
        text = render_contrast(contrast, format)
        assert "\x1b" not in text and "\u202e" not in text
    assert "\\[l\\]" in render_contrast(contrast, "markdown") or "`" in render_contrast(contrast, "markdown")
    assert "&lt;img" in render_contrast(contrast, "markdown")
    assert str(contrast) == render_contrast(contrast)


def test_output_is_the_same_each_time(tmp_path: Path) -> None:
    a = correct(0.8)
    before, after = two(tmp_path, *((measured(a, pruner=p), measured(worse_by(0.1, a), pruner=p)) for p in "edcba"))
    for format in ("table", "markdown", "json"):
        assert len({render_contrast(pb.compare(before, after), format) for _ in range(2)}) == 1
    assert [c.place.pruner for c in pb.compare(before, after).worse] == list("abcde")


def call(*arguments: object) -> int:
    return guarded(lambda: cli.main([str(a) for a in arguments], prog_name="pruningbench", standalone_mode=False))


def test_the_command_is_a_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = correct(0.8)
    before, after = two(tmp_path, (measured(a), measured(worse_by(0.1, a))))
    assert call("compare", before, after) == 1
    assert "failed: 1 worse, 0 better; 1 value compared" in capsys.readouterr().out
    out = tmp_path / "c.md"
    assert call("compare", before, after, "--fail-on", "none", "--format", "markdown", "--out", out) == 0
    assert out.read_text().startswith("**✅ pruningbench not judged: 1 worse")
    assert call("compare", before, after, "--margin", "accuracy=.3") == 0
    assert call("compare", before, after, "--out", tmp_path / "c.md" / "below") == 2
    assert call("compare", before, tmp_path / "nothing") == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and "is not a run folder" in error and error.count("\n") == 2


def test_the_command_in_a_process(tmp_path: Path, pruningbench: Command) -> None:
    a = correct(0.8)
    before, after = two(tmp_path, (measured(a), measured(worse_by(0.1, a))))
    assert "1 worse" in pruningbench("compare", before, after, check=1).stdout


@pytest.mark.parametrize("margin", ["x", "accuracy=", "nan", ".1 .2", "a=.1 .2", "0"])
def test_wrong_margins_are_usage_errors(tmp_path: Path, margin: str) -> None:
    folder = write_run(tmp_path / "run", [record()])
    options = [part for text in margin.split() for part in ("--margin", text)]
    assert call("compare", folder, folder, *options) == 2


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    with pytest.raises(RunFolderError, match="nowhere: is not a run folder"):
        pb.compare(folder, tmp_path / "nowhere")
    contrast = pb.compare(folder, folder)
    with pytest.raises(UsageError, match="fail-on 'wors' is not one of .*did you mean 'worse'"):
        contrast.failure("wors")
    with pytest.raises(UsageError, match="format 'html' is not one of"):
        render_contrast(contrast, "html")
    assert replace(contrast, changes=()).failure() == "nothing could be compared"
