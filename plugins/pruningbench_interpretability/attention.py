"""Attribution by attention: rollout over all blocks, and the last block alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pruningbench.contract import AttributionSettings, ViewUnavailableError, VisionModel

MOST_BYTES = 1 << 28
"""Attention matrices held in memory at a time; those of one image are always held together."""


def attention_rollout(attentions: Tensor) -> Tensor:
    """Return how much each token contributes to the class token after all blocks.

    This is the product over the blocks (the last on the left) of (A + I) with each row divided by its sum, where A is
    the attention averaged over the heads. The result is the class token's row without its own column.

    Source: Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section 3.

    Args:
        attentions: (L, B, H, N, N) attention of L blocks and H heads; token 0 is the class token.

    Returns:
        (B, N - 1) >= 0, in token order.
    """
    return rollout(attentions)[:, 0, 1:]


def rollout(attentions: Tensor) -> Tensor:
    """Return the (B, N, N) product of all blocks' attention with residual connections; rows sum to 1."""
    tokens = attentions.shape[-1]
    identity = torch.eye(tokens, dtype=attentions.dtype, device=attentions.device)
    product = identity.expand(attentions.shape[1], -1, -1)
    for block in attentions:
        mixed = block.mean(dim=1) + identity
        product = (mixed / mixed.sum(dim=-1, keepdim=True)) @ product
    return product


def attention_rollout_maps(
    model: VisionModel, images: Tensor, _targets: Tensor, settings: AttributionSettings
) -> Tensor:
    """Return the rollout from the class token to the patches, (B, H, W) >= 0; it does not depend on the target.

    Without a class token it is the mean over all patches.
    """
    return _maps(model, images, settings, rollout)


def last_attention_maps(model: VisionModel, images: Tensor, _targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Return the class token's attention to the patches in the last block, (B, H, W) >= 0, averaged over heads.

    It does not depend on the target. Without a class token it is the mean over all patches. Source: Caron
    et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021.
    """
    return _maps(model, images, settings, lambda attentions: attentions[-1].mean(dim=1))


@torch.no_grad()
def _maps(
    model: VisionModel, images: Tensor, settings: AttributionSettings, flow: Callable[[Tensor], Tensor]
) -> Tensor:
    parts: list[Tensor] = []
    together, start = 1, 0
    while start < len(images):
        chunk = images[start : start + together]
        attentions = model.attentions(chunk)
        flows = flow(attentions)
        prefix = model.prefix_tokens
        patches = flows[:, 0, prefix:] if prefix else flows.mean(dim=1)
        height, width = chunk.shape[-2:]
        rows, columns = _grid(patches.shape[1], height, width, type(model.network).__name__)
        grid = patches.reshape(len(chunk), 1, rows, columns)
        parts.append(interpolate(grid, (height, width), mode="bilinear", align_corners=False)[:, 0])
        start += len(chunk)
        bytes_per_image = attentions.numel() * attentions.element_size() // len(chunk)
        together = max(1, min(settings.batch_size, MOST_BYTES // bytes_per_image))
    return torch.cat(parts)


def _grid(patches: int, height: int, width: int, name: str) -> tuple[int, int]:
    """Return the numbers of rows and columns of square patches that tile an image."""
    rows = round((patches * height / width) ** 0.5)
    if rows < 1 or patches % rows or height * (patches // rows) != width * rows:
        raise ViewUnavailableError(f"{patches} patches of {name} do not form a grid on an image of {height} x {width}")
    return rows, patches // rows
