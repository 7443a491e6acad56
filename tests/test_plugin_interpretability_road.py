"""ROAD: the imputation against published values and a direct solve, its laws, and the curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.attributions import SmallNetwork, faithfulness_case
from kit.cases import cases
from pruningbench_interpretability import multigrid, road_curves, road_impute
from pruningbench_interpretability.multigrid import hierarchy, weighted_neighbours
from torch import Tensor

DATA = Path(__file__).parent / "data" / "interpretability"
ROAD, CURVES = np.load(DATA / "road.npz"), np.load(DATA / "faithfulness_more.npz")
NAN = float("nan")


def direct(image: Tensor, keep: Tensor) -> Tensor:
    """Solve the equations of one (C, H, W) image, kept pixels (H, W), as a dense system in float64."""
    height, width = keep.shape
    n = height * width
    place = torch.arange(n)
    row, column = place // width, place % width
    down, across = (row[:, None] - row).abs(), (column[:, None] - column).abs()
    near = (down <= 1) & (across <= 1) & (down + across > 0)
    weight = torch.where(near, torch.where(down + across == 1, 1 / 6, 1 / 12), 0.0).double()
    gone = ~keep.flatten()
    laplacian = torch.diag(weight.sum(1)) - weight
    values = image.double().flatten(1).clone()
    right = weight[gone][:, ~gone] @ values[:, ~gone].T
    values[:, gone] = torch.linalg.solve(laplacian[gone][:, gone], right).T
    return values.view_as(image)


def blobs(height: int, width: int, seed: int, share: float) -> Tensor:
    """Return (H, W) bool: True on all but large smooth holes of that share of the pixels."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 4, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").flatten()
    keep = torch.ones(height * width, dtype=torch.bool)
    keep[smooth.argsort(descending=True)[: min(int(share * height * width), height * width - 1)]] = False
    return keep.view(height, width)


# imputation


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", range(3))
def test_imputation_equals_the_reference(kind, dtype):
    images = torch.from_numpy(ROAD["images_uint8"][kind]).to(dtype).div(255).expand(3, -1, -1, -1)
    keep = torch.from_numpy(np.unpackbits(ROAD["keep"][kind], axis=-1)).bool()[:, None]
    got = road_impute(images, keep)
    assert got.dtype == dtype
    np.testing.assert_allclose(got[..., 1::4, 1::4].numpy(), ROAD["imputed_stride4"][kind], atol=5e-5)
    np.testing.assert_allclose(got.mean((2, 3)).numpy(), ROAD["imputed_mean"][kind], atol=2e-5)
    assert torch.equal(got[keep.expand_as(got)], images[keep.expand_as(got)])
    tight = road_impute(images.double(), keep, tolerance=1e-9)
    np.testing.assert_allclose(tight[..., 1::4, 1::4].numpy(), ROAD["imputed_stride4"][kind], atol=1e-6)


@given(
    st.integers(1, 3),
    st.integers(1, 14),
    st.integers(1, 14),
    st.integers(1, 3),
    st.floats(0, 0.999),
    st.integers(0, 10**6),
)
@cases(60)
def test_imputation_solves_the_equations_on_any_holes(batch, height, width, channels, share, seed):
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, channels, height, width, generator=draw)
    if seed % 2:
        keep = torch.rand(batch, 1, height, width, generator=draw) >= share
        keep.flatten(1)[:, seed % (height * width)] = True  # at least one pixel is known
    else:
        keep = torch.stack([blobs(height, width, seed + i, share) for i in range(batch)])[:, None]
    got = road_impute(images, keep)
    expected = torch.stack([direct(image, kept[0]) for image, kept in zip(images, keep, strict=True)])
    span = float(images.max() - images.min()) + 1
    assert float((got - expected).abs().max()) <= 1e-4 * span
    low = torch.where(keep, images, torch.inf).amin((2, 3), keepdim=True)
    high = torch.where(keep, images, -torch.inf).amax((2, 3), keepdim=True)
    assert bool(((got >= low) & (got <= high)).all())


def test_one_missing_pixel_is_the_weighted_mean_of_its_neighbours():
    image = torch.arange(9.0).view(1, 1, 3, 3) ** 2
    keep = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    keep[..., 1, 1] = False
    beside, corners = (1 + 9 + 25 + 49) / 6, (0 + 4 + 36 + 64) / 12
    assert road_impute(image, keep)[0, 0, 1, 1].item() == pytest.approx(beside + corners, rel=1e-6)
    keep = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    keep[..., 0, 0] = False  # a corner has three neighbours
    expected = ((1 + 9) / 6 + 16 / 12) / (2 / 6 + 1 / 12)
    assert road_impute(image, keep)[0, 0, 0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_constants_are_reproduced_exactly_and_nothing_known_gives_the_mean():
    keep = torch.stack([blobs(20, 17, 0, 0.9), torch.zeros(20, 17, dtype=torch.bool)])[:, None]
    constant = torch.tensor([[0.3], [-7.0]]).view(2, 1, 1, 1).expand(2, 3, 20, 17)
    torch.testing.assert_close(road_impute(constant, keep), constant, atol=1e-6, rtol=0)
    image = torch.randn(1, 3, 20, 17, generator=torch.Generator().manual_seed(0))
    got = road_impute(image, keep[1:])
    torch.testing.assert_close(got, image.mean((2, 3), keepdim=True).expand_as(image))


def test_nothing_removed_one_pixel_and_no_image():
    image = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    assert torch.equal(road_impute(image, everything), image)
    assert torch.equal(road_impute(image[..., :1, :1], everything[..., :1, :1]), image[..., :1, :1])
    assert road_impute(image[:0], everything[:0]).shape == (0, 3, 5, 7)
    with pytest.raises(ValueError, match="keep must be"):
        road_impute(image, everything[:, 0])
    with pytest.raises(ValueError, match="keep must be"):
        road_impute(image, everything.expand(-1, 3, -1, -1))


def test_images_with_nan_leave_the_others_alone():
    images = torch.randn(3, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    keep = torch.stack([blobs(24, 24, i, 0.6) for i in range(3)])[:, None]
    alone = road_impute(images, keep)
    place = keep[1, 0].nonzero()[0]
    images[1, 0, place[0], place[1]] = NAN
    got = road_impute(images, keep)
    torch.testing.assert_close(got[[0, 2]], alone[[0, 2]], atol=1e-4, rtol=0)
    assert bool(got[1, 0][~keep[1, 0]].isnan().all())
    torch.testing.assert_close(got[1, 1], alone[1, 1], atol=1e-4, rtol=0)


def test_chunks_do_not_change_the_result_and_keep_memory_bounded(monkeypatch):
    solved, plain = [], multigrid.solve
    monkeypatch.setattr(
        "pruningbench_interpretability.road.solve",
        lambda operators, right, **other: solved.append(right.numel()) or plain(operators, right, **other),
    )
    images = torch.rand(5, 3, 40, 33, generator=torch.Generator().manual_seed(0))
    keep = torch.stack([blobs(40, 33, i, 0.2 * i) for i in range(5)])[:, None]
    whole = road_impute(images, keep)
    for together in (1, 8000):
        solved.clear()
        torch.testing.assert_close(road_impute(images, keep, together=together), whole, atol=5e-5, rtol=0)
        assert max(solved) <= max(together, 3 * 40 * 33)
    half = road_impute(images.half(), keep)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), whole, atol=2e-3, rtol=0)


def test_iterations_hardly_depend_on_size_and_shape(monkeypatch):
    cycles = [0]
    plain = multigrid._v_cycle

    def counted(operators, right):
        cycles[0] += isinstance(operators[0], multigrid.Holes)
        return plain(operators, right)

    monkeypatch.setattr(multigrid, "_v_cycle", counted)
    for side, share in ((16, 0.5), (64, 0.1), (64, 0.9), (150, 0.7), (224, 0.99)):
        image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(side))
        cycles[0] = 0
        road_impute(image, blobs(side, side, 1, share)[None, None])
        assert 2 <= cycles[0] <= 13, (side, share)


@given(st.integers(2, 17), st.integers(2, 17), st.integers(0, 999))
@cases(30)
def test_coarse_operators_are_galerkin_products(height, width, seed):
    draw = torch.Generator().manual_seed(seed)
    missing = (torch.rand(1, 1, height, width, generator=draw) < 0.6).double()
    fine, *coarser = hierarchy(missing)
    size = (height, width)
    for coarse in coarser:
        small = -(-size[0] // 2), -(-size[1] // 2)
        u, v = torch.randn(2, 1, 1, *small, generator=draw, dtype=torch.float64)
        up_u, up_v = (multigrid._prolong(x[None], *size) for x in (u, v))
        if fine.missing is not None:
            up_u, up_v = up_u * fine.missing, up_v * fine.missing
        zero_fine, zero_coarse = torch.zeros_like(up_u), torch.zeros_like(u[None])
        left = (up_v * fine.residual(zero_fine, up_u)).sum()
        right = (v[None] * coarse.residual(zero_coarse, u[None])).sum()
        torch.testing.assert_close(left, right, atol=1e-9, rtol=1e-9)
        restricted = (multigrid._restrict(up_v) * u[None]).sum()
        torch.testing.assert_close(restricted, (up_v * multigrid._prolong(u[None], *size)).sum())
        fine, size = coarse, small


def test_weights_of_neighbours():
    point = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    point[0, 0, 2, 2] = 1
    expected = torch.tensor([[1 / 12, 1 / 6, 1 / 12], [1 / 6, 0, 1 / 6], [1 / 12, 1 / 6, 1 / 12]], dtype=torch.float64)
    torch.testing.assert_close(weighted_neighbours(point)[0, 0, 1:4, 1:4], expected)


# curves


@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_curves_equal_the_reference(order, batch_size):
    predict, images, maps, targets = faithfulness_case()
    fractions = [percent / 100 for percent in CURVES["road_percent_removed"]]
    got = road_curves(predict, images, maps, targets, fractions=fractions, order=order, noise=0, batch_size=batch_size)
    np.testing.assert_allclose(got.probability.numpy(), CURVES[f"road_{order}_target"], atol=1e-4)
    np.testing.assert_array_equal(got.predicted.numpy(), CURVES[f"road_{order}_predicted"])
    labels = torch.from_numpy(CURVES["labels"])
    expected = CURVES[f"road_{order}_predicted"] == CURVES["labels"][:, None]
    np.testing.assert_array_equal(got.agreement(labels).numpy(), expected)


def test_noise_depends_on_the_image_and_not_on_the_company():
    predict, images, maps, targets = faithfulness_case()
    seen = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return predict(x)

    def imputed(which: list[int], index: list[int] | None, **other) -> Tensor:
        seen.clear()
        fields = {"fractions": (0.25, 0.5), "noise": 0.1, "seed": 3, "index": index, "batch_size": 4, **other}
        road_curves(watch, images[which], maps[which], targets[which], **fields)
        return torch.cat(seen)

    several, alone = imputed([0, 1, 2], [10, 11, 12]), imputed([2], [12])
    torch.testing.assert_close(several[4:], alone, atol=1e-3, rtol=0)
    plain = imputed([2], [12], noise=0)
    noise = alone - plain
    removed = noise[:, 0] != 0
    assert removed.sum((1, 2)).tolist() == [256, 512]
    assert float(noise[1][:, removed[1]].std()) == pytest.approx(0.1, rel=0.1)
    both = removed[0] & removed[1]
    torch.testing.assert_close(noise[0][:, both], noise[1][:, both], atol=1e-5, rtol=0)
    assert not torch.allclose(imputed([2], [13]), alone)
    assert not torch.allclose(imputed([2], [12], seed=4), alone)


def test_shares_round_down_to_whole_pixels():
    counts = []

    def predict(x: Tensor) -> Tensor:
        counts.extend((x[:, 0] != 1).sum((1, 2)).tolist())
        return torch.ones(len(x), 2) / 2

    images, maps = torch.ones(1, 1, 10, 10), torch.arange(100.0).view(1, 10, 10)
    road_curves(predict, images, maps, torch.tensor([0]), fractions=(0.0, 0.29, 0.575, 1.0), noise=0.1)
    assert counts == [0, 29, 57, 100]


def test_undefined_maps_targets_and_predictions_are_nan():
    predict, images, maps, targets = faithfulness_case()
    maps, targets = maps.clone(), targets.clone()
    maps[0], maps[1, 3, 3], targets[2] = 0, NAN, 99
    got = road_curves(predict, images, maps, targets, fractions=(0.5,))
    assert got.probability[:, 0].isnan().tolist() == [True, True, True, False, False, False]
    assert got.agreement(targets)[:, 0].isnan().tolist() == [True, True, False, False, False, False]
    dead = road_curves(lambda x: torch.full((len(x), 10), NAN), images, maps, targets, fractions=(0.5,))
    assert bool(dead.probability.isnan().all()) and bool((dead.predicted == -1).all())
    assert road_curves(SmallNetwork(), images[:0], maps[:0], targets[:0], fractions=(0.5,)).probability.shape == (0, 1)
