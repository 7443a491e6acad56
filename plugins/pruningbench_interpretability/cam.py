"""Grad-CAM on CNNs and transformers, and its product with guided backpropagation."""

from __future__ import annotations

import warnings

import torch
from captum.attr import GuidedBackprop
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pruningbench.contract import AttributionSettings, Grid, ViewUnavailableError, VisionModel
from pruningbench_interpretability.settings import Logits, at_target, out_of_place, split, watching


def grad_cam(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Return ReLU(sum_c mean gradient_c * activation_c) of the last activation with a grid, (B, H, W) >= 0.

    The grid (``VisionModel.activation_module``: a CNN's last stage, the input of a transformer's last
    attention) is interpolated bilinearly to the image size, with cell centres aligned. It is not captum's
    implementation, which averages gradients over the wrong axis of a transformer's tokens; on CNNs the two agree.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    where = model.activation_module()  # once: networks find it by a forward pass
    maps = [
        interpolate(_cells(model, where, x, t)[:, None], x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        for x, t in split(images, targets, settings.batch_size)
    ]
    return torch.cat(maps)


def guided_grad_cam(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Return guided backpropagation times Grad-CAM, (B, C, H, W) signed; captum computes the former.

    Source: Springenberg et al., Striving for Simplicity, ICLR workshop 2015, and Selvaraju et al.

    Raises:
        ViewUnavailableError: for a network without ReLU modules, which leaves nothing to guide.
    """
    if not any(isinstance(module, nn.ReLU) for module in model.network.modules()):
        raise ViewUnavailableError(
            f"guided-grad-cam needs ReLUs, but {type(model.network).__name__} has none: use grad-cam"
        )
    method = GuidedBackprop(Logits(model))
    parts = []
    with out_of_place(model.network), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about hooks, which captum removes again
        for x, t in split(images, targets, settings.batch_size):
            parts.append(method.attribute(watching(x), target=t).detach())
    return torch.cat(parts) * grad_cam(model, images, targets, settings)[:, None]


def _cells(model: VisionModel, where: tuple[nn.Module, Grid], images: Tensor, targets: Tensor) -> Tensor:
    """Return Grad-CAM on the activation grid, (B, h, w); `where` is the model's ``activation_module``."""
    module, grid = where
    caught: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        with torch.enable_grad(), out_of_place(model.network):
            logits = model.logits(watching(images))
            (gradient,) = torch.autograd.grad(at_target(logits, targets), caught[-1])
    finally:
        handle.remove()
    activation, slope = grid(caught[-1].detach(), images), grid(gradient, images)
    return (activation * slope.mean(dim=(2, 3), keepdim=True)).sum(dim=1).relu()
