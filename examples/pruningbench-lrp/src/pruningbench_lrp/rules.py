"""The rules of layer-wise relevance propagation (LRP), for one linear map or convolution at a time.

A rule says how a unit with the pre-activation z = sum_i a_i w_i + b shares its relevance R among its inputs. Each rule
is written here as a function with the value z whose gradient g' carries the rule: if the gradient at the output is
R / z, then input times gradient is the relevance of the input. Rectifiers, maximum and average pooling, sums and
reshapes keep this property with their own gradients, so one backward pass propagates relevance through a network.

Sources: Bach et al., On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation
(PLoS ONE, 2015): epsilon, alpha-beta; Montavon et al., Layer-wise relevance propagation: an overview (2019): gamma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Name = Literal["epsilon", "gamma", "z-plus", "alpha2-beta1"]
Map = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Applies a linear map or convolution to an input, with a weight and a bias or None."""


@dataclass(frozen=True)
class Rule:
    """A rule with its constants.

    Attributes:
        name: `epsilon` shares R in proportion to a w; `z-plus` in proportion to the positive a w alone; `alpha2-beta1`
            gives 2 R to the positive and -R to the negative ones (a unit that lacks either creates or loses relevance);
            `gamma` favours those of the sign of z.
        epsilon: added to every denominator, away from zero, >= 0; it absorbs relevance.
        gamma: how much `gamma` favours them, >= 0; 0 is `epsilon`, and large values approach `z-plus`.
    """

    name: Name = "epsilon"
    epsilon: float = 1e-6
    gamma: float = 0.25


def propagating(rule: Rule, linear: Map, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``linear(a, weight, bias)`` with the gradient of a rule.

    The bias takes its share of the relevance, which is then gone: it belongs to no input.
    """
    z = linear(a, weight, bias)
    shared = sum(
        share * part * _ratio(z, part, rule.epsilon) for share, part in _parts(rule, linear, z, a, weight, bias)
    )
    assert isinstance(shared, Tensor)
    return shared + (z - shared).detach()


def _parts(
    rule: Rule, linear: Map, z: Tensor, a: Tensor, weight: Tensor, bias: Tensor | None
) -> list[tuple[float | Tensor, Tensor]]:
    """Return shares that sum to 1, and for each the part of z that its relevance is divided by and flows through."""
    if rule.name == "epsilon":
        return [(1.0, z)]
    a_up, a_down, w_up, w_down = a.clamp(min=0), a.clamp(max=0), weight.clamp(min=0), weight.clamp(max=0)
    b_up, b_down = (None, None) if bias is None else (bias.clamp(min=0), bias.clamp(max=0))
    rising = linear(a_up, w_up, b_up) + linear(a_down, w_down, None)
    if rule.name == "z-plus":
        return [(1.0, rising)]
    falling = linear(a_up, w_down, b_down) + linear(a_down, w_up, None)
    if rule.name == "alpha2-beta1":
        return [(2.0, rising), (-1.0, falling)]
    positive = (z > 0).to(z.dtype)
    return [(positive, z + rule.gamma * rising), (1 - positive, z + rule.gamma * falling)]


def _ratio(z: Tensor, part: Tensor, epsilon: float) -> Tensor:
    """Return z / part as a constant, with a denominator of at least `epsilon`; 0 where the part is 0."""
    stable = part.detach() + epsilon * (2 * (part.detach() >= 0).to(part.dtype) - 1)
    return (z.detach() / stable).where(stable != 0, 0)
