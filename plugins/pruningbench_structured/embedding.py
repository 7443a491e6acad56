"""Channels of a vision transformer's embedding as units that can be removed.

All blocks read their tokens from one residual stream and add to it, so a channel of the stream owns a row of everything
that writes it (patch embedding, position embedding, class token, registers, the last projections of attention and MLP,
layer scales) and a column of everything that reads it (norms, the first projections, the head). With all of it at zero
the channel is zero throughout. A layer norm over the channels that are left would divide by another deviation; one that
counts the removed channels as zeros computes the same.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from pruningbench_structured.groups import ChannelGroup, Part
from pruningbench_structured.outputs import tensors_of

ROOT = "patch_embed.proj"
"""The layer that writes the stream first; it names the group."""
_READERS, _WRITERS = ("attn.qkv", "mlp.fc1"), ("attn.proj", "mlp.fc2")


class PartialNorm(nn.Module):
    """Layer norm over `total` channels of which only the first are stored, while the others are zero.

    Mean and variance are those of all `total` channels: ``mean = sum / total`` and
    ``var = sum of squares / total - mean^2``.

    Args:
        norm: a layer norm over the last dimension, or a partial one.
        kept: (channels,) bool, which of its channels are stored.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, norm: nn.LayerNorm | PartialNorm, kept: Tensor) -> None:
        super().__init__()
        self.total: int = norm.total if isinstance(norm, PartialNorm) else len(kept)
        self.channels = int(kept.sum())
        self.eps: float = norm.eps
        for name in ("weight", "bias"):
            parameter: nn.Parameter | None = getattr(norm, name)
            if parameter is not None:
                kept_values = parameter.detach()[kept.to(parameter.device)].clone()
                parameter = nn.Parameter(kept_values, requires_grad=parameter.requires_grad)
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., channels)."""
        missing = (0, self.total - x.shape[-1])
        weight, bias = (p if p is None else pad(p, missing) for p in (self.weight, self.bias))
        return layer_norm(pad(x, missing), (self.total,), weight, bias, self.eps)[..., : x.shape[-1]]

    def extra_repr(self) -> str:
        """Return the size, for printing."""
        return f"of {self.total}, eps={self.eps}"


def embedding_channels(
    network: nn.Module, images: Tensor, prunable: Collection[str]
) -> tuple[ChannelGroup | None, str]:
    """Return the channels of a vision transformer's embedding as a group, or None and why it has none.

    Whether the network is one is tried out: without two channels it has to compute the same as with zeros there, with
    random weights.

    Args:
        network: in eval mode; it is left as it was.
        images: (B, ...) inputs that it accepts.
        prunable: names of the weights that may be cut.
    """
    proj, blocks = _submodule(network, ROOT), _submodule(network, "blocks")
    if not isinstance(proj, nn.Conv2d) or blocks is None:
        return None, f"{type(network).__name__} has no patch_embed.proj and blocks, as timm's vision transformers have"
    width = proj.out_channels
    parts = tuple(_parts(network, width))
    uses = Counter(p for module in network.modules() for p in module.parameters(recurse=False))
    own = dict(network.named_parameters())
    outside = [part.name for part in parts if part.weight and part.name not in prunable]
    if any(uses[own[part.name]] > 1 for part in parts):
        return None, "the weights of its embedding are shared"
    if outside:
        return None, f"{outside[0]} is outside the scope"
    structure = ((0, "Conv2d", True, 1, "Embedding", True),)
    group = ChannelGroup(ROOT, tuple((c,) for c in range(width)), parts, structure=structure, embedding=True)
    problem = _problem(network, group, images)
    return (None, problem) if problem else (group, "")


def cut_embedding(network: nn.Module, group: ChannelGroup, removed: Tensor) -> None:
    """Remove channels from the embedding of a vision transformer in place.

    Args:
        network: in which `group` was found.
        group: from `embedding_channels`.
        removed: (channels,) bool, not all True.
    """
    kept = ~removed
    norms = _norms(network, len(removed))
    for name, norm in norms.items():
        parent, _, own = name.rpartition(".")
        network.get_submodule(parent)._modules[own] = PartialNorm(norm, kept)
    for part in group.parts:
        path, _, name = part.name.rpartition(".")
        if path in norms:
            continue
        module = network.get_submodule(path)
        parameter: Tensor = getattr(module, name)
        index = (~group.drop(part, removed)).nonzero().flatten().to(parameter.device)
        smaller = parameter.detach().index_select(part.dim, index)
        setattr(module, name, nn.Parameter(smaller, requires_grad=parameter.requires_grad))
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.Conv2d):
            module.out_channels = len(module.weight)
    for attribute in ("embed_dim", "num_features", "head_hidden_size"):
        if getattr(network, attribute, None) == len(removed):
            setattr(network, attribute, int(kept.sum()))


def has_empty_rows(masks: Mapping[str, Tensor]) -> bool:
    """Return whether masks prune whole rows of the patch embedding, as those of embedding channels do."""
    mask = masks.get(f"{ROOT}.weight")
    return mask is not None and not bool(mask.flatten(1).any(1).all())


def _submodule(network: nn.Module, path: str) -> nn.Module | None:
    try:
        return network.get_submodule(path)
    except AttributeError:
        return None


def _around(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules between which the stream flows, with the prefix of their children's names."""
    yield "", network
    yield "patch_embed.", network.get_submodule("patch_embed")
    for name, block in network.get_submodule("blocks").named_children():
        yield f"blocks.{name}.", block


def _norms(network: nn.Module, width: int) -> dict[str, nn.LayerNorm | PartialNorm]:
    found: dict[str, nn.LayerNorm | PartialNorm] = {}
    for prefix, module in _around(network):
        for name, child in module.named_children():
            if isinstance(child, (nn.LayerNorm, PartialNorm)) and _shape(child) == (width,):
                found[prefix + name] = child
    return found


def _shape(norm: nn.LayerNorm | PartialNorm) -> tuple[int, ...]:
    return (norm.channels,) if isinstance(norm, PartialNorm) else tuple(norm.normalized_shape)


def _parts(network: nn.Module, width: int) -> Iterator[Part]:
    """Yield what the channels of the stream own."""
    owner = torch.arange(width)
    yield Part(f"{ROOT}.weight", 0, owner, weight=True)
    for name in _norms(network, width):
        for own, _ in network.get_submodule(name).named_parameters():
            yield Part(f"{name}.{own}", 0, owner, weight=False)
    biases = [ROOT]
    for prefix, module in _around(network):
        for name, parameter in module.named_parameters(recurse=False):  # tokens, positions, scales
            if parameter.shape[-1:] == (width,):
                yield Part(prefix + name, parameter.ndim - 1, owner, weight=False)
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and not prefix and child.in_features == width:
                yield Part(f"{name}.weight", 1, owner, weight=True)
            scale = getattr(child, "gamma", None)
            if prefix and isinstance(scale, nn.Parameter) and scale.shape == (width,):
                yield Part(f"{prefix}{name}.gamma", 0, owner, weight=False)
        for layer in (*_READERS, *_WRITERS):
            if isinstance(_submodule(module, layer), nn.Linear):
                yield Part(f"{prefix}{layer}.weight", int(layer in _READERS), owner, weight=True)
                biases += [prefix + layer] if layer in _WRITERS else []
    for name in biases:
        if network.get_submodule(name).bias is not None:
            yield Part(f"{name}.bias", 0, owner, weight=False)


def _problem(network: nn.Module, group: ChannelGroup, images: Tensor) -> str | None:
    """Return why removing channels differs from zeros in their place, or None; tried on random weights."""
    generator = torch.Generator().manual_seed(0)
    masked = copy.deepcopy(network).eval()
    removed = torch.arange(len(group.channels)) % 5 == 1
    own = dict(masked.named_parameters())
    with torch.no_grad():
        for parameter in own.values():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim in (2, 4) else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        for part in group.parts:
            if own[part.name].shape[part.dim] != len(part.owner):
                return f"{part.name} has another width than the embedding"
            zeros = group.drop(part, removed).nonzero().flatten()
            own[part.name].index_fill_(part.dim, zeros.to(own[part.name].device), 0)
        expected = tensors_of(masked(images))
        try:
            cut_embedding(masked, group, removed)
            actual = tensors_of(masked(images))
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            return f"{type(network).__name__} does not run with fewer channels in its embedding"
    if [a.shape for a in actual] != [b.shape for b in expected]:
        return "its channels are the network's output"
    if any(float((a - b).abs().max()) > 1e-3 * float(b.abs().max()) for a, b in zip(actual, expected, strict=True)):
        return f"{type(network).__name__} computes something else without channels than with zeros in their place"
    return None
