"""The components of the plugin that adds one of everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruningbench.contract import (
    ArraySamples,
    AttributionMethod,
    AttributionSettings,
    Context,
    Dataset,
    DatasetRef,
    DiscoveryMethod,
    DiscoverySettings,
    Exhibit,
    Facet,
    FoundObjects,
    Metric,
    Model,
    Outputs,
    Patches,
    Predictions,
    Preprocessing,
    PruningContext,
    Recipe,
    RecipeJob,
    ScorePruner,
    Task,
    VisionModel,
    generator_for,
    param,
)
from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class DoorData(Dataset):
    """Noise of two classes with a bright square in the upper left corner."""

    count: int = param(12, doc="number of samples, >= 1")

    def load(self, context: Context) -> ArraySamples:
        labels = torch.arange(self.count) % 2
        images = torch.randint(0, 90, (self.count, 1, 8, 8), generator=generator_for("door data"))
        images += 60 * labels.view(-1, 1, 1, 1)
        images[:, :, :4, :4] += 60
        boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])] * self.count
        return ArraySamples(images.to(torch.uint8), labels, classes=("dark", "bright"), boxes=boxes)


class DoorVision(VisionModel):
    """Its patches are the cells of its first layer."""

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        features: Tensor = self.network[0](images)
        return features


@dataclass(frozen=True)
class DoorModel(Model):
    """A small network with random weights."""

    def load(self, context: Context) -> DoorVision:
        generator = generator_for("door weights")
        network = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        return DoorVision(network, Preprocessing((0.5,), (0.5,)), classes=("dark", "bright"))


@dataclass(frozen=True)
class Largest(ScorePruner):
    """Keep the largest weights, which is all that a test needs."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {name: parameter.detach().abs() for name, parameter in context.parameters.items()}


@dataclass(frozen=True)
class Twice(Recipe):
    """Prune half way, then the rest."""

    def prunes_dense(self) -> bool:
        return False

    def run(self, job: RecipeJob) -> Masks:
        job.context.report("half way")
        return job.prune(job.model, job.sparsity, job.prune(job.model, job.sparsity / 2))


@dataclass(frozen=True)
class Looking(Task):
    """Predict, and keep a bar for each class as an exhibit of a kind of its own."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    data: DatasetRef = param(doc="what to look at")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        samples = context.open_dataset(self.data)
        logits = context.logits(model, samples)
        labels = model.labels_of(samples)
        assert labels is not None
        images = torch.stack([samples[i].image for i in range(2)]).float() / 255
        keys = tuple(samples[i].key for i in range(2))
        exhibit = Exhibit("door-bars", images, keys, arrays={"probabilities": logits[:2].softmax(1)})
        yield "", Predictions(logits, labels, exhibit=exhibit)


@dataclass(frozen=True)
class Brightness(Metric):
    """Probability of the second class."""

    consumes: ClassVar[type[Outputs]] = Predictions
    higher_is_better: ClassVar[bool | None] = None
    unit: ClassVar[str] = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def values(self, outputs: Predictions) -> Tensor:
        return outputs.scores.softmax(1)[:, 1]


@dataclass(frozen=True)
class Power(AttributionMethod):
    """A power of the image."""

    power: int = param(1, doc="exponent, >= 1")

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        return images**self.power


@dataclass(frozen=True)
class Corner(DiscoveryMethod):
    """The upper left quarter of each image."""

    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        h, w = patches.grid
        foreground = torch.zeros(len(patches.features), h, w, dtype=torch.bool)
        foreground[:, : h // 2, : w // 2] = True
        return FoundObjects(foreground, foreground[:, None])
