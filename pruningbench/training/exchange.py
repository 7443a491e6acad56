"""What the processes of one training send each other: weights, samples, gradients; by torch.distributed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pruningbench.training.errors import ExchangeError, TrainingError

PATIENCE = timedelta(minutes=10)
"""Longest time that one process waits for another within an exchange: compiling may delay one of them."""
BUCKET = 25 * 2**20
"""Bytes of tensors that are sent at once."""
INTERFACE = "GLOO_SOCKET_IFNAME"

_ending = threading.Lock()
"""Held while a group is ended: the training and the thread that watches it may do so at the same time."""


@contextmanager
def connected(place: str, rank: int, size: int, device: torch.device) -> Iterator[None]:
    """Connect this process with the others of its training: by NCCL on NVIDIA GPUs, otherwise by gloo.

    Args:
        place: path of a file, the same for all processes and new for each training.
        rank: this process's number, in [0, size).
        size: number of processes.
        device: where this process computes.

    Raises:
        TrainingError: if this process already is in a group of torch.distributed.
        ExchangeError: if the processes do not find each other.
    """
    if dist.is_initialized():
        raise TrainingError("processes: this process is already in a group of torch.distributed; set processes: 1")
    on_gpus = device.type == "cuda"
    stores: Any = dist
    with _contact(), _on_loopback():
        dist.init_process_group(
            "nccl" if on_gpus else "gloo", store=stores.FileStore(place, size), rank=rank, world_size=size,
            timeout=PATIENCE, device_id=device if on_gpus else None,
        )  # fmt: skip
    try:
        yield
    except BaseException:
        if on_gpus:
            abandon()
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def abandon() -> None:
    """End all exchanges at once, also those that wait for a process that is gone; for NCCL, which waits for ever."""
    with _ending, suppress(ValueError, RuntimeError):  # some versions complain about what is still waiting
        if dist.is_initialized():
            dist.distributed_c10d._abort_process_group()


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give the tensors of all processes the values that they have in the first, in place and bit for bit."""
    for bucket in _buckets(tensors):
        flat = _flat(bucket).view(torch.uint8)
        with _contact():
            dist.broadcast(flat, 0)
            if dist.get_rank():
                _scatter(flat.view(bucket[0].dtype), bucket)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace the tensors of the first process by the sums over all processes; those of the others become undefined."""
    for bucket in _buckets(tensors):
        flat = _flat(bucket)
        exact = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
        with _contact():
            dist.reduce(exact, 0)
            if not dist.get_rank():
                _scatter(exact, bucket)


def send(tensors: Sequence[Tensor], rank: int) -> list[Any]:
    """Begin to send tensors to another process; return what `finish` waits for. They must not be changed before."""
    with _contact():
        return [dist.isend(tensor.contiguous(), rank) for tensor in tensors]


def finish(sending: Iterable[Any]) -> None:
    """Wait until tensors have been sent."""
    with _contact():
        for one in sending:
            one.wait()


def receive(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the tensor that the first process sends next."""
    tensor = torch.empty(tuple(shape), dtype=dtype, device=device)
    with _contact():
        dist.recv(tensor, 0)
    return tensor


def summed(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; its gradient is the sum of all processes' gradients."""
    total: Tensor = _Summed.apply(tensor)
    return total


class _Summed(torch.autograd.Function):
    """The sum over all processes, forward and backward."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        return _total(tensor)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


def _total(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    with _contact():
        dist.all_reduce(total)
    return total


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in their order, as many of one dtype as fit into `BUCKET`."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (bucket[0].dtype != tensor.dtype or size + tensor.nbytes > BUCKET):
            yield bucket
            bucket, size = [], 0
        if tensor.numel():
            bucket.append(tensor)
            size += tensor.nbytes
    if bucket:
        yield bucket


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _scatter(flat: Tensor, tensors: Iterable[Tensor]) -> None:
    """Undo `_flat`, in place."""
    start = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()


@contextmanager
def _contact() -> Iterator[None]:
    """Turn what torch.distributed raises if another process is gone into an error of ours."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ExchangeError(f"the processes of this training have lost contact ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let gloo connect processes within this machine, unless the user names another interface."""
    name = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "")
    if not name or INTERFACE in os.environ:
        yield
        return
    os.environ[INTERFACE] = name
    try:
        yield
    finally:
        os.environ.pop(INTERFACE, None)
