"""The concepts task."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from kit.cache import NoCache
from kit.runs import run
from pruningbench_interpretability.concept_metrics import (
    ConceptCoherence,
    ConceptConcentration,
    ConceptDrift,
    ConceptPurity,
)
from pruningbench_interpretability.concepts import ConceptExtraction
from torch import Tensor, nn

from pruningbench.contract import ArraySamples, Concepts, Context, Preprocessing, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.samples import read_exhibit

NAN = float("nan")
METRICS = (ConceptCoherence(), ConceptPurity(), ConceptDrift(), ConceptDrift(of="directions"), ConceptConcentration())


# activations are the three colours of a pixel, and every class is a colour


class Colours(VisionModel):
    """Activations are the colours themselves, the logit of a class is its colour's mean."""

    def logits(self, images: Tensor) -> Tensor:
        view, head = self.head_split()
        return head(view(images))

    def embed(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    def head_split(self):
        return lambda images: self.network[0](images).relu(), lambda cells: self.network[1](cells.mean(dim=(2, 3)))


def colours(weight: float = 1.0, bias: float = 0.0, classes: tuple[str, ...] = ("red", "green")) -> Colours:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(3, len(classes)))
    with torch.no_grad():
        network[0].weight.copy_(weight * torch.eye(3)[..., None, None])
        network[0].bias.fill_(bias)
        network[1].weight.copy_(torch.eye(3)[: len(classes)])
        network[1].bias.zero_()
    return Colours(network.eval(), Preprocessing((0.0,) * 3, (1.0,) * 3), classes=classes)


def tiles(count: int = 12, side: int = 8) -> ArraySamples:
    """Images of four tiles: one of the class's colour, one blue, two dark ones, in any order."""
    draw = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    half = side // 2
    for i in range(count):
        places = torch.randperm(4, generator=draw).tolist()
        for colour, place, level in ((i % 2, places[0], 250), (2, places[1], 120)):
            y, x = half * (place // 2), half * (place % 2)
            images[i, colour, y : y + half, x : x + half] = level - int(torch.randint(40, (1,), generator=draw))
    return ArraySamples(images, torch.arange(count) % 2, classes=["red", "green"])


def context(samples: ArraySamples, dense: VisionModel | None, batch_size: int = 5, **more: object) -> Context:
    return Context(torch.device("cpu"), 3, NoCache(), lambda _: samples, batch_size=batch_size, dense=dense, **more)  # type: ignore[arg-type]


TASK = ConceptExtraction(data="tiles", classes=2, concepts=2, top=2, patch=112, stride=1.0, exhibits=3)


def concepts_of(
    model: VisionModel, dense: VisionModel | None = None, task: ConceptExtraction = TASK, **more: object
) -> Concepts:
    samples = more.pop("samples", tiles())
    ((variant, found),) = task.run(model, context(samples, dense or model, **more))  # type: ignore[arg-type]
    assert variant == ""
    return found


def test_planted_concepts_are_found():
    found = concepts_of(colours())
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(found.directions, expected, atol=1e-3, rtol=0)
    # the logit of red is the mean of red: all importance on one concept, none on blue
    torch.testing.assert_close(found.importance, torch.tensor([1.0, 0, 1, 0]).double(), atol=0.15, rtol=0)
    assert found.classes.tolist() == [0, 0, 1, 1]
    assert found.leading.tolist() == [0, 1, 2, 3]
    assert found.coefficients.shape == (48, 4)
    assert found.crop_classes.tolist() == [0] * 24 + [1] * 24
    assert found.crop_images[::4].tolist() == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]
    purity = ConceptPurity(patches=12).values(found)
    assert purity[[0, 2]].tolist() == [1.0, 1.0]
    assert purity[[1, 3]].tolist() == pytest.approx([0.5, 0.5])  # blue is in all images
    assert bool((ConceptCoherence().values(found) > 0.2).all())
    assert ConceptDrift().values(found).tolist() == pytest.approx([0.0] * 4, abs=1e-9)
    torch.testing.assert_close(
        ConceptConcentration().values(found), torch.tensor([0.5, 0.5]).double(), atol=0.05, rtol=0
    )


def test_coefficients_are_the_amounts_in_the_crops():
    samples, model = tiles(), colours()
    found = concepts_of(model, samples=samples)
    for crop, (x0, y0, x1, y1) in enumerate(found.crop_boxes.int().tolist()):
        pixels = samples.images[found.crop_images[crop], :, y0:y1, x0:x1].float() / 255
        expected = found.directions @ pixels.mean(dim=(1, 2))
        torch.testing.assert_close(found.coefficients[crop], expected, atol=2e-3, rtol=0)


def test_results_do_not_depend_on_batches():
    one, other = (concepts_of(colours(), batch_size=size) for size in (1, 64))
    for field in ("directions", "importance", "coefficients", "embeddings"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), atol=1e-5, rtol=1e-4)
    again = concepts_of(colours(), batch_size=64)
    assert torch.equal(other.importance, again.importance)
    assert torch.equal(other.coefficients, again.coefficients)


def test_drift_of_a_channel_that_was_pruned():
    pruned = colours()
    with torch.no_grad():
        pruned.network[0].weight[2] = 0  # no blue any more
    found = concepts_of(pruned, colours())
    drift = ConceptDrift(of="directions").values(found)
    assert drift[[0, 2]].tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    assert bool((drift[[1, 3]].isnan() | (drift[[1, 3]] > 0.9)).all())
    assert found.embeddings.shape[1] == 3
    assert bool(found.embeddings[:, 2].any())  # of the dense model, which still sees blue


@pytest.mark.parametrize(("weight", "bias"), [(0.0, 0.0), (0.0, 0.7), (NAN, 0.0)])
def test_dead_networks_are_undefined_not_fatal(weight, bias):
    found = concepts_of(colours(weight, bias), colours(), dataclasses.replace(TASK, top=1))
    assert found.directions.isnan().all()
    assert found.exhibit is None
    for metric in METRICS:
        values = metric.values(found)
        assert len(values) == 2
        assert values.isnan().all()


def test_a_head_that_is_dead_leaves_importance_undefined():
    model = colours()
    with torch.no_grad():
        model.network[1].weight.zero_()
    found = concepts_of(model, colours())
    assert found.importance.isnan().all()
    assert found.directions.isfinite().all()
    assert ConceptConcentration().values(found).isnan().all()
    assert ConceptCoherence().values(found).isfinite().all()


def test_classes_without_enough_crops_are_undefined_alone():
    samples = tiles(3)  # two red images, one green
    task = dataclasses.replace(TASK, concepts=6, samples="all")
    found = concepts_of(colours(), task=task, samples=samples)
    assert found.directions[6:].isnan().all()  # four crops of green, six concepts
    assert found.directions[:6].isfinite().any()
    nothing = ArraySamples(samples.images, torch.zeros(3).long(), classes=["red", "green"])
    found = concepts_of(colours(), task=TASK, samples=nothing)
    assert found.directions[2:].isnan().all()
    assert [len(metric.values(found)) for metric in METRICS] == [4, 4, 4, 4, 2]
    nowhere = ArraySamples(samples.images * 0, torch.ones(3).long(), classes=["red", "green"])
    assert concepts_of(colours(), task=TASK, samples=nowhere).directions.isnan().all()


def test_which_images_are_explained():
    dense, pruned = colours(), colours()
    with torch.no_grad():
        pruned.network[1].bias[0] = 9.0  # everything is red
    counts = {}
    for which in ("all", "correct-dense", "correct", "correct-both"):
        found = concepts_of(pruned, dense, dataclasses.replace(TASK, samples=which, count=5))
        counts[which] = [int((found.crop_classes == label).sum()) // 4 for label in (0, 1)]
        assert found.dense is not None
        assert len(found.dense.coefficients) == len(found.coefficients)
    assert counts == {"all": [5, 5], "correct-dense": [5, 5], "correct": [5, 0], "correct-both": [5, 0]}
    unsure = colours()
    with torch.no_grad():
        unsure.network[1].bias[1] = 9.0  # everything is green
    both = concepts_of(pruned, unsure, dataclasses.replace(TASK, samples="correct-both", count=5))
    assert len(both.crop_classes) == 0


def test_dense_work_is_done_once():
    dense, calls = colours(), []
    shared = context(tiles(), dense)
    dense.embed = lambda images: (calls.append(len(images)), images.mean(dim=(2, 3)))[1]  # type: ignore[method-assign]
    for _ in range(3):
        list(TASK.run(colours(), shared))
    assert sum(calls) == 48


def test_another_encoder_judges():
    class Grey(Colours):
        def embed(self, images: Tensor) -> Tensor:
            assert images.shape[1:] == (1, 6, 6)
            return images.flatten(1)

    asked = []
    encoder = Grey(nn.Conv2d(1, 1, 1), Preprocessing((0.5,), (0.25,), size=6))
    task = dataclasses.replace(TASK, encoder={"use": "grey"})
    found = concepts_of(colours(), task=task, open_model=lambda reference: (asked.append(reference), encoder)[1])
    assert asked == [{"use": "grey"}]
    assert found.embeddings.shape == (48, 36)
    # grey levels: red at 1 / 3 of its level, then normalised
    crop = int(found.coefficients[:24, 0].argmax())
    level = found.coefficients[crop, 0] / 3
    torch.testing.assert_close(found.embeddings[crop].mean(), (level - 0.5) / 0.25, atol=2e-2, rtol=0)
    with pytest.raises(PruningBenchError, match="no models"):
        concepts_of(colours(), task=task)


def test_sheet_shows_the_top_crops_beside_the_dense_ones():
    found = concepts_of(colours())
    shown = found.exhibit
    assert shown is not None and shown.kind == "concepts"
    assert shown.images.shape == (12, 3, 4, 4)
    assert shown.keys[:4] == ("red 1/0", "red 1/1", "red 1/2", "red 2/0")
    assert bool((shown.images[:3, 0] > 0.8).all()) and not shown.images[:3, 1:].any()
    assert bool((shown.images[3:6, 2] > 0.3).all())
    assert shown.captions[0].startswith("importance 0.9") and shown.captions[0].endswith("cosine 1.00")
    assert concepts_of(colours(), task=dataclasses.replace(TASK, exhibits=0)).exhibit is None


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"classes": ()}, "classes"), ({"classes": ("a", "a")}, "classes"), ({"classes": 0}, "classes"),
        ({"count": 0}, "count"), ({"concepts": 0}, "concepts"), ({"top": 0}, "top"), ({"patch": 0}, "patch"),
        ({"designs": 1}, "designs"), ({"judged": 0}, "judged"), ({"stride": 0.0}, "stride"), ({"exhibits": -1}, "exhibits"),
    ],
)  # fmt: skip
def test_fields_out_of_range(changed, word):
    assert TASK.problem() is None
    assert word in str(dataclasses.replace(TASK, **changed).problem())
    assert "patches" in str(ConceptCoherence(patches=1).problem())
    assert "patches" in str(ConceptPurity(patches=0).problem())


def test_what_cannot_be_explained_is_refused():
    samples = tiles()
    unlabelled = ArraySamples(samples.images)
    for task, data, word in (
        (TASK, unlabelled, "labels"),
        (dataclasses.replace(TASK, classes=("red", "blue")), samples, "'blue'"),
    ):
        with pytest.raises(PruningBenchError, match=word):
            concepts_of(colours(), task=task, samples=data)
    with pytest.raises(PruningBenchError, match="do not share any class$"):
        concepts_of(colours(classes=("left", "right")), samples=samples)
    with pytest.raises(PruningBenchError, match="dense model"):
        list(TASK.run(colours(), context(samples, None)))
    negative = colours()
    negative.head_split = lambda: (negative.network[0], negative.network[1])  # type: ignore[method-assign]
    with torch.no_grad():
        negative.network[0].bias.fill_(-0.5)
    with pytest.raises(PruningBenchError, match="negative"):
        concepts_of(negative, colours())


SUITE = """\
name: concepts
models: [{use: digits-resnet, epochs: 1, channels: [4, 4, 4, 8], stem_width: 2}]
pruners: [magnitude]
sparsities: [0, 0.6, 0.99]
recipes: [none]
tasks:
  - use: concepts
    data: {use: digit-scenes, count: 12}
    samples: all
    classes: 2
    concepts: 3
    top: 2
    designs: 8
    encoder: {use: digits-resnet, epochs: 1, channels: [4, 4, 4, 4], stem_width: 2}
"""


def test_through_the_harness(toy_registry: Registry, tmp_path: Path) -> None:
    summary = run(SUITE, toy_registry, tmp_path / "run")
    assert summary.ok, summary
    table = load_results(tmp_path / "run")
    values = table.pivot_table(index="sparsity", columns="metric", values="value", dropna=False)
    assert list(values.columns) == ["concept-coherence", "concept-concentration", "concept-drift", "concept-purity"]
    assert values.loc[0.0, "concept-drift"] == pytest.approx(0, abs=1e-9)
    assert not values.loc[[0.0, 0.6]].isna().any().any()
    assert values.loc[0.6, "concept-drift"] > 1e-4
    assert (table[table.metric == "concept-coherence"].set_index("sparsity").n[[0.0, 0.6]] == 4).all()
    shown = read_exhibit(next((tmp_path / "run" / "exhibits").iterdir()))
    assert shown["kind"] == "concepts"
    assert {key.rpartition("/")[0] for key in shown["keys"]} <= {"0 1", "0 2", "1 1", "1 2"}
