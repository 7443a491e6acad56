"""Attributions of a model's images by any method, and their pooling over channels."""

from __future__ import annotations

import torch
from torch import Tensor

from pruningbench.contract import AttributionMethod, AttributionSettings, Pooling, VisionModel


def attribute(
    method: AttributionMethod, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
) -> Tensor:
    """Return the attributions of one method.

    Args:
        method: computes the attributions.
        model: the network to explain.
        images: (N, C, H, W) normalised images.
        targets: (N,) int64 explained classes.
        settings: settings of the method.

    Returns:
        (N, C, H, W) float of both signs, or (N, H, W); NaN where the network's gradients are NaN, and for a
        target that is not a class of the model.

    Raises:
        ViewUnavailableError: for a network whose architecture the method does not support.
    """
    if not len(images):
        return images.new_empty(0, *images.shape[-2:])
    with torch.no_grad():
        classes = model.logits(images[:1]).shape[1]
    valid = (targets >= 0) & (targets < classes)
    attributions = method.attributions(model, images, targets.where(valid, 0), settings).detach()
    if bool(valid.all()):
        return attributions
    return torch.where(valid.view(-1, *(1,) * (attributions.ndim - 1)), attributions, torch.nan)


def pool(attributions: Tensor, pooling: Pooling) -> Tensor:
    """Pool (B, C, H, W) attributions over channels to (B, H, W); maps (B, H, W) are returned unchanged.

    ``l1`` sums absolute values, ``l2-squared`` sums squares, ``max`` takes the largest absolute value,
    ``sum`` adds the channels (signed), and ``positive`` is the positive part of that sum.
    """
    if attributions.ndim == 3:
        return attributions
    if pooling == "l1":
        return attributions.abs().sum(dim=1)
    if pooling == "l2-squared":
        return attributions.square().sum(dim=1)
    if pooling == "max":
        return attributions.abs().amax(dim=1)
    total = attributions.sum(dim=1)
    return total if pooling == "sum" else total.relu()
