"""Files that claim to be submissions: refused in one line, or shown as text; nothing is written outside the cache."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.submissions import digest_of, edited, finished, forge, members, submitted, write

from pruningbench.errors import PruningBenchError, SubmissionError
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store import packing
from pruningbench.store.origins import origin
from pruningbench.store.submission import arrays_bytes, open_submission
from pruningbench.store.submission_format import MEMBERS, archive_bytes

__all__ = ["finished", "members", "submitted"]  # fixtures of the kit

Members = Mapping[str, bytes]


def refused(path: Path) -> str:
    """Return the message with which a file is refused, after checking that it is one line and nothing was unpacked."""
    with pytest.raises(SubmissionError) as caught:
        load_results(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert len(text) < len(str(path)) + 500
    room = Path(os.environ["PRUNINGBENCH_CACHE"]) / "submissions"
    assert not [file for file in room.rglob("*") if file.is_file()]
    return text.removeprefix(str(path))


def zipped(path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:  # type: ignore[arg-type]
        for info, content in entries:
            file.writestr(info, content)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda all_: [*all_, ("../../evil.txt", b"")], "contains '../../evil.txt', which is not part of a submission"),
        (lambda all_: [*all_, ("samples/x.npz", b"")], "not part of a submission"),
        (lambda all_: [*all_, ("suite.yaml", b"name: other")], "contains suite.yaml twice"),
        (lambda all_: [(n, c) for n, c in all_ if n != "masks.json"], "it has no masks.json"),
        (lambda all_: [(n, c) for n, c in all_ if n != "manifest.json"], "is not a submission"),
        (lambda all_: [(link(n) if n == "suite.yaml" else n, c) for n, c in all_], "is a link"),
        (lambda all_: [*all_, *((f"m{i}", b"") for i in range(2000))], "more members than the 7"),
        (lambda all_: [(n, b"\0" * (2 << 20) if n == "suite.yaml" else c) for n, c in all_], "2,097,152 bytes, at most"),
    ],
)  # fmt: skip
def test_archives(
    members: Members, tmp_path: Path, change: Callable[..., list[tuple[str, bytes]]], message: str
) -> None:
    assert message in refused(zipped(tmp_path / "x.pbsub.zip", change(list(members.items())), compression=8))


def test_other_methods_of_compression_are_refused(members: Members, tmp_path: Path) -> None:
    """A piece of bzip2 is decompressed as a whole, and a password asks for a user's attention."""
    assert "another method" in refused(zipped(tmp_path / "x.zip", list(members.items()), compression=zipfile.ZIP_BZIP2))


def test_lzma_is_read_for_any_member_but_not_a_large_dictionary(members: Members, tmp_path: Path) -> None:
    """A header of LZMA can ask for 4 GiB of memory."""
    path = zipped(tmp_path / "x.zip", list(members.items()), compression=zipfile.ZIP_LZMA)
    assert open_submission(path).members == members
    head = struct.pack("<HBI", 5, 93, 1 << 23)
    assert path.read_bytes().count(head) == len(MEMBERS)
    path.write_bytes(path.read_bytes().replace(head, struct.pack("<HBI", 5, 93, 2**32 - 1), 1))
    assert "asks for a dictionary of 4,294,967,295 bytes" in refused(path)


def test_lies_about_sizes_are_found(members: Members, tmp_path: Path) -> None:
    """A member that declares fewer bytes than it has is read no further, and its hash is another."""
    content = bytearray(archive_bytes(members))
    size = len(members["results.jsonl"])
    content = bytearray(bytes(content).replace(struct.pack("<I", size), struct.pack("<I", 10)))
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + b"x" * 100, b"\x1f\x8b\x08", b"not a zip" * 9])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pbsub.zip"
    path.write_bytes(content)
    refused(path)
    assert path.read_bytes() == content, "a file of the user is never removed"


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_noticed_or_changes_nothing(members: Members, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(archive_bytes(members))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    try:
        opened = open_submission(path)
    except SubmissionError as error:
        assert "\n" not in str(error)
    else:
        assert opened.members == members


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema_version": 2}, "newer version of pruningbench (schema 2, this version reads schemas up to 1): update"),
        ({"schema_version": 10**9}, "update pruningbench"),
        ({"schema_version": 10**4000}, "(schema 100000000000, this version reads schemas up to 1): update"),
        ({"schema_version": 0}, "must be a whole number from 1"),
        ({"schema_version": "1"}, "must be a whole number from 1"),
        ({"schema_version": True}, "must be a whole number from 1"),
        ({"format": "zip"}, "is not a submission"),
        ({"name": "../../x"}, "name: String should match pattern"),
        ({"name": "x" * 10_000}, "name: String should match pattern"),
        ({"rows": 10**6}, "says 1000000 rows, but there are"),
        ({"rows": "12"}, "rows: Input should be a valid integer"),
        ({"cells": 1}, "says 1 cells, but there are"),
        ({"trust": "checked"}, "trust: Extra inputs are not permitted"),
        ({"suite_digest": "0" * 16}, "does not belong to the suite"),
        ({"members": {}}, "does not list exactly"),
    ],
)
def test_manifests(members: Members, tmp_path: Path, fields: dict[str, object], message: str) -> None:
    assert message in refused(forge(tmp_path / "x.zip", members, **fields))


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 50_000, b"null", b"[]", b"\xff\xfe", b'{"schema_version": NaN}', b"1" * 9000]
)
def test_json_bombs(members: Members, tmp_path: Path, content: bytes) -> None:
    refused(write(tmp_path / "a.zip", {**members, "manifest.json": content}))
    refused(forge(tmp_path / "b.zip", members, {"environment.json": content}))
    refused(forge(tmp_path / "c.zip", members, {"masks.json": content}))
    refused(forge(tmp_path / "d.zip", members, {"results.jsonl": content + b"\n"}))
    refused(forge(tmp_path / "e.zip", members, {"samples.json": content}))


def test_wrong_hashes(members: Members, tmp_path: Path) -> None:
    changed = {**members, "suite.yaml": members["suite.yaml"] + b"\n"}
    assert "suite.yaml has changed" in refused(write(tmp_path / "x.zip", changed))


def replaced(members: Members, old: str, new: str) -> dict[str, bytes]:
    text = members["results.jsonl"].decode()
    assert old in text
    return {"results.jsonl": text.replace(old, new, 1).encode()}


def test_journals(members: Members, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    text = members["results.jsonl"].decode()
    first = text.splitlines()[0]
    value = f'"value":{json.loads(first)["value"]!r}'
    for old, new, message in (
        (value, '"value":NaN', "results.jsonl:1: damaged line (NaN is not a JSON number"),
        (value, '"value":Infinity', "Infinity is not a JSON number"),
        (value, '"value":[1]', "results.jsonl:1: damaged line"),
        (value, '"value":"much"', "results.jsonl:1: damaged line"),
        (value, f"{value},{value}", "a key is there twice"),
        ('"suite":', '"schema":2,"suite":', "written by a later version of pruningbench (schema 2"),
        ('"seed":0', '"seed":0.5', "damaged line"),
        ('"seed":0', f'"seed":{10**30}', "damaged line"),
        ('"status":"ok"', '"status":"fine"', "damaged line"),
        ('"sparsity":0.0', '"sparsity":7', "damaged line"),
        ('"part":1', '"part":2', "belongs to another task"),
        ('"accepted":{}', '"accepted":{"a":1}', "damaged line"),
    ):
        assert message in refused(forge(path, members, replaced(members, old, new)))
    assert "its end is damaged" in refused(forge(path, members, {"results.jsonl": text[:-1].encode()}))
    group = text.splitlines(keepends=True)[: json.loads(first)["parts"]]
    twice = {"results.jsonl": (text + "".join(group)).encode()}
    assert "is listed twice" in refused(forge(path, members, twice))
    later = [line.replace('"attempts":1', '"attempts":2') for line in group]
    assert "is listed twice" in refused(forge(path, members, {"results.jsonl": (text + "".join(later)).encode()}))
    before = text.replace('"attempts":1', '"attempts":-3')
    assert open_submission(forge(path, members, {"results.jsonl": before.encode()})).records, "`verify` refuses it"
    long = {"results.jsonl": (text + " " * (1 << 21) + "\n").encode()}
    assert "at most 1,048,576 are read" in refused(forge(path, members, long))


def test_per_sample_values(members: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zip"
    index = json.loads(members["samples.json"])
    columns = index["tasks"]["toy-task"]["columns"]
    name = "|toy-margin"

    def with_index(**changes: object) -> str:
        changed = json.loads(json.dumps(index))
        changed["tasks"]["toy-task"]["columns"][name] |= changes
        return refused(forge(path, members, {"samples.json": json.dumps(changed).encode()}))

    assert "does not fit its 4 cells" in with_index(of=[9] * 4)
    assert "does not fit its 4 cells" in with_index(of=[0])
    assert "two dimensions, or a negative one" in with_index(shapes=[[-1, -64]] * 4)
    assert "unpack to more than" in with_index(shapes=[[10**12]] * len(columns[name]["shapes"]))
    assert "are not read" in with_index(dtype="object")
    assert "missing, or do not fit" in with_index(data="nothing")
    assert "do not fit its shapes" in with_index(shapes=[[1]] * len(columns[name]["shapes"]))
    assert "Extra inputs" in with_index(pickle="x")
    index["tasks"]["toy-task"]["columns"]["../../x"] = columns[name]
    assert "not the name of an array" in refused(forge(path, members, {"samples.json": json.dumps(index).encode()}))
    del index["tasks"]["toy-task"]["columns"]["../../x"]
    index["tasks"]["other"] = index["tasks"]["toy-task"]
    assert "has no record" in refused(forge(path, members, {"samples.json": json.dumps(index).encode()}))
    objects = io.BytesIO()
    np.savez(objects, **{"0": np.array([{}], dtype=object)})
    assert "samples.npz" in refused(forge(path, members, {"samples.npz": objects.getvalue()}))
    zeros = io.BytesIO()
    np.savez_compressed(zeros, **{"0": np.zeros(1 << 20)})
    assert "must not be compressed" in refused(forge(path, members, {"samples.npz": zeros.getvalue()}))
    monkeypatch.setattr(packing, "LARGEST", 100)
    assert "unpack to more than 100 bytes" in refused(forge(path, members))


def test_one_array_shared_by_many_cells_is_no_bomb() -> None:
    shapes = [[1 << 20]]
    column = packing.Column(data="0", dtype="float64", shapes=shapes, of=[0] * 10_000)
    index = packing.Index(
        tasks={"t": packing.TaskColumns(cells=[str(i) for i in range(10_000)], columns={"|m": column})}
    )
    with pytest.raises(PruningBenchError, match="unpack to more than"):
        next(iter(packing.unpack(index, {"0": np.zeros(1 << 20, dtype=np.uint8)})))


def test_strange_names_are_shown_as_text(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    """Script tags, marks of writing direction, and names of 10,000 characters are read, and escaped where they are shown."""
    strange = "<script>alert(1)</script>\u202e\x1b[31m|../../etc/passwd " + "x" * 10_000

    def rename(row: dict[str, object]) -> None:
        row["model"], row["variant"] = strange, strange

    index = json.loads(members["samples.json"])
    task = index["tasks"]["toy-task"]
    task["columns"] = {f"{strange}{name}": column for name, column in task["columns"].items()}
    path = forge(tmp_path / "x.zip", members, {**edited(members, rename), "samples.json": json.dumps(index).encode()})
    table = load_results(path, details=True)
    assert set(table["model"]) == {strange}
    assert origin(path).folder.is_relative_to(os.environ["PRUNINGBENCH_CACHE"])
    for kind in ("table", "markdown", "csv", "json"):
        text = render(build(table, [path], registry=toy_registry), kind)
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>" not in render(build(table, [path], registry=toy_registry), "markdown")


def test_ten_thousand_metrics(members: Members, tmp_path: Path) -> None:
    """A journal of 10,000 metrics on one cell is read like any other."""
    row = json.loads(members["results.jsonl"].splitlines()[0])
    rows = [{**row, "metric": f"m{i}", "part": i + 1, "parts": 10_000} for i in range(10_000)]
    nothing = {"samples.json": b'{"tasks": {}}', "samples.npz": arrays_bytes({})}
    journal = {"results.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)}
    assert len(load_results(forge(tmp_path / "x.zip", members, {**nothing, **journal}))) == 10_000


def test_pipes_links_and_folders(submitted: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    assert "is a named pipe" in refused(tmp_path / "pipe.zip")
    with pytest.raises(PruningBenchError, match="is not a run folder"):
        load_results(tmp_path / "absent.zip")
    (tmp_path / "link.zip").symlink_to(submitted)
    assert origin(tmp_path / "link.zip").digest == digest_of(submitted)


def test_every_member_has_a_limit() -> None:
    assert all(0 < size <= 1 << 30 for size in MEMBERS.values())
