"""Images of strangers: bombs, torn files, other formats than their names say, pipes and devices in their place."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.files import class_folders, opened, save
from kit.hostilefiles import SPECIAL, peak_memory
from kit.images import encoded, picture
from PIL import Image
from pruningbench_data.folder import Folder

from pruningbench.errors import DataError, PruningBenchError
from pruningbench.images import decode as decoding
from pruningbench.images.decode import LARGEST_PIXELS, decode

OPEN = """
from pruningbench_data.folder import Folder
from pruningbench.errors import PruningBenchError
import os
os.environ["PRUNINGBENCH_DATA"] = args[0]
try: print(tuple(Folder(path="d").load(None)[0].image.shape))
except PruningBenchError as error: print(type(error).__name__, error)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    class_folders(tmp_path / "data/d", {"a": 1, "b": 1})
    return tmp_path / "data/d"


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return the peak of memory, in MiB, of a process that opens a tiny image."""
    data = tmp_path_factory.mktemp("data")
    class_folders(data / "d", {"a": 1})
    return peak_memory(OPEN, data)[1]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, mode: int = 0, bits: int = 1) -> bytes:
    """Return a black PNG of any size: a few kilobytes, as zeros are deflated."""
    row = 1 + (width * bits * {0: 1, 2: 3}[mode] + 7) // 8
    pack = zlib.compressobj(9)
    body = b"".join(pack.compress(bytes(row)) for _ in range(height)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, mode, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (30_000, 30_000)])
def test_a_bomb_is_refused_before_its_pixels_are_made(root: Path, without: int, width: int, height: int) -> None:
    (root / "a/0.png").write_bytes(png(width, height))
    told, peak = peak_memory(OPEN, root.parent)
    assert told.startswith(f"DataError {root}/a/0.png: the image cannot be decoded (") and told.count("\n") == 0
    assert "pixels" in told and f"limit of {LARGEST_PIXELS:,}" in told
    assert peak < without + 30  # MiB; its pixels take 161


def test_the_largest_image_is_decoded_in_bounded_memory(root: Path, without: int) -> None:
    (root / "a/0.png").write_bytes(png(9_459, 9_459, mode=2, bits=8))
    told, peak = peak_memory(OPEN, root.parent)
    assert told == "(3, 9459, 9459)"
    assert peak < without + 800  # MiB: 342 in Pillow, 256 as an array, and what is copied


def test_the_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGEST_PIXELS", 12)
    assert decode(png(4, 3)).shape == (3, 4, 3)
    with pytest.raises(OSError, match="its 13 x 1 pixels exceed the limit of 12"):
        decode(png(13, 1))


def test_a_file_too_large_to_be_an_image_is_not_read(root: Path) -> None:
    with (root / "a/0.png").open("wb") as file:
        file.truncate(2**33)  # a hole: it takes no room on the disk
    began = time.monotonic()
    with pytest.raises(DataError, match=r"a/0\.png: 8,589,934,592 bytes are too many"):
        decoding.read_encoded(root / "a/0.png")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_and_waits_for_nobody(root: Path, kind: str) -> None:
    make, words = SPECIAL[kind]
    make(root / "a/1.png")
    if kind == "folder":  # a folder of images is one, whatever its name
        save(root / "a/1.png/2.png")
        assert opened(Folder(path="d")).keys == ("a/0.png", "a/1.png/2.png", "b/0.png")
        return
    with pytest.raises(DataError, match=rf"/d/a/1\.png: {words}"):
        opened(Folder(path="d"))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_became_a_pipe_since_it_was_opened_is_refused(root: Path, kind: str) -> None:
    samples = opened(Folder(path="d"))
    (root / "a/0.png").unlink()
    make, words = SPECIAL[kind]
    make(root / "a/0.png")
    with pytest.raises(DataError, match=rf"/d/a/0\.png: {words}"):
        _ = samples[0]


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.timeout(20)
def test_what_is_no_folder_holds_no_classes(root: Path, kind: str) -> None:
    make, _ = SPECIAL[kind]
    make(root.parent / "e")
    for dataset in (Folder(path="e"), Folder(path="d", classes=("a", "b"))):
        if dataset.path == "d":
            (root / "b/0.png").unlink()
            (root / "b").rmdir()
            make(root / "b")
        with pytest.raises(
            PruningBenchError, match=r"(e: the folder cannot be read \(Not a directory\)|.*no class 'b')"
        ):
            opened(dataset)


@pytest.mark.timeout(20)
def test_links_to_folders_above_do_not_send_the_search_round(root: Path) -> None:
    for name in ("one", "two", "three"):
        (root / "a" / name).symlink_to(root / "a")
    with pytest.raises(DataError, match=r"/a/(one|two|three): is a link to a folder that contains it; remove the link"):
        opened(Folder(path="d"))


@pytest.mark.parametrize("place", [b"a/\xff.png", b"\xfe/0.png", b"a/\xfd/0.png"])
def test_a_name_that_is_no_utf_8_is_named(root: Path, place: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(root) + b"/" + place))
    save(path)
    with pytest.raises(DataError, match=r"\\xf[def].*: the name is not UTF-8; rename it") as caught:
        opened(Folder(path="d"))
    assert str(caught.value).isprintable()


IMAGE = Image.fromarray(picture())
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"it is empty\)"),
        (b"\0" * 100, r"it is not JPEG, PNG, .* or GIF, or its beginning is damaged"),
        (b"<html>404 not found</html>", "it is not JPEG, PNG"),
        (encoded(NOISE, "PNG")[:2000], "truncated"),
        (encoded(NOISE, "JPEG")[:-200], "truncated"),
        (encoded(IMAGE, "GIF")[:300], ""),
        (encoded(IMAGE, "WEBP")[:-40], ""),
        (encoded(IMAGE, "TIFF")[:400], ""),
        (encoded(IMAGE, "BMP")[:60], ""),
        (encoded(IMAGE, "PNG").replace(b"IDAT", b"IDAX"), ""),
        (b"P3 2 2 255 1 2 x", ""),
        (b"P6 -5 5 255 xxxx", ""),
        (encoded(IMAGE.convert("L").convert("F"), "TIFF"), "floating-point numbers"),
        (encoded(IMAGE, "EPS"), "it is not JPEG, PNG"),  # Pillow would have Ghostscript run it
        (encoded(IMAGE, "ICO"), "it is not JPEG, PNG"),
        (encoded(IMAGE, "PDF"), "it is not JPEG, PNG"),
    ],
    ids=[
        "empty", "zeros", "html", "png", "jpeg", "gif", "webp", "tiff", "bmp", "png-chunk", "ppm", "negative", "float",
        "eps", "ico", "pdf",
    ],
)  # fmt: skip
def test_a_damaged_image_is_one_line_that_names_the_file(root: Path, content: bytes, words: str) -> None:
    (root / "a/0.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"/d/a/0\.png: the image cannot be decoded \(.*{words}") as caught:
        _ = opened(Folder(path="d"))[0]
    assert str(caught.value).isprintable()
    assert "0x" not in str(caught.value)  # no address of an object


def test_every_exception_of_a_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (struct.error, KeyError, IndexError, MemoryError, RecursionError, NotImplementedError, zlib.error):

        def fail(_image: object, kind: type[Exception] = kind) -> None:
            raise kind("two\nlines")

        monkeypatch.setattr(Image.Image, "convert", fail)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
        with pytest.raises(OSError, match="two"):
            decode(encoded(IMAGE, "PNG"))
        monkeypatch.undo()


def grey16(image: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(image.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        (lambda pixels: encoded(Image.fromarray(pixels), "PNG"), 0),
        (lambda pixels: encoded(Image.fromarray(pixels), "BMP"), 0),
        (lambda pixels: encoded(Image.fromarray(pixels), "WEBP", lossless=True), 0),
        (lambda pixels: encoded(Image.fromarray(pixels), "TIFF", compression="tiff_lzw"), 0),
        (lambda pixels: encoded(Image.fromarray(pixels).convert("CMYK"), "TIFF"), 0),
        (lambda pixels: encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=100, subsampling=0), 6),
        (lambda pixels: encoded(Image.fromarray(pixels).convert("RGBA"), "PNG"), 0),
    ],
    ids=["png", "bmp", "webp", "tiff", "cmyk-tiff", "cmyk-jpeg", "alpha"],
)
def test_pixels_are_right_whatever_the_name_says(
    root: Path, content: Callable[[np.ndarray[Any, Any]], bytes], tolerance: int
) -> None:
    pixels = picture()
    (root / "a/0.png").write_bytes(content(pixels))
    shown = opened(Folder(path="d"))[0].image.permute(1, 2, 0).numpy().astype(int)
    assert np.abs(shown - pixels).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_its_upper_8(kind: str) -> None:
    grey = picture()[..., 0]
    assert np.array_equal(decode(encoded(grey16(grey), kind))[..., 2], grey)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    how = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how)
    shown = decode(content)
    assert shown.shape == (7, 9, 3)
    assert np.array_equal(shown, np.broadcast_to(np.uint8([200, 0, 0]), shown.shape))


@pytest.mark.timeout(30)
def test_a_jpeg_that_is_painted_over_without_end_is_refused() -> None:
    """Each scan of a progressive file passes over the whole image; a megabyte holds thousands of empty ones."""
    content = encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    bomb = content[:-2] + content[last:-2] * 3000 + content[-2:]
    began = time.monotonic()
    with pytest.raises(OSError, match="more than 100 scans"):
        decode(bomb)
    assert time.monotonic() - began < 2
    assert decode(content).shape == (4000, 4000, 3)


def test_a_mask_is_read_with_the_same_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pruningbench_data._voc import read_mask

    path = tmp_path / "mask.png"
    path.write_bytes(png(13_000, 13_000))
    with pytest.raises(DataError, match=r"mask\.png: the mask cannot be decoded \(its 13000 x 13000 pixels"):
        read_mask(path, [1])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"mask\.png: is a named pipe"):
        read_mask(path, [1])
