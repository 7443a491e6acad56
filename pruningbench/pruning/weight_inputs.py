"""The inputs that each weight receives, observed where linear maps and convolutions are called as functions.

Watching the functions, not the modules, also finds weights that are used without their module being
called: the projections of `nn.MultiheadAttention`, or a fused qkv with its own bias.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pruningbench.base.randomness import isolated_randomness
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.preservation import preserved

_COLUMN_ENTRIES = 1 << 24
"""Entries of an im2col matrix computed at a time: 64 MiB in float32."""

Sink = Callable[[str, int, int, Tensor], None]
"""Receives (parameter, first group, number of groups, columns (g, d, n)): n inputs of d entries per group.

A parameter's rows are divided equally among its groups, in order: the groups of a grouped convolution, or
the query, key and value rows of a fused projection.
"""


def watch_inputs(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    images: Iterable[Tensor],
    sink: Sink,
    *,
    pruner: str,
    per_channel: bool = False,
    complete: Callable[[str], None] | None = None,
) -> None:
    """Run the images through the network in eval mode and pass the inputs of the parameters to `sink`.

    Args:
        network: any module; left unchanged.
        parameters: the parameters to watch, by name.
        images: batches (B, C, H, W), each run once.
        sink: receives the inputs; for convolutions the columns of the im2col matrix.
        pruner: name for messages.
        per_channel: pass a convolution's input channels, (1, channels, n) or (groups, ...), instead.
        complete: called with a parameter's name once `sink` has all its inputs of a call, before the call is made.

    Raises:
        PruningBenchError: if no linear map or convolution uses one of the parameters.
    """
    watched = {id(parameter): name for name, parameter in parameters.items()}
    recorder = Recorder(watched, sink, per_channel=per_channel, complete=complete)
    with isolated_randomness("inputs"), preserved(network), torch.no_grad(), recorder:
        network.eval()
        for batch in images:
            network(batch)
    for name in parameters:
        if name not in recorder.seen:
            raise PruningBenchError(
                f"pruner {pruner!r}: {name!r} is used by no linear map or convolution: exclude it in the scope"
            )


def weights_times_inputs(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    images: Iterable[Tensor],
    *,
    pruner: str,
    per_channel: bool = False,
) -> dict[str, Tensor]:
    """Return ``|w_ij| * ||X_j||_2``, the norm over all images, positions and tokens.

    Arguments and errors are those of `watch_inputs`. For convolutions, X are the columns of the im2col matrix
    or, with `per_channel`, the input channels without padding, with one norm for all entries of a kernel.

    Returns:
        Parameter name -> float64 tensor >= 0 of the parameter's shape.

    Source: Sun, Liu, Bair, Kolter, A simple and effective pruning approach for large language models (ICLR
    2024), equation 1, for linear maps; the im2col matrix turns a convolution into one.
    """
    squares: dict[str, Tensor] = {}

    def add(name: str, first: int, groups: int, columns: Tensor) -> None:
        sums = in_double(columns).square().sum(2)
        total = squares.setdefault(name, sums.new_zeros(groups, sums.shape[1]))
        total[first : first + len(sums)] += sums

    watch_inputs(network, parameters, images, add, pruner=pruner, per_channel=per_channel)
    scores = {}
    for name, parameter in parameters.items():
        sizes = by_group(in_double(parameter.detach()).abs(), len(squares[name]))
        norms = squares[name].sqrt()
        norms = norms.repeat_interleave(sizes.shape[2] // norms.shape[1], dim=1)
        scores[name] = (sizes * norms.unsqueeze(1)).view(parameter.shape).to(parameter.device)
    return scores


def by_group(values: Tensor, groups: int) -> Tensor:
    """Reshape a parameter (rows, ...) to (groups, rows / groups, d), as `Sink` counts groups."""
    return values.reshape(groups, values.shape[0] // groups, -1)


def in_double(values: Tensor) -> Tensor:
    """Return the values in float64, on the CPU if their device has no float64 (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def without_inputs(network: nn.Module) -> str | None:
    """Return why the inputs of a weight are not defined in this network, or None if they are."""
    for name, module in network.named_modules():
        if isinstance(module, (nn.modules.conv._ConvTransposeNd, nn.Bilinear)):
            return f"{name!r} is a {type(module).__name__}: it is not a linear map or convolution of its input"
    return None


class Recorder(TorchFunctionMode):
    """While it is active, passes the inputs of the watched parameters to a sink; see `watch_inputs`.

    Attributes:
        seen: names of the parameters whose inputs were recorded.
    """

    def __init__(
        self,
        watched: Mapping[int, str],
        sink: Sink,
        *,
        per_channel: bool,
        complete: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._watched, self._sink, self._per_channel, self._complete = watched, sink, per_channel, complete
        self.seen: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear:
            self._linear(*args, **kwargs)
        elif func in _CONVOLUTIONS:
            self._convolution(*args, **kwargs)
        elif func is functional.multi_head_attention_forward:
            self._attention(func, _ATTENTION.bind(*args, **kwargs).arguments)
        return func(*args, **kwargs)

    def _record(self, weight: Any, columns: Tensor, first: int = 0, groups: int | None = None) -> None:
        name = self._watched[id(weight)]
        self.seen.add(name)
        self._sink(name, first, groups or len(columns), columns)

    def _done(self, weight: Any) -> None:
        if self._complete is not None:
            self._complete(self._watched[id(weight)])

    def _linear(self, input: Tensor, weight: Any, bias: Any = None) -> None:
        if id(weight) in self._watched:
            self._record(weight, _tokens(input))
            self._done(weight)

    def _convolution(
        self, input: Tensor, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> None:  # fmt: skip
        if id(weight) not in self._watched:
            return
        spatial = weight.ndim - 2
        images = input if input.ndim == weight.ndim else input[None]
        if self._per_channel:
            self._record(weight, images.transpose(0, 1).reshape(groups, images.shape[1] // groups, -1))
        else:
            for columns in im2col(
                images, weight.shape[2:], _each(stride, spatial), padding, _each(dilation, spatial), groups
            ):
                self._record(weight, columns)
        self._done(weight)

    def _attention(self, func: Any, arguments: dict[str, Any]) -> None:
        sides = [arguments["query"], arguments["key"], arguments["value"]]
        if id(arguments["in_proj_weight"]) in self._watched:
            for group, side in enumerate(sides):
                self._record(arguments["in_proj_weight"], _tokens(side), group, len(sides))
            self._done(arguments["in_proj_weight"])
        for side, weight in zip(sides, ("q_proj_weight", "k_proj_weight", "v_proj_weight"), strict=True):
            if id(arguments.get(weight)) in self._watched and arguments.get(weight) is not None:
                self._record(arguments[weight], _tokens(side))
                self._done(arguments[weight])
        if id(arguments["out_proj_weight"]) in self._watched:
            # with the identity as its projection, attention returns what the projection would have received
            weight = arguments["out_proj_weight"]
            identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
            met, _ = func(**{**arguments, "out_proj_weight": identity, "out_proj_bias": None})
            self._record(weight, _tokens(met))
            self._done(weight)


_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_ATTENTION = inspect.signature(functional.multi_head_attention_forward)


def _tokens(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1]).T[None]


def _each(value: Any, dimensions: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dimensions if len(values) == 1 else values


def im2col(
    images: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: str | int | Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Iterator[Tensor]:
    """Yield the im2col matrices of a few images at a time, in any number of spatial dimensions.

    Args:
        images: (B, C, ...) inputs.
        kernel: sizes of the kernel.
        stride: stride in each spatial dimension.
        padding: padding as torch's convolutions take it, with zeros.
        dilation: dilation in each spatial dimension.
        groups: number of channel groups.

    Yields:
        (groups, C / groups * prod(kernel), n), with rows in the order of a flattened kernel's entries.
    """
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(p, p) for p in _each(0 if isinstance(padding, str) else padding, len(kernel))]
    padded = functional.pad(images, [side for pair in reversed(sides) for side in pair])
    sizes = [
        (length - d * (k - 1) - 1) // s + 1
        for length, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    entries_in = images.shape[1] // groups * torch.Size(kernel).numel()
    step = max(1, _COLUMN_ENTRIES // (groups * entries_in * torch.Size(sizes).numel()))
    for start in range(0, len(padded), step):
        part = padded[start : start + step]
        views = []
        for offset in product(*(range(k) for k in kernel)):
            window = [
                slice(o * d, o * d + s * (size - 1) + 1, s)
                for o, d, s, size in zip(offset, dilation, stride, sizes, strict=True)
            ]
            views.append(part[(slice(None), slice(None), *window)].flatten(2))
        columns = torch.stack(views, 2).transpose(0, 2).transpose(0, 1)  # (C, K, B, L)
        yield columns.reshape(groups, entries_in, -1)
