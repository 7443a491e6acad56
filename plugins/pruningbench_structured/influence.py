"""How much each residual block or branch matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from pruningbench.contract import PruningBenchError, PruningContext
from pruningbench.pruning.weight_inputs import in_double
from pruningbench_structured.outputs import tensors_of
from pruningbench_structured.residual import Unit, replaced
from pruningbench_structured.skipping import stand_in

Batch = tuple[Tensor, Tensor | None]


def magnitudes(units: Sequence[Unit], parameters: Mapping[str, Tensor]) -> list[float]:
    """Return the root mean square of each unit's prunable weights."""
    scores = []
    for unit in units:
        weights = [in_double(parameters[name].detach()) for name in unit.weights]
        squares = sum(float(weight.square().sum()) for weight in weights)
        scores.append((squares / sum(weight.numel() for weight in weights)) ** 0.5)
    return scores


def random(units: Sequence[Unit], context: PruningContext) -> list[float]:
    """Return a draw from U(0, 1) for each unit, with a separate random stream per unit."""
    return [float(torch.rand((), generator=context.generator("blocks", unit.name))) for unit in units]


def influences(network: nn.Module, units: Sequence[Unit], batches: Sequence[Batch]) -> list[float]:
    """Return ``1 - mean cos(y, y')`` for each unit, in [0, 2]; 0 if its block computes the same without it.

    y is the output of the unit's block and y' its output without the unit on the same input, so for a whole block y' is
    the block's input. The cosine is that of the channels at one position, and the mean is over positions and images.
    """
    by_block: dict[str, list[Unit]] = {}
    for unit in units:
        by_block.setdefault(unit.block, []).append(unit)
    totals = {unit.name: [0.0, 0] for unit in units}

    def watch(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        given: list[Tensor] = []

        def before(_block: nn.Module, args: tuple[Any, ...]) -> None:
            given.append(args[0].clone())

        def after(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            x = given.pop()
            for unit in by_block[name]:
                other = x
                if not unit.whole:
                    with replaced(network, unit.name, stand_in(unit)):
                        other = block.forward(x.clone(), *args[1:], **kwargs)
                cosines = cosine_similarity(in_double(output), in_double(other), dim=unit.dim)
                totals[unit.name][0] += float(cosines.sum())
                totals[unit.name][1] += cosines.numel()

        return before, after

    handles = []
    for name in by_block:
        before, after = watch(name)
        handles.append(network.get_submodule(name).register_forward_pre_hook(before))
        handles.append(network.get_submodule(name).register_forward_hook(after, with_kwargs=True))
    try:
        with torch.no_grad():
            for images, _ in batches:
                network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [1 - total / count for total, count in totals.values()]


def output_changes(network: nn.Module, units: Sequence[Unit], batches: Sequence[Batch]) -> list[float]:
    """Return ``sum |f - f'|^2 / sum |f|^2`` for each unit, >= 0: f and f' are the outputs with and without the unit."""
    dense = [_outputs(network, images) for images, _ in batches]
    scale = sum(float(f.square().sum()) for f in dense)
    scores = []
    for unit in units:
        with replaced(network, unit.name, stand_in(unit)):
            changes = [
                (_outputs(network, images) - f).square().sum() for (images, _), f in zip(batches, dense, strict=True)
            ]
        scores.append(float(sum(changes)) / scale if scale else 0.0)
    return scores


def loss_changes(network: nn.Module, units: Sequence[Unit], batches: Sequence[Batch]) -> list[float]:
    """Return by how much the mean cross-entropy grows without each unit; negative if it falls.

    Raises:
        PruningBenchError: without labels.
    """
    dense = _loss(network, batches)
    scores = []
    for unit in units:
        with replaced(network, unit.name, stand_in(unit)):
            scores.append(_loss(network, batches) - dense)
    return scores


def _outputs(network: nn.Module, images: Tensor) -> Tensor:
    """Return all outputs in a row, (n,) float64."""
    with torch.no_grad():
        return torch.cat([in_double(output).flatten() for output in tensors_of(network(images))])


def _loss(network: nn.Module, batches: Sequence[Batch]) -> float:
    total, count = 0.0, 0
    with torch.no_grad():
        for images, labels in batches:
            if labels is None:
                raise PruningBenchError("pruner 'blocks' with importance loss needs labels: give them, or use output")
            total += float(cross_entropy(in_double(network(images)), labels, reduction="sum"))
            count += len(images)
    return total / count
