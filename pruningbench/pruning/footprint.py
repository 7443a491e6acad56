"""Sizes of a network: its input, its state, and what autograd keeps of one image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def input_shape(network: nn.Module) -> tuple[int, ...] | None:
    """Return (C, H, W) of an input, from what a network of timm states; None if it states nothing.

    A network that was built for another size than its configuration's (``img_size=``) says so in ``patch_embed``.
    """
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else getattr(config, "input_size", None)
    if not size:
        return None
    built = getattr(getattr(network, "patch_embed", None), "img_size", None)
    sides = built if isinstance(built, tuple) and len(built) == 2 else size[1:]
    return tuple(int(length) for length in (size[0], *sides))


def state_bytes(network: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, counting tied ones once."""
    return sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))


def activation_bytes(network: nn.Module, shape: tuple[int, ...]) -> list[int]:
    """Return the bytes of each tensor that autograd keeps of one image; empty if the network cannot run.

    On the meta device this computes only shapes. Attention is counted in its unfused form, which keeps more than
    the fused kernels of a CPU or GPU. Parameters are not counted, and a tensor kept by several layers counts once.
    """
    network_storages = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    bytes_by_storage: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in network_storages:
            bytes_by_storage[storage._cdata] = storage.nbytes()
        return tensor

    like = next(network.parameters())
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        image = torch.empty((1, *shape), dtype=like.dtype, device=like.device)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            result = network(image)  # held until the hooks end: no kept storage may be freed and reused
        del result
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError):
        return []  # it needs values, which the meta device lacks, or another input
    finally:
        for module, training in modes:
            module.training = training
    return list(bytes_by_storage.values())
