"""The views of timm networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pruningbench.components import VisionModel
from pruningbench.errors import ViewUnavailableError


class TimmVisionModel(VisionModel):
    """A timm ResNet-like network or vision transformer with its four views.

    Networks are told apart by their parts: one with ``blocks``, ``patch_embed`` and
    ``num_prefix_tokens`` is a vision transformer, one whose ``forward_features`` gives (B, C, h, w) a CNN.
    All views keep gradients; wrap calls in ``torch.no_grad()`` where none are needed.
    """

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D): what the classifier sees."""
        network: Any = self.network
        features: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
        return features.flatten(1)

    def patch_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D, h, w): last-block keys of a ViT, last stage of a CNN.

        Keys are those the attention uses: all heads side by side, after the key norm where there is one,
        without class and register tokens.

        Raises:
            ViewUnavailableError: for a transformer without a fused query-key-value projection, an image
                whose sides its patches do not divide, and a network that keeps no grid.
        """
        if is_transformer(self.network):
            return _last_keys(self.network, images)
        return self._last_stage(images)

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return images -> (B, C, h, w) activations >= 0 of the last stage, and activations -> logits.

        Raises:
            ViewUnavailableError: for a vision transformer, whose tokens have both signs (at once), and
                for a CNN whose last stage does not end in a ReLU (when called).
        """
        if is_transformer(self.network):
            raise ViewUnavailableError(
                f"{type(self.network).__name__} has no split into activations >= 0 and head: "
                "tokens of a vision transformer have both signs"
            )
        network: Any = self.network

        def activations(images: Tensor) -> Tensor:
            stage = self._last_stage(images)
            if bool((stage < 0).any()):
                raise ViewUnavailableError(
                    f"{type(network).__name__} has no split into activations >= 0 and head: "
                    "its last stage has negative values"
                )
            return stage

        def logits(stage: Tensor) -> Tensor:
            classified: Tensor = network.forward_head(stage)
            return classified

        return activations, logits

    def _last_stage(self, images: Tensor) -> Tensor:
        network: Any = self.network
        stage: Tensor = network.forward_features(images)
        if stage.ndim != 4 or stage.shape[1] != network.num_features:
            raise ViewUnavailableError(
                f"{type(network).__name__} keeps no (B, C, h, w) grid of features: got {tuple(stage.shape)}"
            )
        return stage


def is_transformer(network: nn.Module) -> bool:
    """Whether `network` is one of timm's vision transformers with prefix and patch tokens."""
    return all(hasattr(network, part) for part in ("blocks", "patch_embed", "num_prefix_tokens"))


def classifier_names(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters of a timm network's classifier."""
    asked: Any = network
    inside = {id(parameter) for parameter in asked.get_classifier().parameters()}
    return tuple(name for name, parameter in network.named_parameters() if id(parameter) in inside)


def _last_keys(network: Any, images: Tensor) -> Tensor:
    attention = network.blocks[-1].attn
    if not isinstance(getattr(attention, "qkv", None), nn.Linear):
        raise ViewUnavailableError(
            f"{type(network).__name__} has no fused query-key-value projection to take the keys from"
        )
    patch = network.patch_embed.patch_size
    sides = tuple(images.shape[-2:])
    if any(side % p for side, p in zip(sides, patch, strict=True)):
        raise ViewUnavailableError(
            f"patch features of {type(network).__name__} need sides divisible by {patch}, got {sides}"
        )
    caught: list[Tensor] = []
    handle = attention.qkv.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        network.forward_features(images)
    finally:
        handle.remove()
    (fused,) = caught
    batch, tokens = fused.shape[:2]
    keys = fused.reshape(batch, tokens, 3, attention.num_heads, -1)[:, :, 1]
    keys = attention.k_norm(keys)[:, network.num_prefix_tokens :].flatten(2)
    grid = [side // p for side, p in zip(sides, patch, strict=True)]
    patches: Tensor = keys.transpose(1, 2).reshape(batch, -1, *grid)
    return patches
