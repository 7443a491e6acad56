"""Features of a vision transformer: facets of the last block, and the attention of all blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from pruningbench.contract import Facet, ViewUnavailableError

PROJECTIONS: dict[Facet, int] = {"queries": 0, "keys": 1, "values": 2}
"""Positions of the three projections in timm's fused projection."""


def is_transformer(network: nn.Module) -> bool:
    """Whether `network` is one of timm's vision transformers with prefix and patch tokens."""
    return all(hasattr(network, part) for part in ("blocks", "patch_embed", "num_prefix_tokens"))


def last_block(network: nn.Module, images: Tensor, facet: Facet) -> Tensor:
    """Return (B, D, h, w) keys, queries, values or output tokens of the last block's patches.

    Keys, queries and values are those of all heads, concatenated, after the key and query norms (if any), before
    rotary embeddings, and without class and register tokens.

    Raises:
        ViewUnavailableError: for a network without a fused query-key-value projection (not needed for
            ``tokens``), or images whose sides are not divisible by the patch size.
    """
    transformer: Any = network
    check_sides(network, images)
    block = transformer.blocks[-1]
    if facet == "tokens":
        with watched(block, lambda _inputs, output: output) as caught:
            transformer.forward_features(images)
        return to_grid(network, caught[0], images)
    attention = getattr(block, "attn", None)
    qkv = getattr(attention, "qkv", None)
    caught = []
    if isinstance(qkv, nn.Linear):
        with watched(qkv, lambda _inputs, output: output) as caught:
            transformer.forward_features(images)
    heads = getattr(attention, "num_heads", 0)
    if not caught or not heads or caught[0].shape[-1] % (3 * heads):
        raise ViewUnavailableError(
            f"{type(network).__name__} has no fused query-key-value projection to take the {facet} from"
        )
    batch, tokens = caught[0].shape[:2]
    chosen = caught[0].reshape(batch, tokens, 3, heads, -1)[:, :, PROJECTIONS[facet]]
    norm = getattr(attention, {"queries": "q_norm", "keys": "k_norm"}.get(facet, ""), None)
    return to_grid(network, (chosen if norm is None else norm(chosen)).flatten(2), images)


def attentions(network: nn.Module, images: Tensor) -> Tensor:
    """Return the (L, B, heads, N, N) attention of all blocks, as `VisionModel.attentions` describes it.

    The blocks compute it themselves: their fused attention is switched off for one pass, which changes results
    only by rounding, and the input of the dropout after the softmax is kept.

    Raises:
        ViewUnavailableError: for blocks that do not attend over all tokens with a softmax.
    """
    transformer: Any = network
    check_sides(network, images)
    layers: list[list[Tensor]] = []
    with ExitStack() as stack:
        for block in transformer.blocks:
            attention = getattr(block, "attn", block)
            dropout = getattr(attention, "attn_drop", None)
            if not isinstance(dropout, nn.Module):
                raise ViewUnavailableError(f"{type(network).__name__} has blocks without attention to read")
            stack.enter_context(_unfused(attention))
            layers.append(stack.enter_context(watched(dropout, lambda inputs, _output: inputs[0])))
        transformer.forward_features(images)
    height, width = grid_of(network, images)
    tokens = height * width + transformer.num_prefix_tokens
    if any(len(layer) != 1 or layer[0].shape[2:] != (tokens, tokens) for layer in layers):
        raise ViewUnavailableError(
            f"{type(network).__name__} has blocks that do not attend from all {tokens} tokens to all"
        )
    import torch

    return torch.stack([layer[0] for layer in layers])


def to_grid(network: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
    """Drop prefix tokens and arrange the others in a grid: (B, N, D) -> (B, D, h, w).

    Raises:
        ViewUnavailableError: if the tokens are not the prefix plus one for each patch of `images`.
    """
    transformer: Any = network
    height, width = grid_of(network, images)
    patches = tokens[:, transformer.num_prefix_tokens :]
    if patches.shape[1] != height * width:
        raise ViewUnavailableError(
            f"{type(network).__name__} has no grid of patches: {tokens.shape[1]} tokens for {height} x {width} cells"
        )
    grid: Tensor = patches.transpose(1, 2).reshape(len(tokens), -1, height, width)
    return grid


def grid_of(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Return the numbers of rows and columns of patches into which a transformer splits `images`."""
    patch = patch_size(network)
    return images.shape[-2] // patch[0], images.shape[-1] // patch[1]


def patch_size(network: nn.Module) -> tuple[int, int]:
    """Return height and width of a transformer's patches in pixels."""
    embed: Any = network.patch_embed
    sides = embed.feat_ratio(as_scalar=False) if hasattr(embed, "feat_ratio") else embed.patch_size
    return (sides, sides) if isinstance(sides, int) else (int(sides[0]), int(sides[1]))


def check_sides(network: nn.Module, images: Tensor) -> None:
    """Raise ViewUnavailableError unless the sides of `images` are divisible by the patch size."""
    patch, sides = patch_size(network), tuple(images.shape[-2:])
    if any(side % p for side, p in zip(sides, patch, strict=True)):
        raise ViewUnavailableError(
            f"patch features of {type(network).__name__} need sides divisible by {patch}, got {sides}"
        )


@contextmanager
def watched(module: nn.Module, pick: Callable[[Any, Any], Tensor]) -> Iterator[list[Tensor]]:
    """Collect ``pick(inputs, output)`` of each call of `module` until the block ends."""
    caught: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, inputs, output: caught.append(pick(inputs, output)))
    try:
        yield caught
    finally:
        handle.remove()


@contextmanager
def _unfused(attention: Any) -> Iterator[None]:
    fused = getattr(attention, "fused_attn", None)
    if fused:
        attention.fused_attn = False
    try:
        yield
    finally:
        if fused:
            attention.fused_attn = fused
