"""Count a network's multiplications: all of them, and those with a non-zero weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulate operations of one forward pass.

    Attributes:
        dense: all of them.
        effective: all except those with a zero weight. Products of activations (attention) count in full.
    """

    dense: int
    effective: float


def count_macs(network: nn.Module, forward: Callable[[], object]) -> Macs:
    """Count the multiplications of matrix products and convolutions during ``forward()``.

    Every weight of a product or convolution is used equally often (padded positions included), so the effective
    number is the dense number times the share of non-zero weights. Weights that a layer computes from its
    parameters (weight standardisation) count as dense.

    Args:
        network: the module whose parameters are the weights.
        forward: runs the network; called without gradients.

    Source of the dense numbers: `torch.utils.flop_counter`, two operations per multiplication.
    """
    counter = _Counter(network)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel hides its products
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            forward()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return Macs(counter.dense, counter.effective)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        self.dense, self.effective = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            macs = count(*args, **kwargs, out_val=out) // 2
            self.dense += macs
            self.effective += macs * self._density(args)
        return out

    def _density(self, args: Any) -> float:
        """Return the share of non-zero weights of an operation; 1 if it has no weights."""
        for operand in args:
            # a bias is a vector; weights come unchanged or as a transposed view of their parameter
            if isinstance(operand, Tensor) and operand.ndim >= 2 and self._is_weight(operand):
                return int(torch.count_nonzero(operand)) / max(operand.numel(), 1)
        return 1.0

    def _is_weight(self, operand: Tensor) -> bool:
        return operand.untyped_storage().data_ptr() in self._storages
