"""Rank correlations: of maps with people's maps, and of similarities with people's judgements."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pruningbench.contract import VisionModel
from pruningbench.contract.statistics import Floats

UNKNOWN = float("inf")
"""Entry in `similarity_rows` for an unknown pair. It is not NaN, which would drop the whole row."""

Kind = Literal["pearson", "cosine"]


def ranks(values: Tensor) -> Tensor:
    """Return the ranks of each row's values (N, P), in float64 from 1; equal values share their mean rank."""
    ordered, order = values.sort(dim=1, stable=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    run = starts.cumsum(dim=1) - 1
    place = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device).expand(values.shape)
    zeros = torch.zeros_like(place)
    total = zeros.scatter_add(1, run, place)
    count = zeros.scatter_add(1, run, torch.ones_like(place))
    mean = (total / count.clamp_min(1)).gather(1, run)
    return torch.empty_like(mean).scatter_(1, order, mean)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return the rank correlation of each row of `a` with the same row of `b`.

    Args:
        a: (N, P) float.
        b: (N, P) float.

    Returns:
        (N,) float64 in [-1, 1]; NaN where a row contains a NaN or all its values are equal.
    """
    centred = [ranks(x) - (x.shape[1] + 1) / 2 for x in (a, b)]
    shared = (centred[0] * centred[1]).sum(dim=1)
    length = (centred[0].square().sum(dim=1) * centred[1].square().sum(dim=1)).sqrt()
    undefined = a.isnan().any(dim=1) | b.isnan().any(dim=1) | (length == 0)
    return (shared / length).masked_fill(undefined, float("nan"))


def similarity_matrix(embeddings: Tensor, kind: Kind) -> Tensor:
    """Return the pairwise similarities of embeddings (N, D): (N, N) float64; NaN for those without a direction."""
    exact = embeddings.double()
    if kind == "pearson":
        exact = exact - exact.mean(dim=1, keepdim=True)
    length: Tensor = exact.norm(dim=1, keepdim=True)
    return (exact / length) @ (exact / length).T


def similarity_rows(model: Tensor, human: Tensor) -> Tensor:
    """Return (N, 1 + 2 N) float64 rows, one per image, as input to `row_correlation`.

    A row holds the image's position and its similarities to all others, by the model and by people. Entries are
    `UNKNOWN` for pairs that were not judged and for images without an embedding; the latter's own rows are NaN.
    """
    n = len(model)
    undefined = model.isnan().all(dim=1)
    pairs = [torch.where(x.isnan(), UNKNOWN, x.double()) for x in (model.cpu(), human.cpu())]
    rows = torch.cat([torch.arange(n, dtype=torch.float64)[:, None], *pairs], dim=1)
    return rows.masked_fill(undefined.cpu()[:, None], float("nan"))


def row_correlation(rows: Floats) -> float:
    """Return the rank correlation of model and people over the pairs of distinct images among `rows`.

    An image that occurs more than once, as in a bootstrap resample, counts that often, but never forms a
    pair with itself. NaN for fewer than two known pairs, or if all are equal.
    """
    n = (rows.shape[1] - 1) // 2
    image = rows[:, 0].astype(np.int64)
    first, second = np.triu_indices(len(rows), 1)
    distinct = image[first] != image[second]
    first, second = first[distinct], image[second[distinct]]
    model, human = rows[first, 1 + second], rows[first, 1 + n + second]
    defined = np.isfinite(model) & np.isfinite(human)
    if defined.sum() < 2:
        return float("nan")
    return float(spearman(torch.from_numpy(model[defined])[None], torch.from_numpy(human[defined])[None])[0])


def gradient_maps(model: VisionModel, images: Tensor, targets: Tensor) -> Tensor:
    """Return each pixel's effect on a class's logit: (B, H, W), the largest absolute gradient over channels.

    Source: Simonyan et al., Deep inside convolutional networks (2013).

    Args:
        model: the model.
        images: (B, C, H, W) normalised images.
        targets: (B,) int64 classes; -1 = the predicted one.
    """
    inputs = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = model.logits(inputs)
        chosen = torch.where(targets.to(logits.device) >= 0, targets.to(logits.device), logits.argmax(dim=1))
        (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), inputs)
    return gradient.abs().amax(dim=1)
