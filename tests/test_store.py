"""Cache, run folder, arrays and environment."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pruningbench.base.files import default_cache_folder
from pruningbench.contract import Exhibit
from pruningbench.errors import RunFolderError
from pruningbench.store.cache import Cache
from pruningbench.store.environment import capture, source_state
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import read_arrays, read_exhibit, write_arrays, write_exhibit


def made(calls: list[int]) -> dict[str, torch.Tensor]:
    calls.append(1)
    return {"a": torch.arange(5.0), "b": torch.ones(2, 3, dtype=torch.bool).t()}


def test_cache_makes_once(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        got = Cache(tmp_path).tensors("weights", {"x": 1}, lambda: made(calls))
        assert torch.equal(got["a"], torch.arange(5.0))
        assert got["b"].shape == (3, 2)
    assert calls == [1]
    Cache(tmp_path).tensors("weights", {"x": 2}, lambda: made(calls))
    Cache(tmp_path).tensors("scores", {"x": 1}, lambda: made(calls))
    assert len(calls) == 3


def test_damaged_cache_files_are_made_again(tmp_path: Path) -> None:
    calls: list[int] = []
    cache = Cache(tmp_path)
    cache.tensors("weights", {"x": 1}, lambda: made(calls))
    path = cache.path("weights", {"x": 1})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="damaged"):
        got = cache.tensors("weights", {"x": 1}, lambda: made(calls))
    assert torch.equal(got["a"], torch.arange(5.0))
    assert len(calls) == 2
    cache.tensors("weights", {"x": 1}, lambda: made(calls))
    assert len(calls) == 2


def test_a_file_of_another_identity_is_not_taken(tmp_path: Path) -> None:
    """Even if hashes collided, or somebody renamed files, the identity inside decides."""
    calls: list[int] = []
    cache = Cache(tmp_path)
    cache.tensors("weights", {"x": 1}, lambda: made(calls))
    target = cache.path("weights", {"x": 2})
    target.parent.mkdir(parents=True, exist_ok=True)
    cache.path("weights", {"x": 1}).rename(target)
    cache.tensors("weights", {"x": 2}, lambda: made(calls))
    assert len(calls) == 2


def test_an_unwritable_cache_warns_once_and_works(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    cache = Cache(blocker / "cache")
    with pytest.warns(UserWarning, match="PRUNINGBENCH_CACHE"):
        assert "a" in cache.tensors("weights", 1, lambda: made([]))
    assert "a" in cache.tensors("weights", 2, lambda: made([]))


@pytest.mark.parametrize("room", ["../weights", "a/b", "", "Weights"])
def test_rooms_are_no_paths(tmp_path: Path, room: str) -> None:
    with pytest.raises(ValueError, match="cache room"):
        Cache(tmp_path).path(room, 1)


def test_cache_folder_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_CACHE", "/somewhere/else")
    assert default_cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("PRUNINGBENCH_CACHE")
    assert default_cache_folder().name == "pruningbench"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".", "..", "a" * 300, "ein Ölbild", "x\0y", "-", "con.txt"])
def test_names_never_become_paths_unchecked(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path)
    for path in (folder.mask_file(name), folder.weights_file(name), folder.samples_file(name, name),
                 folder.exhibit_file(name, name, name)):  # fmt: skip
        assert path.parent.parent == tmp_path
        assert len(path.name) < 255
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")


def test_different_names_have_different_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    names = ["a", "a-b", "a b", "a_b", "a.b", "a/b", "", "-", "A"]
    paths = {folder.exhibit_file(x, y, z) for x in names for y in names for z in names}
    assert len(paths) == len(names) ** 3


def test_a_new_folder_is_made_and_recognised(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.check("d1", {"name": "a"})
    assert not (tmp_path / "deep").exists()  # checking writes nothing
    folder.create("name: a\n", "d1")
    folder.check("d1", {"name": "a"})
    with pytest.raises(RunFolderError, match='another suite .*`name` there: "a", here: "b"'):
        folder.check("d2", {"name": "b"})


@pytest.mark.parametrize("keep", [[], ["environment.json"], ["environment.json", "suite.yaml"], ["masks", "figures"]])
def test_a_folder_cut_off_while_it_was_made_is_taken(tmp_path: Path, keep: list[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create("name: a\n", "d1")
    for path in folder.path.iterdir():
        if path.name not in keep:
            path.rmdir() if path.is_dir() else path.unlink()
    folder.check("d1", {"name": "a"})
    folder.create("name: a\n", "d1")
    assert folder.suite.read_text() == "name: a\n"
    assert json.loads(folder.environment.read_text())["suite_digest"] == "d1"


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunFolderError, match="not a folder"):
            RunFolder(path).check("d", {})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(RunFolderError, match="holds other files"):
        RunFolder(tmp_path / "home").check("d", {})
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "results.jsonl").write_text("{}\n")
    with pytest.raises(RunFolderError, match=r"environment\.json is missing or damaged"):
        RunFolder(tmp_path / "odd").check("d", {})


def test_unwritable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    # root may write anywhere, so the answer of the system is played to be the one others get
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    for path in (locked, locked / "below" / "deep"):
        with pytest.raises(RunFolderError, match="not writable"):
            RunFolder(path).check("d", {})


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.lock()
    code = (
        "import sys; from pruningbench.store.runfolder import RunFolder\n"
        "try: RunFolder(sys.argv[1]).lock()\n"
        "except Exception as e: print(e); sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7
    assert "another process" in done.stdout
    folder.unlock()
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60).returncode == 0


def test_arrays_and_exhibits_come_back(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"v|m": np.array([1.0, np.nan])})
    assert np.array_equal(read_arrays(tmp_path / "a.npz")["v|m"], [1.0, np.nan], equal_nan=True)
    boxes = [torch.zeros(0, 4), torch.ones(2, 4)]
    exhibit = Exhibit(
        "boxes", torch.rand(2, 1, 4, 4), ("k0", "k1"), predicted=boxes, truth=boxes[::-1], captions=("a", "b")
    )
    write_exhibit(tmp_path / "e.npz", exhibit)
    back = read_exhibit(tmp_path / "e.npz")
    assert back["kind"] == "boxes"
    assert back["keys"] == ("k0", "k1")
    assert [b.shape for b in back["predicted"]] == [(0, 4), (2, 4)]
    assert [b.shape for b in back["truth"]] == [(2, 4), (0, 4)]
    maps = torch.rand(2, 4, 4)
    write_exhibit(tmp_path / "m.npz", Exhibit("maps", torch.rand(2, 1, 4, 4), ("k0", "k1"), maps=maps))
    assert np.array_equal(read_exhibit(tmp_path / "m.npz")["maps"], maps.numpy())


def test_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="damaged, or holds no arrays"):
        read_arrays(tmp_path / "evil.npz")


def test_environment_says_what_results_depend_on() -> None:
    environment = capture(device="cpu", seeds=[0, 1], plugins=[("toy", "toybench", "1.0")])
    json.dumps(environment)
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0] or environment["packages"]["torch"]
    assert environment["threads"] == torch.get_num_threads()
    assert environment["seeds"] == [0, 1]
    assert environment["plugins"] == [{"name": "toy", "distribution": "toybench", "version": "1.0"}]
    source = source_state()
    if source is not None:  # run from a checkout: the commit is what git says
        here = Path(__file__).resolve().parents[1]
        head = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20)
        assert source["commit"] == head.stdout.strip()
        assert isinstance(source["dirty"], bool)


def test_a_resumed_run_records_what_changed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create("name: a\n", "d")
    first = {"pruningbench": "0.1.0", "time": "t0", "threads": 2}
    assert folder.write_environment(first) == {}
    assert folder.write_environment({**first, "time": "t1", "threads": 4}) == {"threads": [2, 4]}
    stored = json.loads(folder.environment.read_text())
    assert stored["threads"] == 2
    assert stored["resumed"] == [{"time": "t1", "changed": {"threads": 4}}]
    assert stored["suite_digest"] == "d"


def test_flipped_bits_in_the_cache_are_noticed(tmp_path: Path) -> None:
    calls: list[int] = []
    cache = Cache(tmp_path)
    cache.tensors("weights", {"x": 1}, lambda: made(calls))
    path = cache.path("weights", {"x": 1})
    content = bytearray(path.read_bytes())
    content[-10] ^= 0x40
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="wrong digest"):
        got = cache.tensors("weights", {"x": 1}, lambda: made(calls))
    assert torch.equal(got["a"], torch.arange(5.0))
    assert len(calls) == 2


@pytest.mark.parametrize("content", ['{"suite_digest": "d", "resumed": 3}', "[1]", "{"])
def test_a_damaged_environment_is_named(content: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create("name: a\n", "d")
    folder.environment.write_text(content)
    with pytest.raises(RunFolderError, match=r"environment\.json"):
        folder.write_environment({"pruningbench": "0.1.0", "time": "t0"})
