"""Replace functions inside a forward pass, for one `with` block and one thread; nothing is patched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pruningbench.contract import RefusedError

_RELU = frozenset({functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu6})
_RECTIFIERS = _RELU | {
    functional.leaky_relu,
    functional.prelu,
    functional.elu,
    functional.gelu,
    functional.silu,
    functional.mish,
    functional.hardswish,
    functional.softplus,
}
_REFUSED: dict[Any, str] = {
    functional.layer_norm: "layer norm", torch.layer_norm: "layer norm", functional.group_norm: "group norm",
    functional.instance_norm: "instance norm", functional.scaled_dot_product_attention: "attention",
    functional.multi_head_attention_forward: "attention", functional.softmax: "softmax", torch.softmax: "softmax",
    Tensor.softmax: "softmax", functional.sigmoid: "a sigmoid gate", torch.sigmoid: "a sigmoid gate",
    Tensor.sigmoid: "a sigmoid gate", functional.hardsigmoid: "a sigmoid gate", torch.tanh: "tanh",
    Tensor.tanh: "tanh",
}  # fmt: skip
_BY_MODULE = {
    "LayerNorm": "layer norm", "RMSNorm": "RMS norm", "GroupNorm": "group norm", "InstanceNorm": "instance norm",
    "Attention": "attention", "Softmax": "softmax", "Sigmoid": "a sigmoid gate", "sigmoid": "a sigmoid gate",
    "Tanh": "tanh",
}  # fmt: skip
_SMOOTH = ("GELU", "SiLU", "Swish", "swish", "Mish", "ELU")


def not_path_like(network: nn.Module, *, smooth: bool) -> str | None:
    """Return why the network's output is not a sum over paths of weights, or None if no module prevents it.

    Args:
        network: any module; computation outside its modules is seen only when it runs.
        smooth: whether smooth rectifiers (GELU, SiLU, ...) are allowed.
    """
    for name, module in network.named_modules():
        kind = type(module).__name__
        for word, description in _BY_MODULE.items():
            if word in kind:
                return f"{name or kind} is {description}, which is not positively homogeneous"
        rectifier = isinstance(module, (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU))
        if not smooth and not rectifier and any(word in kind for word in _SMOOTH):
            return f"{name or kind} ({kind}) has no on-off gates like those of ReLU"
    return None


class _Intercept(TorchFunctionMode):
    def __init__(self, pruner: str) -> None:
        super().__init__()
        self.pruner = pruner

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _REFUSED:
            raise RefusedError(
                f"pruner {self.pruner!r} cannot work on this network: it uses {_REFUSED[func]}, "
                "which is not positively homogeneous"
            )
        return self.call(func, args, kwargs)

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return func(*args, **kwargs)


class Linear(_Intercept):
    """Pass the input of rectifiers through unchanged, so a network with linear norms is linear in its input."""

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return the input of a rectifier."""
        if func in _RECTIFIERS:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


class Gates(_Intercept):
    """Record which units each ReLU lets through, in call order."""

    def __init__(self, pruner: str) -> None:
        super().__init__(pruner)
        self.open: list[Tensor] = []

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Record the gates of a ReLU."""
        if func in _RELU:
            self.open.append((args[0] if args else kwargs["input"]) > 0)
        elif func in _RECTIFIERS - {functional.leaky_relu, functional.prelu}:
            raise RefusedError(f"pruner {self.pruner!r} needs ReLU, but this network uses {func.__name__}")
        return func(*args, **kwargs)


class Gated(_Intercept):
    """Replace each ReLU by the gates that `Gates` recorded."""

    def __init__(self, pruner: str, gates: Sequence[Tensor]) -> None:
        super().__init__(pruner)
        self.gates = iter(gates)

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Multiply the input of a ReLU by its gates."""
        if func in _RELU:
            return (args[0] if args else kwargs["input"]) * next(self.gates)
        return func(*args, **kwargs)


class NoiseNorm(_Intercept):
    """Run batch norms with the statistics of the current batch; `found` keeps them for later passes.

    The pass that computes them normalises as in training (biased variance) and keeps the unbiased
    variance, as running statistics with momentum 1 do.
    """

    def __init__(self, pruner: str, found: list[tuple[Tensor, Tensor]] | None = None) -> None:
        super().__init__(pruner)
        self.found: list[tuple[Tensor, Tensor]] = []
        self._replay = iter(found) if found is not None else None

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace the statistics of batch norm; run everything else unchanged."""
        return self._norm(*args, **(kwargs or {})) if func is functional.batch_norm else func(*args, **(kwargs or {}))

    def _norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if self._replay is not None:
            mean, var = next(self._replay)
            return functional.batch_norm(input, mean, var, weight, bias, training=False, eps=eps)
        axes = [0, *range(2, input.ndim)]
        var, mean = torch.var_mean(input, axes, correction=min(1, input.numel() // input.shape[1] - 1))
        self.found.append((mean, var))
        return functional.batch_norm(input, None, None, weight, bias, training=True, eps=eps)
