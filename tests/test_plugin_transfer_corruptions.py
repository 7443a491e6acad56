"""Corruptions: SciPy, Pillow and colorsys as peers, and what randomness may depend on."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from kit.transfer import blobs, context, tiny
from PIL import Image
from pruningbench_transfer.corruptions import KINDS, STRENGTHS, brightness, corrupt, gaussian_blur, jpeg, pixelate
from pruningbench_transfer.jpeg import LUMINANCE, table
from pruningbench_transfer.metrics import Accuracy
from pruningbench_transfer.robustness import CorruptionRobustness
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pruningbench.contract import ArraySamples
from pruningbench.errors import PruningBenchError


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    """Smooth colours with some edges, as bytes in [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    rows = [0.5 + 0.5 * torch.sin(7 * x + 3 * c) * torch.cos(5 * y - c) for c in range(channels)]
    image = torch.stack(rows)
    image[:, height // 4 : height // 2, width // 3 : width // 2] = 0.9
    return (image * 255).round()[None] / 255


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def pil(images: Tensor) -> Image.Image:
    levels = (images[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def levels_of(image: Image.Image) -> np.ndarray:
    array = np.asarray(image).astype(int)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize("deviation", [0.4, 1.0, 3.0])
def test_blur_equals_scipy(deviation: float) -> None:
    images = picture(20, 33).double()
    expected = gaussian_filter(images.numpy(), (0, 0, deviation, deviation), mode="nearest", truncate=4)
    np.testing.assert_allclose(gaussian_blur(images, deviation).numpy(), expected, atol=1e-12)


def test_brightness_equals_colorsys() -> None:
    images = picture(6, 7).double()
    images[..., 0, 0] = 0
    got = brightness(images, 0.2)[0].permute(1, 2, 0)
    for pixel, changed in zip(images[0].permute(1, 2, 0).reshape(-1, 3), got.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        np.testing.assert_allclose(changed.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("factor", [0.6, 0.3, 0.25, 0.95])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixelate_equals_pillow(factor: float, channels: int) -> None:
    images = picture(40, 56, channels)
    small = pil(images).resize((int(56 * factor), int(40 * factor)), Image.Resampling.BOX)
    expected = levels_of(small.resize((56, 40), Image.Resampling.BOX))
    got = (pixelate(images, factor)[0] * 255).numpy()
    assert np.abs(got - expected).max() <= 1.001  # Pillow rounds to bytes after each axis


@pytest.mark.parametrize("quality", [7, 25, 50, 80])
@pytest.mark.parametrize(("height", "width", "channels"), [(160, 144, 3), (93, 117, 3), (93, 117, 1)])
def test_jpeg_equals_pillow(quality: int, height: int, width: int, channels: int) -> None:
    # the noise of a photograph, without which coefficients lie half-way between two steps again and again
    noise = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    images = ((picture(height, width, channels) + 0.02 * noise).clamp(0, 1) * 255).round() / 255
    file = io.BytesIO()
    pil(images).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = levels_of(Image.open(file))
    off = np.abs((jpeg(images, quality)[0] * 255).numpy() - expected)
    # its integer arithmetic rounds a coefficient in a thousand to the other side, which shows in a block in fifty
    assert off.mean() < 0.5 and np.quantile(off, 0.95) <= 2
    assert np.abs(expected - (images[0] * 255).numpy()).mean() > 2.5  # JPEG did change the image


def test_jpeg_tables() -> None:
    assert table(50, LUMINANCE).tolist() == [list(map(float, row)) for row in LUMINANCE]
    assert table(100, LUMINANCE).unique().tolist() == [1.0]
    assert float(table(25, LUMINANCE)[0, 0]) == 32 and float(table(1, LUMINANCE).max()) == 255
    with pytest.raises(ValueError, match="quality"):
        table(0, LUMINANCE)


def test_contrast_and_noises_have_their_strengths() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    for kind, strength, deviation in (("gaussian-noise", 0.08, 0.08), ("shot-noise", 60, (0.5 / 60) ** 0.5)):
        noise = corrupt(grey, kind, strength, seeded(4)).double() / 255 - 0.5
        assert float(noise.std()) == pytest.approx(deviation, rel=0.03)
        assert abs(float(noise.mean())) < 0.004
    impulse = corrupt(grey, "impulse-noise", 0.2, seeded(4))
    assert float((impulse == 0).double().mean()) == pytest.approx(0.1, rel=0.1)
    assert float((impulse == 255).double().mean()) == pytest.approx(0.1, rel=0.1)
    images = picture(16, 16).double()
    flat = corrupt(images, "contrast", 0.05, seeded(1)).double() / 255
    expected = (images - images.mean(dim=(2, 3), keepdim=True)) * 0.05 + images.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(flat, expected, atol=0.5 / 255 + 1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_does_not_depend_on_the_batch_and_grows_with_severity(kind: str) -> None:
    images = torch.cat([picture(32, 32), picture(32, 32).flip(3), picture(32, 32).flip(2)])
    off = []
    for table_of in ("imagenet", "cifar"):
        strengths = STRENGTHS[table_of][kind]
        whole = corrupt(images, kind, strengths[2], seeded(3))
        alone = [corrupt(images[i : i + 1], kind, strengths[2], [seeded(3)[i]]) for i in range(3)]
        assert whole.dtype == torch.uint8 and torch.equal(whole, torch.cat(alone))
        assert len(strengths) == 5
        off = [float((corrupt(images, kind, s, seeded(3)) / 255 - images).abs().mean()) for s in strengths]
        # a pattern may happen to fit a coarser grid better: first against last there
        assert off[0] < off[-1] if kind in ("pixelate", "jpeg") else off == sorted(off)
        assert off[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_grey_images_are_corrupted_too(kind: str) -> None:
    out = corrupt(picture(16, 16, 1), kind, STRENGTHS["imagenet"][kind][0], seeded(1))
    assert out.shape == (1, 1, 16, 16)


def test_robustness_groups_severities_by_image() -> None:
    data = blobs([0, 1, 0, 1, 1], ("p2", "p0"))
    model = tiny(("p0", "p1", "p2", "p3"), torch.eye(4))
    task = CorruptionRobustness(data="d", kinds=("contrast", "gaussian-noise"), severities=(1, 5))
    outputs = dict(task.run(model, context(d=data)))
    assert list(outputs) == ["contrast", "gaussian-noise"]
    assert outputs["contrast"].scores.shape == (5, 2, 4) and outputs["contrast"].count == 5
    assert outputs["contrast"].labels.tolist() == [[2, 2], [0, 0], [2, 2], [0, 0], [0, 0]]
    assert Accuracy().values(outputs["contrast"]).tolist()[:1] == [1.0]
    # a linear network of pixels shows what it was given: the corruption of the very bytes, whatever the batches
    expected = corrupt(data.images / 255, "contrast", 0.4, seeded(5)).flatten(1) / 255
    torch.testing.assert_close(outputs["contrast"].scores[:, 0], expected)
    again = dict(task.run(model, context(d=data)))
    assert torch.equal(outputs["gaussian-noise"].scores, again["gaussian-noise"].scores)
    wider = context(d=data)
    wider.batch_size = 100
    assert torch.equal(outputs["gaussian-noise"].scores, dict(task.run(model, wider))["gaussian-noise"].scores)


def test_robustness_refuses() -> None:
    data = ArraySamples(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), classes=("p0", "p9"))
    with pytest.raises(PruningBenchError, match="lacks 'p9'"):
        list(CorruptionRobustness(data="d").run(tiny(("p0", "p1")), context(d=data)))
    with pytest.raises(PruningBenchError, match="no classifier"):
        list(CorruptionRobustness(data="d").run(tiny(()), context(d=data)))
    for wrong in ({"kinds": ()}, {"severities": (0, 1)}, {"severities": (1, 1)}, {"severities": ()}):
        assert CorruptionRobustness(data="d", **wrong).problem()  # type: ignore[arg-type]
    assert CorruptionRobustness(data="d").problem() is None
