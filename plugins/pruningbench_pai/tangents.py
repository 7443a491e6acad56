"""Sensitivity of the tangent kernel's trace to each weight, by finite differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningContext
from pruningbench_pai.functional import batch_norms, gradients, run
from pruningbench_pai.interception import NoiseNorm


class Draw(NamedTuple):
    """Noise images (B, ...), weights, and the directions in which the weights are perturbed, by name."""

    images: Tensor
    weights: dict[str, Tensor]
    directions: dict[str, Tensor]


def draw_noise(context: PruningContext, shape: Sequence[int], label: str, *, fresh: bool) -> Draw:
    """Draw images and directions from N(0, 1), and weights from N(0, 2 / fan in) if `fresh`.

    The draws depend only on the context's seed, `label` and the parameter's name.
    """

    def normal(size: Sequence[int], like: Tensor, *parts: str) -> Tensor:
        drawn = torch.randn(tuple(size), generator=context.generator("ntk-sap", label, *parts), dtype=torch.float64)
        return drawn.to(device=like.device, dtype=like.dtype)

    weights, directions = {}, {}
    for name, parameter in context.parameters.items():
        like = parameter.detach()
        fan_in = like[0].numel()
        weights[name] = normal(like.shape, like, "weights", name) * math.sqrt(2 / fan_in) if fresh else like
        directions[name] = normal(like.shape, like, "directions", name)
    return Draw(normal(shape, like, "images"), weights, directions)


def kernel_scores(
    network: nn.Module, masks: Mapping[str, Tensor], draws: Iterable[Draw], epsilon: float, *, fresh: bool
) -> dict[str, Tensor]:
    """Return ``|d/dm sum ||f(x; m w) - f(x; m (w + epsilon D))||^2|`` summed over draws, 0 where pruned.

    With `fresh`, batch norms have scale 1 and no shift, and both networks use the statistics that the unperturbed
    network has on the noise.
    """
    total: dict[str, Tensor] = {}
    plain = _plain_norms(network) if fresh else {}
    for draw in draws:
        m = {name: mask.to(draw.weights[name].dtype).requires_grad_() for name, mask in masks.items()}
        drawn = {name: m[name] * draw.weights[name] for name in m}
        perturbed = {name: m[name] * (draw.weights[name] + epsilon * draw.directions[name]) for name in m}
        outputs = []
        if fresh:
            with torch.no_grad(), NoiseNorm("ntk-sap") as finder:
                run(network, {**plain, **drawn}, draw.images, "ntk-sap")
            for weights in (drawn, perturbed):
                with NoiseNorm("ntk-sap", finder.found):
                    outputs.append(run(network, {**plain, **weights}, draw.images, "ntk-sap"))
        else:
            outputs = [run(network, weights, draw.images, "ntk-sap") for weights in (drawn, perturbed)]
        for name, gradient in gradients((outputs[0] - outputs[1]).square().sum(), m).items():
            total[name] = total[name] + gradient if name in total else gradient
    return {name: (gradient * masks[name]).abs() for name, gradient in total.items()}


def _plain_norms(network: nn.Module) -> dict[str, Tensor]:
    plain = {}
    for prefix, module in batch_norms(network).items():
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                plain[prefix + name] = torch.full_like(tensor.detach(), value)
    return plain
