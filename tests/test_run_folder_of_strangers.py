"""A run folder may come from anybody: nothing in it leads outside, keeps a reader waiting, or fills the memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.runs import run
from kit.toysuite import COMMAND, TOY_SUITE, Command, toy_environment

from pruningbench.base.files import not_plain, open_plain, read_plain
from pruningbench.errors import PruningBenchError, RunFolderError
from pruningbench.harness.attempts import DeathWatch
from pruningbench.harness.driver import Driver
from pruningbench.harness.observing import Observers
from pruningbench.harness.run import RunOptions, prepare
from pruningbench.hookspecs import RunInfo, hookimpl
from pruningbench.leaderboard import draw_figures
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.journal import Journal, read_journal
from pruningbench.store.runfolder import ROOMS, RunFolder
from pruningbench.store.samples import is_damaged, read_arrays, write_arrays
from pruningbench.suite.schema import suite_from_text

SMALL = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", "[none]").replace("[0, 0.5, 0.9]", "[0, 0.5]")
FILES = ("results.jsonl", "environment.json", "suite.yaml", "running.json", ".lock")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_registry: Registry) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(SMALL, toy_registry, folder)
    draw_figures(folder)
    return folder


@pytest.fixture()
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, with a precious file of somebody else's beside it."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter").write_text("dear")
    return tmp_path / "run"


def outside(folder: Path) -> dict[str, bytes]:
    precious = folder.parent / "precious"
    return {str(path.relative_to(precious)): path.read_bytes() for path in precious.rglob("*") if path.is_file()}


def put(path: Path, how: str, target: Path) -> None:
    """Put a link, a hard link or a pipe where a file or folder was."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if how == "link":
        path.symlink_to(target)
    elif how == "hard link":
        path.hardlink_to(target)
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("how", ["link", "pipe"])
@pytest.mark.parametrize("name", FILES)
def test_links_and_pipes_for_files_are_refused(how: str, name: str, mine: Path, toy_registry: Registry) -> None:
    put(mine / name, how, mine.parent / "precious" / "letter")
    with pytest.raises(RunFolderError) as caught:
        run(SMALL, toy_registry, mine)
    words = {"link": "is a link", "pipe": "is a pipe, a socket or a device"}[how]
    assert str(caught.value).startswith(f"{mine / name}: {words}") and "\n" not in str(caught.value)
    assert outside(mine) == {"letter": b"dear"}


@pytest.mark.parametrize("name", ROOMS)
def test_links_for_folders_are_refused(name: str, mine: Path, toy_registry: Registry) -> None:
    """Figures are redrawn, removed and listed; masks and samples written: none of it through a link."""
    (mine.parent / "precious" / "curves-toy-task.png").write_bytes(b"mine")
    listing = {"drawing": 0, "results_sha256": None, "figures": ["curves-toy-task.png", "letter.png"]}
    (mine.parent / "precious" / "figures.json").write_text(json.dumps(listing))
    put(mine / name, "link", mine.parent / "precious")
    before = outside(mine)
    folder = RunFolder(mine)
    places = {
        "masks": lambda: folder.mask_file("c"), "weights": lambda: folder.weights_file("c"),
        "samples": lambda: folder.samples_file("c", "t"), "exhibits": lambda: folder.exhibit_file("c", "t", ""),
        "figures": lambda: draw_figures(mine), "cache": lambda: folder.private_cache,
    }  # fmt: skip
    for act in (places[name], lambda: run(SMALL + "seeds: [0, 1]\n", toy_registry, mine)):
        with pytest.raises(RunFolderError, match=f"{name}: is a link, but a run folder holds only plain files"):
            act()
    assert outside(mine) == before


def test_a_journal_with_a_second_name_is_not_written(mine: Path) -> None:
    precious = mine.parent / "precious" / "letter"
    precious.write_bytes(read_plain(mine / "results.jsonl") + b"torn")
    put(mine / "results.jsonl", "hard link", precious)
    with pytest.raises(RunFolderError, match="second name"):
        Journal(mine / "results.jsonl")
    assert precious.read_bytes().endswith(b"torn")
    assert read_journal(mine / "results.jsonl")[0]


@pytest.mark.parametrize("how", ["link", "pipe"])
def test_readers_neither_follow_nor_wait(how: str, mine: Path, pruningbench: Command) -> None:
    put(mine / "results.jsonl", how, mine.parent / "precious" / "letter")
    with pytest.raises(RunFolderError):
        read_journal(mine / "results.jsonl")
    done = pruningbench("leaderboard", mine, check=2)
    assert done.stderr.count("\n") == 1 and "results.jsonl" in done.stderr
    samples = next((mine / "samples").iterdir())
    put(samples, how, mine.parent / "precious" / "letter")
    assert is_damaged(samples)
    with pytest.raises(OSError, match="only plain files"):
        read_arrays(samples)
    put(mine / "running.json", how, mine.parent / "precious" / "letter")
    assert DeathWatch(mine / "running.json").suspect is None
    assert outside(mine) == {"letter": b"dear"}


def test_samples_that_are_links_are_measured_again_in_place(mine: Path, toy_registry: Registry) -> None:
    samples = next((mine / "samples").iterdir())
    put(samples, "link", mine.parent / "precious" / "letter")
    assert run(SMALL, toy_registry, mine).computed == 1
    assert not samples.is_symlink() and read_arrays(samples)
    assert outside(mine) == {"letter": b"dear"}


def test_plain_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert not_plain(tmp_path / "file") is None is not_plain(tmp_path / "absent") is not_plain(tmp_path / "file" / "x")
    assert not_plain(tmp_path) == "is a folder"
    assert read_plain(tmp_path / "file", most=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_plain(tmp_path / "file", most=4)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "absent")
    with pytest.raises(OSError, match="is a folder"):
        open_plain(tmp_path)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


def test_a_bomb_for_a_suite_costs_no_memory(mine: Path) -> None:
    """The difference to the stored suite is told by the same bounded reader that reads suites."""
    (mine / "suite.yaml").write_text(BOMB + "name: &n [*a8, *a8]\n")
    code = (
        "import resource, sys\nfrom pruningbench.store.runfolder import RunFolder\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try: RunFolder(sys.argv[1]).check('other', {'name': 'x', 'a8': 1})\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(mine)], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("RunFolderError") and "suite.yaml cannot be read" in done.stdout, done.stderr[-500:]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 100_000, b"name: " + b"9" * 5000, b"x" * (2 << 20), b'name: "\\ud800"']
)
def test_damaged_suites_in_run_folders_are_one_line(content: bytes, mine: Path) -> None:
    (mine / "suite.yaml").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"suite\.yaml cannot be read"):
        RunFolder(mine).check("other", {"name": "x"})


def test_arrays_that_unpack_to_too_much_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(tmp_path / "a.npz", {"v|m": np.zeros(1 << 16)})
    monkeypatch.setattr("pruningbench.store.samples.LARGEST", 1 << 18)
    with pytest.raises(ValueError, match="damaged"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("way", ["deleted", "moved"])
def test_a_folder_that_goes_in_mid_run_is_said(way: str, tmp_path: Path, toy_registry: Registry) -> None:
    """Nothing is written into the void, and no empty folder comes back."""
    out = tmp_path / "run"

    class Remover:
        @hookimpl
        def pruningbench_task_done(self) -> None:
            shutil.rmtree(out) if way == "deleted" else out.rename(tmp_path / "elsewhere")

    prepared = prepare(suite_from_text(SMALL, toy_registry), toy_registry, out, RunOptions(device="cpu"))
    from pruningbench.harness.run import execute

    with pytest.raises(PruningBenchError, match="was deleted or moved during the run"):
        execute(prepared, toy_registry, Remover())
    assert not out.exists()
    if way == "moved":
        assert len(load_results(tmp_path / "elsewhere").drop_duplicates("cell")) == 1


def test_the_command_line_says_that_a_folder_was_deleted(tmp_path: Path, suite_file: Callable[..., Path]) -> None:
    path = suite_file(SMALL.replace("{use: toy-task, ", "{use: toy-task, seconds: 1, "))
    process = subprocess.Popen([*COMMAND, "run", str(path), "--out", "run"], cwd=tmp_path, env=toy_environment(),
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    journal, deadline = tmp_path / "run" / "results.jsonl", time.monotonic() + 120
    while (not journal.exists() or not journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    while (tmp_path / "run").exists():  # the process may write another file while its folder is being deleted
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "was deleted" in err and "is not a run folder" not in err and "Traceback" not in err
    assert not out


def test_an_empty_watch_writes_no_folder(tmp_path: Path) -> None:
    DeathWatch(tmp_path / "gone" / "running.json").enter("cell", "step")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"cell": 1e999, "step": "s", "note": "", "crashes": 1e999, "deaths": 0, "reason": ""}', "\udcff"],
)
def test_a_damaged_watch_is_forgotten(content: str, tmp_path: Path) -> None:
    (tmp_path / "running.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert DeathWatch(tmp_path / "running.json").suspect is None
    assert not (tmp_path / "running.json").exists()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b'{"suite_digest": NaN}'])
def test_a_damaged_environment_is_one_line(content: bytes, mine: Path) -> None:
    (mine / "environment.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"environment\.json is missing or damaged|belongs to another suite"):
        RunFolder(mine).check("d", {"name": "toy"})


@pytest.mark.parametrize("names", [["../precious.png"], ["\0.png"], [3], ["..png"], "[" * 3])
def test_a_listing_of_figures_removes_nothing_else(names: object, mine: Path) -> None:
    listing = {"drawing": 0, "results_sha256": "", "figures": names}
    (mine / "figures" / "figures.json").write_text(json.dumps(listing))
    (mine / "precious.png").write_bytes(b"x")
    assert draw_figures(mine)
    assert (mine / "precious.png").exists()


def test_a_driver_needs_a_journal_of_its_own(mine: Path, toy_registry: Registry) -> None:
    put(mine / "results.jsonl", "link", mine.parent / "precious" / "letter")
    prepared_plan = prepare(
        suite_from_text(SMALL, toy_registry), toy_registry, mine.parent / "new", RunOptions(device="cpu")
    ).plan
    with pytest.raises(RunFolderError, match="results.jsonl: cannot be read"):
        Driver(prepared_plan, RunFolder(mine), Observers(toy_registry.door, RunInfo("toy", mine, 1, 0, 0)))


def test_a_folder_that_goes_while_a_file_is_written_is_said(tmp_path: Path, toy_registry: Registry) -> None:
    """Between two checks: the write fails first, because its folder is missing."""
    from pruningbench.harness.run import execute
    from pruningbench.store.runfolder import RunFolder

    out = tmp_path / "run"
    prepared = prepare(suite_from_text(SMALL, toy_registry), toy_registry, out, RunOptions(device="cpu"))

    def gone(*_arguments: object, **_more: object) -> None:
        shutil.rmtree(out)
        raise FileNotFoundError(2, "No such file or directory", str(out / "masks"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "mask_file", gone)
        with pytest.raises(PruningBenchError, match="was deleted or moved during the run"):
            execute(prepared, toy_registry)
    assert not out.exists()
