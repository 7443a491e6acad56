"""What SECURITY.md says about plugins and suites, checked by a plugin and a function that leave a trace when they are run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.boards import record, write_run
from kit.toysuite import TOY_SUITE, Command, toy_environment

from pruningbench.base import yamlsource
from pruningbench.images import archives
from pruningbench.store import samples

PAGE = (Path(__file__).parents[1] / "SECURITY.md").read_text("utf-8")


@pytest.fixture()
def spy(tmp_path: Path) -> Callable[[], bool]:
    """Install a plugin that leaves a trace; return whether it has been imported since the last question."""
    (tmp_path / "spy-2.0.dist-info").mkdir()
    (tmp_path / "spy-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 2.0\n")
    (tmp_path / "spy-2.0.dist-info" / "entry_points.txt").write_text("[pruningbench]\nspy = spy_plugin\n")
    trace = tmp_path / "trace"
    (tmp_path / "spy_plugin.py").write_text(f"open({str(trace)!r}, 'w').close()\n")

    def imported() -> bool:
        was = trace.exists()
        trace.unlink(missing_ok=True)
        return was

    return imported


def test_which_commands_import_plugins(spy: Callable[[], bool], pruningbench: Command, tmp_path: Path) -> None:
    path = os.pathsep.join([str(tmp_path), toy_environment()["PYTHONPATH"]])
    write_run(tmp_path / "run", [record("a")])
    for command in (
        ["list"], ["show", "pruner", "random"], ["plan", "quickstart"], ["data", "path", "digits"], ["leaderboard", "run"],
        ["show", "suite", "quickstart"],
    ):  # fmt: skip
        pruningbench(*command, check=0, PYTHONPATH=path)
        assert spy(), command
    pruningbench("list", check=0, PYTHONPATH=path, PRUNINGBENCH_PLUGINS="")
    assert not spy()
    for command in (["--help"], ["--version"]):
        pruningbench(*command, check=0, PYTHONPATH=path)
        assert not spy(), command


def test_a_suite_with_a_python_model_is_a_program(
    pruningbench: Command, suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    """Any function that can be imported is called with the suite's arguments, and a line says so before."""
    models = "[{use: python, network: 'os:mkdir', args: {path: made}}]"
    done = pruningbench("plan", suite_file(TOY_SUITE.replace("[toy-net]", models) + "data: toy-data\n"), check=0)
    assert (tmp_path / "made").is_dir()
    assert done.stderr.startswith("runs os:mkdir (model python(os:mkdir")


def test_the_limits_are_those_of_the_code() -> None:
    assert "up to 1 MiB, 20,000 values" in PAGE and "50 levels, 10,000 characters a text and 100 digits" in " ".join(
        PAGE.split()
    )
    limits = (
        yamlsource.MOST_BYTES,
        yamlsource._MOST_NODES,
        yamlsource._DEEPEST,
        yamlsource._LONGEST,
        yamlsource._MOST_DIGITS,
    )
    assert limits == (1 << 20, 20_000, 50, 10_000, 100)
    assert "at most 4 GiB a file" in PAGE and samples.LARGEST == 4 << 30
    assert "no more than 200 times" in PAGE and archives.LARGEST_RATIO == 200
    assert "@" not in PAGE.replace("O_NOFOLLOW", "")  # no addresses
