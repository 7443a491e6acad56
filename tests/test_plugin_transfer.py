"""kNN, linear probe, label spaces and accuracy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.transfer import Tiny, blobs, context, tiny
from pruningbench_transfer import knn_predict, knn_scores, linear_probe
from pruningbench_transfer import neighbours as neighbours_module
from pruningbench_transfer.metrics import Accuracy
from pruningbench_transfer.tasks import Classification, Transfer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from pruningbench.contract import (
    ArraySamples,
    Predictions,
    Preprocessing,
)
from pruningbench.errors import PruningBenchError

GOLDEN = np.load(Path(__file__).parent / "data" / "transfer" / "knn.npz")


# kNN


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_equals_dino(k):
    train, labels = torch.from_numpy(GOLDEN["train_features"]), torch.from_numpy(GOLDEN["train_labels"])
    test = torch.from_numpy(GOLDEN["test_features"])
    assert knn_predict(train, labels, test, k=k).tolist() == GOLDEN[f"knn_k{k}_predictions"].tolist()
    expected = GOLDEN[f"knn_k{k}_class_scores"]
    np.testing.assert_allclose(knn_scores(train, labels, test, k).numpy(), expected, atol=1e-6 * expected.max())


@cases(40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12), st.integers(2, 4))
def test_knn_equals_scikit_learn(seed, n, k, classes):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(n, 6)), rng.normal(size=(7, 6))
    labels = rng.integers(0, classes, size=n)
    peer = KNeighborsClassifier(min(k, n), metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    peer.fit(train, labels)
    scores = knn_scores(*map(torch.from_numpy, (train, labels, test)), k, classes=classes)
    expected = np.zeros((7, classes))
    expected[:, peer.classes_] = peer.predict_proba(test)
    np.testing.assert_allclose((scores / scores.sum(1, keepdim=True)).numpy(), expected, atol=1e-9)


def test_knn_breaks_ties_by_index():
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([3, 0, 2, 1, 1])
    query = torch.tensor([[2.0, 0.0]])
    assert knn_predict(train, labels, query, k=1).tolist() == [3]  # the first of four equal neighbours
    votes = knn_scores(train, labels, query, k=2)[0]
    assert votes[2] == votes[3] > 0
    assert votes[0] == votes[1] == 0
    assert knn_predict(train, labels, query, k=2).tolist() == [2]  # equal votes: the lower class
    assert knn_predict(train, labels, query, k=4).tolist() == [1]


def test_knn_uses_all_training_samples_when_there_are_fewer_than_k():
    train, labels = torch.eye(3), torch.tensor([0, 1, 1])
    votes = knn_scores(train, labels, torch.eye(3)[:1], k=20, temperature=1.0)
    torch.testing.assert_close(votes, torch.tensor([[np.e, 2.0]], dtype=torch.float64))


def test_knn_in_blocks_is_the_same(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    train, test = torch.randn(30, 5, generator=draw), torch.randn(11, 5, generator=draw)
    labels = torch.arange(30) % 3
    whole = knn_scores(train, labels, test, 4)
    monkeypatch.setattr(neighbours_module, "_BLOCK", 60)
    torch.testing.assert_close(knn_scores(train, labels, test, 4), whole, rtol=1e-12, atol=0)


def test_knn_of_features_that_are_not_finite():
    train, labels = torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1])
    nan = torch.full((4, 2), float("nan"))
    assert knn_predict(train, labels, torch.tensor([[float("nan"), 1.0], [0.0, 1.0]]), 1).tolist() == [-1, 1]
    assert knn_predict(nan, labels, torch.eye(2)).tolist() == [-1, -1]
    partly = train.clone()
    partly[1] = float("inf")
    assert (
        knn_scores(partly, labels, torch.eye(2)[1:], 4).tolist()
        == knn_scores(train[[0, 2, 3]], labels[[0, 2, 3]], torch.eye(2)[1:], 4).tolist()
    )


def test_knn_of_constant_features_is_defined():
    train, labels = torch.zeros(5, 3), torch.tensor([1, 1, 0, 0, 0])
    assert knn_predict(train, labels, torch.zeros(2, 3), k=2).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"k": 0}, "k must be"), ({"temperature": 0.0}, "temperature"), ({"test": torch.ones(2, 3)}, "got")],
)
def test_knn_refuses(changed, message):
    arguments = {"train": torch.eye(2), "labels": torch.tensor([0, 1]), "test": torch.eye(2), **changed}
    with pytest.raises(ValueError, match=message):
        knn_predict(**arguments)


# linear probe


def features(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, 6, generator=torch.Generator().manual_seed(99))
    return centres[labels] * 2 + torch.randn(n, 6, generator=draw), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_probe_equals_scikit_learn_on_standardised_features(classes):
    (train, labels), (test, truth) = features(120, classes, 0), features(40, classes, 1)
    scores = linear_probe(train, labels, test, C=0.5)
    scaler = StandardScaler().fit(train.double().numpy())
    peer = LogisticRegression(C=0.5, max_iter=1000, tol=1e-6).fit(
        scaler.transform(train.double().numpy()), labels.numpy()
    )
    expected = peer.predict_proba(scaler.transform(test.double().numpy()))
    np.testing.assert_allclose(scores.exp().numpy(), expected, atol=1e-6)
    assert (scores.argmax(1) == truth).double().mean() > 0.8


def test_probe_is_deterministic_and_does_not_depend_on_the_scale():
    (train, labels), (test, _) = features(90, 3, 0), features(30, 3, 1)
    scores = linear_probe(train, labels, test)
    assert torch.equal(scores, linear_probe(train, labels, test))
    factor = torch.tensor([1.0, 1024.0, 1.0, 1 / 1024, 4.0, 1.0])  # powers of two: exact in floats
    torch.testing.assert_close(linear_probe(train * factor, labels, test * factor), scores, rtol=1e-9, atol=1e-9)


def test_probe_ignores_constant_columns():
    (train, labels), (test, _) = features(60, 3, 0), features(20, 3, 1)
    nearly = 7.0 + 1e-7 * torch.rand(60, 1, generator=torch.Generator().manual_seed(0)).double()
    wider = torch.cat([train.double(), torch.full((60, 1), 5.0), torch.zeros(60, 1), nearly], 1)
    asked = torch.cat([test.double(), torch.full((20, 1), -3.0), torch.ones(20, 1), torch.ones(20, 1)], 1)
    torch.testing.assert_close(
        linear_probe(wider, labels, asked), linear_probe(train, labels, test), rtol=1e-9, atol=1e-9
    )


def test_probe_of_collapsed_features_is_defined():
    labels = torch.tensor([0, 1, 1, 1])
    constant = linear_probe(torch.ones(4, 3), labels, torch.ones(2, 3))
    assert constant.argmax(1).tolist() == [1, 1]  # only the intercept is left: the commonest class
    nan = torch.full((4, 3), float("nan"))
    assert linear_probe(nan, labels, torch.ones(2, 3)).isnan().all()
    partly = linear_probe(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), labels, nan[:1])
    assert partly.isnan().all()


def test_probe_gives_absent_classes_no_probability():
    train, labels = features(40, 2, 0)
    scores = linear_probe(train, labels * 2, train[:3], classes=4)
    assert scores.shape == (3, 4)
    assert (scores[:, [1, 3]] == float("-inf")).all()
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(3, dtype=torch.float64))


def test_probe_refuses_a_single_class():
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), torch.ones(1, 2))


# accuracy


def test_accuracy_counts_nan_as_wrong_and_ties_for_the_lower_class():
    nan = float("nan")
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [2.0, 2.0], [nan, nan], [nan, 5.0]])
    labels = torch.tensor([1, 1, 0, 1, 0, 1])
    assert Accuracy().values(Predictions(scores, labels)).tolist() == [1, 0, 1, 0, 0, 0]


# classification


def test_classification_matches_classes_by_name():
    data = blobs([0, 1, 0, 1, 1], ("p2", "p0"))
    model = tiny(("p0", "p1", "p2", "p3"), torch.eye(4))
    ((variant, outputs),) = Classification(data="d").run(model, context(d=data))
    assert variant == ""
    assert outputs.labels.tolist() == [2, 0, 2, 0, 0]
    assert outputs.scores.shape == (5, 4)
    assert not outputs.scores.requires_grad
    assert Accuracy().values(outputs).tolist() == [1] * 5
    torch.testing.assert_close(outputs.scores, data.images.flatten(1) / 255.0)


@pytest.mark.parametrize(
    ("classes", "known", "message"),
    [
        (("p0", "p3"), ("p0", "p1"), "lacks 'p3'"),
        (("p0", "p1"), (), "no classifier"),
        ((), ("p0", "p1"), "names no classes"),
    ],
)
def test_classification_refuses_other_label_spaces(classes, known, message):
    data = ArraySamples(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), classes=classes)
    with pytest.raises(PruningBenchError, match=message):
        list(Classification(data="d").run(tiny(known), context(d=data)))


def test_classification_needs_labels():
    data = ArraySamples(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), classes=("p0",))
    with pytest.raises(PruningBenchError, match="no labels"):
        list(Classification(data="d").run(tiny(("p0",)), context(d=data)))


# transfer


def test_transfer_computes_features_once_and_matches_classes_by_name():
    train = blobs([0, 1, 2] * 8, ("p0", "p1", "p2"), 0)
    test = blobs([0, 1, 2, 0], ("p2", "p0", "p1"), 1)
    model = tiny(("other",))
    outputs = dict(Transfer(train="a", test="b", k=(3,)).run(model, context(a=train, b=test)))
    assert list(outputs) == ["knn", "linear-probe"]
    assert model.embedded == len(train) + len(test)
    for predictions in outputs.values():
        assert predictions.labels.tolist() == [2, 0, 1, 2]
        assert predictions.scores.shape == (4, 3)
        assert Accuracy().values(predictions).tolist() == [1, 1, 1, 1]


def test_transfer_of_a_network_of_nan_scores_zero():
    train, test = blobs([0, 1] * 4, ("p0", "p1")), blobs([0, 1], ("p0", "p1"), 1)

    class Dead(Tiny):
        def embed(self, images: Tensor) -> Tensor:
            return images.flatten(1) * float("nan")

    dead = Dead(nn.Linear(1, 1), Preprocessing((0.0,), (1.0,)))
    for _, outputs in Transfer(train="a", test="b").run(dead, context(a=train, b=test)):
        assert Accuracy().values(outputs).tolist() == [0, 0]


def test_transfer_refuses_other_classes_and_a_single_class():
    a, b = blobs([0, 1], ("p0", "p1")), blobs([0, 1], ("p0", "p2"))
    with pytest.raises(PruningBenchError, match=r"only in the training data: 'p1'.*'p2'"):
        list(Transfer(train="a", test="b").run(tiny(()), context(a=a, b=b)))
    one = blobs([0, 0], ("p0", "p1"))
    with pytest.raises(PruningBenchError, match="two classes"):
        list(Transfer(train="a", test="b").run(tiny(()), context(a=one, b=a)))


@pytest.mark.parametrize("changed", [{"k": (0,)}, {"k": ()}, {"k": (5, 5)}, {"temperature": 0}, {"C": 0}])
def test_transfer_fields_out_of_range(changed):
    fine = Transfer(train="a", test="b", k=(1, 20))
    assert fine.problem() is None
    assert next(iter(changed)) in str(dataclasses.replace(fine, **changed).problem())
