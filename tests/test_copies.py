"""Copies of runs at URLs: bounded, the least recently used first; never one in use, or with what is nowhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from kit.objectstore import eventually
from kit.runs import measured, run
from kit.toysuite import COMMAND, TOY_SUITE, Command, toy_environment

from pruningbench.errors import UsageError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store import copies as store
from pruningbench.store.copies import Copy, copies, make_room, too_many
from pruningbench.store.lease import LEASE, Holder
from pruningbench.store.mirror import Mirror
from pruningbench.store.mirroring import RemoteRun, fetched
from pruningbench.store.workingcopy import NOTE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="without locks of POSIX, no copy is removed")
SIZE = 40_000
SMALL = TOY_SUITE.replace("recipes: [none, {use: finetune, epochs: 1}]", "recipes: [none]")
SLOW = SMALL.replace("{use: toy-task, ", "{use: toy-task, noise: true, seconds: 1, ")
HOLDS = "import sys; from pruningbench.store.mirroring import fetched; print(fetched(sys.argv[1]), flush=True); input()"


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    process_ends()
    yield
    process_ends()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def url(tmp_path: Path) -> Callable[[str], str]:
    """Return the URL of a run of about `SIZE` bytes, made if need be."""

    def make(name: str) -> str:
        folder = tmp_path / "there" / name
        if not folder.exists():
            (folder / "samples").mkdir(parents=True)
            (folder / "samples" / "a.npz").write_bytes(name.encode() * SIZE)
            (folder / "results.jsonl").write_bytes(b'{"task": "a", "part": 1, "parts": 1}\n')
        return f"file://{folder}"

    return make


def names(cache: Path) -> set[str]:
    return {copy.origin.rpartition("/")[2] for copy in copies(cache)}


def last_used(folder: Path, when: float) -> None:
    os.utime(folder / NOTE, (when, when))


def process_ends() -> None:
    """Give up what a process holds, and forget what it knows, until its end."""
    store._let_go()
    store._known.clear()


def limited(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    """Leave room for so many copies."""
    monkeypatch.setenv(store.LIMIT, str(count * (SIZE + 2000) / 2**30))


def test_the_least_recently_used_copy_goes_first(
    url: Callable[[str], str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate("abc"):
        last_used(fetched(url(name)), 1000 + number)
    process_ends()
    assert [copy.origin[-1] for copy in copies(cache)] == ["c", "b", "a"]
    assert all(SIZE < copy.size < SIZE + 2000 for copy in copies(cache))
    fetched(url("a"))  # used again, so b is now the one not used for longest
    process_ends()
    limited(monkeypatch, 3)
    fetched(url("d"))
    assert names(cache) == {"a", "c", "d"}
    process_ends()
    limited(monkeypatch, 1)
    assert (fetched(url("b")) / "samples" / "a.npz").read_bytes() == b"b" * SIZE, "it is fetched again"
    assert names(cache) == {"b"}
    assert sorted(path.name for path in (cache / "remote").glob("*/*")) == [".read.lock", "read"], (
        "nothing is left of the others"
    )


def test_a_process_keeps_all_copies_that_it_uses(
    url: Callable[[str], str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 0)
    for name in "ab":
        fetched(url(name))
    assert names(cache) == {"a", "b"}
    assert {copy.kept for copy in copies(cache)} == {"in use"}
    process_ends()
    make_room(cache, cache / "remote")
    assert names(cache) == set()


def test_one_process_that_reads_many_runs_makes_room_without_measuring_all_each_time(
    url: Callable[[str], str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        fetched(url(name))
    process_ends()
    listings: list[Path] = []
    monkeypatch.setattr(store, "copies", lambda place: listings.append(place) or copies(place))
    limited(monkeypatch, 4)
    for name in "cd":
        fetched(url(name))
    assert len(listings) == 1
    assert names(cache) == {"a", "b", "c", "d"}
    fetched(url("e"))
    assert len(listings) == 2
    assert names(cache) == {"b", "c", "d", "e"}


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_a_copy_is_in_use_until_its_process_ends(end: str, url: Callable[[str], str], cache: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, url("a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (copy,) = copies(cache)
        assert copy.kept == "in use"
        assert not copy.remove()
        assert (folder / "results.jsonl").exists()
        if end == "is killed":
            process.kill()
        else:
            process.stdin.write("\n")
    (copy,) = copies(cache)
    assert copy.kept == ""
    assert copy.remove()
    assert not folder.exists()


def test_a_child_that_outlives_its_process_holds_nothing(url: Callable[[str], str], cache: Path) -> None:
    """As helpers of libraries do that a component has started."""
    fetched(url("a"))
    child = os.fork()
    if not child:
        time.sleep(600)
        os._exit(0)
    try:
        assert {copy.kept for copy in copies(cache)} == {"in use"}
        process_ends()
        assert eventually(lambda: {copy.kept for copy in copies(cache)} == {""})
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def worked_on(url: str) -> Mirror:
    """Return a working copy with a finished task that is not at the URL."""
    mirror = Mirror(url)
    mirror.fetch(pytest.fail)
    with (mirror.folder / "results.jsonl").open("ab") as journal:
        journal.write(b'{"task": "b", "part": 1, "parts": 1}\n')
    return mirror


def test_work_that_is_not_uploaded_is_never_removed(
    url: Callable[[str], str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = worked_on(url("a"))
    before = copies(cache)[0]
    process_ends()
    monkeypatch.setenv(store.LIMIT, "0")
    make_room(cache, mirror.folder.parent)
    (copy,) = copies(cache)
    assert copy.kept == "has work that is not uploaded"
    assert not copy.remove()
    (mirror.folder / NOTE).write_text("damaged")
    assert not copy.remove(), "without a note, nothing is holder to be at the URL"
    assert b'"b"' in (mirror.folder / "results.jsonl").read_bytes()
    mirror.fetch(pytest.fail)
    mirror.upload()
    assert copies(cache)[0].kept == ""
    assert before.remove()
    assert copies(cache) == []


def test_what_never_gets_to_the_url_keeps_its_copy(url: Callable[[str], str], cache: Path) -> None:
    mirror = worked_on(url("a"))
    (mirror.folder / "cache").mkdir()
    (mirror.folder / "running.json").write_text("{}")
    mirror.upload()
    process_ends()
    assert copies(cache)[0].kept == "", "a run makes these anew"
    (mirror.folder / "tensorboard").mkdir()
    (copy,) = copies(cache)
    assert copy.kept == "holds what is not at the URL, such as tensorboard"
    assert not copy.remove()
    assert mirror.folder.exists()


def test_a_run_on_another_machine_that_shares_the_cache_keeps_its_copy(url: Callable[[str], str], cache: Path) -> None:
    """Where locks of the system do not reach, its lease is seen."""
    mirror = worked_on(url("a"))
    mirror.upload()
    holder = Holder("x", "another", "node7", 7, time.time(), time.time(), 30.0)
    (mirror.folder / ".lock").touch()
    (mirror.folder / LEASE).write_text(json.dumps(vars(holder)))
    process_ends()
    assert copies(cache)[0].kept == "in use"


def test_a_removal_that_was_killed_is_completed(
    url: Callable[[str], str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched(url("a"))
    process_ends()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_args, **_more: None)
        assert copies(cache)[0].remove()
    assert copies(cache) == []
    assert list(cache.rglob("a.npz")) != []
    fetched(url("b"))
    assert [path.read_bytes()[:1] for path in cache.rglob("a.npz")] == [b"b"]


def test_how_much_goes() -> None:
    found = [Copy(Path(str(i)), "", 10, 0.0, float(i), "kept" if i == 0 else "") for i in range(5)]
    may_go = found[1:]
    for limit, gone in ((50, []), (49, [1]), (30, [1, 2]), (10, [1, 2, 3, 4]), (0, [1, 2, 3, 4])):
        assert [copy.used for copy in too_many(found, may_go, limit)] == gone


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_named(
    text: str, url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.LIMIT, text)
    with pytest.raises(UsageError, match=f"PRUNINGBENCH_REMOTE_CACHE is '{text}', but must be a number of GiB >= 0"):
        fetched(url("a"))


def test_readers_find_whole_copies_while_others_remove_them(url: Callable[[str], str], cache: Path) -> None:
    """Sixty processes fetch three runs and read them, four at a time, while another removes whatever may go."""
    urls = [url(name) for name in "abc"]

    def reader(number: int) -> int:
        child = os.fork()
        if child:
            return child
        try:
            place = urls[number % 3]
            for _ in range(3):
                folder = fetched(place)
                same = all(
                    (folder / name).read_bytes() == (Path(place.removeprefix("file://")) / name).read_bytes()
                    for name in ("results.jsonl", "samples/a.npz")
                )
                if not same:
                    os._exit(3)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent is told by the exit code
            os._exit(4)

    waiting, running, codes, removed = list(range(60)), set[int](), list[int](), 0
    while waiting or running:
        while waiting and len(running) < 4:
            running.add(reader(waiting.pop()))
        removed += sum(copy.remove() for copy in copies(cache) if not copy.kept)
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                running.remove(child)
                codes.append(os.waitstatus_to_exitcode(status))
    assert codes == [0] * 60
    assert removed > 0


def test_prune_leaves_a_live_run_alone_and_frees_its_copy_afterwards(
    toy_registry: Registry, suite_file: Callable[..., Path], tmp_path: Path, cache: Path, pruningbench: Command
) -> None:
    there = tmp_path / "there" / "live"
    arguments = ["run", str(suite_file(SLOW)), "--device", "cpu", "--upload-every", "1", "--out", f"file://{there}"]
    process = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=toy_environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    journal = there / "results.jsonl"
    for lines in (1, 3, 5):
        assert eventually(
            lambda lines=lines: (
                process.poll() is not None  # type: ignore[misc]
                or (journal.exists() and len(journal.read_bytes().splitlines()) >= lines)
            ),
            200,
        )
        process.send_signal(signal.SIGSTOP)  # so that it still lives when the others have ended
        done = pruningbench("cache", "prune", "--to", "0GB", "--yes", check=0)
        process.send_signal(signal.SIGCONT)
        assert "kept, in use: file://" in done.stdout
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    run(SLOW, toy_registry, tmp_path / "whole")
    pd.testing.assert_frame_equal(
        measured(load_results(there)), measured(load_results(tmp_path / "whole")), check_exact=True
    )
    (copy,) = copies(cache)
    assert copy.kept == ""
    shown = pruningbench("cache", "prune", "--kind", "remote", "--to", "0GB", "--dry-run", check=0).stdout
    assert "  remote  1 entry, " in shown and "would remove 1 entry, " in shown
    assert copies(cache) == [copy]
    assert "removed 1 entry, " in pruningbench("cache", "prune", "--kind", "remote", "--to", "0GB", "--yes").stdout
    assert copies(cache) == []
    again = run(SLOW, toy_registry, f"file://{there}")  # type: ignore[arg-type]
    assert again.computed == 0, "all comes from the URL"


def test_prune_shows_each_kind_and_asks(
    toy_registry: Registry, tmp_path: Path, url: Callable[[str], str], cache: Path, pruningbench: Command
) -> None:
    run(SMALL, toy_registry, tmp_path / "run")
    folder = fetched(url("a"))
    last_used(folder, time.time() - 40 * 86400)
    process_ends()
    worked_on(url("b"))
    process_ends()
    assert "there is nothing to remove" in pruningbench("cache", "prune", check=0).stdout
    old = pruningbench("cache", "prune", "--older-than", "30d", "--dry-run", check=0).stdout
    assert "would remove 1 entry, 40 kB" in old.splitlines()[-1]
    done = pruningbench("cache", "prune", "--to", "0GB", check=1)
    assert "add --yes" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "to remove" in line] == [
        "masks", "scores", "weights", "remote",
    ]  # fmt: skip
    assert "kept, has work that is not uploaded: file://" in done.stdout
    limits = {"PRUNINGBENCH_TENSOR_CACHE": "0", "PRUNINGBENCH_REMOTE_CACHE": "0"}
    assert "  weights  " in pruningbench("cache", "prune", "--kind", "weights", "--yes", check=0, **limits).stdout
    listed = json.loads(pruningbench("cache", "list", "--json", check=0).stdout)
    assert {entry["kind"] for entry in listed["entries"]} == {"masks", "scores"}
    assert {copy["origin"][-1]: copy["kept"] for copy in listed["copies"]} == {
        "a": "", "b": "has work that is not uploaded",
    }  # fmt: skip
    assert "  remote  2 entries, " in pruningbench("cache", "list", check=0).stdout
    pruningbench("cache", "prune", "--yes", check=0, **limits)
    assert names(cache) == {"b"}
    for command in ("clear", "verify"):
        assert "use `cache prune`" in pruningbench("cache", command, "--kind", "remote", "--yes", check=2).stderr


def test_a_run_makes_room_for_its_copy(
    toy_registry: Registry, url: Callable[[str], str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched(url("a"))
    process_ends()
    monkeypatch.setenv(store.LIMIT, "0")
    there = RemoteRun(f"file://{tmp_path}/there/new")
    there.fill(pytest.fail)
    assert names(cache) == {"new"}
