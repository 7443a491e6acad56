"""Attribution methods, by name: from a model and images to the relevance of every pixel.

A method is a function (model, images, targets, settings) -> (B, C, H, W) signed attributions, or (B, H, W)
maps; add one to `METHODS` and to the task's field ``methods``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pruningbench.contract import VisionModel
from pruningbench_interpretability.attention import attention_rollout_maps, last_attention_maps
from pruningbench_interpretability.cam import grad_cam, guided_grad_cam
from pruningbench_interpretability.gradients import (
    deep_lift,
    gradient,
    gradient_shap,
    integrated_gradients,
    smooth_integrated_gradients,
    smoothgrad,
)
from pruningbench_interpretability.masking import occlusion, rise
from pruningbench_interpretability.settings import Settings

Pooling = Literal["l1", "l2-squared", "max", "sum", "positive"]
Function = Callable[[VisionModel, Tensor, Tensor, Settings], Tensor]


@dataclass(frozen=True)
class Method:
    """An attribution method.

    Attributes:
        function: gives the attributions; methods that share it share its result.
        pooling: over channels, where the method's definition says it; None leaves it to the user.
    """

    function: Function
    pooling: Pooling | None = None


METHODS: dict[str, Method] = {
    "saliency": Method(gradient, "max"),
    "vanilla-gradients": Method(gradient),
    "integrated-gradients": Method(integrated_gradients),
    "smoothgrad": Method(smoothgrad),
    "smooth-integrated-gradients": Method(smooth_integrated_gradients),
    "grad-cam": Method(grad_cam),
    "guided-grad-cam": Method(guided_grad_cam),
    "gradient-shap": Method(gradient_shap),
    "deeplift": Method(deep_lift),
    "occlusion": Method(occlusion),
    "rise": Method(rise),
    "attention-rollout": Method(attention_rollout_maps),
    "last-attention": Method(last_attention_maps),
}


def attribute(name: str, model: VisionModel, images: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """Return the attributions of one method.

    Args:
        name: a key of `METHODS`.
        model: the network to explain.
        images: (N, C, H, W) normalised images.
        targets: (N,) int64 explained classes.
        settings: of the method.

    Returns:
        (N, C, H, W) float of both signs, or (N, H, W); NaN where the network's gradients are, and for a
        target that is no class of the model.

    Raises:
        ViewUnavailableError: for a network whose architecture the method does not allow.
    """
    if not len(images):
        return images.new_empty(0, *images.shape[-2:])
    with torch.no_grad():
        classes = model.logits(images[:1]).shape[1]
    known = (targets >= 0) & (targets < classes)
    attributions = METHODS[name].function(model, images, targets.where(known, 0), settings).detach()
    if bool(known.all()):
        return attributions
    return torch.where(known.view(-1, *(1,) * (attributions.ndim - 1)), attributions, torch.nan)


def pool(attributions: Tensor, pooling: Pooling) -> Tensor:
    """Pool (B, C, H, W) attributions over channels to (B, H, W); maps (B, H, W) stay as they are.

    ``l1`` sums absolute values, ``l2-squared`` sums squares, ``max`` takes the largest absolute value,
    ``sum`` adds the channels (signed), and ``positive`` is what of that sum is above zero.
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
