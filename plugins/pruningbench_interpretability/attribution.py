"""The attribution methods as components; `gradients`, `cam`, `masking` and `attention` hold the computations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import AttributionMethod, Pooling

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract import AttributionSettings, VisionModel


@dataclass(frozen=True)
class VanillaGradients(AttributionMethod):
    """Gradient of the class's logit with respect to the image.

    Source: Simonyan et al., Deep inside convolutional networks, 2013.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the gradients, (N, C, H, W)."""
        from pruningbench_interpretability.gradients import gradient

        return gradient(model, images, targets, settings)


@dataclass(frozen=True)
class Saliency(VanillaGradients):
    """Largest absolute gradient over the channels, regardless of the task's pooling.

    Source: Simonyan et al., Deep inside convolutional networks, 2013, section 3.1.
    """

    pooling: ClassVar[Pooling | None] = "max"


@dataclass(frozen=True)
class IntegratedGradients(AttributionMethod):
    """Integral of the gradient from the baseline to the image, times the difference between the two.

    Source: Sundararajan et al., Axiomatic attribution for deep networks, 2017, equation 1.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the integrals, (N, C, H, W)."""
        from pruningbench_interpretability.gradients import integrated_gradients

        return integrated_gradients(model, images, targets, settings)


@dataclass(frozen=True)
class SmoothGrad(AttributionMethod):
    """Mean gradient over noisy copies of the image.

    Source: Smilkov et al., SmoothGrad: removing noise by adding noise, 2017.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the mean gradients, (N, C, H, W)."""
        from pruningbench_interpretability.gradients import smoothgrad

        return smoothgrad(model, images, targets, settings)


@dataclass(frozen=True)
class SmoothIntegratedGradients(AttributionMethod):
    """Mean of integrated gradients over noisy copies of the image.

    Sources: Sundararajan et al., 2017; Smilkov et al., 2017.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the mean integrals, (N, C, H, W)."""
        from pruningbench_interpretability.gradients import smooth_integrated_gradients

        return smooth_integrated_gradients(model, images, targets, settings)


@dataclass(frozen=True)
class GradCam(AttributionMethod):
    """Activations of the last spatial layer, weighted by their mean gradients.

    Source: Selvaraju et al., Grad-CAM, 2017, equations 1 and 2.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the maps at the image's size, (N, H, W) >= 0."""
        from pruningbench_interpretability.cam import grad_cam

        return grad_cam(model, images, targets, settings)


@dataclass(frozen=True)
class GuidedGradCam(AttributionMethod):
    """Guided backpropagation times Grad-CAM, for networks with ReLU.

    Source: Selvaraju et al., Grad-CAM, 2017, section 3.2.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the products, (N, C, H, W)."""
        from pruningbench_interpretability.cam import guided_grad_cam

        return guided_grad_cam(model, images, targets, settings)


@dataclass(frozen=True)
class GradientShap(AttributionMethod):
    """Mean gradient at random points between the baseline and noisy image copies, times the difference of the two.

    Source: Lundberg and Lee, A unified approach to interpreting model predictions, 2017, as implemented by captum.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the attributions, (N, C, H, W)."""
        from pruningbench_interpretability.gradients import gradient_shap

        return gradient_shap(model, images, targets, settings)


@dataclass(frozen=True)
class DeepLift(AttributionMethod):
    """Differences from the baseline, propagated back by the rescale rule.

    Source: Shrikumar et al., Learning important features through propagating activation differences, 2017.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the attributions, (N, C, H, W)."""
        from pruningbench_interpretability.gradients import deep_lift

        return deep_lift(model, images, targets, settings)


@dataclass(frozen=True)
class Occlusion(AttributionMethod):
    """Drop of the logit when the baseline covers a square of the image.

    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014, section 4.2.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the drops."""
        from pruningbench_interpretability.masking import occlusion

        return occlusion(model, images, targets, settings)


@dataclass(frozen=True)
class Rise(AttributionMethod):
    """Mean of random masks, weighted by the class's probability under each.

    Source: Petsiuk et al., RISE, 2018, equation 6.
    """

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the maps, (N, H, W)."""
        from pruningbench_interpretability.masking import rise

        return rise(model, images, targets, settings)


@dataclass(frozen=True)
class AttentionRollout(AttributionMethod):
    """Attention of the class token to the patches, multiplied through all blocks; for transformers.

    Source: Abnar and Zuidema, Quantifying attention flow in transformers, 2020, section 3.
    """

    needs_classes = False

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the maps, (N, H, W)."""
        from pruningbench_interpretability.attention import attention_rollout_maps

        return attention_rollout_maps(model, images, targets, settings)


@dataclass(frozen=True)
class LastAttention(AttributionMethod):
    """Attention of the class token to the patches in the last block, averaged over heads; for transformers.

    Source: Caron et al., Emerging properties in self-supervised vision transformers, 2021, figure 1.
    """

    needs_classes = False

    def attributions(
        self, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings
    ) -> Tensor:
        """Return the maps, (N, H, W)."""
        from pruningbench_interpretability.attention import last_attention_maps

        return last_attention_maps(model, images, targets, settings)
