"""Submissions: one file of a finished run that is read like its run folder."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from kit.runs import run
from kit.submissions import SUITE, copied, digest_of, finished, members, submitted, write

from pruningbench.base.scrubbing import private_parts, scrubbed
from pruningbench.errors import RunFolderError, SubmissionError, UsageError
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.publishing.submitting import submission_members, submit
from pruningbench.store import origins as origins_module
from pruningbench.store.journal import Journal, read_journal
from pruningbench.store.origins import Origin, from_submission, origin, origins, register_scheme
from pruningbench.store.packing import Index, pack, unpack
from pruningbench.store.samples import read_arrays
from pruningbench.store.submission import open_submission

__all__ = ["copied", "finished", "members", "submitted"]  # fixtures of the kit

NUMBERS = st.sampled_from(["float64", "float32", "int64", "uint8", "bool"])
ARRAYS = NUMBERS.flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=2, max_side=5, min_side=0))
)
TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), max_size=4)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(st.lists(ARRAYS, min_size=1, max_size=4), TEXTS)
def test_packing_loses_no_bit(arrays: list[np.ndarray], keys: list[str]) -> None:
    """NaN payloads, negative zeros, infinities, empty arrays and text of any alphabet come back as they were."""
    samples = {
        (f"cell{i}", "task"): {f"v|{array.dtype}": array, "keys of v": np.array(keys, dtype=str)}
        for i, array in enumerate(arrays)
    }
    index, stored = pack(samples)
    back = dict(unpack(Index.model_validate_json(index.model_dump_json()), stored))
    assert back.keys() == samples.keys()
    for key, expected in samples.items():
        assert back[key].keys() == expected.keys()
        assert all(same(back[key][name], expected[name]) for name in expected if expected[name].size)
        assert all(back[key][name].shape == expected[name].shape for name in expected)


def test_packing_uses_small_types_and_stores_equal_arrays_once() -> None:
    right = np.array([0.0, 1.0, 1.0])
    index, stored = pack({(f"cell{i}", "task"): {"|accuracy": right} for i in range(50)})
    (column,) = index.tasks["task"].columns.values()
    assert (column.dtype, column.of, column.shapes) == ("float64", [0] * 50, [[3]])
    assert [array.dtype for array in stored.values()] == [np.uint8]


def test_a_submission_reads_like_its_run(finished: Path, submitted: Path, toy_registry: Registry) -> None:
    ours, theirs = load_results(finished, details=True), load_results(submitted, details=True)
    assert set(ours["trust"]) == {""}
    assert set(theirs["trust"]) == {"self-reported"}
    assert set(theirs["run"]) == {f"tiny-{digest_of(submitted)[:8]}"}
    other = ["run", "trust"]
    pd.testing.assert_frame_equal(ours.drop(columns=other), theirs.drop(columns=other))
    csv = [
        render(build(load_results(one, details=True), [one], registry=toy_registry), "csv")
        for one in (finished, submitted)
    ]
    assert csv[0].splitlines()[0] == csv[1].splitlines()[0]
    boards = [build(load_results(one), [one], registry=toy_registry) for one in (finished, submitted)]
    differences = [[row.differences for row in board[0].rows] for board in boards]
    assert any(differences[0])
    assert differences[0] == differences[1]


def test_per_sample_values_come_back_bit_for_bit(finished: Path, submitted: Path) -> None:
    place = origin(submitted).folder
    files = sorted(file.name for file in (finished / "samples").iterdir())
    assert files
    assert files == sorted(file.name for file in (place / "samples").iterdir())
    for name in files:
        ours, theirs = read_arrays(finished / "samples" / name), read_arrays(place / "samples" / name)
        assert ours.keys() == theirs.keys()
        assert all(same(ours[key], theirs[key]) for key in ours)


def test_equal_runs_give_equal_bytes(finished: Path, toy_registry: Registry, tmp_path: Path) -> None:
    first = submit(finished, toy_registry, tmp_path / "a.pbsub.zip")
    second = submit(finished, toy_registry, tmp_path / "b.pbsub.zip")
    assert first.read_bytes() == second.read_bytes()
    assert submit(finished, toy_registry, tmp_path, name="mine").name == "mine.pbsub.zip"


def test_a_run_that_began_as_a_submission_goes_on_and_is_submitted_alike(
    submitted: Path, members: Mapping[str, bytes], toy_registry: Registry, tmp_path: Path
) -> None:
    folder = tmp_path / "continued"
    open_submission(submitted).write_folder(folder)
    summary = run(SUITE, toy_registry, folder)
    assert (summary.computed, summary.ok) == (0, True)
    again, _ = submission_members(folder, toy_registry)
    for name in ("results.jsonl", "masks.json", "samples.json", "samples.npz", "suite.yaml"):
        assert again[name] == members[name], name


def test_what_changed_while_it_was_resumed_stays_said(copied: Path, toy_registry: Registry, tmp_path: Path) -> None:
    """Also where the run folder is made again from the submission, as `make leaderboard` does."""
    environment = json.loads((copied / "environment.json").read_text())
    environment["resumed"] = [{"time": "2026", "changed": {"torch": "1"}}, {"time": "2027", "changed": {"threads": 3}}]
    (copied / "environment.json").write_text(json.dumps(environment))
    members, _ = submission_members(copied, toy_registry)
    assert json.loads(members["environment.json"])["changed_while_resumed"] == ["threads", "torch"]
    open_submission(submit(copied, toy_registry, tmp_path / "a.pbsub.zip")).write_folder(tmp_path / "again")
    again, _ = submission_members(tmp_path / "again", toy_registry)
    assert again["environment.json"] == members["environment.json"]


def test_an_unfinished_run_is_refused(copied: Path, toy_registry: Registry) -> None:
    lines = (copied / "results.jsonl").read_bytes().splitlines(keepends=True)
    records, _ = read_journal(copied / "results.jsonl")
    (copied / "results.jsonl").write_bytes(b"".join(lines[: -records[-1].parts]))
    with pytest.raises(SubmissionError, match=r"not finished: 1 of 4 task runs are missing \(first: .*toy-task"):
        submission_members(copied, toy_registry)


def test_a_run_that_is_being_run_is_refused(copied: Path, toy_registry: Registry) -> None:
    with (copied / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SubmissionError, match="a process is running"):
            submission_members(copied, toy_registry)
    submission_members(copied, toy_registry)


def test_stale_rows_are_refused(copied: Path, toy_registry: Registry) -> None:
    text = (copied / "results.jsonl").read_text()
    assert '"task":"toybench 1.0' in text
    (copied / "results.jsonl").write_text(text.replace('"task":"toybench 1.0', '"task":"toybench 0.9'))
    with pytest.raises(SubmissionError, match=r"4 finished task runs are stale .*run the suite again"):
        submission_members(copied, toy_registry)


def test_a_missing_file_of_values_is_named(copied: Path, toy_registry: Registry) -> None:
    gone = next((copied / "samples").iterdir())
    gone.unlink()
    with pytest.raises(SubmissionError, match=gone.name):
        submission_members(copied, toy_registry)


def test_other_folders_are_refused(tmp_path: Path, copied: Path, toy_registry: Registry) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        submission_members(tmp_path / "absent", toy_registry)
    (copied / "suite.yaml").write_text("models: [unknown-net]\n")
    with pytest.raises(SubmissionError, match="cannot be used here"):
        submission_members(copied, toy_registry)
    (copied / "suite.yaml").write_text(SUITE)
    with pytest.raises(SubmissionError, match="choose --name"):
        submission_members(copied, toy_registry, "../../etc")


def test_paths_users_and_hosts_stay_here(copied: Path, toy_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure's traceback and the environment name neither folders of this machine nor its user and host."""
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-box-17")
    monkeypatch.setattr(getpass, "getuser", lambda: "annabel")
    monkeypatch.setenv("HOME", "/home/annabel")
    from pruningbench.base import scrubbing

    scrubbing._names.cache_clear()
    records, _ = read_journal(copied / "results.jsonl")
    trace = (
        'Traceback (most recent call last):\n  File "/home/annabel/venv/lib/python3.11/site-packages/torch/nn/m.py", '
        "line 3, in f\nOSError: [Errno 2] /mnt/data of annabel/x.png not on gpu-box-17 (~/secret.txt, C:\\Users\\annabel\\k.pt)"
    )
    journal = Journal(copied / "results.jsonl")
    last = records[-1]
    journal.append([replace(last, metric="", value=float("nan"), status="failed", error=trace, attempts=2)])
    journal.close()
    environment = json.loads((copied / "environment.json").read_text())
    environment |= {"platform": "Linux-6.1.0-annabel-x86_64-with-glibc2.36", "hostname": "gpu-box-17", "time": "now"}
    environment["resumed"] = [{"time": "2030-01-01", "changed": {"cpu_count": 3}}]
    (copied / "environment.json").write_text(json.dumps(environment))
    content, _ = submission_members(copied, toy_registry)
    text = b"\n".join(content[name] for name in content if not name.endswith(".npz")).decode()
    for private in ("annabel", "gpu-box", "/home", "/mnt", "Users", str(copied), "2030-01-01", os.fspath(Path.cwd())):
        assert private.lower() not in text.lower(), private
    assert "torch/nn/m.py" in text
    assert "Linux-glibc2.36" in text
    scrubbing._names.cache_clear()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('File "/opt/x/dist-packages/timm/a.py", line 1', 'File "timm/a.py", line 1'),
        ("cannot open /data/images/cat.png: gone", "cannot open cat.png: gone"),
        ("see https://example.org/a/b and 3/4 of 1/2", "see https://example.org/a/b and 3/4 of 1/2"),
        ("'/home/b c/d e.png' is gone", "'d e.png' is gone"),
        (r"D:\work\run\x.pt is damaged", "x.pt is damaged"),
        ("shape (3, 4)/2, sparsity 0.5/0.9, layer1/conv", "shape (3, 4)/2, sparsity 0.5/0.9, layer1/conv"),
    ],
)
def test_scrubbing(text: str, clean: str) -> None:
    assert scrubbed(text) == clean


@given(st.text(st.sampled_from(list("/~.ab C:\\\"'\n-")), max_size=40))
def test_scrubbed_text_holds_nothing_private(text: str) -> None:
    assert not [part for part in private_parts(scrubbed(scrubbed(text))) if part.startswith(("/home/", "~/"))]
    assert scrubbed("no path here") == "no path here"


def test_a_suite_with_an_absolute_path_is_refused(copied: Path, toy_registry: Registry, tmp_path: Path) -> None:
    text = SUITE.replace("models: [toy-net]", f"models: [{{use: python, network: '{tmp_path}/n.py:f'}}]")
    (copied / "suite.yaml").write_text(text)
    with pytest.raises(SubmissionError, match=r"`models\.0\.network` is the absolute path"):
        submission_members(copied, toy_registry)


def test_sources(finished: Path, submitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin(finished) == Origin(finished, "tiny", str(finished))
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a", "b"):
        (two / f"{name}.pbsub.zip").write_bytes(submitted.read_bytes())
    assert [one.digest for one in origins([two, submitted])] == [digest_of(submitted)] * 3
    with pytest.raises(UsageError, match="holds 2 submissions"):
        origin(two)
    with pytest.raises(UsageError, match="no scheme 'hub'"):
        monkeypatch.setattr(origins_module, "_openers", {})
        origins("hub:a/b")
    register_scheme("hub", lambda rest: [from_submission(submitted, f"hub:{rest}", revision="r1")])
    (fetched,) = origins("hub:a/b")
    assert (fetched.source, fetched.revision, fetched.trust) == ("hub:a/b", "r1", "self-reported")
    assert len(load_results(["hub:a/b"])) == len(load_results(finished))


def test_an_unpacked_submission_is_read_again_and_mended(submitted: Path) -> None:
    first = origin(submitted).folder
    stamp = (first / "results.jsonl").stat().st_mtime_ns
    assert (origin(submitted).folder / "results.jsonl").stat().st_mtime_ns == stamp
    next((first / "samples").iterdir()).unlink()
    again = origin(submitted).folder
    assert again == first
    assert len(list((again / "samples").iterdir())) == 4


def test_the_cache_of_submissions_is_bounded(
    members: Mapping[str, bytes], submitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = origin(submitted).folder
    size = sum(file.stat().st_size for file in first.parent.rglob("*") if file.is_file())
    os.utime(first.parent, (1, 1))
    abandoned = first.parents[1] / ".abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (1, 1))
    monkeypatch.setattr(origins_module, "MOST_BYTES", size - 1)
    manifest = json.loads(members["manifest.json"])
    other = write(
        tmp_path / "o.pbsub.zip", {**members, "manifest.json": json.dumps({**manifest, "name": "other"}).encode()}
    )
    assert origin(other).folder.exists()
    assert not first.exists()
    assert not abandoned.exists()
