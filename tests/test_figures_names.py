"""Names are plain text in figures, and no figure decides whether a run is fine."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from kit.boards import record, write_run
from kit.figures import is_picture, make_run, show
from kit.toysuite import TOY_SUITE, Command
from matplotlib.figure import Figure
from matplotlib.text import Text

from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard import draw_figures, figures

TEX = "$x_{$"


def odd_run(folder: Path, name: str) -> Path:
    """A run in which every name and caption is odd, with curves, maps and boxes."""
    common = {"model": name, "recipe": name, "suite": name, "unit": name}
    run = [record(p, f"{name}{i}", task=t, sparsity=s, **common) for p, s in (("dense", 0.0), (name, 0.5), (f"{name}2", 0.9))
           for t in (name, "looking", "finding") for i in range(2)]  # fmt: skip
    write_run(folder, run)
    for one in run:
        if one.task != name:
            show(folder, one, **({"captions": (name,) * 4} if one.task == "looking" else {}))
    return folder


@pytest.mark.parametrize("name", [TEX, "\\frac", "$\\frac{$", "\\$", "a$b$c", "\x1b[31m\u202e$_$", "\udc80", "_x"])
def test_odd_names_are_drawn_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    original = Figure.savefig

    def save(self: Figure, *args: Any, **more: Any) -> None:
        texts = [text for text in self.findobj(Text) if isinstance(text, Text)]
        assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
        drawn.extend(text.get_text() for text in texts)
        original(self, *args, **more)

    monkeypatch.setattr(Figure, "savefig", save)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph")
        with matplotlib.rc_context({"text.usetex": True}):  # a user's matplotlibrc makes no program of a name
            paths = draw_figures(odd_run(tmp_path / "run", name))
    assert {re.split("[-.]", path.name)[0] for path in paths} == {"curves", "maps", "boxes"}
    assert all(is_picture(path) for path in paths)
    assert all(text.replace("\n", "").isprintable() for text in drawn)
    if name.isprintable():
        assert any(name in text for text in drawn)


def test_a_figure_that_fails_is_one_line_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", exhibits=False)
    original = Figure.savefig

    def fail_once(self: Figure, *args: Any, **more: Any) -> None:
        monkeypatch.setattr(Figure, "savefig", original)
        raise RuntimeError("two\nlines\x1b[2J")

    monkeypatch.setattr(Figure, "savefig", fail_once)
    with pytest.warns(
        UserWarning, match=r"figures: curves-sorting\.png cannot be drawn \(RuntimeError: two lines\\x1b"
    ) as told:
        paths = draw_figures(run)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert len(paths) == 3
    assert json.loads((run / "figures" / "figures.json").read_text())["results_sha256"] is None
    assert len(draw_figures(run)) == 4  # nothing failed this time


def test_a_kind_of_figures_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(board: object) -> Any:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr("pruningbench.leaderboard.curves.curves", broken)
    with pytest.warns(
        UserWarning,
        match=r"figure \'curves\' of plugin core .* cannot be drawn \(ZeroDivisionError\); the numbers are complete",
    ):
        paths = draw_figures(make_run(tmp_path / "run"))
    assert {path.name.partition("-")[0] for path in paths} == {"maps", "boxes"}


def test_a_run_is_fine_without_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pruningbench.cli.run import report
    from pruningbench.harness.driver import Summary

    def full(folder: Path, *, pdf: bool) -> list[Path]:
        raise PruningBenchError(f"{folder}: figures cannot be written (No space left on device)")

    run = make_run(tmp_path / "run", exhibits=False)
    monkeypatch.setattr("pruningbench.leaderboard.draw_figures", full)
    assert report(run, Summary(9, 9, 0, ())) == 0
    said = capsys.readouterr()
    assert "No space left on device" in said.err and said.err.count("\n") == 1
    assert "(not drawn)" in said.out


def test_a_suite_with_tex_in_its_names_runs(
    pruningbench: Command, suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    """The label of the pruner holds the text of its field."""
    text = TOY_SUITE.replace("allocation: uniform", f"lie: '{TEX}'").replace(", {use: finetune, epochs: 1}", "")
    done = pruningbench("run", suite_file(text), check=0)
    assert TEX in done.stdout and "cannot be drawn" not in done.stderr
    assert "(1 pictures)" in done.stdout
    assert figures.LISTING in {path.name for path in (tmp_path / "runs/toy/figures").iterdir()}
