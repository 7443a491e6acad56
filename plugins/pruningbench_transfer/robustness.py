"""The task `corruption-robustness`: the network's own predictions on corrupted images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pruningbench.contract import (
    Context,
    DatasetRef,
    GroupedPredictions,
    PruningBenchError,
    Samples,
    Task,
    VisionModel,
    param,
)

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal[
    "gaussian-noise", "shot-noise", "impulse-noise", "gaussian-blur", "contrast", "brightness", "pixelate", "jpeg"
]


@dataclass(frozen=True)
class CorruptionRobustness(Task):
    """The network's own predictions on images with common corruptions; each kind is a variant.

    Kinds and strengths are those of Hendrycks and Dietterich (ICLR 2019), see
    `pruningbench_transfer.corruptions`. Images are corrupted at the network's input size. All models,
    pruners and severities get the same noise. Samples are images: an image's value is its mean over the
    severities, so intervals are over images. Cost: a pass over the data for each kind and severity.
    """

    dimension = "robustness"
    metrics = ("accuracy",)

    data: DatasetRef = param(doc="labelled data set whose classes the network knows")
    kinds: tuple[Kind, ...] = param(get_args(Kind), doc="corruptions; one variant each")
    severities: tuple[int, ...] = param((1, 2, 3, 4, 5), doc="severities, each in 1..5")
    strengths: Literal["imagenet", "cifar"] = param(
        "imagenet", doc="published strengths for images of 224 pixels (imagenet) or 32 pixels (cifar)"
    )

    def problem(self) -> str | None:
        """Refuse lists that are empty, contain duplicates, or are out of range."""
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            return f"kinds must list different corruptions, got {list(self.kinds)}"
        if not self.severities or len(set(self.severities)) < len(self.severities):
            return f"severities must list different numbers, got {list(self.severities)}"
        if not set(self.severities) <= {1, 2, 3, 4, 5}:
            return f"severities must lie in 1..5, got {list(self.severities)}"
        return None

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, GroupedPredictions]]:
        """Yield one variant per corruption, with one group per image that holds its severities."""
        from pruningbench_transfer.labels import labels_in

        samples = context.open_dataset(self.data)
        if not model.classes:
            raise PruningBenchError("the network has no classifier, so no predictions that corruptions could change")
        labels = labels_in(model.classes, samples, whose="the network")
        for kind in self.kinds:
            scores = self._logits(model, context, samples, kind)
            context.report(f"corruption {kind}")
            yield kind, GroupedPredictions(scores, labels[:, None].expand(-1, len(self.severities)))

    def _logits(self, model: VisionModel, context: Context, samples: Samples, kind: str) -> Tensor:
        """Return the logits at all severities of a corruption, (N, severities, classes); each image is read once."""
        import torch

        from pruningbench_transfer.corruptions import STRENGTHS, corrupt

        strengths = [STRENGTHS[self.strengths][kind][severity - 1] for severity in self.severities]
        logits = []
        with torch.inference_mode():
            for batch in model.batches(samples, context.batch_size):
                intensities = model.preprocessing.denormalise(batch.images)
                scores = []
                for strength in strengths:
                    # an image's draws are the same at all severities
                    generators = [context.generator(kind, position) for position in batch.index.tolist()]
                    corrupted = corrupt(intensities, kind, strength, generators)
                    scores.append(model.logits(model.preprocessing.normalise(corrupted)).float().cpu())
                logits.append(torch.stack(scores, dim=1))
        return torch.cat(logits)
