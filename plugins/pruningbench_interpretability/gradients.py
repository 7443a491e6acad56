"""Attribution methods based on gradients. Each returns signed attributions (B, C, H, W)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from captum.attr import DeepLift, IntegratedGradients, Saliency
from torch import Tensor

from pruningbench.contract import AttributionSettings, ViewUnavailableError, VisionModel, generator_for
from pruningbench_interpretability.settings import Logits, out_of_place, split, watching

INCOMPLETE = 0.05
"""Largest mean gap between the sum of DeepLift's attributions and its exact value, as a share of the latter."""


def gradient(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Gradient of the target's logit, by captum (Simonyan, Vedaldi and Zisserman, ICLR workshop 2014)."""
    method = Saliency(model.logits)
    parts = [
        method.attribute(watching(x), target=t, abs=False).detach()
        for x, t in split(images, targets, settings.batch_size)
    ]
    return torch.cat(parts)


def integrated_gradients(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Difference from the baseline times the mean gradient on the line between the two, by captum.

    The steps of several images pass through the network together, at most ``batch_size`` at a time.
    Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017.
    """
    method = IntegratedGradients(model.logits)
    together = max(1, settings.batch_size // settings.steps)
    inner = settings.batch_size if settings.steps > settings.batch_size else None
    parts = []
    for x, t in split(images, targets, together):
        attribution = method.attribute(
            x.detach(),
            baselines=settings.baseline.expand_as(x),
            target=t,
            n_steps=settings.steps,
            method=settings.rule,
            internal_batch_size=inner,
        )
        parts.append(attribution.detach().to(images.dtype))
    return torch.cat(parts)


def smoothgrad(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Mean gradient over noisy copies of the image (Smilkov et al., SmoothGrad, ICML workshop 2017)."""
    return _over_noise(gradient, model, images, targets, settings)


def smooth_integrated_gradients(
    model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
) -> Tensor:
    """Mean integrated gradients over noisy copies of the image, as in captum's SmoothGrad noise tunnel.

    Own implementation, like `smoothgrad`, because captum draws new noise for every batch.
    """
    return _over_noise(integrated_gradients, model, images, targets, settings)


def gradient_shap(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Expected gradients between the baseline and noisy copies of the image.

    Mean of (x' - b) times the gradient at a random point between the baseline b and the noisy copy x'. Own
    implementation, like `smoothgrad`; equal to captum's for the same draws. Source: Lundberg and Lee, A Unified
    Approach to Interpreting Model Predictions, NIPS 2017.
    """
    draw = generator_for(settings.seed, "gradient-shap")
    total = torch.zeros_like(images)
    for _ in range(settings.samples):
        noise = torch.randn(images.shape[1:], generator=draw).to(images) * settings.noise
        way = images + noise - settings.baseline
        share = torch.rand((), generator=draw).to(images)
        total += way * gradient(model, settings.baseline + share * way, targets, settings)
    return total / settings.samples


def deep_lift(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Difference from the baseline times DeepLift's multipliers, by captum; for ReLU CNNs only.

    Source: Shrikumar, Greenside and Kundaje, Learning Important Features Through Propagating Activation
    Differences, ICML 2017.

    Raises:
        ViewUnavailableError: for a network with attention, and for any other whose attributions do not
            sum to the difference of the logits, because DeepLift has no rule for its layers.
    """
    name = type(model.network).__name__
    if any("attention" in type(module).__name__.lower() for module in model.network.modules()):
        raise ViewUnavailableError(f"deeplift has no rule for the attention of {name}: use it on CNNs only")
    method = DeepLift(Logits(model))
    parts, gap, size = [], 0.0, 0.0
    with out_of_place(model.network), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about hooks, which captum removes again
        for x, t in split(images, targets, settings.batch_size // 2):
            start = settings.baseline.expand_as(x).contiguous()
            attribution = method.attribute(watching(x), baselines=start, target=t).detach()
            with torch.no_grad():
                rise = (model.logits(x) - model.logits(start)).gather(1, t[:, None])[:, 0]
            missing = attribution.sum(dim=(1, 2, 3)) - rise
            gap += float(missing.abs().nan_to_num().sum())
            size += float(rise.abs().nan_to_num().sum())
            parts.append(attribution)
    if gap > INCOMPLETE * size + 1e-4 * len(images):
        raise ViewUnavailableError(
            f"deeplift's attributions differ from the logit difference of {name} by {gap / max(size, 1e-12):.0%}: "
            "some of its layers have no rule; use it on ReLU CNNs only"
        )
    return torch.cat(parts)


def _over_noise(
    method: Callable[[VisionModel, Tensor, Tensor, AttributionSettings], Tensor],
    model: VisionModel,
    images: Tensor,
    targets: Tensor,
    settings: AttributionSettings,
) -> Tensor:
    """Average a method over noisy copies; the noise is the same for every image."""
    draw = generator_for(settings.seed, "smoothgrad")
    total = torch.zeros_like(images)
    for _ in range(settings.samples):
        noise = torch.randn(images.shape[1:], generator=draw).to(images) * settings.noise
        total += method(model, images + noise, targets, settings)
    return total / settings.samples
