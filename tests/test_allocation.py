"""Allocations prune exact totals, keep their rules, and equal the reference."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases

from pruningbench.pruning.allocation import (
    LAYERWISE,
    Allocation,
    allocate,
    layer_densities,
    layer_keep_counts,
    number_to_prune,
)

Shapes = dict[str, tuple[int, ...]]
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "data/pruners/resnet20-allocations.json").read_text())
RESNET: Shapes = {name: tuple(shape) for name, shape in GOLDEN["layers"]}
TOTAL = 268_336

shapes_of_networks = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 16), st.integers(1, 16), st.sampled_from([1, 3, 7]), st.sampled_from([1, 3, 7])),
    ),
    min_size=1,
    max_size=8,
).map(lambda shapes: {f"layer{i}": shape for i, shape in enumerate(shapes)})
sparsities = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.999])


def size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


@given(shapes_of_networks, sparsities, st.sampled_from(LAYERWISE))
@cases(300)
def test_counts_are_exact_and_densities_are_shares(shapes: Shapes, sparsity: float, allocation: Allocation) -> None:
    total = sum(map(size, shapes.values()))
    densities = layer_densities(shapes, sparsity, allocation)
    keep = layer_keep_counts(shapes, sparsity, allocation)
    assert list(densities) == list(keep) == list(shapes)
    assert all(0 <= density <= 1 for density in densities.values())
    assert all(0 <= keep[name] <= size(shape) for name, shape in shapes.items())
    assert sum(keep.values()) == total - round(sparsity * total)
    assert sum(densities[name] * size(shape) for name, shape in shapes.items()) == pytest.approx(
        (1 - sparsity) * total, rel=1e-9, abs=1e-6
    )
    for name, shape in shapes.items():  # rounding moves no layer by more than one weight and the total's rounding
        assert abs(keep[name] - densities[name] * size(shape)) <= 2


@given(shapes_of_networks, sparsities, st.sampled_from(["global", *LAYERWISE]), st.booleans())
@cases(100)
def test_masks_prune_exactly_k(shapes: Shapes, sparsity: float, allocation: Allocation, tied: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.ones(s) if tied else torch.rand(s, generator=generator) for n, s in shapes.items()}
    masks = allocate(scores, sparsity, allocation)
    total = sum(map(size, shapes.values()))
    assert list(masks) == list(shapes)
    assert all(masks[name].shape == torch.Size(shape) for name, shape in shapes.items())
    assert sum(int(mask.sum()) for mask in masks.values()) == total - round(sparsity * total)
    for name, mask in masks.items():
        kept, dropped = scores[name][mask], scores[name][~mask]
        assert not len(kept) or not len(dropped) or kept.min() >= dropped.max()


@pytest.mark.parametrize("sparsity", ["0.90", "0.95"])
def test_erk_equals_the_reference(sparsity: str) -> None:
    golden = GOLDEN["erk"][sparsity]
    densities = layer_densities(RESNET, float(sparsity), "erk")
    assert list(densities.values()) == pytest.approx(golden["density"], rel=1e-12)
    keep = layer_keep_counts(RESNET, float(sparsity), "erk")
    assert sum(keep.values()) == TOTAL - round(float(sparsity) * TOTAL)
    # the reference rounds each layer by itself and so misses the total by two weights
    assert sum(abs(a - b) for a, b in zip(keep.values(), golden["keep"], strict=True)) <= 4


def test_erk_is_the_closed_form_where_nothing_is_clamped() -> None:
    shapes = {"a": (64, 64, 3, 3), "b": (128, 64, 3, 3), "c": (256, 128, 3, 3)}
    raw = {name: sum(shape) / size(shape) for name, shape in shapes.items()}
    factor = 0.1 * sum(map(size, shapes.values())) / sum(sum(shape) for shape in shapes.values())
    expected = {name: factor * value for name, value in raw.items()}
    assert layer_densities(shapes, 0.9, "erk") == pytest.approx(expected)


def test_uniform_is_the_same_in_each_layer() -> None:
    keep = layer_keep_counts(RESNET, 0.9, "uniform")
    golden = GOLDEN["uniform_kept"]["0.90"]
    assert sum(abs(a - b) for a, b in zip(keep.values(), golden, strict=True)) <= 1e-4 * TOTAL
    assert set(layer_densities(RESNET, 0.9, "uniform").values()) == {1 - 0.9}


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_uniform_plus_keeps_its_rules(sparsity: float) -> None:
    densities = layer_densities(RESNET, sparsity, "uniform-plus")
    first, *middle, last = densities.values()
    assert first == 1
    assert last == pytest.approx(max(0.2, middle[0]))
    assert len({round(density, 12) for density in middle}) == 1


def test_uniform_plus_gives_way_where_its_rules_ask_for_too_much() -> None:
    shapes = {"conv": (64, 3, 7, 7), "linear": (10, 64)}
    keep = layer_keep_counts(shapes, 0.99, "uniform-plus")
    assert sum(keep.values()) == number_kept(shapes, 0.99)
    assert keep["conv"] > keep["linear"] > 0


def test_uniform_plus_of_a_transformer_has_no_dense_first_layer() -> None:
    shapes = {"qkv": (96, 32), "fc": (64, 32), "head": (10, 32)}
    densities = layer_densities(shapes, 0.9, "uniform-plus")
    assert densities["qkv"] == pytest.approx(densities["fc"])
    assert densities["head"] == pytest.approx(0.2)


def number_kept(shapes: Shapes, sparsity: float) -> int:
    total = sum(map(size, shapes.values()))
    return total - number_to_prune(sparsity, total)


def test_rounding_ties_go_to_the_earlier_layer() -> None:
    assert layer_keep_counts({"a": (1, 5), "b": (1, 5), "c": (1, 6)}, 0.5, "uniform") == {"a": 3, "b": 2, "c": 3}


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        number_to_prune(sparsity, 10)
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        allocate({"a": torch.ones(2, 2)}, sparsity, "erk")


def test_global_fixes_no_number_a_layer() -> None:
    with pytest.raises(ValueError, match="'global' does not fix the number"):
        layer_densities(RESNET, 0.5, "global")
