"""Which weights a signal can pass on its way from the input to the output, measured in the network's own data flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pruningbench.base.randomness import isolated_randomness
from pruningbench.pruning.preservation import preserved

_MAPS = {
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear",
}  # fmt: skip
_PASSED = {
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu",
    "mish", "hardswish", "softplus", "hardtanh", "hardtanh_", "tanh", "tanh_", "threshold", "clamp", "clamp_",
    "clamp_min", "clamp_max", "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm",
    "local_response_norm", "normalize", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "feature_alpha_dropout",
}  # fmt: skip
"""Functions that emit a signal exactly where one comes in, element by element or nearly so."""
_REFUSED = {
    "softmax": "softmax", "log_softmax": "softmax", "softmin": "softmax", "gumbel_softmax": "softmax",
    "scaled_dot_product_attention": "softmax attention", "multi_head_attention_forward": "softmax attention",
    "sigmoid": "a sigmoid gate", "sigmoid_": "a sigmoid gate", "hardsigmoid": "a sigmoid gate",
    "exp": "an exponential", "max": "a maximum by index", "sort": "sorting", "topk": "sorting",
}  # fmt: skip
_MAX_POOLS: dict[str, Callable[..., Tensor]] = {
    "max_pool1d": functional.avg_pool1d, "max_pool2d": functional.avg_pool2d, "max_pool3d": functional.avg_pool3d,
}  # fmt: skip
_SUMS: dict[str, Callable[..., Tensor]] = {
    "adaptive_max_pool1d": functional.adaptive_avg_pool1d,
    "adaptive_max_pool2d": functional.adaptive_avg_pool2d,
    "adaptive_max_pool3d": functional.adaptive_avg_pool3d,
    "amax": torch.sum,
    "maximum": torch.add,
}
"""Replacements for maxima: above zero where the maximum is, with a gradient for every element, not just the largest."""
_SILENT = ("bias", "embed", "token")
"""Name endings of parameters that are added to the signal."""


class NotPathLikeError(Exception):
    """Why paths are not defined in a network; one line."""


def reached_weights(
    network: nn.Module, masks: Mapping[str, Tensor], shape: Sequence[int]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return which masked weights lie on a path from the input to the output, and which outputs have one.

    After every linear map and convolution each value above zero is set to one, and so is each gradient in the
    backward pass, so that neither overflows, however deep the network.

    Args:
        network: any module; left unchanged.
        masks: bool tensors by parameter name.
        shape: shape of one input, without the batch.

    Returns:
        Bool tensors of the masks' shapes, False where the mask is False; and a flat bool tensor of the outputs.

    Raises:
        NotPathLikeError: if the network is not a sum over paths, or cannot run on such an input.
    """
    like = next(network.parameters())
    replaced = {name: torch.full_like(p, not _silent(name), dtype=like.dtype) for name, p in network.named_parameters()}
    weights = {name: mask.to(like).requires_grad_() for name, mask in masks.items()}
    with isolated_randomness("reachability"), preserved(network), torch.enable_grad():
        network.eval()
        signal = torch.ones((1, *shape), dtype=like.dtype, device=like.device)
        try:
            with _Signals():
                result = torch.func.functional_call(network, {**replaced, **weights}, (signal,))
            outputs = torch.cat([_Signal.apply(output.flatten()) for output in _tensors(result)])
            total = outputs.sum()
            computed = (
                torch.autograd.grad(total, list(weights.values()), allow_unused=True)
                if total.requires_grad
                else [None] * len(weights)
            )
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            line = str(error).partition("\n")[0]
            raise NotPathLikeError(f"an input of shape {tuple(shape)} makes the network fail ({line})") from error
    reached = {
        name: torch.zeros_like(mask) if gradient is None else (gradient > 0).to(mask.device) & mask
        for (name, mask), gradient in zip(masks.items(), computed, strict=True)
    }
    return reached, (outputs.detach() > 0).cpu()


def _silent(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.endswith(_SILENT) or last.startswith("rel_pos")


def _tensors(result: Any) -> Iterator[Tensor]:
    """Yield the floating tensors of an output, however nested."""
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from _tensors(value)


class _Signal(torch.autograd.Function):
    """One where there is signal, in both directions."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return _ones(values)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _ones(gradients[0])


def _ones(values: Tensor) -> Tensor:
    if not bool((values >= 0).all()):
        raise NotPathLikeError("the network turns positive values into negative ones, so that signals can cancel")
    return (values > 0).to(values.dtype)


class _Signals(TorchFunctionMode):
    """Runs a network on signals: pass-through functions return their input, and maps turn signals into ones."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _REFUSED:
            raise NotPathLikeError(f"the network uses {_REFUSED[name]}, through which paths are not defined")
        if name in _PASSED:
            return args[0] if args else kwargs["input"]
        if name in _MAX_POOLS:
            return _pooled(_MAX_POOLS[name], *args, **kwargs)
        if name in _SUMS:
            return _SUMS[name](*args, **{k: v for k, v in kwargs.items() if k != "return_indices"})
        result = func(*args, **kwargs)
        return _Signal.apply(result) if name in _MAPS else result


def _pooled(
    average: Callable[..., Tensor],
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if return_indices or any(d != 1 for d in (dilation if isinstance(dilation, Sequence) else (dilation,))):
        raise NotPathLikeError("the network uses max pooling with indices or dilation")
    return average(input, kernel_size, stride or None, padding, ceil_mode)
