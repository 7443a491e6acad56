"""Derivatives of the cross-entropy over the scoring data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from pruningbench.contract import PruningBenchError, PruningContext, UsageError
from pruningbench_pai.functional import gradients, leaves, run


def labelled(context: PruningContext, pruner: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) of the scoring data.

    Raises:
        UsageError: if there are no batches, or a batch has no labels.
    """
    count = 0
    for images, labels in context.batches() if context.batches is not None else ():
        if labels is None:
            raise UsageError(f"pruner {pruner!r} needs labels: batches must be (images, labels) pairs")
        if len(images):
            count += 1
            yield images, labels
    if not count:
        raise UsageError(f"pruner {pruner!r} needs data: there are no batches")


def _summed_loss(
    network: nn.Module, weights: Mapping[str, Tensor], images: Tensor, labels: Tensor, temperature: float, pruner: str
) -> Tensor:
    logits = run(network, weights, images, pruner)
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise UsageError(
            f"pruner {pruner!r}: labels lie in [{int(labels.min())}, {int(labels.max())}], "
            f"but the network has {logits.shape[1]} outputs"
        )
    return functional.cross_entropy(logits / temperature, labels, reduction="sum")


def loss_gradient(
    context: PruningContext,
    weights: Mapping[str, Tensor],
    pruner: str,
    temperature: float = 1.0,
    first_pass: list[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy over all samples at `weights`, by name.

    The mean is over samples, so it does not depend on how they are split into batches. The labels of
    each batch are appended to `first_pass`.
    """
    at = leaves(weights)
    total = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    samples = 0
    for images, labels in labelled(context, pruner):
        loss = _summed_loss(context.network, at, images, labels, temperature, pruner)
        for name, gradient in gradients(loss, at).items():
            total[name] += gradient
        samples += len(images)
        if first_pass is not None:
            first_pass.append(labels.cpu())
    return {name: value / samples for name, value in total.items()}


def hessian_gradient(
    context: PruningContext, weights: Mapping[str, Tensor], pruner: str, temperature: float
) -> dict[str, Tensor]:
    """Return H g of the mean cross-entropy of logits / temperature, by name: two passes over the same data.

    Attention runs on PyTorch's mathematical backend, the only one that can be differentiated twice.

    Raises:
        PruningBenchError: if the second pass sees different labels from the first.
    """
    first_pass: list[Tensor] = []
    with sdpa_kernel(SDPBackend.MATH):
        gradient = loss_gradient(context, weights, pruner, temperature, first_pass)
        at = leaves(weights)
        total = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        passes = 0
        for place, (images, labels) in enumerate(labelled(context, pruner)):
            if place >= len(first_pass) or not torch.equal(labels.cpu(), first_pass[place]):
                raise PruningBenchError(f"pruner {pruner!r} needs the same batches in both passes, but they differ")
            loss = _summed_loss(context.network, at, images, labels, temperature, pruner)
            first = gradients(loss, at, graph=True)
            along = torch.stack([(first[name] * gradient[name]).sum() for name in at]).sum()
            if along.requires_grad:
                for name, second in gradients(along, at).items():
                    total[name] += second
            passes += 1
    if passes != len(first_pass):
        raise PruningBenchError(f"pruner {pruner!r} needs the same batches in both passes, but they differ")
    return {name: value / sum(map(len, first_pass)) for name, value in total.items()}
