"""What the tests share: the toy plugin, a registry that knows it, and the command line in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from hypothesis import settings
from kit import browser as browsers
from kit.commands import MAIN, run_python
from kit.fileserver import FileServer
from kit.gpu import gpu
from kit.humandata import nights, things
from kit.installs import install
from kit.runs import one_thread
from kit.toysuite import TOY, TOY_SUITE, Command, toy_environment

from pruningbench.images import fetch as fetching
from pruningbench.plugins import Registry, build_registry, load_registry

__all__ = ["gpu", "install", "nights", "one_thread", "things"]  # fixtures of the kit

# the same cases on every run, so that a failure is a change's; no deadline: a loaded machine is no failure
settings.register_profile("pruningbench", deadline=None, derandomize=True, database=None)
# new cases on each run, and more of them (also kit.cases): make test-explore
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("PRUNINGBENCH_HYPOTHESIS", "pruningbench"))

sys.path.insert(0, str(TOY))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, or sees other plugins than it says."""
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PRUNINGBENCH_PLUGINS", raising=False)
    monkeypatch.delenv("PRUNINGBENCH_DATA", raising=False)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "toy.log"))


@pytest.fixture(scope="session")
def toy_registry() -> Registry:
    """A registry of the built-ins and the toy plugin, found as any third party's plugin is."""
    points = list(load_registry.__wrapped__().plugins)  # the built-ins load; what they are is not used here
    assert points
    found = [
        point
        for distribution in distributions()
        for point in distribution.entry_points
        if point.group == "pruningbench"
    ]
    registry = build_registry(found)
    assert any(plugin.name == "toy" for plugin in registry.plugins), registry.broken
    return registry


@pytest.fixture(scope="session")
def browser() -> Iterator[browsers.Browser]:
    """A real browser without network; tests that need it do not run where there is none, and say so."""
    if browsers.find_chromium() is None:
        (pytest.fail if browsers.required() else pytest.skip)(browsers.MISSING)
    with browsers.running() as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line that the tests of the site did not run, if there is no browser."""
    if browsers.find_chromium() is None:
        terminalreporter.write_line(browsers.MISSING)


@pytest.fixture()
def toy_log(tmp_path: Path) -> Callable[[], list[str]]:
    """Return what the toy components really did so far, a line each."""

    def read() -> list[str]:
        path = tmp_path / "toy.log"
        return path.read_text().splitlines() if path.exists() else []

    return read


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of data sets, empty."""
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of files, of which downloads hardly wait between two tries."""
    monkeypatch.setattr(fetching, "PAUSES", (0.01, 0.01))
    running = FileServer()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a download goes."""
    return tmp_path / "data" / "things"


@pytest.fixture()
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a suite file and return its path."""

    def write(text: str = TOY_SUITE, name: str = "suite.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture()
def pruningbench(tmp_path: Path) -> Command:
    """Run the command line in a process of its own, in an empty folder."""

    def call(*arguments: str | Path, check: int | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
        done = run_python(MAIN, *map(str, arguments), cwd=tmp_path, env={**toy_environment(), **extra})
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call
