"""Few-shot, zero-shot, fine-tuning and similarity: what each task fits, on what, and what it shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kit.runs import run
from kit.transfer import Tiny, blobs, context, tiny
from pruningbench_timm.vision import TimmVisionModel
from pruningbench_transfer import draw_episodes, prototype_scores, ridge_head
from pruningbench_transfer.comparison import DenseSimilarity
from pruningbench_transfer.finetuning import FineTuneTransfer
from pruningbench_transfer.headed import kept_weights, with_new_head
from pruningbench_transfer.metrics import Accuracy, LinearCka
from pruningbench_transfer.models import RidgeHeaded
from pruningbench_transfer.tasks import Calibration, FewShot, Transfer
from pruningbench_transfer.zero_shot import RidgeZeroShot
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize
from torch import Tensor, nn

from pruningbench.contract import ArraySamples, GroupedPredictions, Preprocessing, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import load_suite
from pruningbench.training.fit import TrainingError, fit
from pruningbench.training.settings import FitSettings

NAN = float("nan")


class Scaled(Tiny):
    """Embeds the pixels times its own four weights, and classifies by no more than these."""

    def __init__(self, scales: list[float]) -> None:
        network = nn.Module()
        network.scales = nn.Linear(4, 1, bias=False)
        network.fc = nn.Linear(4, 3)
        with torch.no_grad():
            network.scales.weight.copy_(torch.tensor([scales]))
        super().__init__(network, Preprocessing((0.0,), (1.0,)), classes=("x", "y", "z"), head=("fc.weight", "fc.bias"))

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * self.network.scales.weight[0]  # type: ignore[union-attr,operator]


# few-shot


def test_episodes_are_disjoint_balanced_and_seeded() -> None:
    labels = torch.tensor([0] * 6 + [1] * 5 + [2] * 3 + [3] * 9)
    drawn = draw_episodes(labels, 2, 2, 3, 40, torch.Generator().manual_seed(0))
    assert drawn.support.shape == (40, 2, 2) and drawn.query.shape == (40, 2, 3)
    for support, query in zip(drawn.support, drawn.query, strict=True):
        together = torch.cat([support, query], dim=1)
        assert len(together.unique()) == 10
        classes = labels[together]
        assert (classes == classes[:, :1]).all() and classes[0, 0] != classes[1, 0]
        assert 2 not in classes  # it has three images, and five are needed
    assert drawn.labels.shape == (40, 6) and drawn.labels[7].tolist() == [0, 0, 0, 1, 1, 1]
    assert set(labels[drawn.support].flatten().tolist()) == {0, 1, 3}
    again = draw_episodes(labels, 2, 2, 3, 40, torch.Generator().manual_seed(0))
    assert torch.equal(again.query, drawn.query)
    other = draw_episodes(labels, 2, 2, 3, 40, torch.Generator().manual_seed(1))
    assert not torch.equal(other.query, drawn.query)
    with pytest.raises(ValueError, match="only 3 of 4 have as many"):
        draw_episodes(labels, 4, 2, 3, 1, torch.Generator())


def test_prototypes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(3, 8, 6))
    scores = prototype_scores(torch.from_numpy(support), torch.from_numpy(query))
    assert scores.shape == (3, 8, 4) and (scores <= 0).all()
    for i in range(3):
        peer = NearestCentroid().fit(normalize(support[i].reshape(20, 6)), np.repeat(range(4), 5))
        assert scores[i].argmax(1).tolist() == peer.predict(normalize(query[i])).tolist()


def test_prototypes_of_features_that_are_not_finite() -> None:
    support = torch.eye(2)[None, :, None].repeat(1, 1, 2, 1)
    support[0, 0, 1] = NAN  # the other shot of its class is enough
    scores = prototype_scores(support, torch.tensor([[[1.0, 0.0], [NAN, 0.0]]]))
    torch.testing.assert_close(scores[0, 0], torch.tensor([0.0, -2.0]).double())
    assert scores[0, 1].isnan().all()
    support[0, 0] = NAN
    assert prototype_scores(support, torch.ones(1, 1, 2)).isnan().any(dim=2).all()


def test_few_shot_task() -> None:
    data = blobs([0, 1, 2] * 10, ("p0", "p1", "p2"))
    task = FewShot(data="d", ways=3, shots=(1, 5), queries=4, episodes=11)
    model = tiny(())
    outputs = dict(task.run(model, context(d=data)))
    assert list(outputs) == ["1-shot", "5-shot"] and model.embedded == 30
    assert outputs["5-shot"].scores.shape == (11, 12, 3)
    assert isinstance(outputs["5-shot"], GroupedPredictions)
    values = Accuracy().values(outputs["5-shot"])
    assert len(values) == 11 and values.mean() > 0.95
    again = dict(task.run(tiny(()), context(d=data)))
    assert torch.equal(again["1-shot"].scores, outputs["1-shot"].scores)
    with pytest.raises(PruningBenchError, match="need 3 classes of 14 images"):
        list(FewShot(data="d", ways=3, shots=(10,), queries=4).run(model, context(d=data)))
    unlabelled = ArraySamples(data.images, classes=data.classes)
    with pytest.raises(PruningBenchError, match="no labels"):
        list(task.run(model, context(d=unlabelled)))
    for wrong in ({"ways": 1}, {"shots": ()}, {"shots": (0,)}, {"shots": (1, 1)}, {"queries": 0}, {"episodes": 0}):
        assert FewShot(data="d", **wrong).problem()  # type: ignore[arg-type]


# ridge zero-shot


def test_zero_shot_puts_the_dense_head_on_the_pruned_backbone() -> None:
    train, test = blobs([0, 1, 2, 2] * 6, ("p0", "p1", "p2")), blobs([0, 1, 2], ("p2", "p0", "p1"), 1)
    unseen, asked = blobs([0, 1] * 8, ("p3", "p1"), 2), blobs([0, 1, 1], ("p3", "p1"), 3)
    dense, pruned = Scaled([1.0, 1.0, 1.0, 1.0]), Scaled([1.0, 0.0, 1.0, 1.0])
    lent = context(a=train, b=test, c=unseen, d=asked)
    lent.as_loaded, lent.dense = dense, None  # what a recipe trained is not asked for
    task = RidgeZeroShot(source_train="a", source_test="b", target_train=("c",), target_test=("d",), names=("new",))
    assert task.problem() is None
    outputs = dict(task.run(pruned, lent))
    assert list(outputs) == ["source", "target-new"]
    head = ridge_head(train.images.flatten(1) / 255, train.labels, classes=3)
    kept = test.images.flatten(1) / 255 * torch.tensor([1.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(outputs["source"].scores, head(kept), rtol=1e-5, atol=1e-6)
    assert outputs["source"].labels.tolist() == [2, 0, 1]  # in the training data's order of classes
    assert (dense.embedded, pruned.embedded) == (24 + 16, 3 + 3)  # heads: dense training data; scores: pruned test data
    dict(task.run(pruned, lent))
    assert (dense.embedded, pruned.embedded) == (40, 6)
    lent.as_loaded = None
    with pytest.raises(PruningBenchError, match="dense model"):
        next(task.run(pruned, lent))


def test_zero_shot_of_a_collapsed_network_is_wrong_not_undefined() -> None:
    train = blobs([0, 1] * 6, ("p0", "p1"))
    lent = context(a=train)
    lent.as_loaded = Scaled([1.0] * 4)
    ((_, outputs),) = RidgeZeroShot(source_train="a", source_test="a").run(Scaled([NAN] * 4), lent)
    assert outputs.scores.isnan().all() and Accuracy().values(outputs).sum() == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target_train": ("a",)}, "target_train lists 1"),
        ({"names": ("x",)}, "names lists 1 names for 0"),
        ({"target_train": ("a", "b"), "target_test": ("a", "b"), "names": ("x", "x")}, "differ"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_zero_shot_fields_that_do_not_fit(changed: dict[str, object], message: str) -> None:
    assert message in str(RidgeZeroShot(source_train="a", source_test="b", **changed).problem())  # type: ignore[arg-type]


# fine-tuning


def test_a_new_head_replaces_the_classifier_and_copies_are_independent() -> None:
    model = Scaled([1.0, 2.0, 3.0, 4.0])
    learner = with_new_head(model, ("u", "v"), 4, torch.Generator().manual_seed(0))
    assert learner.classes == ("u", "v")
    assert set(dict(learner.network.named_parameters())) == {"backbone.scales.weight", "head.weight", "head.bias"}
    assert model.classes == ("x", "y", "z") and isinstance(model.network.fc, nn.Linear)
    images = torch.rand(3, 1, 2, 2)
    expected = learner.network.head(images.flatten(1) * torch.tensor([1.0, 2.0, 3.0, 4.0]))
    torch.testing.assert_close(learner.logits(images), expected)
    twin = learner.clone()
    with torch.no_grad():
        twin.network.backbone.scales.weight.zero_()
    assert learner.embed(images).abs().sum() > 0 and twin.embed(images).abs().sum() == 0


def test_pruned_weights_stay_zero_while_the_backbone_learns() -> None:
    data = blobs([0, 1] * 8, ("p0", "p1"))
    learner = with_new_head(Scaled([1.0, 0.0, 1.0, 0.0]), data.classes, 4, torch.Generator().manual_seed(0))
    masks = kept_weights(learner)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "backbone.scales.weight": [[True, False, True, False]]
    }
    fit(learner, data, FitSettings(3, lr=0.5, batch_size=4), seed=0, masks=masks)
    scales = learner.network.backbone.scales.weight[0].tolist()
    assert scales[1] == scales[3] == 0 and scales[0] != 1 and scales[2] != 1


def test_fine_tune_transfer_learns_and_leaves_the_model_alone() -> None:
    train, test = blobs([0, 1, 2] * 10, ("p0", "p1", "p2")), blobs([0, 1, 2, 0], ("p2", "p0", "p1"), 1)
    model = Scaled([1.0, 1.0, 1.0, 0.0])
    before = model.network.scales.weight.clone()
    task = FineTuneTransfer(train="a", test="b", epochs=15, lr=0.5, train_batch_size=8)
    ((_, outputs),) = task.run(model, context(a=train, b=test))
    assert Accuracy().values(outputs).tolist() == [1, 1, 1, 1] and outputs.probabilistic
    assert torch.equal(model.network.scales.weight, before)
    ((_, again),) = task.run(model, context(a=train, b=test))
    assert torch.equal(again.scores, outputs.scores)
    with pytest.raises(TrainingError, match="diverged"):
        list(task.run(Scaled([NAN] * 4), context(a=train, b=test)))
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"warmup": 1.0}, {"train_batch_size": 0}, {"weight_decay": -1.0}):
        assert FineTuneTransfer(train="a", test="b", **wrong).problem()  # type: ignore[arg-type]


# similarity, calibration, edge cases


def test_similarity_to_the_dense_model() -> None:
    data = blobs([0, 1, 2, 3] * 5, ("p0", "p1", "p2", "p3"))
    lent = context(d=data)
    lent.dense = Scaled([1.0] * 4)
    ((_, same),) = DenseSimilarity(data="d").run(Scaled([2.0] * 4), lent)
    assert float(LinearCka().values(same).mean()) == pytest.approx(1)
    lent = context(d=data)
    lent.dense = Scaled([1.0] * 4)
    ((_, other),) = DenseSimilarity(data="d").run(Scaled([1.0, 0.0, 0.0, 0.0]), lent)
    assert float(LinearCka().values(other).mean()) < 0.9
    with pytest.raises(PruningBenchError, match="dense model"):
        next(DenseSimilarity(data="d").run(Scaled([1.0] * 4), context(d=data)))


def test_transfer_with_several_numbers_of_neighbours_more_than_there_are_images() -> None:
    train, test = blobs([0, 1] * 3, ("p0", "p1")), blobs([0, 1], ("p0", "p1"), 1)
    outputs = dict(Transfer(train="a", test="b", k=(1, 10, 200)).run(tiny(()), context(a=train, b=test)))
    assert list(outputs) == ["knn-1", "knn-10", "knn-200", "linear-probe"]
    assert torch.equal(outputs["knn-10"].scores, outputs["knn-200"].scores)  # six neighbours are all there are
    assert not torch.equal(outputs["knn-1"].scores, outputs["knn-10"].scores)
    assert outputs["linear-probe"].probabilistic and not outputs["knn-1"].probabilistic


def test_calibration_refuses_a_model_of_other_classes() -> None:
    with pytest.raises(PruningBenchError, match="label spaces differ"):
        list(Calibration(data="d").run(tiny(("p0", "p1")), context(d=blobs([0], ("p2",)))))


def test_ridge_headed_model_has_the_closed_form_head() -> None:
    data = blobs([0, 1] * 8, ("p3", "p1"))
    lent = context(d=data)
    backbone = Scaled([1.0, 2.0, 3.0, 4.0])
    lent.open_model = lambda _reference: backbone
    model = RidgeHeaded(model="m", data="d").load(lent)
    assert model.classes == ("p3", "p1") and model.head == ("head.weight", "head.bias")
    features = data.images.flatten(1) / 255 * torch.tensor([1.0, 2.0, 3.0, 4.0])
    with torch.no_grad():
        logits = model.logits(data.images / 255)
    torch.testing.assert_close(logits.double(), ridge_head(features, data.labels)(features), rtol=1e-4, atol=1e-5)
    assert backbone.classes == ("x", "y", "z")  # the shared model was copied
    lonely = ArraySamples(data.images, data.labels, classes=("p3", "p1", "p0"))
    lent = context(d=lonely)
    lent.open_model = lambda _reference: backbone
    with pytest.raises(PruningBenchError, match="every class"):
        RidgeHeaded(model="m", data="d").load(lent)


SUITE = """\
name: all-transfer
models: [{use: digits-resnet, epochs: 1, channels: [8, 8, 8, 16], stem_width: 4}]
pruners: [random, magnitude]
sparsities: [0, .5, .9]
seeds: [0]
batch_size: 50
tasks:
  - {use: classification, data: &seen {use: digits, split: test, classes: [0, 1, 2], limit: 30}}
  - {use: calibration, data: *seen}
  - {use: transfer, k: [5, 20],
     train: &learn {use: digits, split: train, classes: [6, 7], limit: 40},
     test: &unseen {use: digits, split: test, classes: [6, 7], limit: 20}}
  - {use: few-shot, data: *learn, ways: 2, queries: 5, episodes: 10}
  - {use: ridge-zero-shot, source_train: {use: digits, split: train, classes: [0, 1, 2], limit: 36}, source_test: *seen,
     target_train: [*learn], target_test: [*unseen]}
  - {use: fine-tune-transfer, train: *learn, test: *unseen, epochs: 1}
  - {use: dense-similarity, data: *unseen}
  - {use: corruption-robustness, data: *seen, kinds: [contrast, jpeg], severities: [1, 3]}
  - {use: efficiency, data: *seen, repeats: 3, warmup: 1}
"""


def test_an_image_goes_through_a_model_once_for_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"embed": 0, "logits": 0}

    def counting(name: str, original: object) -> object:
        def view(self: VisionModel, images: Tensor) -> Tensor:
            counted[name] += len(images) * torch.is_inference_mode_enabled()  # training is no look at features
            return original(self, images)  # type: ignore[operator,no-any-return]

        return view

    monkeypatch.setattr(TimmVisionModel, "embed", counting("embed", TimmVisionModel.embed))
    monkeypatch.setattr(VisionModel, "logits", counting("logits", VisionModel.logits))
    summary = run(SUITE, load_registry(), tmp_path / "run")
    assert summary.ok
    cells, seen, learn, unseen, source = 5, 30, 40, 20, 36
    # each set once a model, the data of the source's head on the dense one only; and the fine-tuned networks' tests
    assert counted["embed"] == source + cells * (seen + learn + unseen) + cells * unseen
    assert counted["logits"] == cells * (seen + 2 * 2 * seen) + cells * unseen
    table = load_results(tmp_path / "run")
    assert (table["status"] == "ok").all()
    measured = table.set_index(["task", "variant", "metric"]).sort_index()
    assert set(measured.loc["ridge-zero-shot"].index.get_level_values(0)) == {"source", "target-1"}
    images = table[table["metric"] == "accuracy"]
    assert (images["ci_low"] <= images["value"]).all() and (images["value"] <= images["ci_high"]).all()
    similar = table[(table["metric"] == "linear-cka") & (table["sparsity"] == 0)]
    assert similar["value"].to_numpy() == pytest.approx(1)
    masked = table[table["metric"] == "measured-speedup"]
    assert (masked["value"] == 1).all() and len(masked) == cells
    zeros = table[table["metric"] == "nonzero-parameters"].set_index("sparsity")["value"]
    assert zeros[[0.9]].max() < zeros[[0.5]].min() < zeros[[0.0]].min()


def test_masks_of_a_model_survive_as_zeros() -> None:
    learner = with_new_head(Scaled([0.0, 1.0, 0.0, 1.0]), ("u",), 4, torch.Generator())
    masks = kept_weights(learner)
    assert isinstance(masks, Masks) and masks.sparsity == 0.5


@pytest.mark.parametrize(("name", "cells", "targets"), [("iurada2025", 296, 9), ("iurada2025-small", 64, 2)])
def test_shipped_suites_of_the_transfer_paper(name: str, cells: int, targets: int) -> None:
    registry = load_registry()
    suite = load_suite(name, registry)
    assert len(make_plan(suite, registry).cells) == cells
    task = suite.tasks["ridge-zero-shot"]
    assert isinstance(task.component, RidgeZeroShot) and len(task.component.target_test) == targets
    # pruning, training and the head of the source all see the same data, and the head is neither pruned nor trained
    assert suite.data is not None and suite.data.spec() == task.references["source_train"].spec()
    assert all(model.references["data"].spec() == suite.data.spec() for model in suite.models)
    assert len({model.label for model in suite.models}) == len(suite.models)
    assert not suite.scope.head and suite.recipes[1].fields()["freeze_head"]
    assert suite.sparsities[1] == pytest.approx(1 - 0.8**2)
