"""What plugin authors build on: parameters, samples, preprocessing, models, scores."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from pruningbench.contract import (
    KINDS,
    ArraySamples,
    Attributions,
    Context,
    Metric,
    Outputs,
    Predictions,
    Preprocessing,
    PruningContext,
    Sample,
    Samples,
    ScorePruner,
    VisionModel,
    check_scores,
    param,
)
from pruningbench.contract.statistics import bootstrap
from pruningbench.errors import ScoreError, ViewUnavailableError


def test_components_import_no_torch() -> None:
    code = "import sys, pruningbench.contract, pruningbench.suite.binding; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_param_keeps_its_notes() -> None:
    @dataclass(frozen=True)
    class Thing:
        required: int = param(doc="needed")
        listed: list[int] = param([1], doc="list")
        speed: int = param(3, doc="knob", identity=False, scores=False)

    notes = {f.name: dict(f.metadata) for f in dataclasses.fields(Thing)}
    assert notes["required"] == {"doc": "needed", "identity": True}
    assert notes["speed"] == {"doc": "knob", "identity": False, "scores": False}
    assert Thing(1).listed == [1]
    assert Thing(1).listed is not Thing(1).listed
    assert len(KINDS) == 8


def samples(**changes: object) -> ArraySamples:
    images = torch.arange(3 * 1 * 4 * 4, dtype=torch.uint8).reshape(3, 1, 4, 4)
    return ArraySamples(images, torch.tensor([0, 1, 0]), **{"classes": ("a", "b"), **changes})  # type: ignore[arg-type]


def test_samples_give_what_they_have() -> None:
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 2.0]])] * 3
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    full = samples(boxes=boxes, masks=masks, keys=["x", "y", "z"])
    assert len(full) == 3
    assert (full[1].label, full[1].key) == (1, "y")
    assert torch.equal(full[-1].image, full.images[2])
    assert full[0].boxes is boxes[0]
    assert full[0].mask is not None
    bare = ArraySamples(full.images)
    assert (bare.labels, bare[0].label, bare[0].boxes, bare[0].mask, bare[2].key) == (None, None, None, None, "2")
    with pytest.raises(IndexError):
        bare[3]
    assert len(list(bare)) == 3
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        ArraySamples(full.images, torch.tensor([0, 1]))


def test_fingerprints_follow_the_content() -> None:
    images = samples().images.clone()
    images[2, 0, 3, 3] += 1
    prints = [
        samples().fingerprint,
        ArraySamples(images, torch.tensor([0, 1, 0]), classes=("a", "b")).fingerprint,
        ArraySamples(samples().images, torch.tensor([0, 1, 1]), classes=("a", "b")).fingerprint,
        samples(classes=("a", "c")).fingerprint,
        samples(keys=["p", "q", "r"]).fingerprint,
        samples(masks=torch.zeros(3, 4, 4, dtype=torch.bool)).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert samples().fingerprint == prints[0]


PREPROCESSING = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), size=32, crop=0.8)


def test_normalising_is_its_closed_form_and_comes_back() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    normal = PREPROCESSING.normalise(images)
    assert normal.dtype == torch.float32
    assert float(normal[1, 2, 3, 4]) == pytest.approx((int(images[1, 2, 3, 4]) / 255 - 0.6) / 0.3, abs=1e-6)
    assert torch.equal((PREPROCESSING.denormalise(normal) * 255).round().to(torch.uint8), images)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (80, 40), (40, 120), (33, 47), (20, 20)])
def test_image_box_and_mask_move_together(height: int, width: int) -> None:
    """A bright rectangle, its box and its mask stay one rectangle."""
    top, left, bottom, right = height // 4, width // 3, height * 3 // 4, width * 2 // 3
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    image = (mask * 255).to(torch.uint8).expand(3, -1, -1)
    box = torch.tensor([[left, top, right, bottom]], dtype=torch.float32)
    fitted = PREPROCESSING.fit(Sample(image, 3, box, mask, "k"))
    assert fitted.image.shape == (3, 32, 32)
    assert fitted.image.dtype == torch.uint8
    assert (fitted.label, fitted.key) == (3, "k")
    assert fitted.mask is not None
    assert fitted.boxes is not None
    bright = fitted.image[0] > 127
    assert (bright != fitted.mask).float().mean() < 0.05
    rows, columns = fitted.mask.nonzero(as_tuple=True)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert fitted.boxes[0].tolist() == pytest.approx([float(e) for e in edges], abs=1.0)


def test_boxes_outside_the_crop_are_dropped_and_others_cut() -> None:
    image = torch.zeros(3, 40, 200, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [90.0, 10.0, 400.0, 400.0]])
    fitted = PREPROCESSING.fit(Sample(image, boxes=boxes)).boxes
    assert fitted is not None
    assert fitted.shape == (1, 4)
    assert fitted[0, 2:].tolist() == [32, 32]


def test_images_of_the_right_size_or_no_size_are_kept_as_they_are() -> None:
    sample = Sample(torch.zeros(3, 32, 32, dtype=torch.uint8))
    assert PREPROCESSING.fit(sample) is sample
    odd = Sample(torch.zeros(3, 7, 9, dtype=torch.uint8))
    assert dataclasses.replace(PREPROCESSING, size=None).fit(odd) is odd


def model() -> VisionModel:
    return VisionModel(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), Preprocessing((0.5,), (0.5,)))


def test_batches_cover_the_samples_in_order() -> None:
    batches = list(model().batches(samples(masks=torch.ones(3, 4, 4, dtype=torch.bool)), 2))
    assert [b.index.tolist() for b in batches] == [[0, 1], [2]]
    first = batches[0]
    assert first.images.shape == (2, 1, 4, 4)
    assert first.labels is not None
    assert first.labels.tolist() == [0, 1]
    assert first.masks is not None
    assert first.masks.shape == (2, 4, 4)
    assert first.boxes is None
    assert [b.index.tolist() for b in model().batches(samples(), 2, index=[2, 0, 2])] == [[2, 0], [2]]
    assert list(model().batches(samples(), 2, index=[])) == []


class MixedSizes(Samples):
    """Images of these sides, in pixels."""

    labels = None

    def __init__(self, *sides: int) -> None:
        self.sides = sides

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return Sample(torch.zeros(1, self.sides[index], self.sides[index], dtype=torch.uint8))


def test_batches_hold_images_of_one_size() -> None:
    batches = list(model().batches(MixedSizes(4, 4, 6, 4), 3))
    assert [(b.index.tolist(), b.images.shape[-1], b.labels) for b in batches] == [
        ([0, 1], 4, None),
        ([2], 6, None),
        ([3], 4, None),
    ]


def test_clones_share_nothing() -> None:
    original = model()
    twin = original.clone()
    with torch.no_grad():
        twin.network[1].weight.zero_()
    assert original.network[1].weight.any()
    assert twin.preprocessing is original.preprocessing
    assert twin.device.type == "cpu"


def test_missing_views_are_named() -> None:
    x = torch.zeros(1, 1, 4, 4)
    for call, view in (
        (lambda: model().embed(x), "embedding"),
        (lambda: model().patch_features(x), "patch-feature"),
        (lambda: model().head_split(), "head-split"),
    ):
        with pytest.raises(ViewUnavailableError, match=f"^Sequential has no {view} view$"):
            call()
    assert model().logits(x).shape == (1, 2)


def test_scores_are_checked_and_put_in_order() -> None:
    parameters = {"a": torch.zeros(2, 2), "b": torch.zeros(3)}
    scores = {"b": torch.ones(3, requires_grad=True), "a": torch.ones(2, 2)}
    checked = check_scores(scores, parameters)
    assert list(checked) == ["a", "b"]
    assert not checked["b"].requires_grad
    bad: list[tuple[dict[str, Tensor], str]] = [
        ({"a": torch.ones(2, 2)}, "no scores for 'b'"),
        ({**scores, "c": torch.ones(1)}, "unknown parameter 'c'"),
        ({**scores, "a": torch.ones(4)}, r"scores of 'a' are \(4,\), the parameter \(2, 2\)"),
        ({**scores, "b": torch.tensor([1.0, float("nan"), float("inf")])}, "scores of 'b': 2 of 3 are NaN or infinite"),
    ]
    for wrong, message in bad:
        with pytest.raises(ScoreError, match=message):
            check_scores(wrong, parameters)


@dataclass(frozen=True)
class Order(ScorePruner):
    """Scores weights by their position."""

    calls: ClassVar[list[int]] = []

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        self.calls.append(1)
        return {n: torch.arange(p.numel(), dtype=torch.float32).view(p.shape) for n, p in context.parameters.items()}


def test_a_score_pruner_needs_only_scores() -> None:
    parameters = {"w": nn.Parameter(torch.ones(2, 5))}
    job = PruningContext(nn.Identity(), parameters)
    masks = Order().prune(job, 0.7)
    assert masks["w"].flatten().tolist() == [False] * 7 + [True] * 3
    scores = Order().score(job)
    before = len(Order.calls)
    assert [Order().threshold(scores, s).kept for s in (0.0, 0.5, 0.9)] == [10, 5, 1]
    assert len(Order.calls) == before
    assert Order().refuses(nn.Identity()) is None


def test_context_computes_once() -> None:
    context = Context(torch.device("cpu"), 3, cache=None, open_dataset=lambda ref: samples())  # type: ignore[arg-type]
    calls: list[int] = []
    assert [context.once("k", lambda: calls.append(1) or 7) for _ in range(3)] == [7, 7, 7]
    assert len(calls) == 1
    a, b = context.generator("x"), Context(torch.device("cpu"), 3, None, samples).generator("x")  # type: ignore[arg-type]
    assert torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b))


@dataclass(frozen=True)
class Correct(Metric):
    """Share of correct predictions."""

    consumes: ClassVar[type[Outputs]] = Predictions

    def values(self, outputs: Predictions) -> Tensor:
        return (outputs.scores.argmax(1) == outputs.labels).double()


def test_a_metric_applies_to_the_outputs_it_consumes() -> None:
    outputs = Predictions(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    metric = Correct()
    assert metric.applies(outputs)
    assert not metric.applies(
        Attributions(torch.zeros(1, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1), lambda images: images)
    )
    values = metric.values(outputs).numpy()
    assert bootstrap(values, metric.aggregate).value == metric.aggregate(values) == 0.75
