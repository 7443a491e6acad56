"""Batch norm over the batches of all processes, on any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pruningbench.training.exchange import summed


class SynchronisedNorms(TorchFunctionMode):
    """Inside the block, every batch norm in training computes its mean and variance over the samples of all processes.

    It takes the place of ``torch.nn.functional.batch_norm``, so it also reaches the norms of timm and of others, and no
    module is exchanged. Torch's own ``SyncBatchNorm`` works on GPUs only. All processes must enter the same norms in
    the same order.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or the synchronised norm instead of torch's."""
        return (synchronised_norm if func is functional.batch_norm else func)(*args, **(kwargs or {}))


def synchronised_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what ``torch.nn.functional.batch_norm`` returns for this process's samples in the batch of all processes.

    Args:
        input: (B, C, ...) samples of this process, at least one.
        running_mean: (C,), updated in place as torch does; or None.
        running_var: (C,), likewise.
        weight: (C,), or None.
        bias: (C,), or None.
        training: whether the statistics are the batch's; if not, this is torch's function.
        momentum: weight of the batch in the running statistics, in [0, 1].
        eps: added to the variance, > 0.

    Returns:
        (B, C, ...) of the dtype of `input`; gradients of all processes' losses flow through the statistics.
    """
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    values = input if input.dtype == torch.float64 else input.float()
    over = [0, *range(2, input.ndim)]
    wide = (1, -1, *[1] * (input.ndim - 2))
    number = values.new_tensor([input.numel() / input.shape[1]])
    sums = summed(torch.cat([values.sum(over), number]))
    count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
    centred = values - mean.view(wide)
    variance = summed(centred.square().sum(over)) / count
    scale = torch.rsqrt(variance + eps)
    out = centred * (scale if weight is None else scale * weight).view(wide)
    if bias is not None:
        out = out + bias.view(wide)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.mul_(1 - momentum).add_(mean * momentum)
        if running_var is not None:
            running_var.mul_(1 - momentum).add_(variance * (momentum * count / (count - 1)))
    return out.to(input.dtype)


def together(*, synchronise: bool) -> AbstractContextManager[object]:
    """Return the region in which a piece of a shared part is passed through a network."""
    return SynchronisedNorms() if synchronise else nullcontext()
