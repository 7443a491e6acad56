"""Human label distributions, maps and similarities, against SciPy, closed forms and the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.alignment import NAN, THREE, Pixels, answered, context
from kit.cases import cases
from pruningbench_alignment import human_cross_entropy
from pruningbench_alignment.metrics import HumanCrossEntropy, HumanDivergence, MapAlignment, SimilarityCorrelation
from pruningbench_alignment.outputs import MapPairs, Similarities
from pruningbench_alignment.similarity import (
    gradient_maps,
    row_correlation,
    similarity_matrix,
    similarity_rows,
    spearman,
)
from pruningbench_alignment.softlabels import human_entropy
from pruningbench_alignment.tasks import ClickMe, RepresentationalSimilarity, SoftLabels
from scipy.special import rel_entr
from scipy.stats import entropy, spearmanr
from torch import Tensor

from pruningbench.contract import HumanLabelCounts, HumanMaps, HumanSimilarity, Preprocessing, Responses
from pruningbench.contract.statistics import bootstrap
from pruningbench.errors import PruningBenchError

SOFT = np.load(Path(__file__).parent / "data" / "alignment" / "softlabels.npz")

# label distributions


def test_soft_labels_equal_the_reference():
    probabilities = torch.from_numpy(SOFT["logits"]).double().softmax(dim=1)
    counts = torch.from_numpy(SOFT["counts"].astype(np.int64))
    outputs = Responses(probabilities.argmax(dim=1), HumanLabelCounts(counts), probabilities)
    np.testing.assert_allclose(HumanCrossEntropy().values(outputs).numpy(), SOFT["cross_entropy"], atol=2e-6)
    np.testing.assert_allclose(HumanDivergence().values(outputs).numpy(), SOFT["kl"], atol=2e-6)
    np.testing.assert_allclose(human_entropy(counts).numpy(), SOFT["entropy"], atol=1e-6)
    assert HumanCrossEntropy().ceiling(outputs) == pytest.approx(SOFT["entropy"].mean(), abs=1e-6)


@cases(60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_cross_entropy_equals_scipy(seed, classes):
    rng = np.random.default_rng(seed)
    human = rng.integers(0, 4, (5, classes))
    human[:, 0] += 1
    q = rng.dirichlet(np.ones(classes), 5)
    p = human / human.sum(axis=1, keepdims=True)
    got = human_cross_entropy(torch.from_numpy(q), torch.from_numpy(human))
    np.testing.assert_allclose(got.numpy(), rel_entr(p, q).sum(axis=1) + entropy(p, axis=1), rtol=1e-10)


def test_cross_entropy_at_the_edges():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [NAN, NAN], [0.5, 0.5]], dtype=torch.float64)
    human = torch.tensor([[3, 0], [3, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(human_cross_entropy(q, human).numpy(), [0.0, np.inf, NAN, NAN])
    outputs = Responses(torch.zeros(4, dtype=torch.int64), HumanLabelCounts(human), q)
    values = HumanCrossEntropy().values(outputs).numpy()
    assert values[1] == pytest.approx(708.396, abs=1e-3)  # finite, so that means stay means
    assert np.isnan(values[2:]).all()
    with pytest.raises(ValueError, match="both must be"):
        human_cross_entropy(q, human[:2])


def test_soft_labels_task_matches_classes_by_name():
    human = HumanLabelCounts(torch.tensor([[9, 1], [0, 10], [5, 5]]))
    samples = answered(THREE, human, classes=("bottom", "top"))
    ((_, outputs),) = SoftLabels(data="toys").run(Pixels(), context(toys=samples))
    logits = torch.tensor([[505 / 255, 0.0], [0.0, 505 / 255], [495 / 255, 5 / 255]], dtype=torch.float64)
    torch.testing.assert_close(outputs.probabilities, logits.softmax(dim=1).flip(1), atol=1e-6, rtol=0)
    assert outputs.answers.tolist() == [1, 0, 1]
    with pytest.raises(PruningBenchError, match="no class 'left'"):
        list(SoftLabels(data="toys").run(Pixels(), context(toys=answered(THREE, human, classes=("left", "top")))))
    with pytest.raises(PruningBenchError, match="human labels of shape"):
        list(SoftLabels(data="toys").run(Pixels(), context(toys=answered(THREE, human, classes=("a", "b", "c")))))


# maps


@cases(60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(2, 9))
def test_spearman_equals_scipy(seed, length, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, levels, (2, 1, length)).astype(float)
    got = spearman(torch.from_numpy(a), torch.from_numpy(b)).item()
    if len(set(a[0])) == 1 or len(set(b[0])) == 1:
        assert np.isnan(got)
    else:
        assert got == pytest.approx(spearmanr(a[0], b[0]).statistic, abs=1e-12)


def test_gradient_maps_of_a_linear_network():
    class Linear(Pixels):
        def logits(self, images: Tensor) -> Tensor:
            weights = torch.arange(2 * images[0].numel(), dtype=torch.float32).view(2, -1) - 5
            return images.flatten(1) @ weights.T

    maps = gradient_maps(Linear(), torch.zeros(2, 3, 1, 2), torch.tensor([0, -1]))
    np.testing.assert_array_equal(maps[0].numpy(), [[5, 4]])  # |-5 -3 -1|, |-4 -2 0|
    np.testing.assert_array_equal(maps[1].numpy(), [[5, 4]])  # equal logits: class 0


def test_clickme_task():
    class Weighted(Pixels):
        def logits(self, images: Tensor) -> Tensor:
            return torch.stack(
                [(images * torch.tensor([[1.0, 2], [3, 4]])).sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3))], 1
            )

    people = torch.tensor([[[1.0, 2], [3, 4]], [[4, 3], [2, 1]], [[1, 1], [1, 1]]])
    samples = answered(THREE, HumanMaps(people), labels=torch.zeros(3, dtype=torch.int64), classes=("top", "bottom"))
    ((_, outputs),) = ClickMe(data="toys").run(Weighted(), context(toys=samples))
    values = MapAlignment().values(outputs).numpy()
    np.testing.assert_allclose(values, [1 / 0.65753, -1 / 0.65753, NAN])
    assert MapAlignment().ceiling(outputs) == 1.0
    dead = MapPairs(outputs.maps * NAN, outputs.human)
    assert MapAlignment().values(dead).isnan().all()
    few = answered(THREE, HumanMaps(people[:2]))
    with pytest.raises(PruningBenchError, match="3 images, but 2 maps"):
        list(ClickMe(data="toys").run(Weighted(), context(toys=few)))
    large = answered(THREE, HumanMaps(torch.ones(3, 4, 4)))
    with pytest.raises(PruningBenchError, match="maps of"):
        list(ClickMe(data="toys").run(Weighted(), context(toys=large)))


def test_maps_follow_their_images_through_the_preprocessing():
    wide = torch.arange(32.0).view(4, 8)
    fitted = Preprocessing((0.0,), (1.0,), size=4).fit_map(wide)
    assert torch.equal(fitted, wide[:, 2:6])
    assert torch.equal(Preprocessing((0.0,), (1.0,)).fit_map(wide), wide)
    assert Preprocessing((0.0,), (1.0,), size=2, squash=True).fit_map(wide).shape == (2, 2)


# similarities


def naive_rsa(model: np.ndarray, human: np.ndarray) -> float:
    upper = np.triu_indices(len(model), 1)
    known = ~np.isnan(human[upper]) & ~np.isnan(model[upper])
    return spearmanr(model[upper][known], human[upper][known]).statistic


def test_rsa_equals_its_definition():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(9, 5))
    human = rng.random((9, 9))
    human = human + human.T
    human[2, 5] = human[5, 2] = NAN
    model = similarity_matrix(torch.from_numpy(embeddings), "pearson")
    np.testing.assert_allclose(model.numpy(), np.corrcoef(embeddings), atol=1e-12)
    metric, outputs = SimilarityCorrelation(), Similarities(model, torch.from_numpy(human))
    rows = metric.values(outputs).numpy()
    assert metric.aggregate(rows) == pytest.approx(naive_rsa(model.numpy(), human), abs=1e-12)
    chosen = [0, 3, 4, 8]
    part = naive_rsa(model.numpy()[np.ix_(chosen, chosen)], human[np.ix_(chosen, chosen)])
    assert row_correlation(rows[chosen]) == pytest.approx(part, abs=1e-12)
    # a resample: pairs of an image with itself say nothing, whatever their similarity of 1
    assert np.isnan(row_correlation(rows[[1, 1]]))
    assert row_correlation(rows[[0, 3, 4, 8, 8]]) < 1
    broken = model.clone()
    broken[1], broken[:, 1] = NAN, NAN
    rest = similarity_rows(broken, torch.from_numpy(human))
    estimate = bootstrap(rest.numpy(), metric.aggregate, resamples=20)
    assert (estimate.n, estimate.undefined) == (8, 1)
    others = [i for i in range(9) if i != 1]
    assert estimate.value == pytest.approx(
        naive_rsa(model.numpy()[np.ix_(others, others)], human[np.ix_(others, others)]), abs=1e-12
    )


def test_rsa_task():
    alike = torch.tensor([[1.0, 0, 0.9], [0, 1, 0.1], [0.9, 0.1, 1]])
    ((_, outputs),) = RepresentationalSimilarity(data="toys").run(
        Pixels(), context(toys=answered(THREE, HumanSimilarity(alike)))
    )
    assert SimilarityCorrelation().aggregate(SimilarityCorrelation().values(outputs).numpy()) == pytest.approx(1.0)
    ((_, dead),) = RepresentationalSimilarity(data="toys").run(
        Pixels(scale=NAN), context(toys=answered(THREE, HumanSimilarity(alike)))
    )
    assert SimilarityCorrelation().values(dead).isnan().all()
    for pictures, human, message in (
        (THREE[:2], alike[:2, :2], "at least 3"),
        (THREE, alike[:2, :2], r"similarities \(2, 2\)"),
    ):
        with pytest.raises(PruningBenchError, match=message):
            list(
                RepresentationalSimilarity(data="toys").run(
                    Pixels(), context(toys=answered(pictures, HumanSimilarity(human)))
                )
            )
