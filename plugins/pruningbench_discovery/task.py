"""The task: find the object of each image without labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.components import (
    Batch,
    Boxes,
    Context,
    DatasetRef,
    Exhibit,
    Samples,
    Task,
    VisionModel,
    param,
)
from pruningbench.errors import PruningBenchError

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench_discovery.features import Patches


@dataclass(frozen=True)
class Discovery(Task):
    """Boxes of objects found in patch features without any label.

    An image in which nothing is found, as with a network whose features are NaN or all alike, gets no
    box, which counts as a miss.
    """

    metrics = ("corloc", "best-iou")

    data: DatasetRef = param(doc="data set with true boxes")
    method: Literal["lost"] = param("lost", doc="how boxes are found: LOST (Siméoni et al., BMVC 2021)")
    k: int | None = param(
        None,
        doc="LOST: candidate patches of low degree; none = 100 of every 784 patches, the paper's share",
    )
    normalise: Literal["auto", "map", "channels", "none"] = param(
        "auto",
        doc="of an image's features: map = layer norm over all, channels = subtract each channel's mean, "
        "auto = map for convolutional networks, none for others, as published",
    )
    count: int | None = param(None, doc="use the first samples only; none = all")
    exhibits: int = param(6, doc="number of images kept for figures", identity=False)

    def problem(self) -> str | None:
        """Refuse counts below one."""
        if self.k is not None and self.k < 1:
            return f"k must be at least 1, got {self.k}"
        if self.count is not None and self.count < 1:
            return f"count must be at least 1, got {self.count}"
        return None if self.exhibits >= 0 else f"exhibits must not be negative, got {self.exhibits}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Boxes]]:
        """Yield the boxes of all images, in pixels of the network's input."""
        samples = context.open_dataset(self.data)
        chosen = range(len(samples) if self.count is None else min(self.count, len(samples)))
        predicted: list[Tensor] = []
        truth: list[Tensor] = []
        shown: list[Tensor] = []
        for batch in model.batches(samples, context.batch_size, index=chosen):
            truth += _true_boxes(batch, samples)
            predicted += self._boxes(model, batch.images)
            wanted = self.exhibits - sum(map(len, shown))
            if wanted > 0 and (not shown or shown[0].shape[1:] == batch.images.shape[1:]):
                shown.append(model.preprocessing.denormalise(batch.images[:wanted]).cpu())
        yield "", Boxes(predicted, truth, exhibit=_exhibit(shown, samples, predicted, truth))

    def _boxes(self, model: VisionModel, images: Tensor) -> list[Tensor]:
        """Return for each image (1, 4) or, where nothing was found, (0, 4) boxes on the CPU."""
        from pruningbench_discovery.features import patches_of

        patches = patches_of(model, images, self.normalise)
        height, width = images.shape[-2:]
        boxes = self._lost(patches, (height, width)).cpu()
        found = ~boxes.isnan().any(dim=1)
        return [boxes[i : i + 1] if found[i] else boxes[:0] for i in range(len(boxes))]

    def _lost(self, patches: Patches, image_size: tuple[int, int]) -> Tensor:
        from pruningbench_discovery.seed_expansion import PAPER_K, PAPER_PATCHES, lost

        n = patches.features.shape[1]
        k = self.k if self.k is not None else max(1, round(n * PAPER_K / PAPER_PATCHES))
        return lost(patches.features, patches.grid, patches.size, image_size, k)


def _true_boxes(batch: Batch, samples: Samples) -> list[Tensor]:
    if batch.boxes is None:
        lacking = next(int(i) for i in batch.index if samples[int(i)].boxes is None)
        raise PruningBenchError(f"discovery needs true boxes, but sample {samples[lacking].key!r} has none")
    return [boxes.float().cpu() for boxes in batch.boxes]


def _exhibit(shown: list[Tensor], samples: Samples, predicted: list[Tensor], truth: list[Tensor]) -> Exhibit | None:
    import torch

    if not shown:
        return None
    images = torch.cat(shown)
    n = len(images)
    keys = tuple(samples[i].key for i in range(n))
    return Exhibit("boxes", images, keys, predicted=predicted[:n], truth=truth[:n])
