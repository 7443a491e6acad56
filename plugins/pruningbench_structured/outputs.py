"""Whether a smaller network computes what the masked one does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningBenchError


def check_same(expected: object, smaller: nn.Module, inputs: Tensor, what: str = "channels") -> None:
    """Compare the outputs of a smaller network with those of the masked one.

    Args:
        expected: the masked network's output: a tensor, or tensors in mappings and sequences.
        smaller: the network without what is pruned.
        inputs: (B, ...) inputs of both.
        what: what was removed, for messages.

    Raises:
        PruningBenchError: if it does not run, or its outputs differ.
    """
    kind, advice = type(smaller).__name__, "the layers that mix channels" if what == "channels" else f"these {what}"
    with torch.no_grad():
        try:
            actual = smaller(inputs)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).partition("\n")[0]
            raise PruningBenchError(
                f"structured pruning: {kind} does not run with fewer {what} ({reason}): exclude layers in the scope"
            ) from error
    for a, b in zip(tensors_of(expected), tensors_of(actual), strict=True):
        off = float((a - b).abs().max()) if a.shape == b.shape else float("inf")
        if not off <= 1e-3 * max(float(a.abs().max()), 1e-3):
            raise PruningBenchError(
                f"structured pruning: {kind} gives other outputs without the {what} than with zeros in their place "
                f"(largest difference {off:.2g}): exclude {advice} in the scope"
            )


def tensors_of(output: object) -> list[Tensor]:
    """Return the tensors of a network's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]
