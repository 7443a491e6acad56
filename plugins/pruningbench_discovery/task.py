"""The task: find the objects of each image without labels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pruningbench.contract import (
    Batch,
    Boxes,
    Context,
    DatasetRef,
    DiscoveryMethod,
    DiscoveryMethodRef,
    DiscoverySettings,
    Exhibit,
    Facet,
    PruningBenchError,
    Samples,
    Task,
    VisionModel,
    param,
)

if TYPE_CHECKING:
    from torch import Tensor


OF_VALUES = ("deit", "clip")
"""Families whose values LOST is published with, instead of keys (Darcet et al. 2024, section 3.3)."""


@dataclass(frozen=True)
class Discovery(Task):
    """Boxes of objects found in patch features without labels.

    An image in which nothing is found, for example because all features are NaN or alike, gets no box, which
    counts as a miss. True boxes are clipped to the image; those outside it are left out.

    The defaults are the published settings of LOST: keys for DINO (Siméoni et al., BMVC 2021, section 3.1), keys for
    DINOv2 with and without registers, values for DeiT and CLIP (Darcet et al., ICLR 2024, section 3.3). `facet: auto`
    follows the family that the model declares, uses keys for any other, and is stored resolved, as the part
    ``setting facet`` of `made_of`. Darcet et al. also add a bias to the similarities, by hand and for each model; they
    do not state it, so there is none here, and their numbers are not expected. If nearly all images get the same box,
    or none, try another facet and `normalise: channels`.
    """

    dimension = "discovery"
    metrics = ("corloc", "detection-rate", "best-iou", "mask-iou")

    data: DatasetRef = param(doc="data set with true boxes")
    method: DiscoveryMethodRef = param("lost", doc="method of discovery: lost, tokencut, maskcut, found or a plugin's")
    facet: Facet | Literal["auto"] = param(
        "auto",
        doc="output of a transformer's last block that represents a patch; auto = as published: values for DeiT and "
        "CLIP, keys for all others",
    )
    k: int | None = param(
        None,
        doc="LOST: candidate patches of low degree; none = 100 of every 784 patches, the paper's share",
    )
    tau: float | None = param(
        None, doc="threshold on the cosine in [-1, 1], not for LOST; none = the paper's (.2, .15, .3)"
    )
    objects: int = param(3, doc="MaskCut: maximum number of objects per image, >= 1")
    normalise: Literal["auto", "map", "channels", "none"] = param(
        "auto",
        doc="normalisation of features: map = layer norm over all, channels = subtract each channel's mean, "
        "auto = map for convolutional networks, none for others, as published",
    )
    size: Literal["network", "own"] = param(
        "network", doc="use images at the network's input size, or at their own, as LOST and TokenCut do"
    )
    count: int | None = param(None, doc="use the first samples only; none = all")
    exhibits: int = param(6, doc="number of images kept for figures", identity=False)

    def problem(self) -> str | None:
        """Refuse values out of range."""
        for name in ("k", "objects", "count"):
            value = getattr(self, name)
            if value is not None and value < 1:
                return f"{name} must be at least 1, got {value}"
        if self.tau is not None and not -1 <= self.tau <= 1:
            return f"tau must lie in [-1, 1], got {self.tau}"
        return None if self.exhibits >= 0 else f"exhibits must not be negative, got {self.exhibits}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Boxes]]:
        """Yield the boxes of all images, in pixels of the network's input."""
        from pruningbench_discovery.features import patches_of
        from pruningbench_discovery.methods import discover, existing_boxes

        samples = context.open_dataset(self.data)
        if self.size == "own":
            model = _without_resizing(model)
        method = context.component("discovery-method", self.method).component
        assert isinstance(method, DiscoveryMethod)  # noqa: S101 - binding checked the kind
        settings = DiscoverySettings(self.k, self.tau, self.objects)
        facet = facet_for(model) if self.facet == "auto" else self.facet
        chosen = range(len(samples) if self.count is None else min(self.count, len(samples)))
        predicted: list[Tensor] = []
        truth: list[Tensor] = []
        foreground: list[Tensor] = []
        masks: list[Tensor] = []
        exhibited: list[Tensor] = []
        sizes: list[tuple[int, int]] = []
        for batch in model.batches(samples, context.batch_size, index=chosen):
            truth += _true_boxes(batch, samples)
            size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
            regions = discover(method, patches_of(model, batch.images, self.normalise, facet), settings, size)
            predicted += existing_boxes(regions.boxes)
            sizes += [(batch.images.shape[-2], batch.images.shape[-1])] * len(batch.images)
            if batch.masks is not None:
                foreground += regions.foreground.cpu().unbind()
                masks += batch.masks.cpu().unbind()
            if len(exhibited) < self.exhibits:
                images = batch.images[: self.exhibits - len(exhibited)]
                exhibited += model.preprocessing.denormalise(images).cpu().unbind()
        masked = 0 < len(masks) == len(truth)
        yield (
            "",
            Boxes(
                predicted,
                truth,
                foreground=foreground if masked else None,
                masks=masks if masked else None,
                sizes=sizes,
                remedy=self._remedy(facet),
                settings={"facet": facet},
                exhibit=_exhibit(exhibited, samples, predicted, truth),
            ),
        )

    def _remedy(self, facet: Facet) -> str:
        """Return what is likely to help where all boxes are alike, beyond what is already set."""
        others = [] if facet == "values" else ["`facet: values`"]
        others += [] if self.normalise == "channels" else ["`normalise: channels`"]
        return "patch features resemble each other" + (f": try {' or '.join(others)}" if others else "")


def facet_for(model: VisionModel) -> Facet:
    """Return the facet that LOST is published with for the family of a model."""
    return "values" if model.family in OF_VALUES else "keys"


def _without_resizing(model: VisionModel) -> VisionModel:
    """Return the same model without resizing of images."""
    twin = copy.copy(model)
    twin.preprocessing = replace(model.preprocessing, size=None)
    return twin


def _true_boxes(batch: Batch, samples: Samples) -> list[Tensor]:
    """Return the true boxes, clipped to the image, without those whose clipped area is zero."""
    if batch.boxes is None:
        lacking = next(int(i) for i in batch.index if samples[int(i)].boxes is None)
        raise PruningBenchError(f"discovery needs true boxes, but sample {samples[lacking].key!r} has none")
    height, width = batch.images.shape[-2:]
    inside = []
    for boxes in batch.boxes:
        clipped = boxes.float().cpu().reshape(-1, 4).clamp(min=0)
        clipped = clipped.minimum(clipped.new_tensor([width, height, width, height]))
        inside.append(clipped[(clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])])
    return inside


def _exhibit(exhibited: list[Tensor], samples: Samples, predicted: list[Tensor], truth: list[Tensor]) -> Exhibit | None:
    """Return the first images with their boxes, padded to one size with white at the right and bottom."""
    import torch
    from torch.nn.functional import pad

    if not exhibited:
        return None
    height, width = (max(image.shape[side] for image in exhibited) for side in (1, 2))
    images = torch.stack(
        [pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=1.0) for image in exhibited]
    )
    n = len(images)
    keys = tuple(samples[i].key for i in range(n))
    return Exhibit("boxes", images, keys, predicted=predicted[:n], truth=truth[:n])
