"""Views of timm networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pruningbench.contract import Facet, Grid, ViewUnavailableError, VisionModel
from pruningbench_timm import tokens


class TimmVisionModel(VisionModel):
    """A timm network with its views: a vision transformer, or one that ends in a grid of features.

    The attributes of a network decide its type: one with ``blocks``, ``patch_embed`` and
    ``num_prefix_tokens`` is a vision transformer (ViT, DeiT, EVA); in any other, ``forward_features`` has to
    return a grid (ResNet, ConvNeXt, EfficientNet, Swin). All views keep gradients; wrap calls in
    ``torch.no_grad()`` if you need none.
    """

    @property
    def has_classifier(self) -> bool:
        """False for a network of timm without one (``num_classes`` is 0), as DINO's; its outputs are features."""
        return getattr(self.network, "num_classes", None) != 0

    @property
    def prefix_tokens(self) -> int:
        """Tokens before a vision transformer's patches: class, distillation, registers; 0 for others."""
        network: Any = self.network
        return int(network.num_prefix_tokens) if tokens.is_transformer(network) else 0

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D): the input of the classifier.

        With a distillation token (DeiT) it is the mean of the class and distillation tokens.
        """
        network: Any = self.network
        features: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
        return features.flatten(1)

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """(B, C, H, W) normalised images -> (B, D, h, w): last-block keys of a ViT, last stage of others.

        Keys are those that the attention uses: all heads concatenated, after the key norm if there is one,
        without class and register tokens. See `VisionModel.patch_features` for the other facets.

        Raises:
            ViewUnavailableError: for a transformer without a fused query-key-value projection, images whose
                sides are not divisible by its patch size, a network that keeps no grid, and queries or values
                of a network that is not a vision transformer.
        """
        if tokens.is_transformer(self.network):
            return tokens.last_block(self.network, images, facet)
        if facet in ("queries", "values"):
            raise ViewUnavailableError(f"{type(self.network).__name__} has no {facet}: it is not a vision transformer")
        return self._last_stage(images)

    def attentions(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (L, B, heads, N, N) attention of all L blocks of a transformer.

        Raises:
            ViewUnavailableError: for a network that is not a vision transformer, or whose blocks do not
                attend over all tokens (Swin attends within windows).
        """
        if not tokens.is_transformer(self.network):
            return super().attentions(images)
        return tokens.attentions(self.network, images)

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the module of the last stage, or the norm before a ViT's last attention, and its grid.

        After its last attention, a ViT that classifies by its class token no longer uses the patches, so the input
        of that attention is the last place where they matter.

        Raises:
            ViewUnavailableError: for a transformer that does not normalise before its attention, and for
                a network that keeps no grid.
        """
        network: Any = self.network
        if tokens.is_transformer(network):
            norm = getattr(network.blocks[-1], "norm1", None)
            if norm is None or type(network.blocks[-1]).__name__.startswith("ResPost"):
                raise self._lacks("activation")
            return norm, lambda output, images: tokens.to_grid(network, output, images)
        return self._last_module(), lambda output, _images: self._channels_first(output)

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return images -> (B, C, h, w) activations >= 0 of the last stage, and activations -> logits.

        Raises:
            ViewUnavailableError: immediately for a vision transformer, whose tokens have both signs, and for a
                network whose last stage is not (B, C, h, w); when called, for a network whose last stage does
                not end in a ReLU.
        """
        network: Any = self.network
        lacks = f"{type(network).__name__} has no split into activations >= 0 and head: "
        if tokens.is_transformer(network) or _channels_last(network):
            raise ViewUnavailableError(f"{lacks}tokens of a vision transformer have both signs")

        def activations(images: Tensor) -> Tensor:
            stage = self._last_stage(images)
            if bool((stage < 0).any()):
                raise ViewUnavailableError(f"{lacks}its last stage has negative values")
            return stage

        def logits(stage: Tensor) -> Tensor:
            classified: Tensor = network.forward_head(stage)
            return classified

        return activations, logits

    def _last_stage(self, images: Tensor) -> Tensor:
        network: Any = self.network
        stage: Tensor = network.forward_features(images)
        if stage.ndim != 4 or self._channels_first(stage).shape[1] != network.num_features:
            raise ViewUnavailableError(
                f"{type(network).__name__} gives no (B, C, h, w) grid of features, but {tuple(stage.shape)}"
            )
        return self._channels_first(stage)

    def _channels_first(self, stage: Tensor) -> Tensor:
        return stage.permute(0, 3, 1, 2) if _channels_last(self.network) else stage

    def _last_module(self) -> nn.Module:
        """Return the outermost module whose output `forward_features` returns, found by one pass."""
        import torch

        outputs: list[tuple[nn.Module, Any]] = []
        handles = [
            module.register_forward_hook(lambda module, _inputs, output: outputs.append((module, output)))
            for module in self.network.modules()
        ]
        network: Any = self.network
        parameter = next(network.parameters())
        side = self.preprocessing.size or 224
        probe = parameter.new_zeros(1, len(self.preprocessing.mean), side, side)
        try:
            with torch.no_grad():
                stage = network.forward_features(probe)
        finally:
            for handle in handles:
                handle.remove()
        if stage.ndim != 4:
            raise self._lacks("activation")
        found = [module for module, output in outputs if output is stage]
        if not found:
            raise self._lacks("activation")
        return found[-1]  # a containing module returns after the modules inside it


def _channels_last(network: nn.Module) -> bool:
    """Whether a timm network declares its features as (B, h, w, C), as Swin does."""
    declared = getattr(network, "output_fmt", None)
    return getattr(declared, "value", declared) == "NHWC"


def is_transformer(network: nn.Module) -> bool:
    """Whether `network` is one of timm's vision transformers with prefix and patch tokens."""
    return tokens.is_transformer(network)


def classifier_names(network: nn.Module) -> tuple[str, ...]:
    """Return the parameter names of a timm network's classifier, or of both if it has two (DeiT)."""
    asked: Any = network
    classifiers = asked.get_classifier()
    several = classifiers if isinstance(classifiers, tuple) else (classifiers,)
    inside = {id(parameter) for classifier in several for parameter in classifier.parameters()}
    return tuple(name for name, parameter in network.named_parameters() if id(parameter) in inside)
