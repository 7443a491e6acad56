"""keep_highest against a stable sort, for every kind of float."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from torch import Tensor

from pruningbench.pruning import top_k as selection
from pruningbench.pruning.top_k import keep_highest

SPECIAL = [0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), 1e-45, -1e-45, 5e-324, 3.4e38, -3.4e38]


def reference(scores: list[Tensor], prune: int) -> list[Tensor]:
    """Sort all scores, highest first, equals in order of their index; keep the first ones."""
    flat = np.concatenate([s.double().numpy().reshape(-1) for s in scores])
    order = np.argsort(-flat, kind="stable")
    keep = np.zeros(len(flat), dtype=bool)
    keep[order[: len(flat) - prune]] = True
    parts = torch.from_numpy(keep).split([s.numel() for s in scores])
    return [part.reshape(s.shape) for part, s in zip(parts, scores, strict=True)]


def assert_same(scores: list[Tensor], prune: int) -> None:
    got = keep_highest(scores, prune)
    for mask, expected in zip(got, reference(scores, prune), strict=True):
        assert mask.dtype == torch.bool
        assert torch.equal(mask, expected)


@st.composite
def score_lists(draw: st.DrawFn) -> tuple[list[Tensor], int]:
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    width = 32 if dtype == torch.float32 else 64
    values = st.floats(width=width, allow_nan=False) | st.sampled_from(
        SPECIAL if width == 64 else [float(np.float32(v)) for v in SPECIAL]
    )
    few = st.sampled_from([0.0, -0.0, 1.0, 2.0])
    rows = draw(st.lists(st.lists(values | few, max_size=12), min_size=1, max_size=5))
    scores = [torch.tensor(row, dtype=dtype) for row in rows]
    return scores, draw(st.integers(0, sum(map(len, rows))))


@given(score_lists())
@cases(300)
def test_equals_a_stable_sort(case: tuple[list[Tensor], int]) -> None:
    assert_same(*case)


@pytest.mark.parametrize("numpy", [True, False])
@given(case=score_lists())
@cases(300)
def test_pivots_equal_a_stable_sort(numpy: bool, case: tuple[list[Tensor], int]) -> None:
    """With a tiny sample and tiny chunks, every branch is taken, also those for other devices than a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_on_cpu", lambda tensor: numpy)
        patch.setattr(selection, "_SAMPLE", 3)
        patch.setattr(selection, "_CHUNK", 4)
        assert_same(*case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "zeros", "few values", "sorted", "outliers", "constant"])
def test_large_inputs(dtype: torch.dtype, kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(140_001, generator=generator, dtype=dtype)
    if kind == "zeros":
        x = torch.where(torch.rand(x.shape, generator=generator) < 0.7, 0.0, x.double()).to(dtype).abs()
    elif kind == "few values":
        x = (x * 2).round()
    elif kind == "sorted":
        x = x.sort().values
    elif kind == "outliers":
        x[::7] *= 1e30
    elif kind == "constant":
        x = torch.ones_like(x)
    scores = [x[:5], x[5:50_000].reshape(-1, 5), x[:0], x[50_000:]]
    for prune in (1, 70_000, 98_000, 133_001, 140_000):
        assert_same(scores, prune)


def test_exactly_k_when_all_scores_are_equal_and_the_first_are_kept() -> None:
    masks = keep_highest([torch.ones(3, 2), torch.ones(4)], 7)
    assert masks[0].flatten().tolist() == [True] * 3 + [False] * 3
    assert masks[1].tolist() == [False] * 4


def test_minus_zero_ties_with_zero() -> None:
    assert keep_highest([torch.tensor([-0.0, 0.0, 0.0, -0.0])], 2)[0].tolist() == [True, True, False, False]


def test_half_precision_and_mixed_dtypes_rank_by_value() -> None:
    half = torch.tensor([0.5, 3.0], dtype=torch.bfloat16)
    double = torch.tensor([0.5 + 1e-12, 2.0], dtype=torch.float64)
    masks = keep_highest([half, double], 1)
    assert [m.tolist() for m in masks] == [[False, True], [True, True]]


def test_transposed_scores_rank_in_row_major_order() -> None:
    scores = torch.zeros(2, 3).t()
    assert keep_highest([scores], 4)[0].flatten().tolist() == [True, True] + [False] * 4


def test_scores_are_left_alone() -> None:
    scores = torch.tensor([3.0, -0.0, 1.0], requires_grad=True)
    keep_highest([scores], 1)
    assert scores.tolist() == [3.0, -0.0, 1.0]
    assert str(scores[1].item()) == "-0.0"


@pytest.mark.parametrize("prune", [-1, 4])
def test_refuses_to_prune_more_than_there_is(prune: int) -> None:
    with pytest.raises(ValueError, match=f"cannot prune {prune} of 3"):
        keep_highest([torch.ones(3)], prune)


@pytest.mark.parametrize("prune", [0, 1, 3])
def test_refuses_nan(prune: int) -> None:
    inf = float("inf")
    with pytest.raises(ValueError, match="NaN"):
        keep_highest([torch.tensor([inf, -inf, float("nan")])], prune)


def test_infinities_of_both_signs_are_not_mistaken_for_nan() -> None:
    inf = float("inf")
    assert keep_highest([torch.tensor([inf, 0.0, -inf])], 2)[0].tolist() == [True, False, False]
