"""Crops, coherence, matching and the concepts task."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruningbench_interpretability import concept_coherence, concept_purity, match_concepts
from pruningbench_interpretability.coherence import top_crops
from pruningbench_interpretability.concept_metrics import (
    ConceptCoherence,
    ConceptConcentration,
    ConceptDrift,
    ConceptPurity,
)
from pruningbench_interpretability.concepts import ConceptExtraction
from pruningbench_interpretability.crops import CropGrid
from torch import Tensor, nn
from toyruns import run

from pruningbench.contract import ArraySamples, Concepts, Context, Preprocessing, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.samples import read_exhibit

NAN = float("nan")
METRICS = (ConceptCoherence(), ConceptPurity(), ConceptDrift(), ConceptDrift(of="directions"), ConceptConcentration())


# crops


def test_crops_of_the_paper():
    grid = CropGrid.of((224, 224), 64, 0.8)
    assert (grid.side, grid.stride, len(grid)) == (64, 51, 16)
    assert CropGrid.of((36, 36), 64, 0.8) == CropGrid((36, 36), 10, 8)
    assert CropGrid.of((2, 5), 64, 0.1) == CropGrid((2, 5), 1, 1)
    assert len(CropGrid.of((20, 30), 1000, 1.0)) == 1


@settings(max_examples=40, deadline=None)
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


# coherence, purity, matching


def test_top_crops_are_one_of_an_image_in_order():
    coefficients = torch.tensor([0.5, 0.9, 0.9, 0.1, 0.7, 0.0])
    images = torch.tensor([0, 0, 1, 1, 2, 3])
    assert top_crops(coefficients, images, 9).tolist() == [1, 2, 4]  # ties by index, zero shows nothing
    assert top_crops(coefficients, images, 2).tolist() == [1, 2]
    for nothing in (torch.zeros(6), torch.ones(6), torch.full((6,), NAN), torch.ones(6) + 1e-8 * torch.arange(6)):
        assert not len(top_crops(nothing, images, 9))
    assert not len(top_crops(torch.empty(0), images[:0], 3))


@settings(max_examples=25, deadline=None)
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


@settings(max_examples=30, deadline=None)
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


# task: activations are the three colours of a pixel, and every class is a colour


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


class NoCache:
    def tensors(self, room, identity, make):
        return make()


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
    for which in ("all", "correct-dense", "correct"):
        found = concepts_of(pruned, dense, dataclasses.replace(TASK, samples=which, count=5))
        counts[which] = [int((found.crop_classes == label).sum()) // 4 for label in (0, 1)]
        assert found.dense is not None
        assert len(found.dense.coefficients) == len(found.coefficients)
    assert counts == {"all": [5, 5], "correct-dense": [5, 5], "correct": [5, 0]}


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
    with pytest.raises(PruningBenchError, match="no class"):
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
