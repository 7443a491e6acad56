"""A network that torch compiles while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pruningbench.training.errors import TrainingError

BACKEND = "inductor"
"""Backend of torch.compile; ``eager`` and ``aot_eager`` need no compiler of C++ or Triton."""


@contextmanager
def compiled(network: nn.Module, backend: str | None = None) -> Iterator[None]:
    """Let calls of a network inside the block run compiled, forward and backward.

    The network stays the same object with the same names and weights, and copies of it are not compiled. Torch compiles
    for each size of a batch by itself (``dynamic=False``), and forgets what was compiled before and after the block:
    otherwise the bits would depend on which batches and networks came before. What else this process has compiled is
    compiled again when it is called next.

    Args:
        network: the network.
        backend: backend of torch.compile; `BACKEND` by default.

    Raises:
        TrainingError: if torch cannot compile it.
    """
    from torch._dynamo.exc import TorchDynamoException

    torch.compiler.reset()
    network.compile(backend=backend or BACKEND, dynamic=False)
    try:
        yield
    except TorchDynamoException as error:
        raise TrainingError(
            f"compile: torch cannot compile {type(network).__name__} ({_in_short(error)}); install what "
            "is missing, such as a C++ compiler, or set compile: false"
        ) from error
    finally:
        network._compiled_call_impl = None
        torch.compiler.reset()


def _in_short(error: Exception) -> str:
    inner = getattr(error, "inner_exception", error)
    first = (str(inner).strip().splitlines() or [""])[0]
    return f"{type(inner).__name__}: {first}".rstrip(":. ")
