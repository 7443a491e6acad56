"""Ridge head, linear probe, calibration and similarity: golden numbers, closed forms and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_transfer import expected_calibration_error, linear_cka, linear_probe, reliability, ridge_head
from pruningbench_transfer.calibration import errors_of_picks, reliability_of
from pruningbench_transfer.metrics import (
    Accuracy,
    BrierScore,
    CalibrationError,
    LinearCka,
    NegativeLogLikelihood,
    NeuronSimilarity,
)
from pruningbench_transfer.similarity import cka_values, neuron_values
from sklearn.linear_model import Ridge, RidgeClassifier
from torch import Tensor

from pruningbench.contract import Features, GroupedPredictions, Predictions
from pruningbench.contract.statistics import bootstrap
from pruningbench.harness.measure import _Aggregate

DATA = Path(__file__).parent / "data" / "transfer"
KNN, HEADS = np.load(DATA / "knn.npz"), np.load(DATA / "heads.npz")
TRAIN, LABELS = torch.from_numpy(KNN["train_features"]), torch.from_numpy(KNN["train_labels"])
TEST = torch.from_numpy(KNN["test_features"])
CKA_X, CKA_Y = torch.from_numpy(HEADS["cka_x"]), torch.from_numpy(HEADS["cka_y"])
NAN = float("nan")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ridge head


def test_ridge_equals_the_reference() -> None:
    head = ridge_head(TRAIN, LABELS)
    np.testing.assert_allclose(head(TEST).numpy(), HEADS["ridge_scores"], atol=1e-5)
    np.testing.assert_allclose(head.weight.numpy(), HEADS["ridge_weight"], atol=1e-5)
    np.testing.assert_allclose(head.bias.numpy(), HEADS["ridge_bias"], atol=1e-7)
    assert head(TEST).argmax(1).tolist() == HEADS["ridge_predictions"].tolist()


@cases(25)
@given(st.integers(0, 2**32 - 1), st.integers(5, 40), st.integers(1, 12), st.floats(0.01, 100.0))
def test_ridge_equals_scikit_learn(seed: int, n: int, width: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    x, test = rng.normal(size=(n, width)) + 3, rng.normal(size=(6, width))
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, size=n - 3)])
    weights = n / (3 * np.bincount(labels))[labels]
    peer = Ridge(alpha=alpha).fit(x, np.eye(3)[labels], sample_weight=weights)
    scores = ridge_head(torch.from_numpy(x), torch.from_numpy(labels), alpha)(torch.from_numpy(test))
    np.testing.assert_allclose(scores.numpy(), peer.predict(test), atol=1e-8)
    classifier = RidgeClassifier(alpha=alpha, class_weight="balanced").fit(x, labels)
    assert scores.argmax(1).tolist() == classifier.predict(test).tolist()


def test_ridge_of_two_points_is_the_closed_form() -> None:
    # x = -1, +1: the slope of a one-hot target shrinks from 1/2 by 2 / (2 + alpha), and the bias is 1/2
    head = ridge_head(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), alpha=2.0)
    torch.testing.assert_close(head.weight, torch.tensor([[-0.25, 0.25]], dtype=torch.float64))
    torch.testing.assert_close(head.bias, torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_ridge_weighs_classes_alike_however_often_they_occur() -> None:
    x, labels = drawn(12, 3), torch.arange(12) % 3
    often = torch.cat([x, x[labels == 0], x[labels == 0]])
    ratio = len(often) / len(x)  # the total weight grows with the number of samples, so the penalty has to
    head = ridge_head(often, torch.cat([labels, torch.zeros(8, dtype=torch.int64)]), alpha=ratio)
    torch.testing.assert_close(head.weight, ridge_head(x, labels).weight)


def test_ridge_never_predicts_a_class_it_has_not_seen() -> None:
    head = ridge_head(-drawn(6, 2).abs(), torch.tensor([0, 2, 0, 2, 0, 2]), classes=4)
    scores = head(torch.full((5, 2), 100.0))
    assert scores.shape == (5, 4)
    assert (scores[:, [1, 3]] == float("-inf")).all() and scores[:, [0, 2]].isfinite().all()


def test_ridge_of_features_that_are_not_finite() -> None:
    head = ridge_head(drawn(6, 2), torch.arange(6) % 2)
    scores = head(torch.tensor([[NAN, 1.0], [1.0, float("inf")], [1.0, 1.0]]))
    assert scores.isnan().all(dim=1).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="1 of 2 features are not finite"):
        ridge_head(torch.tensor([[NAN], [1.0]]), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"alpha": 0.0}, "alpha"), ({"labels": torch.zeros(3)}, "got"), ({"features": torch.zeros(0, 2)}, "got")],
)
def test_ridge_refuses(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ridge_head(**{"features": torch.eye(2), "labels": torch.tensor([0, 1]), **changed})  # type: ignore[arg-type]


def test_probe_equals_the_reference_on_raw_features() -> None:
    scores = linear_probe(TRAIN, LABELS, TEST, standardise=False, tolerance=1e-10)
    np.testing.assert_allclose(scores.exp().numpy(), HEADS["logistic_probabilities"], atol=1e-4)


# calibration


def test_calibration_error_equals_the_reference() -> None:
    probabilities, labels = torch.from_numpy(HEADS["ece_probabilities"]), torch.from_numpy(HEADS["ece_labels"])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.06540541678667067, abs=1e-6)
    diagram = reliability(probabilities, labels)
    assert diagram.count.sum() == 200 and len(diagram.edges) == 16
    assert (np.isnan(diagram.accuracy) == (diagram.count == 0)).all()


@cases(50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 20))
def test_calibration_error_equals_the_definition(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.ones(4), size=n), rng.integers(0, 4, size=n)
    expected = 0.0
    for i in range(bins):
        rows = [r for r in range(n) if i / bins < probabilities[r].max() <= (i + 1) / bins]
        if rows:
            hits = np.mean([probabilities[r].argmax() == labels[r] for r in rows])
            expected += len(rows) / n * abs(hits - np.mean([probabilities[r].max() for r in rows]))
    got = expected_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), bins)
    assert got == pytest.approx(expected, abs=1e-12)


@cases(60)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 30))
def test_errors_of_many_resamples_have_the_bits_of_each(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.choice([0.0, 1.0, 0.2, rng.random()], n) * rng.random(n).round(2), rng.integers(0, 2, n)], 1)
    picks = rng.integers(0, n, (7, n))
    singly = [reliability_of(pairs[pick], bins).error for pick in picks]
    assert errors_of_picks(pairs, picks, bins).tolist() == singly
    metric = CalibrationError(bins=bins)
    assert metric.aggregate_each(pairs, picks).tolist() == [metric.aggregate(pairs[pick]) for pick in picks]


def test_an_interval_is_the_same_from_many_resamples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    metric, values = CalibrationError(), np.stack([np.linspace(0.1, 0.9, 50), np.arange(50) % 2], 1)
    together = bootstrap(values, _Aggregate(metric))
    for size in (1, 120, 10**6):  # draws are made in portions
        monkeypatch.setattr("pruningbench.contract.statistics.PICKS", size)
        assert repr(bootstrap(values, _Aggregate(metric)).draws.tolist()) == repr(together.draws.tolist())  # type: ignore[union-attr]
    singly = bootstrap(values, lambda rows: metric.aggregate(rows))
    assert together == singly and together.draws.tolist() == singly.draws.tolist()  # type: ignore[union-attr]


def test_calibration_of_certainties_and_of_nan() -> None:
    right = torch.eye(3)
    assert expected_calibration_error(right, torch.arange(3)) == 0
    assert expected_calibration_error(right, torch.tensor([1, 2, 0])) == 1
    half = torch.tensor([[0.5, 0.5], [0.5, 0.5], [NAN, NAN]])
    assert expected_calibration_error(half, torch.tensor([0, 1, 0])) == 0
    assert np.isnan(expected_calibration_error(half[2:], torch.tensor([0])))
    with pytest.raises(ValueError, match="bins"):
        expected_calibration_error(right, torch.arange(3), bins=0)


def test_metrics_of_probabilities() -> None:
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0], [NAN, 1.0]])
    outputs = Predictions(logits, torch.tensor([0, 1, 0]), probabilistic=True)
    ece = CalibrationError(bins=10)
    pairs = ece.values(outputs)
    torch.testing.assert_close(pairs[:2], torch.tensor([[0.5, 1.0], [0.75, 0.0]], dtype=torch.float64))
    assert pairs[2].isnan().all()
    estimate = bootstrap(pairs.numpy(), ece.aggregate, resamples=50)
    assert (estimate.value, estimate.n, estimate.undefined) == (pytest.approx((0.5 + 0.75) / 2), 2, 1)
    torch.testing.assert_close(
        NegativeLogLikelihood().values(outputs), torch.tensor([np.log(2), np.log(4), NAN]).double(), equal_nan=True
    )
    torch.testing.assert_close(
        BrierScore().values(outputs), torch.tensor([0.5, 2 * 0.75**2, NAN]).double(), equal_nan=True
    )
    votes = Predictions(logits, torch.tensor([0, 1, 0]))  # scores of no probability have no calibration
    assert not any(metric.applies(votes) for metric in (ece, NegativeLogLikelihood(), BrierScore()))
    assert all(metric.applies(outputs) for metric in (ece, NegativeLogLikelihood(), BrierScore(), Accuracy()))


def test_accuracy_of_groups_is_the_share_in_each() -> None:
    scores = torch.tensor([[[2.0, 1.0], [2.0, 1.0]], [[NAN, 1.0], [0.0, 1.0]]])
    grouped = GroupedPredictions(scores, torch.tensor([[0, 1], [1, 1]]))
    assert Accuracy().applies(grouped)
    assert Accuracy().values(grouped).tolist() == [0.5, 0.5]


# similarity


def gram_cka(x: Tensor, y: Tensor) -> float:
    """Kernel alignment as it is defined, from centred Gram matrices."""
    centre = torch.eye(len(x), dtype=torch.float64) - 1 / len(x)
    k, m = (centre @ a.double() @ a.double().T @ centre for a in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def test_cka_equals_the_reference() -> None:
    assert float(linear_cka(CKA_X, CKA_Y)) == pytest.approx(0.6730005194719351, abs=1e-6)


@cases(30)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(1, 12), st.integers(1, 12))
def test_cka_equals_the_gram_form(seed: int, n: int, width: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rng.normal(size=(n, width))), torch.from_numpy(rng.normal(size=(n, other)))
    assert float(linear_cka(x, y)) == pytest.approx(gram_cka(x, y), abs=1e-10)
    assert float(linear_cka(y, x)) == pytest.approx(gram_cka(x, y), abs=1e-10)


def test_cka_ignores_rotation_scale_and_shift() -> None:
    x = drawn(40, 5)
    rotation, _ = torch.linalg.qr(drawn(5, 5, seed=1))
    assert float(linear_cka(x, 3 * x @ rotation + 7)) == pytest.approx(1, abs=1e-12)
    assert float(linear_cka(x, drawn(40, 5, seed=2))) < 0.5


def test_cka_interval_is_that_of_a_bootstrap_of_images() -> None:
    cheap = bootstrap(cka_values(CKA_X, CKA_Y).numpy())
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        rows = torch.from_numpy(rng.integers(0, 200, size=200))
        draws.append(float(linear_cka(CKA_X[rows], CKA_Y[rows])))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert cheap.value == pytest.approx(float(linear_cka(CKA_X, CKA_Y)))
    assert cheap.high - cheap.low == pytest.approx(high - low, rel=0.2)


def test_cka_of_collapsed_features_is_undefined() -> None:
    x = drawn(10, 4)
    assert cka_values(torch.full((10, 3), 1 / 3), x.float()).isnan().all()
    assert cka_values(torch.full((10, 3), NAN), x).isnan().all()
    partly = x.clone()
    partly[3] = NAN
    values = cka_values(partly, x)
    assert values.isnan().nonzero().tolist() == [[3]]
    assert float(values.nanmean()) == pytest.approx(1)
    with pytest.raises(ValueError, match="representations"):
        linear_cka(x, x[:5])


def test_neuron_similarity_is_the_mean_correlation() -> None:
    x, y = drawn(30, 4), drawn(30, 4, seed=1) + 0.7 * drawn(30, 4)
    expected = np.mean([np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(4)])
    assert float(neuron_values(x, y).mean()) == pytest.approx(expected, abs=1e-12)
    assert float(neuron_values(2 * x + 1, x).mean()) == pytest.approx(1)
    assert float(neuron_values(x[:, [1, 0, 3, 2]], x).mean()) < 0.5  # unlike the alignment, it sees the order


def test_dead_neurons_count_zero_and_those_dead_before_do_not_count() -> None:
    y = drawn(20, 4)
    x = y.clone()
    x[:, 0] = 5.0
    assert float(neuron_values(x, y).mean()) == pytest.approx(0.75)
    assert float(neuron_values(y, x).mean()) == pytest.approx(1)
    assert neuron_values(y, torch.ones(20, 4)).isnan().all()
    assert neuron_values(torch.full((20, 4), NAN), y).isnan().all()
    assert float(neuron_values(torch.zeros(20, 4), y).mean()) == 0


def test_similarity_metrics_apply_where_there_is_a_dense_model_of_fitting_width() -> None:
    x = drawn(8, 3).float()
    assert LinearCka().applies(Features(x, x[:, :2])) and not NeuronSimilarity().applies(Features(x, x[:, :2]))
    assert not LinearCka().applies(Features(x)) and not NeuronSimilarity().applies(Features(x))
    for metric in (LinearCka(), NeuronSimilarity()):
        torch.testing.assert_close(metric.values(Features(x, x)).mean(), torch.tensor(1.0).double())
