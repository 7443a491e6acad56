"""Damaged copies of valid files, drawn at random: readers give a value or one of the project's errors, soon.

A short version with the same cases on each run is among the normal tests; the long job (``-m slow``) draws new ones,
many more, in processes whose memory is limited. A case that fails there is printed: add it as an example.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from kit.archives import plain_tar, plain_zip
from kit.boxes import thing
from kit.files import cifar_images, png_table
from kit.hostilefiles import damaged
from kit.images import encoded, picture
from PIL import Image
from pruningbench_data._coco import boxes_of
from pruningbench_data._csv import read_table
from pruningbench_data._parquet import Columns, ParquetImages
from pruningbench_data._voc import read_boxes
from pruningbench_timm.checkpoints import read_checkpoint
from pruningbench_timm.hubconfig import read_config
from safetensors.torch import save

from pruningbench.errors import PruningBenchError
from pruningbench.images.archives import unpack
from pruningbench.images.decode import decode

SLOWEST = 20.0
"""Seconds that any of these small files may take, on a machine that does other things as well."""
MEMORY = 12 * 2**30
"""Bytes of address space in the long job; PyTorch and its libraries reserve about half of it."""
LONG = 3000
"""Cases of each reader in the long job."""


def images() -> list[bytes]:
    small = Image.fromarray(picture(20))
    kinds = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"]
    return [*(encoded(small, kind) for kind in kinds), encoded(small.convert("CMYK"), "JPEG", progressive=True),
            encoded(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
            encoded(Image.fromarray(picture(20)[..., 0].astype(np.uint16)), "TIFF", compression="tiff_lzw")]  # fmt: skip


def archives() -> list[bytes]:
    files = {"a/b.txt": b"one" * 50, "a/c.txt": b"two" * 50, "n" * 150 + "/d": b"three"}
    tar = plain_tar(files)
    return [tar, gzip.compress(tar), plain_zip([*files.items()]), plain_zip([*files.items()], 8)]


def checkpoints() -> list[bytes]:
    state = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "bn.num_batches_tracked": torch.tensor(3)}
    found = []
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"state_dict": state, "epoch": 3}, buffer, _use_new_zipfile_serialization=new)
        found.append(buffer.getvalue())
    return [*found, save(state)]


def tables() -> list[bytes]:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(png_table(cifar_images(3), [0, 1, 0]), sink)
    return [sink.getvalue()]


def in_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """Return a reader of content from a reader of paths."""

    def work(content: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            return read(path)

    return work


def unpacked(path: Path) -> None:
    try:
        unpack(path, path.parent / "inner/out")
    finally:
        beside = {entry.name for entry in path.parent.iterdir()} | {e.name for e in (path.parent / "inner").iterdir()}
        assert beside <= {path.name, "inner", "out"}, "something was written outside"


def weights(content: bytes) -> object:
    name = "w.safetensors" if content[8:9] == b"{" else "w.pth"
    return in_file(read_checkpoint, name)(content)


def parquet(path: Path) -> None:
    table = ParquetImages([path], Columns("image", "label"))
    for row in range(min(len(table.keys), 5)):
        try:
            decode(table.image(row))
        except (OSError, ValueError):  # which EncodedSamples names
            continue


def image(content: bytes) -> None:
    try:
        assert decode(content).nbytes < 10**9
    except OSError:  # which EncodedSamples names
        return


CONFIG = {"architecture": "resnet18", "num_classes": 5, "model_args": {"depths": [2, 2]},
          "pretrained_cfg": {"mean": [0.5], "input_size": [3, 8, 8]}}  # fmt: skip
COCO = {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 2, "image_id": 1, "bbox": [1, 2, 3.5, 4]}]}
XML = f"<annotation>{thing('cat', (1, 2, 8, 9))}{thing('dog', ('1.5', 2, 8, 9), 1)}</annotation>".encode()
CSV = b'a,b,c\n1,"two\nlines",3\n4,5\n'

READERS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], object]]] = {
    "image": (images, image),
    "archive": (archives, in_file(unpacked, "archive")),
    "checkpoint": (checkpoints, weights),
    "parquet": (tables, in_file(parquet, "t.parquet")),
    "config": (lambda: [json.dumps(CONFIG).encode()], in_file(read_config, "config.json")),
    "coco": (lambda: [json.dumps(COCO).encode()], in_file(lambda path: boxes_of(path, ["a"], crowd=False), "c.json")),
    "voc": (lambda: [XML], in_file(lambda path: read_boxes(path, ["cat", "dog"], difficult=True), "x.xml")),
    "csv": (lambda: [CSV], in_file(read_table, "t.csv")),
}


def fuzz(reader: str, cases: int, *, fresh: bool) -> None:
    """Give a reader damaged files.

    Raises:
        Exception: whatever a reader raises but the project's errors, and AssertionError for one that is slow or
            whose error is not one printable line.
    """
    make, read = READERS[reader]

    @settings(max_examples=cases, derandomize=not fresh, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(damaged(make()))
    def one(content: bytes) -> None:
        began = time.monotonic()
        try:
            read(content)
        except PruningBenchError as error:
            assert str(error).isprintable(), repr(str(error))
        assert time.monotonic() - began < SLOWEST

    one()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_a_value_or_one_line(reader: str) -> None:
    make, read = READERS[reader]
    for content in make():
        read(content)
    fuzz(reader, 40, fresh=False)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", READERS)
def test_many_damaged_files_within_limited_memory(reader: str, tmp_path: Path) -> None:
    code = (
        f"import resource, warnings; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent / 'toy')]!r}\n"
        f"warnings.simplefilter('ignore')\nfrom test_fuzz_readers import fuzz\nfuzz({reader!r}, {LONG}, fresh=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=7000, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
