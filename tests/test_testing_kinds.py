"""Broken twins of metrics, tasks, recipes, methods and data sets: each has one defect, which its own check finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from kit.twinmetrics import CALLS, METRICS, Certainty, Limitless, Middle, Overlap, Own, Percent, Popular, drift
from torch import Tensor

from pruningbench.contract import (
    ArraySamples,
    AttributionMethod,
    AttributionSettings,
    Context,
    Dataset,
    DiscoveryMethod,
    DiscoverySettings,
    Features,
    FoundObjects,
    Outputs,
    Patches,
    Predictions,
    Recipe,
    RecipeJob,
    Task,
    VisionModel,
    param,
)
from pruningbench.plugins import Plugin, Registry
from pruningbench.pruning.masks import Masks
from pruningbench.testing import findings


@dataclass(frozen=True)
class Guess(Task):
    """Predicts two classes for a few images of its own."""

    dimension: ClassVar[str] = "guessing"
    metrics: ClassVar[tuple[str, ...]] = ("certainty",)

    defect: str = param("", doc="what is wrong with it")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        images = torch.randn(8, 3, 16, 16, generator=context.generator("images"))
        with torch.no_grad():
            parts = [model.logits(part) for part in images.split(context.batch_size)]
            if self.defect == "of the batch":
                parts = [part - part.mean(0) for part in parts]
        scores, labels = torch.cat(parts), torch.arange(8) % 2
        if self.defect == "drifts":
            scores[torch.arange(8), labels] += drift()
        if self.defect == "writes":
            next(model.network.parameters()).data.mul_(0.5)
        if self.defect == "trains the dense model":
            assert context.dense is not None
            context.dense.network.train()
        if self.defect == "hooks":
            model.network.register_forward_hook(lambda *_: None)
        outputs: Any = Predictions(scores, labels, probabilistic=True)
        if self.defect == "a tensor":
            outputs = scores
        if self.defect == "other outputs":
            outputs = Features(scores)
        yield "", outputs
        if self.defect == "twice":
            yield "", outputs
        if self.defect == "raises":
            raise KeyError("nothing")


@dataclass(frozen=True)
class Unmeasured(Guess):
    """A task with an unknown metric."""

    metrics: ClassVar[tuple[str, ...]] = ("certainty", "no-such-metric")


@dataclass(frozen=True)
class Shouting(Guess):
    """A task with a dimension in capitals."""

    dimension: ClassVar[str] = "Guessing Well"


TASKS = {
    "of the batch": {"batch invariance"},
    "drifts": {"repeatable", "batch invariance"},  # values that drift differ in any two runs
    "writes": {"leaves no trace"},
    "trains the dense model": {"leaves no trace"},
    "hooks": {"leaves no trace"},
    "other outputs": {"outputs"},
    "twice": {"outputs"},
    "a tensor": {"outputs"},
    "raises": {"outputs", "leaves no trace", "repeatable", "batch invariance"},
}


@dataclass(frozen=True)
class Shrink(Recipe):
    """Prunes, and scales the weights that are kept."""

    trains: ClassVar[bool] = True

    defect: str = param("", doc="what is wrong with it")

    def rounds_of(self, sparsity: float) -> int:
        return 0 if self.defect == "no rounds" else 1

    def trainings(self, sparsity: float) -> list[Any]:
        return [] if self.defect == "no training" else [{1}] if self.defect == "odd keys" else [sparsity]

    def run(self, job: RecipeJob) -> Masks:
        sparsity = 0.9 * job.sparsity if self.defect == "less" else job.sparsity
        masks = job.prune(job.model, sparsity)
        network = job.model.network
        scale = 0.9 * drift() if self.defect == "drifts" else 0.9
        with torch.no_grad():
            for parameter in network.parameters():
                if self.defect == "revives":
                    parameter.add_(0.1)
                elif self.defect != "trains nothing":
                    parameter.mul_(scale)
        if self.defect == "hooks":
            network.register_forward_hook(lambda *_: None)
        if self.defect == "some masks":
            return Masks(dict(list(masks.items())[1:]))
        if self.defect == "prunes the reference" and not job.sparsity:
            return Masks({name: torch.zeros_like(mask) for name, mask in masks.items()})
        return masks


RECIPES = {
    "less": {"masks"},
    "some masks": {"masks"},
    "revives": {"zeros"},
    "hooks": {"only weights"},
    "prunes the reference": {"dense reference"},
    "trains nothing": {"dense reference"},
    "drifts": {"repeatable"},
    "no rounds": {"announced"},
    "no training": {"announced"},
    "odd keys": {"announced"},
}


@dataclass(frozen=True)
class Bright(AttributionMethod):
    """The image itself."""

    defect: str = param("", doc="what is wrong with it")

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        found = images.clone()
        if self.defect == "half the image":
            return found[..., ::2, ::2]
        if self.defect == "not finite":
            return found / found
        if self.defect == "drifts":
            return found * drift()
        if self.defect == "of the batch":
            return found - found.mean(0)
        if self.defect == "of the batch size":
            return found + 0.1 * settings.batch_size
        if self.defect == "writes":
            images.mul_(2)
        if self.defect == "gradients":
            next(model.network.parameters()).grad = torch.zeros_like(next(model.network.parameters()))
        if self.defect == "the background":
            return 1 / (1 + found)
        return found


ATTRIBUTIONS = {
    "half the image": {"attributions", "repeatable", "batch invariance", "leaves no trace", "direction"},
    "not finite": {"attributions"},
    "drifts": {"repeatable", "batch invariance"},  # any two calls differ
    "of the batch": {"batch invariance"},
    "of the batch size": {"batch invariance"},
    "writes": {"leaves no trace"},
    "gradients": {"leaves no trace"},
    "the background": {"direction"},
}


@dataclass(frozen=True)
class Odd(DiscoveryMethod):
    """Finds patches whose second feature is the larger one."""

    defect: str = param("", doc="what is wrong with it")

    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        features = patches.features
        found = (features[..., 1] > features[..., 0]).view(-1, *patches.grid)
        if self.defect == "drifts" and next(CALLS) % 2:
            found[:, 0, 0] = True
        if self.defect == "of the batch":
            found = found & (len(found) > 1)
        if self.defect == "writes":
            features.mul_(2)
        if self.defect == "the background":
            found = ~found
        objects = found[:, None]
        return FoundObjects(found.float() if self.defect == "a heat map" else found, objects)


DISCOVERIES = {
    "a heat map": {"objects"},
    "drifts": {"repeatable", "batch invariance"},  # the calls for single images drift too
    "of the batch": {"batch invariance"},
    "writes": {"leaves no trace"},
    "the background": {"direction"},
}


@dataclass(frozen=True)
class Patterns(Dataset):
    """Six images of noise in two classes."""

    defect: str = param("", doc="what is wrong with it")

    def load(self, context: Context) -> Any:
        images = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        labels, keys = torch.arange(6) % 2, [f"image-{i}" for i in range(6)]
        if self.defect == "floats":
            return ArraySamples(images / 255, labels, classes=("a", "b"), keys=keys)
        if self.defect == "no images":
            return ArraySamples(images[:0], labels[:0], classes=("a", "b"))
        if self.defect == "a list":
            return list(images)
        if self.defect == "doubled keys":
            keys[1] = keys[0]
        if self.defect == "a class too few":
            return ArraySamples(images, labels, classes=("a",), keys=keys)
        samples = ArraySamples(images, labels, classes=("a", "b"), keys=keys)
        if self.defect == "drifts":
            samples.fingerprint = f"load {next(CALLS)}"
        if self.defect == "no fingerprint":
            samples.fingerprint = ""
        return samples


DATASETS = {
    "floats": {"samples"},
    "no images": {"samples"},
    "a list": {"fingerprint", "samples"},
    "doubled keys": {"samples"},
    "a class too few": {"samples"},
    "drifts": {"fingerprint"},
    "no fingerprint": {"fingerprint"},
}

GOOD: dict[str, tuple[Any, dict[str, set[str]]]] = {
    "metric certainty": (Certainty, METRICS),
    "metric middle": (Middle, {"the mean": {"resamples"}, "one too few": {"resamples"}, "sorts": {"resamples"}}),
    "metric overlap": (Overlap, {"the error": {"direction"}}),
    "metric popular": (Popular, {"the error": {"direction"}, "the order": {"samples", "direction"}}),
    "metric own": (
        Own,
        {"the error": {"direction"}, "percent": {"range"}, "writes": {"leaves no trace", "repeatable"}},
    ),
    "task guess": (Guess, TASKS),
    "recipe shrink": (Shrink, RECIPES),
    "attribution-method bright": (Bright, ATTRIBUTIONS),
    "discovery-method odd": (Odd, DISCOVERIES),
    "dataset patterns": (Patterns, DATASETS),
}
"""Kind and name -> the component, and which checks find each of its defects."""
ALWAYS = {
    "metric limitless": (Limitless, {"declarations", "range"}),
    "metric percent": (Percent, {"declarations"}),
    "task unmeasured": (Unmeasured, {"metrics", "outputs", "repeatable", "batch invariance"}),
    "task shouting": (Shouting, {"dimension"}),
}
"""As above, for defects of a class."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    made, plugin = Registry(), Plugin("twins", "twinbench", "1")
    for subject, (component, _) in {**GOOD, **ALWAYS}.items():
        kind, name = subject.split(" ")
        made.add(kind, name, component, plugin)  # type: ignore[arg-type]
    return made


def found_in(registry: Registry, subject: str, **fields: Any) -> list[Any]:
    kind, name = subject.split(" ")
    return list(findings(kind, name, registry=registry, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", GOOD)
def test_a_good_component_has_no_findings(registry: Registry, subject: str) -> None:
    assert list(map(str, found_in(registry, subject))) == []


@pytest.mark.parametrize(
    ("subject", "defect"), [(subject, defect) for subject, (_, defects) in GOOD.items() for defect in defects]
)
def test_a_defect_is_found_by_its_check(registry: Registry, subject: str, defect: str) -> None:
    found = found_in(registry, subject, defect=defect)
    assert {one.check for one in found} == GOOD[subject][1][defect], list(map(str, found))
    assert all(one.remedy.endswith(".") and ":" in one.remedy for one in found)


@pytest.mark.parametrize("subject", ALWAYS)
def test_a_wrong_declaration_is_found(registry: Registry, subject: str) -> None:
    assert {one.check for one in found_in(registry, subject)} == ALWAYS[subject][1]


def test_every_kind_has_five_twins() -> None:
    for subject, (_, defects) in GOOD.items():
        if not subject.startswith("metric ") or subject == "metric certainty":  # one kind, whatever it consumes
            assert len(defects) >= 5, subject
