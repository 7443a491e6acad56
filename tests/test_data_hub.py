"""Hub data sets against a loopback server that speaks the hub's protocol, through huggingface-hub itself."""

from __future__ import annotations

import errno
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from huggingface_hub import constants
from kit.hubserver import HubServer
from kit.toysuite import Command
from PIL import Image
from pruningbench_data._hub import split_files
from pruningbench_data.hub import Hub

from pruningbench.errors import DataError, FetchError, MissingDataError

REPO = "someone/flowers"


def picture(value: int) -> bytes:
    """A PNG of 6 x 5 pixels, each of this value of red."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 6, 3), (value, 0, 0), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def table(values: list[int], labels: list[Any], names: list[str] | None = None) -> bytes:
    """A parquet table in the form of hub data sets, in two row groups or more."""
    columns = {"image": [{"bytes": picture(v), "path": f"{v}.png"} for v in values], "label": labels}
    made = pyarrow.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(made, buffer, row_group_size=2)
    return buffer.getvalue()


FILES = {
    "README.md": b"flowers",
    "data/test-00000-of-00002.parquet": table([10, 20, 30], [0, 1, 0], ["rose", "tulip"]),
    "data/test-00001-of-00002.parquet": table([40, 50], [1, 1], ["rose", "tulip"]),
    "data/train-00000-of-00001.parquet": table([60], [0], ["rose", "tulip"]),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    with HubServer() as server:
        server.point_client_here(monkeypatch, tmp_path / "hf")
        yield server


def cached(tmp_path: Path) -> list[Path]:
    """All content in the hub's cache, whole or half."""
    return [path for path in (tmp_path / "hf").rglob("blobs/*") if path.is_file()]


def test_the_first_fetch_brings_the_split_and_nothing_else(hub: HubServer) -> None:
    flowers = Hub(repo=REPO, revision=hub.commit("dataset", REPO, FILES), split="test")
    assert flowers.problem() is None
    lack = flowers.missing()
    assert lack is not None
    assert f"`pruningbench data fetch hub --set repo={REPO} --set revision={flowers.revision} --set split=test`" in lack
    with pytest.raises(MissingDataError, match="data fetch hub"):
        flowers.load(None)  # type: ignore[arg-type]
    notes: list[tuple[str, int, int | None]] = []
    flowers.fetch(lambda *note: notes.append(note))
    assert notes[-1] == (REPO, 2, 2)
    assert flowers.missing() is None
    samples = flowers.load(None)  # type: ignore[arg-type]
    assert samples.classes == ("rose", "tulip")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 0, 1, 1]
    assert [int(sample.image[0, 0, 0]) for sample in samples] == [10, 20, 30, 40, 50]
    assert samples[3].key == "test-3"
    assert samples[0].image.shape == (3, 5, 6)
    assert not hub.downloads("train-00000-of-00001.parquet")


def test_what_is_cached_is_not_asked_for_again(hub: HubServer) -> None:
    flowers = Hub(repo=REPO, revision=hub.commit("dataset", REPO, FILES))
    flowers.fetch()
    before = len(hub.requests)
    flowers.fetch()
    first, again = (flowers.load(None) for _ in range(2))  # type: ignore[arg-type]
    assert first.fingerprint == again.fingerprint
    assert len(hub.requests) == before


@pytest.mark.parametrize("how", ["switched off", "unreachable"])
def test_offline_it_works_when_the_data_is_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    revision = hub.commit("dataset", REPO, FILES)
    Hub(repo=REPO, revision=revision).fetch()
    if how == "switched off":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        hub.down = True
    before = len(hub.requests)
    assert len(Hub(repo=REPO, revision=revision).load(None)) == 5  # type: ignore[arg-type]
    assert len(hub.requests) == before
    with pytest.raises(FetchError, match=r"the hub cannot be reached .*; check the network, HF_ENDPOINT"):
        Hub(repo=REPO, revision="1" * 40).fetch()


def test_a_wrong_checksum_is_refused_and_nothing_stays(hub: HubServer, tmp_path: Path) -> None:
    name = "data/test-00001-of-00002.parquet"
    flowers = Hub(repo=REPO, revision=hub.commit("dataset", REPO, FILES))
    hub.swaps[name] = bytes(len(FILES[name]))
    with pytest.raises(FetchError, match=rf"{REPO}: wrong checksum of {name} \(expected \w{{64}}, got \w{{64}}\)"):
        flowers.fetch()
    assert flowers.missing() is not None
    assert len(cached(tmp_path)) == 1  # the first file, which is right
    hub.swaps.clear()
    flowers.fetch()
    assert flowers.missing() is None


def test_small_files_are_checked_by_their_git_hash(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.hubserver.LFS_SUFFIXES", (".bin",))
    flowers = Hub(repo=REPO, revision=hub.commit("dataset", REPO, FILES), split="train")
    hub.swaps["data/train-00000-of-00001.parquet"] = bytes(len(FILES["data/train-00000-of-00001.parquet"]))
    with pytest.raises(FetchError, match=r"wrong checksum .*expected \w{40}, got \w{40}"):
        flowers.fetch()
    hub.swaps.clear()
    flowers.fetch()
    assert len(flowers.load(None)) == 1  # type: ignore[arg-type]


def test_an_interrupted_download_is_resumed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what the client keeps of a cut connection
    large = {"test.parquet": table(list(range(200)), [0] * 200)}
    flowers = Hub(repo=REPO, revision=hub.commit("dataset", REPO, large))
    hub.cuts["test.parquet"] = 4000
    flowers.fetch()
    assert [request.range for request in hub.downloads("test.parquet")] == [None, "bytes=4000-"]
    assert len(flowers.load(None)) == 200  # type: ignore[arg-type]


def test_a_fetch_that_failed_goes_on_with_the_file_that_lacks(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    flowers = Hub(repo=REPO, revision=hub.commit("dataset", REPO, FILES))
    first, second = "data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"
    really_download = huggingface_hub.hf_hub_download

    def full(repo: str, name: str, **more: Any) -> Any:
        if name == second:
            raise OSError(errno.ENOSPC, "No space left on device", "/the/cache")
        return really_download(repo, name, **more)

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "hf_hub_download", full)
        with pytest.raises(FetchError, match="/the/cache cannot be written .No space left on device.; free some space"):
            flowers.fetch()
    assert flowers.missing() is not None
    flowers.fetch()
    assert len(hub.downloads(first)) == len(hub.downloads(second)) == 1


def test_a_revision_that_is_gone_is_named_but_a_cached_one_works(hub: HubServer) -> None:
    old = hub.commit("dataset", REPO, FILES)
    Hub(repo=REPO, revision=old).fetch()
    hub.commit("dataset", REPO, {**FILES, "data/test-00001-of-00002.parquet": table([1], [1])})
    hub.forget("dataset", REPO, old)
    Hub(repo=REPO, revision=old).fetch()
    assert len(Hub(repo=REPO, revision=old).load(None)) == 5  # type: ignore[arg-type]
    with pytest.raises(
        FetchError, match=f"{REPO}: commit {'0' * 40} no longer exists; set `revision` to a commit of .*/commits/main"
    ):
        Hub(repo=REPO, revision="0" * 40).fetch()


def test_what_is_not_there_is_named(hub: HubServer) -> None:
    revision = hub.commit("dataset", REPO, FILES)
    with pytest.raises(FetchError, match="nobody/nothing: the hub has no such data set, or it is private"):
        Hub(repo="nobody/nothing", revision=revision).fetch()
    with pytest.raises(FetchError, match=r"no parquet file of split 'dev' .*data/train-00000-of-00001.parquet"):
        Hub(repo=REPO, revision=revision, split="dev").fetch()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "either repo"),
        ({"repo": REPO, "path": "x"}, "either repo"),
        ({"repo": REPO}, "40 hex digits"),
        ({"repo": REPO, "revision": "main"}, "40 hex digits"),
        ({"repo": "flowers", "revision": "0" * 40}, "OWNER/NAME"),
        ({"path": "x", "label": None, "balanced": True}, "need a label column"),
        ({"path": "x", "limit": 0}, "limit"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any], words: str) -> None:
    problem = Hub(**fields).problem()
    assert problem is not None
    assert words in problem


def test_splits_are_told_by_the_names_of_files() -> None:
    names = ["test.parquet", "data/test-0-of-1.parquet", "plain/test/0000.parquet", "data/testing.parquet",
             "data/train-test.parquet", "test.csv", "latest/x.parquet"]  # fmt: skip
    assert split_files(names, "test") == ["data/test-0-of-1.parquet", "plain/test/0000.parquet", "test.parquet"]


# ---- local parquet -----------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path))
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def test_local_files_have_the_same_form(local: Path) -> None:
    (local / "test.parquet").write_bytes(table([1, 2, 3], ["b", "a", "b"]))
    samples = Hub(path="mine").load(None)  # type: ignore[arg-type]
    assert samples.classes == ("a", "b")
    assert samples.labels is not None
    assert samples.labels.tolist() == [1, 0, 1]
    only = Hub(path="mine", classes=("b",)).load(None)  # type: ignore[arg-type]
    assert [int(s.image[0, 0, 0]) for s in only] == [1, 3]
    assert Hub(path="mine", label=None).load(None).labels is None  # type: ignore[arg-type]
    assert Hub(path=str(local / "test.parquet")).load(None).fingerprint == samples.fingerprint  # type: ignore[arg-type]


def test_images_may_be_plain_bytes_and_are_read_in_any_order(local: Path) -> None:
    made = pyarrow.table({"img": [picture(v) for v in range(40)], "label": [v % 2 for v in range(40)]})
    pyarrow.parquet.write_table(made, local / "test.parquet", row_group_size=3)
    samples = Hub(path="mine", image="img").load(None)  # type: ignore[arg-type]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    assert [int(samples[i].image[0, 0, 0]) for i in order] == order


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (b"no parquet", {}, r"test.parquet: cannot be read as parquet"),
        (
            table([1], [0]),
            {"image": "photo"},
            r"test.parquet: there is no column 'photo'; the columns are: image, label",
        ),
        (table([1, 2], [0, None]), {}, "column 'label' has rows without a label"),
        (table([1, 2], [0, 5], ["a", "b"]), {}, r"column 'label' holds 5, but labels must lie in 0..1"),
        (table([1], ["c"], ["a", "b"]), {}, "column 'label' holds 'c', which is not among the classes"),
    ],
)
def test_damaged_tables_are_named(local: Path, content: bytes, fields: dict[str, Any], words: str) -> None:
    (local / "test.parquet").write_bytes(content)
    with pytest.raises(DataError, match=words):
        Hub(path="mine", **fields).load(None)  # type: ignore[arg-type]


def test_an_image_that_cannot_be_decoded_is_named_by_its_row(local: Path) -> None:
    made = pyarrow.table(
        {"image": [{"bytes": picture(1)}, {"bytes": picture(1)[:40]}, {"bytes": None}], "label": [0, 0, 0]}
    )
    pyarrow.parquet.write_table(made, local / "test.parquet")
    samples = Hub(path="mine").load(None)  # type: ignore[arg-type]
    assert samples[0].label == 0
    for row in (1, 2):
        with pytest.raises(DataError, match=rf"test.parquet, row {row} of the split: the image cannot be decoded"):
            samples[row]


def test_a_folder_without_the_split_says_what_it_has(local: Path) -> None:
    (local / "train.parquet").write_bytes(table([1], [0]))
    with pytest.raises(DataError, match=r"mine: has no parquet file of split 'test' \(files there: train.parquet\)"):
        Hub(path="mine").load(None)  # type: ignore[arg-type]
    with pytest.raises(MissingDataError, match="elsewhere is missing; put parquet files with images there"):
        Hub(path="elsewhere").load(None)  # type: ignore[arg-type]


def test_without_pyarrow_the_extra_is_named(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (local / "test.parquet").write_bytes(table([1], [0]))
    monkeypatch.setattr("pruningbench_data._parquet.find_spec", lambda _name: None)
    assert Hub(path="mine").missing() == "reading parquet needs pyarrow: pip install pruningbench[hub]"


# ---- the command line --------------------------------------------------------------------------------


def test_the_command_fetches_and_plan_names_the_command(tmp_path: Path, pruningbench: Command) -> None:
    with HubServer() as hub:
        revision = hub.commit("dataset", REPO, FILES)
        environment = {**hub.environment(tmp_path / "hf"), "PRUNINGBENCH_DATA": str(tmp_path / "data")}
        settings = ["--set", f"repo={REPO}", "--set", f"revision={revision}"]
        done: subprocess.CompletedProcess[str] = pruningbench("data", "path", "hub", *settings, check=1, **environment)
        assert "pruningbench data fetch hub" in done.stderr
        pruningbench("data", "fetch", "hub", *settings, check=0, **environment)
        hub.down = True
        done = pruningbench("data", "fetch", "hub", *settings, check=0, **environment)
        assert done.stdout.startswith("hub is available")
