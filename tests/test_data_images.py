"""Decoding, reading ahead, and the cache of resized images."""

from __future__ import annotations

import io
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from PIL import Image
from torch import Tensor, nn

from pruningbench.contract import EncodedSamples, Preprocessing, Sample, Samples, VisionModel
from pruningbench.contract.encoded import ResizedSamples
from pruningbench.errors import DataError, UsageError
from pruningbench.images import rows as resizing
from pruningbench.images.decode import decode
from pruningbench.images.reading_ahead import read_ahead

SMALL = Preprocessing((0.5,) * 3, (0.5,) * 3, size=16, crop=0.8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- decoding ----------------------------------------------------------------------------------------


def test_colour_comes_as_it_was_stored() -> None:
    pixels = noise(7, 5)
    assert np.array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_rgb(mode: str) -> None:
    grey = np.full((6, 4), 200, dtype=np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 256 + 7) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    assert image.mode == mode
    pixels = decode(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert pixels.shape == (6, 4, 3)
    assert pixels.dtype == np.uint8
    assert np.ptp(pixels, axis=2).max() == 0  # grey stays grey
    if mode != "1":
        assert abs(int(pixels[0, 0, 0]) - 200) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation: int) -> None:
    upright = noise(4, 6)
    # what a camera stores for each EXIF orientation, undone by the operation in the comment of the standard
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(decode(content), upright)
    assert np.array_equal(decode(content, upright=False), stored)


@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda _c: b"", lambda _c: b"<html>", lambda c: c[:-40]]
)
def test_damaged_images_are_named_with_the_remedy(damage: Callable[[bytes], bytes]) -> None:
    good = encoded(Image.fromarray(noise(40, 40)))
    samples = EncodedSamples(
        ["a", "b"], lambda i: damage(good) if i else good,
        name=lambda i: f"/data/{i}.png", fingerprint="f", remedy="fetch it again",
    )  # fmt: skip
    assert samples[0].image.shape == (3, 40, 40)
    with pytest.raises(DataError, match=r"/data/1.png: the image cannot be decoded \(.*\); fetch it again"):
        samples[1]


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "x.png"
    samples = EncodedSamples(["x"], lambda _i: gone.read_bytes(), name=lambda _i: str(gone), fingerprint="f")
    with pytest.raises(DataError, match=r"x.png: the image no longer exists; replace or remove it"):
        samples[0]


def test_a_mask_of_another_size_is_named() -> None:
    samples = EncodedSamples(
        ["x"], lambda _i: encoded(Image.fromarray(noise(4, 5))), name=lambda _i: "x.png", fingerprint="f",
        mask=lambda _i: torch.ones(5, 4, dtype=torch.bool),
    )  # fmt: skip
    with pytest.raises(DataError, match=r"x.png: the image has \(4, 5\) pixels, its mask \(5, 4\)"):
        samples[0]


def test_annotated_images_are_not_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(noise(4, 6)), exif=exif)
    plain = EncodedSamples(["x"], lambda _i: content, name=str, fingerprint="f")
    boxed = EncodedSamples(["x"], lambda _i: content, name=str, fingerprint="f", boxes=[torch.ones(1, 4)])
    assert plain[0].image.shape == (3, 6, 4)
    assert boxed[0].image.shape == (3, 4, 6)


# ---- reading ahead -----------------------------------------------------------------------------------


@cases(30)
@given(st.lists(st.integers(0, 99)), st.integers(0, 4), st.integers(0, 40))
def test_reading_ahead_changes_no_order(order: list[int], workers: int, ahead: int) -> None:
    assert list(read_ahead(lambda i: i * i, order, workers, ahead)) == [i * i for i in order]


def test_reading_ahead_is_bounded() -> None:
    started: list[int] = []
    stream = read_ahead(lambda i: started.append(i) or i, list(range(1000)), 2, 32)
    assert next(stream) == 0
    threading.Event().wait(0.05)
    assert len(started) <= 32 + 2 * 8
    stream.close()  # type: ignore[attr-defined]


def test_errors_come_where_their_sample_is_asked_for() -> None:
    def read(i: int) -> int:
        if i == 21:
            raise DataError("sample 21")
        return i

    seen = []
    with pytest.raises(DataError, match="sample 21"):
        for value in read_ahead(read, list(range(100)), 3, 16):
            seen.append(value)
    assert seen == list(range(21))


# ---- the cache of resized images ---------------------------------------------------------------------


class Counted:
    """Encoded samples of several sizes that count how often an image is read."""

    def __init__(self, count: int = 6, *, masks: bool = False, boxes: bool = False, fingerprint: str = "f") -> None:
        self.reads = 0
        self.contents = [encoded(Image.fromarray(noise(20 + 3 * i, 40 - 2 * i, i))) for i in range(count)]
        self.samples = EncodedSamples(
            [f"k{i}" for i in range(count)],
            self.read,
            name=str,
            fingerprint=fingerprint,
            labels=torch.arange(count),
            classes=[str(i) for i in range(count)],
            boxes=[torch.tensor([[1.0, 2.0, 11.0, 18.0 - i], [0, 0, 2, 2]]) for i in range(count)] if boxes else None,
            mask=self.mask if masks else None,
        )

    def read(self, i: int) -> bytes:
        self.reads += 1
        return self.contents[i]

    def mask(self, i: int) -> Tensor:
        return torch.from_numpy(noise(20 + 3 * i, 40 - 2 * i, i)[:, :, 0] > 120)


def same(found: Sample, wanted: Sample) -> bool:
    pairs = ((found.image, wanted.image), (found.boxes, wanted.boxes), (found.mask, wanted.mask))
    arrays = all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
    return arrays and (found.label, found.key) == (wanted.label, wanted.key)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("squash", [False, True])
def test_cached_samples_are_the_fitted_ones_bit_by_bit(masks: bool, boxes: bool, squash: bool) -> None:
    preprocessing = Preprocessing((0.1,) * 3, (0.2,) * 3, size=16, crop=0.8, squash=squash)
    counted = Counted(masks=masks, boxes=boxes)
    wanted = [preprocessing.fit(sample) for sample in counted.samples]
    resized = counted.samples.resized(preprocessing)
    assert isinstance(resized, ResizedSamples)
    assert (len(resized), resized.classes, resized.fingerprint) == (6, counted.samples.classes, "f")
    assert torch.equal(resized.labels, counted.samples.labels)
    counted.reads = 0
    for _ in range(2):
        assert all(same(found, want) for found, want in zip(resized, wanted, strict=True))
        assert all(same(preprocessing.fit(found), want) for found, want in zip(resized, wanted, strict=True))
    assert counted.reads == 6
    again = Counted(masks=masks, boxes=boxes)
    assert all(same(found, want) for found, want in zip(again.samples.resized(preprocessing), wanted, strict=True))
    assert again.reads == 0  # the next process finds them
    assert same(resized[-1], wanted[-1])
    with pytest.raises(IndexError):
        resized[6]


def test_mean_and_deviation_share_a_cache_and_all_else_does_not(tmp_path: Path) -> None:
    counted = Counted()
    fields: list[dict[str, Any]] = [{}, {"size": 12}, {"crop": 0.9}, {"interpolation": "bilinear"}, {"squash": True}]
    for more in fields:
        list(counted.samples.resized(Preprocessing((0,) * 3, (1,) * 3, **{"size": 16, "crop": 0.8, **more})))
        list(counted.samples.resized(Preprocessing((0.5,) * 3, (2,) * 3, **{"size": 16, "crop": 0.8, **more})))
    list(Counted(fingerprint="other").samples.resized(SMALL))
    assert counted.reads == 6 * len(fields)
    assert len(list((tmp_path / "cache/images").glob("*.rows"))) == len(fields) + 1


def test_only_what_is_read_is_stored(tmp_path: Path) -> None:
    samples = Counted(12).samples
    resized = samples.resized(Preprocessing((0,) * 3, (1,) * 3, size=128))
    resized[3]
    (rows,) = (tmp_path / "cache/images").glob("*.rows")
    assert rows.stat().st_size == 12 * 3 * 128 * 128
    assert rows.stat().st_blocks * 512 <= 3 * 128 * 128 + 2**14


def test_a_torn_row_is_made_again(tmp_path: Path) -> None:
    counted = Counted()
    wanted = [SMALL.fit(sample) for sample in counted.samples]
    list(counted.samples.resized(SMALL))
    (rows,) = (tmp_path / "cache/images").glob("*.rows")
    length = 3 * 16 * 16
    with rows.open("r+b") as file:
        file.seek(2 * length + 100)
        file.write(bytes(50))
    again = Counted()
    assert all(same(found, want) for found, want in zip(again.samples.resized(SMALL), wanted, strict=True))
    assert again.reads == 1


def test_a_cache_cut_short_is_made_again(tmp_path: Path) -> None:
    wanted = [SMALL.fit(sample) for sample in Counted().samples]
    list(Counted().samples.resized(SMALL))
    (rows,) = (tmp_path / "cache/images").glob("*.rows")
    with rows.open("r+b") as file:
        file.truncate(1000)
    again = Counted()
    assert all(same(found, want) for found, want in zip(again.samples.resized(SMALL), wanted, strict=True))
    assert again.reads == 5


def test_networks_of_any_size_and_a_budget_of_nothing_have_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Counted().samples
    assert samples.resized(Preprocessing((0,) * 3, (1,) * 3)) is samples
    monkeypatch.setenv("PRUNINGBENCH_IMAGE_CACHE", "0")
    assert samples.resized(SMALL) is samples
    monkeypatch.setenv("PRUNINGBENCH_IMAGE_CACHE", "a lot")
    with pytest.raises(UsageError, match="PRUNINGBENCH_IMAGE_CACHE is 'a lot'"):
        Counted().samples.resized(SMALL)


def test_the_cache_stays_within_its_budget_and_drops_what_was_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 6 * 3 * 64 * 64
    monkeypatch.setattr(resizing, "budget", lambda: int(2.5 * one) + 2**14)
    large = Preprocessing((0,) * 3, (1,) * 3, size=64)
    for name in ("a", "b", "a", "c"):
        time.sleep(0.02)  # longer than the file system's clock ticks
        list(Counted(fingerprint=name).samples.resized(large))
    kept = {path.stem for path in (tmp_path / "cache/images").glob("*.rows")}
    assert len(kept) == 2
    for name, reads in (("a", 0), ("c", 0), ("b", 6)):
        counted = Counted(fingerprint=name)
        list(counted.samples.resized(large))
        assert counted.reads == reads, name
    assert sum(p.stat().st_blocks * 512 for p in (tmp_path / "cache/images").glob("*.rows")) <= 2.5 * one + 2**14


def test_a_full_disk_costs_the_cache_and_not_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    counted = Counted()
    wanted = [SMALL.fit(sample) for sample in counted.samples]
    resized = counted.samples.resized(SMALL)
    monkeypatch.setattr(resizing, "_write_at", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert all(same(found, want) for found, want in zip(resized, wanted, strict=True))
    (warning,) = caught
    assert "No space left on device" in str(warning.message)
    assert "PRUNINGBENCH_CACHE" in str(warning.message)


def test_a_disk_without_room_gets_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = resizing.shutil.disk_usage("/")
    monkeypatch.setattr(resizing.shutil, "disk_usage", lambda _path: usage._replace(free=100))
    samples = Counted().samples
    assert samples.resized(SMALL) is samples


def test_a_cache_folder_that_cannot_be_made_gets_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "file"))
    samples = Counted().samples
    with pytest.warns(UserWarning, match="images are decoded each time"):
        assert samples.resized(SMALL) is samples


# ---- batches -----------------------------------------------------------------------------------------


class Plain(Samples):
    """The same samples without cache and threads."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    @property
    def labels(self) -> Tensor | None:
        return None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self._samples[index]


@pytest.mark.parametrize("index", [None, [4, 0, 0, 3]])
@pytest.mark.parametrize("preprocessing", [SMALL, Preprocessing((0.5,) * 3, (0.5,) * 3)])
def test_batches_are_those_of_a_bare_loop(index: list[int] | None, preprocessing: Preprocessing) -> None:
    counted = Counted(masks=True, boxes=True)
    model = VisionModel(nn.Conv2d(3, 2, 1), preprocessing)
    wanted = list(model.batches(Plain(list(counted.samples)), 4, index=index))
    for _ in range(2):
        found = list(model.batches(counted.samples, 4, index=index))
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.index, b.index)
            assert torch.equal(a.labels, b.labels)
            assert torch.equal(a.masks, b.masks)
            assert all(torch.equal(x, y) for x, y in zip(a.boxes, b.boxes, strict=True))
