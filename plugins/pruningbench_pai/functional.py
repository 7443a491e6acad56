"""Run a network with weights other than its own, and leave it unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningContext, UsageError, isolated_randomness
from pruningbench.pruning.preservation import preserved


@contextmanager
def at_rest(context: PruningContext, pruner: str) -> Iterator[nn.Module]:
    """Yield the network in eval mode, with gradients on and autocast off; restore everything afterwards.

    Weights, buffers, flags, gradients and the random state are restored even if the block raises.
    """
    device = next(iter(context.parameters.values())).device.type
    with (
        isolated_randomness("pruningbench_pai", pruner, context.seed),
        preserved(context.network),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
    ):
        context.network.eval()
        yield context.network


def run(network: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, pruner: str) -> Tensor:
    """Return the network's output (B, C) with the named parameters and buffers replaced by `tensors`.

    Parameters tied to a named one follow it. The network's own tensors are not written to.

    Raises:
        UsageError: if the output is not a (B, C) tensor.
    """
    output = torch.func.functional_call(network, dict(tensors), (images,))
    if not isinstance(output, Tensor) or output.ndim != 2:
        received = f"{tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise UsageError(
            f"pruner {pruner!r} needs a network with outputs (B, C), but {type(network).__name__} gives {received}"
        )
    return output


def leaves(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters' values as leaves of a new graph; they share memory with the parameters."""
    return {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}


def gradients(value: Tensor, inputs: Mapping[str, Tensor], *, graph: bool = False) -> dict[str, Tensor]:
    """Return d value / d input by name, zero if `value` does not depend on the input; leave `.grad` alone."""
    computed = torch.autograd.grad(value, list(inputs.values()), create_graph=graph, allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(inputs.items(), computed, strict=True)
    }


def double_state(network: nn.Module) -> dict[str, Tensor]:
    """Return detached copies of all parameters and buffers by name, with floating-point ones in float64.

    They are on the network's device, or on the CPU if that device has no float64 (MPS).
    """
    state = [*network.named_parameters(), *network.named_buffers()]
    copies = {}
    for name, tensor in state:
        value = tensor.detach().cpu() if tensor.device.type == "mps" else tensor.detach()
        copies[name] = value.to(torch.float64, copy=True) if value.is_floating_point() else value.clone()
    return copies


def batch_norms(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that normalise by running statistics, by prefix ("layer1.bn.")."""
    return {
        f"{name}." if name else "": module
        for name, module in network.named_modules()
        if isinstance(getattr(module, "running_var", None), Tensor)
    }


def input_shape(context: PruningContext, size: int, pruner: str) -> tuple[int, ...]:
    """Return the shape of one input, usually (C, H, W).

    If `size` is given, it is `size` x `size` with the channels of the first convolution. Otherwise it is the shape
    of the given batches, else the model's input shape, else that in the network's ``default_cfg`` (timm networks
    have one).

    Raises:
        UsageError: if none of these gives a shape.
    """
    if size:
        first = next((m for m in context.network.modules() if isinstance(m, nn.Conv2d)), None)
        return (first.in_channels if first is not None else 3, size, size)
    if context.batches is not None:
        for images, _labels in context.batches():
            return tuple(images.shape[1:])
    if context.input_shape is not None:
        return context.input_shape
    config = getattr(context.network, "pretrained_cfg", None) or getattr(context.network, "default_cfg", None)
    shape = config.get("input_size") if isinstance(config, Mapping) else None
    if shape is None:
        raise UsageError(
            f"pruner {pruner!r} does not know the input size of {type(context.network).__name__}: "
            "set image_size, or give batches"
        )
    return tuple(int(length) for length in shape)
