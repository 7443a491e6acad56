"""Crops, coherence, purity and matching of concepts."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_interpretability import concept_coherence, concept_purity, match_concepts
from pruningbench_interpretability.coherence import top_crops
from pruningbench_interpretability.crops import CropGrid
from torch import nn

NAN = float("nan")


def test_crops_of_the_paper():
    grid = CropGrid.of((224, 224), 64, 0.8)
    assert (grid.side, grid.stride, len(grid)) == (64, 51, 16)
    assert CropGrid.of((36, 36), 64, 0.8) == CropGrid((36, 36), 10, 8)
    assert CropGrid.of((2, 5), 64, 0.1) == CropGrid((2, 5), 1, 1)
    assert len(CropGrid.of((20, 30), 1000, 1.0)) == 1


@cases(40)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 300), st.floats(0.05, 1.5))
def test_crops_are_what_their_boxes_say(h, w, patch, stride):
    grid = CropGrid.of((h, w), patch, stride)
    images = torch.rand(2, 3, h, w)
    crops, boxes = grid.cut(images), grid.boxes().int().tolist()
    assert len(crops) == 2 * len(grid)
    assert len(boxes) == len(grid)
    for i, (x0, y0, x1, y1) in itertools.product(range(2), boxes):
        assert torch.equal(crops[i * len(grid) + boxes.index([x0, y0, x1, y1])], images[i, :, y0:y1, x0:x1])
    assert grid.enlarge(crops).shape[-2:] == (h, w)


def test_top_crops_are_one_of_an_image_in_order():
    coefficients = torch.tensor([0.5, 0.9, 0.9, 0.1, 0.7, 0.0])
    images = torch.tensor([0, 0, 1, 1, 2, 3])
    assert top_crops(coefficients, images, 9).tolist() == [1, 2, 4]  # ties by index, zero shows nothing
    assert top_crops(coefficients, images, 2).tolist() == [1, 2]
    for nothing in (torch.zeros(6), torch.ones(6), torch.full((6,), NAN), torch.ones(6) + 1e-8 * torch.arange(6)):
        assert not len(top_crops(nothing, images, 9))
    assert not len(top_crops(torch.empty(0), images[:0], 3))


@cases(25)
@given(st.integers(0, 2**31 - 1), st.integers(2, 5), st.integers(1, 3), st.integers(2, 4))
def test_coherence_is_the_mean_cosine_minus_that_of_all_permutations(seed, images, per_image, patches):
    draw = torch.Generator().manual_seed(seed)
    of = torch.arange(images).repeat_interleave(per_image)
    embeddings = torch.randn(len(of), 3, generator=draw).double()
    coefficients = torch.rand(len(of), 1, generator=draw)
    unit = nn.functional.normalize(embeddings, dim=1)

    def likeness(crops):
        return (
            sum(float(unit[a] @ unit[b]) for a, b in itertools.combinations(crops, 2))
            * 2
            / (len(crops) * (len(crops) - 1))
        )

    r = min(patches, images)
    permuted = [
        likeness(crops)
        for chosen in itertools.combinations(range(images), r)
        for crops in itertools.product(*([i for i in range(len(of)) if of[i] == c] for c in chosen))
    ]
    best = [max((i for i in range(len(of)) if of[i] == c), key=lambda i: coefficients[i, 0]) for c in range(images)]
    top = sorted(best, key=lambda i: -coefficients[i, 0])[:r]
    expected = likeness(top) - sum(permuted) / len(permuted)
    got = concept_coherence(coefficients, embeddings, of, patches)
    assert float(got) == pytest.approx(expected, abs=1e-9)


def test_coherence_that_is_undefined():
    embeddings, images = torch.eye(4), torch.arange(4)
    one = torch.tensor([[1.0, 0, 0, 0]]).T
    both = torch.tensor([[1.0, 0.5, 0, 0]]).T
    assert concept_coherence(one, embeddings, images).isnan().all()  # a single crop is like nothing
    assert concept_coherence(both, embeddings, images).tolist() == [0.0]  # orthogonal, as random crops are
    assert concept_coherence(both, embeddings, torch.zeros(4).long()).isnan().all()
    assert concept_coherence(torch.full((4, 2), NAN), embeddings, images).isnan().all()
    embeddings[1] = NAN
    assert concept_coherence(both, embeddings, images).isnan().all()  # what is left is one crop


def test_purity_by_hand():
    coefficients = torch.tensor([[3.0, 1.0], [2.0, 0.0], [1.0, 2.0], [0.5, 3.0]])
    got = concept_purity(coefficients, torch.tensor([0, 1]), torch.tensor([0, 0, 1, 1]), torch.arange(4), 3)
    assert got.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert concept_purity(coefficients * NAN, torch.tensor([0, 1]), torch.zeros(4), torch.arange(4)).isnan().all()


@cases(30)
@given(st.permutations(range(4)), st.integers(0, 2**31 - 1))
def test_matching_undoes_a_permutation(order, seed):
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    partner, cosine = match_concepts(rows, 3 * rows[list(order)])
    assert [order[p] for p in partner.tolist()] == list(range(4))
    torch.testing.assert_close(cosine, torch.ones(4).double())


def test_matching_is_the_best_in_sum_and_knows_undefined_rows():
    first = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    second = torch.tensor([[1.0, 0.1], [1.0, -0.5]])  # greedy would pair the first two
    _, cosine = match_concepts(first, second)
    unit = [nn.functional.normalize(x, dim=1) for x in (first, second)]
    products = (unit[0] @ unit[1].T).double()
    assert float(cosine.sum()) == pytest.approx(float(products[0, 1] + products[1, 0]), abs=1e-6)
    partner, cosine = match_concepts(first, torch.tensor([[NAN, 0.0], [0.8, 0.6]]))
    assert partner.tolist() == [0, 1]
    assert cosine.isnan().tolist() == [True, False]
