"""How much each channel matters: one score for everything that is removed with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pruningbench.contract import PruningBenchError, PruningContext
from pruningbench.pruning.preservation import preserved
from pruningbench.pruning.weight_inputs import in_double
from pruningbench_structured.groups import ChannelGraph, ChannelGroup


def group_norms(graph: ChannelGraph, parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """Return for each group the L2 norms of its channels' weights over all layers, divided by the group's mean.

    The norms are float64 and >= 0; they are all equal if all weights of a group are zero.
    """
    norms_by_group = []
    for group in graph.groups:
        norms = _sums(group, lambda name: in_double(parameters[name].detach()).square()).sqrt()
        norms_by_group.append(norms / norms.mean() if norms.sum() > 0 else torch.ones_like(norms))
    return norms_by_group


def taylor(graph: ChannelGraph, context: PruningContext, samples: int) -> list[Tensor]:
    """Return for each group the sums of ``(g w)^2`` over its channels' weights in all layers, float64 and >= 0.

    g is the gradient of the mean cross-entropy over the first `samples` images.

    Raises:
        PruningBenchError: without images or labels, or if gradients are NaN or infinite.
    """
    gradients = _mean_gradients(context, samples)
    products = {
        name: (gradients[name] * in_double(parameter.detach())).square()
        for name, parameter in context.parameters.items()
    }
    for name, product in products.items():
        if not bool(torch.isfinite(product).all()):
            raise PruningBenchError(f"pruner 'structured': gradients of {name!r} are NaN or infinite")
    return [_sums(group, products.__getitem__) for group in graph.groups]


def random(graph: ChannelGraph, context: PruningContext) -> list[Tensor]:
    """Return a draw from U(0, 1) for each channel, with a separate random stream per group."""
    return [
        torch.rand(len(group.channels), generator=context.generator("structured", group.name), dtype=torch.float64)
        for group in graph.groups
    ]


def _sums(group: ChannelGroup, values: Callable[[str], Tensor]) -> Tensor:
    total = torch.zeros(len(group.channels), dtype=torch.float64)
    for part in group.parts:
        if part.weight:
            along = values(part.name).movedim(part.dim, 0).flatten(1).sum(1).cpu()
            owned = part.owner >= 0
            total.index_add_(0, part.owner[owned], along[owned])
    return total


def _mean_gradients(context: PruningContext, samples: int) -> dict[str, Tensor]:
    parameters = context.parameters
    total = {name: torch.zeros_like(in_double(p.detach())) for name, p in parameters.items()}
    count = 0
    with preserved(context.network), torch.enable_grad():
        context.network.eval()
        for parameter in parameters.values():
            parameter.requires_grad_()
        for images, labels in context.first_images("structured", samples):
            if labels is None:
                raise PruningBenchError("pruner 'structured' with importance taylor needs labels: give them, or use l2")
            loss = cross_entropy(context.network(images), labels, reduction="sum")
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(total, gradients, strict=True):
                if gradient is not None:
                    total[name] += in_double(gradient)
            count += len(images)
    return {name: sums / count for name, sums in total.items()}
