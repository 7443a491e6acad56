"""Working copies of run folders at URLs: which side's changes count, in which order they are copied, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from kit.objectstore import files, put, remove

from pruningbench.errors import RemoteError, RunFolderError, UsageError
from pruningbench.store import mirroring
from pruningbench.store.cachefiles import entries
from pruningbench.store.journal import finished_part
from pruningbench.store.lease import LEASE
from pruningbench.store.mirror import Mirror
from pruningbench.store.mirroring import RemoteRun, fetched
from pruningbench.store.remote import RemoteFolder, shown

URL = "memory://bucket/runs/first"


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    fsspec.filesystem("memory").store.clear()
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder in a store of objects, or on a file system."""
    return URL if request.param == "memory" else f"file://{tmp_path}/there/first"


def line(task: str, part: int = 1, parts: int = 1) -> bytes:
    return json.dumps({"task": task, "part": part, "parts": parts}).encode() + b"\n"


def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, url: str) -> Mirror:
    """Return the mirror of a machine, which is known by its cache."""
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / name))
    return Mirror(url)


def write(mirror: Mirror, name: str, content: bytes) -> None:
    path = mirror.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def here(mirror: Mirror) -> dict[str, bytes]:
    found = {p.relative_to(mirror.folder).as_posix(): p for p in mirror.folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not path.name.startswith(".")}


def begun(mirror: Mirror, *tasks: str) -> Mirror:
    """Let a machine bring its copy up to date, and add tasks with a file each."""
    mirror.fetch(pytest.fail)
    write(mirror, "suite.yaml", b"name: first\n")
    for task in tasks:
        write(mirror, f"samples/{task}.npz", task.encode())
        with (mirror.folder / "results.jsonl").open("ab") as journal:
            journal.write(line(task))
    return mirror


def test_another_machine_gets_all_and_continues(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = begun(machine(monkeypatch, tmp_path, "one", url), "a", "b")
    write(first, "running.json", b"{}")
    write(first, "cache/scores.safetensors", b"private")
    first.upload()
    second = begun(machine(monkeypatch, tmp_path, "two", url), "c")
    assert here(second) == {
        "suite.yaml": b"name: first\n", "results.jsonl": line("a") + line("b") + line("c"),
        "samples/a.npz": b"a", "samples/b.npz": b"b", "samples/c.npz": b"c",
    }  # fmt: skip
    assert second.behind()
    second.upload()
    assert not second.behind()
    assert files(url) == here(second)
    first.fetch(pytest.fail)
    assert here(first).items() >= here(second).items()


def test_what_was_not_uploaded_stays_and_is_uploaded_later(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also if a kill came after the upload and before the note of it."""
    mirror = begun(machine(monkeypatch, tmp_path, "one", url), "a")
    note = (mirror.folder / ".mirror.json").read_bytes()
    mirror.upload()
    begun(mirror, "b")
    write(mirror, "samples/a.npz", b"measured again")
    (mirror.folder / ".mirror.json").write_bytes(note)
    again = machine(monkeypatch, tmp_path, "one", url)
    again.fetch(pytest.fail)
    assert here(again)["results.jsonl"] == line("a") + line("b")
    assert here(again)["samples/a.npz"] == b"measured again"
    again.upload()
    assert files(url) == here(again)


def test_if_both_went_on_the_url_counts_and_a_line_says_so(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = begun(machine(monkeypatch, tmp_path, "one", url), "a")
    first.upload()
    begun(first, "lost", "lost too")
    begun(machine(monkeypatch, tmp_path, "two", url), "b").upload()
    said: list[str] = []
    first.fetch(said.append)
    assert len(said) == 1
    assert "2 lines of finished tasks" in said[0]
    assert here(first) == files(url)
    assert here(first)["results.jsonl"] == line("a") + line("b")


def test_a_run_that_was_removed_at_the_url_begins_again(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirror = begun(machine(monkeypatch, tmp_path, "one", url), "a")
    mirror.upload()
    for name in files(url):
        remove(f"{url}/{name}")
    said: list[str] = []
    mirror.fetch(said.append)
    assert here(mirror) == {}
    assert len(said) == 1


def test_a_working_copy_that_was_removed_removes_nothing_at_the_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirror = begun(machine(monkeypatch, tmp_path, "one", URL), "a")
    mirror.upload()
    before = files(URL)
    (mirror.folder / "results.jsonl").unlink()
    (mirror.folder / "samples" / "a.npz").unlink()
    with pytest.raises(RunFolderError, match="was deleted or moved"):
        mirror.upload()
    assert files(URL) == before


@pytest.mark.parametrize("lost", ["results.jsonl", "samples/a.npz", "all"])
def test_files_that_were_lost_here_come_back(lost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror = begun(machine(monkeypatch, tmp_path, "one", URL), "a")
    mirror.upload()
    before = files(URL)
    for name in here(mirror) if lost == "all" else [lost]:
        (mirror.folder / name).unlink()
    again = machine(monkeypatch, tmp_path, "one", URL)
    again.fetch(pytest.fail)
    assert here(again) == before
    again.upload()
    assert files(URL) == before
    assert entries(tmp_path / "one") == [], "`cache clear` and `cache verify` leave copies alone"


def test_files_that_were_removed_here_are_removed_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror = begun(machine(monkeypatch, tmp_path, "one", URL), "a")
    write(mirror, "stale.json", b"{}")
    mirror.upload()
    (mirror.folder / "stale.json").unlink()
    mirror.fetch(pytest.fail)
    assert "stale.json" not in here(mirror), "it does not come back"
    mirror.upload()
    assert "stale.json" not in files(URL)


def test_files_get_there_before_the_lines_that_need_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror = begun(machine(monkeypatch, tmp_path, "one", URL), "a")
    mirror.upload()
    begun(mirror, "b")

    def fail(*_arguments: object) -> None:
        raise RemoteError("no network")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload", fail)
        with pytest.raises(RemoteError):
            mirror.upload()
    assert files(URL)["results.jsonl"] == line("a")
    mirror.upload()
    assert files(URL) == here(mirror)


def test_a_task_that_is_being_written_is_not_uploaded() -> None:
    whole = line("a") + line("b", 1, 2) + line("b", 2, 2)
    for tail in (b"", b'{"task": "c', line("c", 1, 3), line("c", 1, 3) + line("c", 2, 3), line("c", 1, 3) + b'{"ta'):
        assert finished_part(whole + tail) == whole
    assert finished_part(line("c", 1, 2)) == b""
    assert finished_part(b"damaged\n") == b"damaged\n", "whoever opens the journal says so"


def test_other_folders_and_names_that_lead_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror = machine(monkeypatch, tmp_path, "one", URL)
    put("memory://bucket/runs/other/results.jsonl", line("x"))
    with pytest.raises(RunFolderError, match="holds other files, such as other/results.jsonl"):
        machine(monkeypatch, tmp_path, "one", "memory://bucket/runs").fetch(pytest.fail)
    system = fsspec.filesystem("memory")
    put(f"{URL}/results.jsonl", line("a"))
    for name in ("samples/../../../evil", "samples/a b", "samples/.lock", "figures/deep/x.png", ".lock", "cache/x"):
        system.store[f"/bucket/runs/first/{name}"] = system.store["/bucket/runs/first/results.jsonl"]
    mirror.fetch(pytest.fail)
    assert here(mirror) == {"results.jsonl": line("a")}
    assert not list(tmp_path.rglob("evil"))


def test_reading_needs_no_lease_and_leaves_weights_and_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror = begun(machine(monkeypatch, tmp_path, "one", URL), "a")
    write(mirror, "weights/a.safetensors", b"large")
    write(mirror, "figures/a.png", b"drawn")
    mirror.upload()
    folder = fetched(URL)
    assert folder.name == "first"
    assert folder != mirror.folder
    names = {p.name for p in folder.rglob("*") if p.is_file()}
    assert names == {"suite.yaml", "results.jsonl", "a.npz", ".mirror.json"}
    assert (fetched(URL, weights=True) / "weights" / "a.safetensors").read_bytes() == b"large"
    begun(mirror, "b").upload()
    assert (fetched(URL) / "results.jsonl").read_bytes() == line("a") + line("b")


def test_uploads_that_fail_are_told_once_and_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mirroring, "SHORTEST", 0.01)
    run = RemoteRun(URL, every=0.05)
    run.fill(pytest.fail)
    said: list[str] = []
    real, failures = Mirror.upload, []

    def upload(mirror: Mirror) -> None:
        if len(failures) < 3:
            failures.append(1)
            raise RemoteError("no network")
        real(mirror)

    monkeypatch.setattr(Mirror, "upload", upload)
    run.folder.lock()
    with run.kept(said.append) as keeping:
        write(Mirror(URL), "results.jsonl", line("a"))
        for _ in range(200):
            keeping.check()
            if files(URL).get("results.jsonl"):
                break
            keeping._threads[0]._end.wait(0.02)
        keeping.check()
    run.folder.unlock()
    assert len(failures) == 3
    assert [bool(text) for text in said if "no network" in text] == [True]
    assert files(URL) == {"results.jsonl": line("a")}, "and the lease is gone"

    monkeypatch.setattr(
        Mirror, "upload", lambda _mirror: failures.append(1) or (_ for _ in ()).throw(RemoteError("no"))
    )
    run.folder.lock()
    with pytest.raises(RemoteError, match=r"no; the rest is in .*run the same command again"), run.kept(said.append):
        write(Mirror(URL), "results.jsonl", line("a") + line("b"))
    run.folder.unlock()
    assert LEASE in files(URL), "nobody has said that it ended"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://", "must be the URL of a folder"),
        ("simplecache::memory://bucket/x", "must be the URL of a folder"),
        ("sx3://bucket/x", "Protocol not known"),
    ],
)
def test_urls_that_cannot_be_used(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        RemoteFolder(url)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    def missing(*_arguments: object) -> None:
        raise ImportError("Install s3fs to access S3")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec.core, "get_filesystem_class", missing)
        with pytest.raises(UsageError, match=r"s3://bucket/x: needs .*: pip install 'pruningbench\[remote\]' s3fs$"):
            RemoteFolder("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match=r"needs fsspec: pip install 'pruningbench\[remote\]'$"):
        RemoteFolder("s3://bucket/x")


def test_passwords_are_not_shown() -> None:
    assert shown("ftp://me:secret@host/run") == "ftp://***@host/run"
