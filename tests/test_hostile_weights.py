"""Files of weights of strangers: bombs, pickles that are none or lead in circles, tensors that no file can hold."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.hostilefiles import SPECIAL, peak_memory
from kit.models import load
from pruningbench_timm.checkpoints import read_checkpoint
from safetensors.torch import save_file

from pruningbench.errors import PruningBenchError

READ = """
from pathlib import Path
from pruningbench_timm.checkpoints import read_checkpoint
if len(args) > 1: resource.setrlimit(resource.RLIMIT_AS, (int(args[1]),) * 2)
try: print(sum(t.numel() for t in read_checkpoint(Path(args[0])).values()))
except Exception as error: print(type(error).__name__, error)
"""


def refused(path: Path) -> str:
    with pytest.raises(PruningBenchError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and text.isprintable() and len(text) < 1000
    return text


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> None:
    """Write the members of a file of torch.save anew, with other contents of those that are named by their ends."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            end = name.rpartition("/")[2].replace(".", "_")
            archive.writestr(name, changed.get(end, content))


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    path = saved(tmp_path / "bomb.pth", {"weight": torch.zeros(4)})
    numbers = 250_000_000
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(content for name, content in members.items() if name.endswith("data.pkl"))
    # K\x04 is the number 4: of the storage, and of the shape
    members = {
        name: pickled.replace(b"K\x04", b"J" + struct.pack("<i", numbers)) if name.endswith("data.pkl") else content
        for name, content in members.items()
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            with archive.open(name, "w") as member:
                if name.endswith("data/0"):
                    for _ in range(100):
                        member.write(bytes(numbers * 4 // 100))
                else:
                    member.write(content)
    return path


def test_a_deflated_checkpoint_is_refused_before_it_is_unpacked(bomb: Path) -> None:
    """Its 5 megabytes become a gigabyte."""
    told, peak = peak_memory(READ, bomb)
    assert told.startswith(f"PruningBenchError {bomb}: its ") and "unpack to 1,000,000" in told
    _, without = peak_memory(READ, saved(bomb.with_name("small.pth"), {"weight": torch.zeros(4)}))
    assert peak < without + 60  # MiB


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    """The other way to become large: a thousand names of one stored megabyte."""
    path = saved(tmp_path / "w.pth", {"weight": torch.zeros(300_000)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    end = bytearray(content[-22:])
    directory = content[start:-22]
    entry = directory[directory.rindex(b"PK\x01\x02", 0, directory.index(b"data/0")) :]
    entry = entry[: 46 + sum(struct.unpack("<HHH", entry[28:34]))]
    directory = directory[: directory.find(b"PK\x06\x06")] if b"PK\x06\x06" in directory else directory
    directory += entry * 50
    count = directory.count(b"PK\x01\x02")
    end[8:20] = struct.pack("<HHII", count, count, len(directory), start)
    path.write_bytes(content[:start] + directory + bytes(end))
    assert "which torch.save never does" in refused(path)


def test_what_follows_an_archive_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"weight": torch.zeros(4)})
    path.write_bytes(path.read_bytes() + b"PK\x05\x06")
    assert "it does not end like a file of torch.save" in refused(path)


def test_a_tar_of_an_old_pytorch_is_refused(tmp_path: Path) -> None:
    """CVE-2025-32434: PyTorch before 2.6 runs code in it, whatever it is asked."""
    path = tmp_path / "w.pth"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(pickle.dumps(0)[:4]))
    assert "is a tar archive" in refused(path)


def circle() -> dict[str, Any]:
    held: dict[str, Any] = {}
    held["model"] = {"state_dict": held}
    return held


def many_ways() -> dict[str, Any]:
    """Return forty dictionaries, each of which holds the next under six names: 6 ** 40 ways through them."""
    held: dict[str, Any] = {"end": 1}
    for _ in range(40):
        held = dict.fromkeys(("state_dict", "model_state_dict", "model", "network", "net", "weights"), held)
    return held


@pytest.mark.parametrize("content", [circle(), many_ways()], ids=["circle", "many-ways"])
@pytest.mark.timeout(20)
def test_dictionaries_that_lead_in_circles_hold_no_weights(tmp_path: Path, content: dict[str, Any]) -> None:
    assert "holds no weights" in refused(saved(tmp_path / "w.pth", content))


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
        b"\x80\x02h\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8a\xff" + b"\xff" * 10,
        b"\x80\x02U\xffabc",
        b"\x80\x02X\x03\x00\x00\x00\xff\xfe\xfd.",
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02c\xff\n\xff\n.",
        b"\x80\x02ccollections\nOrderedDict\n)R}b.",
        b"\x80\x02K\x01\x85Q.",
        b"\x80\x02}K\x01K\x02s0.",
        b"\x80\x7f.",
    ],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_a_pickle_that_is_malformed_or_foreign_is_one_line(tmp_path: Path, pickled: bytes) -> None:
    path = saved(tmp_path / "w.pth", {"weight": torch.zeros(4)})
    repacked(path, data_pkl=pickled)
    refused(path)
    path.write_bytes(pickled)  # and outside of an archive, as PyTorch saved before 1.6
    refused(path)


@pytest.mark.parametrize("storage", ["new", "old"])
@pytest.mark.parametrize("numbers", [2**31 - 1, 1_000_000_000])
def test_a_storage_that_claims_more_than_the_file_is_refused(tmp_path: Path, storage: str, numbers: int) -> None:
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(77)}, path, _use_new_zipfile_serialization=storage == "new")
    claimed = b"J" + struct.pack("<i", numbers)
    if storage == "new":
        with zipfile.ZipFile(path) as archive:
            pickled = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
        repacked(path, data_pkl=pickled.replace(b"K\x4d", claimed))
    else:
        path.write_bytes(path.read_bytes().replace(b"K\x4d", claimed))
    told, peak = peak_memory(READ, path, 8 * 2**30)
    assert told.startswith(f"PruningBenchError {path}: ") and "\n" not in told
    assert peak < 900  # MiB, most of them PyTorch


def test_a_tensor_that_repeats_one_number_for_ever_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"state_dict": {"fc.weight": torch.zeros(1).expand(10**6, 10**6)}})
    assert "'fc.weight' claims 1,000,000,000,000 numbers, more than the file can hold" in refused(path)
    fine = {"ids": torch.arange(4).expand(1, -1), "view": torch.arange(8)[2:4]}
    assert {k: v.tolist() for k, v in read_checkpoint(saved(path, fine)).items()} == {
        "ids": [[0, 1, 2, 3]],
        "view": [2, 3],
    }


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.sparse_coo_tensor([[0], [0]], [1.0], (4, 4)), "torch.sparse_coo on cpu"),
        (torch.zeros(2, device="meta"), "torch.strided on meta"),
        (torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), "quantised"),
    ],
    ids=["sparse", "meta", "quantised"],
)
def test_tensors_of_other_kinds_are_named(tmp_path: Path, tensor: torch.Tensor, kind: str) -> None:
    path = saved(tmp_path / "w.pth", {"fc.weight": tensor})
    assert f"'fc.weight' is not a plain tensor ({kind})" in refused(path)


def test_too_many_and_too_long_names_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "w.pth", {"a\nb" * 10_000: 1, "c": 2})
    assert "holds no weights" in refused(path)
    monkeypatch.setattr("pruningbench_timm.guards.MOST_TENSORS", 2)
    assert "holds 3 tensors" in refused(saved(path, {str(i): torch.zeros(1) for i in range(3)}))


def test_the_code_that_a_file_asks_for_is_named_in_letters(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"weight": torch.zeros(4)})
    repacked(path, data_pkl=b"\x80\x02c\x1b[31mx\ny\n.")
    assert "it would import \\x1b[31mx.y" in refused(path)


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(**fields: Any) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **fields}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        safetensors(entry(), b"1234", length=2**63),
        safetensors(entry(), b"1234", length=10**8),
        safetensors(entry(shape=[2**40]), b"1234"),
        safetensors(entry(shape=[2**32, 2**32]), b"1234"),
        safetensors(entry(data_offsets=[0, 2**50]), b"1234"),
        safetensors(entry(data_offsets=[4, 0]), b"1234"),
        safetensors(entry(dtype="F33"), b"1234"),
        safetensors(entry(shape=[-1]), b"1234"),
        safetensors(entry(shape="x"), b"1234"),
        safetensors(b"[" * 100_000, b"1234"),
        safetensors(b'{"w": 1' + b"0" * 10_000 + b"}", b"1234"),
        safetensors(b'{"\xff": 1}', b"1234"),
        safetensors(b"{}"),
        safetensors(b"null"),
        b"",
        b"PK\x03\x04" + b"\0" * 100,
    ],
)
def test_safetensors_with_headers_that_lie_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(1)}, path)
    assert read_checkpoint(path)["w"].tolist() == [1.0]
    path.write_bytes(content)
    told, peak = peak_memory(READ, path) if len(content) < 10**5 and content[:1] == b"\0" else (refused(path), 0)
    assert str(path) in told and peak < 900


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.timeout(20)
def test_what_is_no_file_holds_no_weights(tmp_path: Path, kind: str, name: str) -> None:
    make, words = SPECIAL[kind]
    make(tmp_path / name)
    assert words in refused(tmp_path / name)
    with pytest.raises(PruningBenchError):
        load("timm", name="resnet18", checkpoint=str(tmp_path / name))
