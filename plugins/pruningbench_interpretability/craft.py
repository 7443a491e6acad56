"""Concepts of a network: image crops, their activations, the factorisation into concepts, and their importance.

Fel et al., CRAFT: Concept Recursive Activation FacTorization for Explainability, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from pruningbench.contract import Concepts, Context, PruningBenchError, Samples, VisionModel
from pruningbench_interpretability.crops import CropGrid
from pruningbench_interpretability.factorisation import nmf
from pruningbench_interpretability.nonnegative import nnls
from pruningbench_interpretability.sobol import Sampler, jansen_total, replicated_design

View = Callable[[Tensor], Tensor]
CONSTANT = 1e-5
"""Activations whose range over the crops is below this share of their largest value count as constant: they differ
only by rounding."""


@dataclass(frozen=True)
class Craft:
    """How concepts are found.

    Attributes:
        concepts: number of concepts per class.
        patch, stride: settings of the crops, see `CropGrid.of`.
        designs, sampler, scramble: settings of the importance, see `replicated_design`.
        judged: maximum number of images per class to average the importance over; None = all.
        top: number of concepts per class that form its explanation.
    """

    concepts: int
    patch: int
    stride: float
    designs: int
    sampler: Sampler
    scramble: bool
    judged: int | None
    top: int


@dataclass(frozen=True)
class Chosen:
    """The images on which concepts are found.

    Attributes:
        samples: the data set.
        index: (n,) int64 positions in the data set, class by class.
        labels: (n,) int64 classes of those images, as positions among the model's classes.
        classes: the classes to explain, including those without an image.
    """

    samples: Samples
    index: Tensor
    labels: Tensor
    classes: tuple[int, ...]


def grid_of(model: VisionModel, chosen: Chosen, craft: Craft) -> CropGrid:
    """Return where the crops of the chosen images lie; those of a (1, 1)-pixel image where there are no images.

    Raises:
        PruningBenchError: for images of several sizes.
    """
    side = model.preprocessing.size
    if side is not None and len(chosen.index):  # all images are brought to this size: none needs to be read
        return CropGrid.of((side, side), craft.patch, craft.stride)
    shapes = (model.preprocessing.fit(chosen.samples[i]).image.shape for i in chosen.index.tolist())
    sizes = {(height, width) for *_, height, width in shapes}
    if len(sizes) > 1:
        raise PruningBenchError(
            f"concepts need images of one size, got {sorted(sizes)}: give the model's preprocessing a size"
        )
    return CropGrid.of(sizes.pop() if sizes else (1, 1), craft.patch, craft.stride)


@torch.no_grad()
def crop_rows(model: VisionModel, view: View, chosen: Chosen, grid: CropGrid, context: Context) -> Tensor:
    """Return the output of `view` for every crop, enlarged to image size: (P, D) on the model's device.

    If the view returns a grid (B, D, h, w), it is averaged over the cells.
    """
    rows = []
    for batch in model.batches(chosen.samples, max(context.batch_size // len(grid), 1), index=chosen.index.tolist()):
        for crops in torch.split(grid.cut(batch.images), context.batch_size):
            values = view(grid.enlarge(crops)).float()
            rows.append(values.mean(dim=(2, 3)) if values.ndim == 4 else values)
    return torch.cat(rows) if rows else torch.empty(0, 1, device=model.device)


def embed_crops(encoder: VisionModel, model: VisionModel, chosen: Chosen, craft: Craft, context: Context) -> Tensor:
    """Return the embeddings by `encoder` of the crops that `model` receives: (P, E) on the CPU.

    Crops are converted to the size and normalisation that the encoder expects. Grey is repeated for an RGB
    encoder, and colours are averaged for a grey one.
    """
    channels, size = len(encoder.preprocessing.mean), encoder.preprocessing.size

    def view(crops: Tensor) -> Tensor:
        if encoder.preprocessing == model.preprocessing:
            return encoder.embed(crops)
        pixels = model.preprocessing.denormalise(crops) * 255
        if pixels.shape[1] != channels:
            pixels = pixels.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
        if size is not None and pixels.shape[-2:] != (size, size):
            pixels = interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
        return encoder.embed(encoder.preprocessing.normalise(pixels))

    return crop_rows(model, view, chosen, grid_of(model, chosen, craft), context).cpu()


@torch.no_grad()
def find_concepts(
    model: VisionModel, chosen: Chosen, craft: Craft, context: Context, embeddings: Tensor, dense: Concepts | None
) -> Concepts:
    """Find the concepts of a network on the chosen images.

    Args:
        model: the network.
        chosen: the images.
        craft: settings of the method.
        context: provides the batch size.
        embeddings: (P, E) of the crops by the frozen encoder.
        dense: the concepts of the dense model on the same images, or None.

    Raises:
        ViewUnavailableError: if the network has no activations >= 0 to factorise.
        PruningBenchError: for images of several sizes.
    """
    view, head = model.head_split()
    grid = grid_of(model, chosen, craft)
    rows = crop_rows(model, view, chosen, grid, context)
    crop_classes = chosen.labels.repeat_interleave(len(grid))
    parts = []
    for label in chosen.classes:
        class_rows = rows[(crop_classes == label).to(rows.device)]
        directions = _directions(class_rows, craft.concepts)
        importance = torch.full((craft.concepts,), float("nan"), dtype=torch.float64)
        if bool(directions.isfinite().any()):
            images = chosen.index[chosen.labels == label][: craft.judged].tolist()
            batches = model.batches(chosen.samples, context.batch_size, index=images)
            importance = _importance(view, head, (b.images for b in batches), directions, label, craft, context)
        order = importance.nan_to_num(nan=-1.0).argsort(descending=True, stable=True)
        parts.append((directions[order.to(directions.device)], importance[order]))
    directions = torch.cat([d for d, _ in parts])
    return Concepts(
        directions=directions.cpu(),
        classes=torch.tensor(chosen.classes).repeat_interleave(craft.concepts),
        importance=torch.cat([i for _, i in parts]),
        coefficients=torch.cat([_coefficients(rows, d) for d, _ in parts], dim=1).cpu(),
        crop_classes=crop_classes,
        crop_images=chosen.index.repeat_interleave(len(grid)),
        crop_boxes=grid.boxes().repeat(len(chosen.index), 1),
        embeddings=embeddings,
        top=craft.top,
        dense=dense,
    )


def _directions(rows: Tensor, concepts: int) -> Tensor:
    """Factorise the activations (P, D) of a class's crops: (concepts, D) of unit length, NaN if undefined.

    All are undefined if there are fewer crops than concepts, or if the activations are equal in all crops or
    not finite. A single direction is undefined if no crop shows it.
    """
    undefined = rows.new_full((concepts, rows.shape[1]), float("nan"))
    if len(rows) < concepts or not bool(rows.isfinite().all()):
        return undefined
    spread = rows.amax(dim=0) - rows.amin(dim=0)
    if bool((spread <= CONSTANT * rows.amax()).all()):
        return undefined
    if bool((rows < 0).any()):
        raise PruningBenchError("concepts need activations >= 0, but the model's head split gives negative ones")
    coefficients, components = nmf(rows / rows.amax(), concepts)
    active = (coefficients > 0).any(dim=0) & (components > 0).any(dim=1)
    return torch.where(active[:, None], normalize(components, dim=1), undefined)


def _coefficients(rows: Tensor, directions: Tensor) -> Tensor:
    """Return how much of each direction (K, D) is in each row (..., D): (..., K) >= 0, NaN where undefined."""
    undefined = ~rows.isfinite().all(dim=-1, keepdim=True) | ~directions.isfinite().all(dim=1)
    finite = rows.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    weights = nnls(finite.flatten(0, -2), directions.nan_to_num(nan=0.0))
    return weights.view(*rows.shape[:-1], len(directions)).masked_fill(undefined, float("nan"))


def _importance(
    view: View,
    head: View,
    batches: Iterator[Tensor],
    directions: Tensor,
    label: int,
    craft: Craft,
    context: Context,
) -> Tensor:
    """Return the total Sobol index of each direction (K, D) for a class's logit, averaged over images: (K,).

    An image's activations are expressed in terms of the directions in every grid cell. A design point then
    scales each direction by one factor in all cells. Each image has its own scramble, so that the errors of a
    short design average out; the published code uses one design for all. Images on which the logit does not
    change have no index and are left out.
    """
    usable = directions.isfinite().all(dim=1)
    bank = directions[usable]
    importances: list[Tensor] = []
    for images in batches:
        first = sum(map(len, importances))
        designs = [_design(len(bank), craft, first + i) for i in range(len(images))]
        factors = torch.stack(designs).to(bank)  # (B, points, K)
        points = factors.shape[1]
        cells = view(images).movedim(1, -1)  # (B, h, w, D), or (B, D)
        weights = _coefficients(cells.float(), bank)
        values = bank.new_empty(len(images) * points)
        for pairs in torch.split(torch.arange(len(values), device=bank.device), context.batch_size):
            image, point = pairs // points, pairs % points
            scale = factors[image, point].view(-1, *(1,) * (weights.ndim - 2), len(bank))
            values[pairs] = head(((weights[image] * scale) @ bank).movedim(-1, 1))[:, label].float()
        importances.append(jansen_total(values.view(len(images), -1), craft.designs).cpu())
    importance = torch.full((len(directions),), float("nan"), dtype=torch.float64)
    importance[usable.cpu()] = torch.cat(importances).nanmean(dim=0)
    return importance


def _design(dimension: int, craft: Craft, image: int) -> Tensor:
    """Return the design for the class's image at position `image`."""
    seed = image if craft.scramble else 0
    return replicated_design(dimension, craft.designs, sampler=craft.sampler, scramble=craft.scramble, seed=seed)
