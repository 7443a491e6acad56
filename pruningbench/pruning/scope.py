"""Scope: which parameters of a network may be pruned. One setting, shared by every pruner."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.errors import MaskError, UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Scope:
    """Which parameters may be pruned: weights of convolutions and linear maps, minus exclusions.

    Attributes:
        head: whether the classifier's weights may be pruned.
        exclude: shell patterns of parameter names that stay dense, e.g. ``("conv1.*", "*.qkv.*")``.
    """

    head: bool = True
    exclude: tuple[str, ...] = ()


def _computed_weights(network: nn.Module) -> list[str]:
    """Return the names of weights that are no parameters, but computed from some in every forward pass."""
    from torch.nn.utils.parametrize import is_parametrized

    names = []
    for path, module in network.named_modules():
        dot = f"{path}." if path else ""
        if is_parametrized(module):
            tensors = module.parametrizations
            names += [f"{dot}{name}" for name in tensors if name.endswith("weight")]
        # the older form keeps two parameters beside a plain attribute
        names += [f"{dot}{name[:-2]}" for name, _ in module.named_parameters(recurse=False)
                  if name.endswith("weight_v") and hasattr(module, f"{name[:-2]}_g")]  # fmt: skip
    return names


def prunable_parameters(
    network: nn.Module, scope: Scope | None = None, *, head: Iterable[str] | None = None
) -> dict[str, nn.Parameter]:
    """Return the parameters of `network` inside `scope`, in the order of ``named_parameters()``.

    A parameter is prunable if it has at least two dimensions, its own name ends in ``weight``
    (``weight``, ``in_proj_weight``, ``q_proj_weight``) and its module is neither an embedding nor a norm. This
    finds fused projections, but not biases, norms, tokens or position embeddings. A tied parameter is listed
    once, under its first name.

    Args:
        network: any module.
        scope: the limits; None for all prunable parameters.
        head: names of the classifier's parameters, if the caller knows them; otherwise they come from
            the network's ``get_classifier()`` if the scope leaves the head out.

    Raises:
        UsageError: if a pattern matches nothing, or the head is unknown.
        MaskError: if nothing is left to prune, or a weight is computed from other parameters (weight norm, spectral
            norm and other parametrizations) and not excluded: masks cannot hold its values at zero.
    """
    from torch import nn

    scope = scope or Scope()
    # their weights may have two dimensions, but they are not linear maps
    others = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
    no_maps = {id(p) for m in network.modules() if isinstance(m, others) for p in m.parameters(recurse=False)}
    candidates = {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim >= 2 and name.rpartition(".")[2].endswith("weight") and id(parameter) not in no_maps
    }
    computed = [
        name for name in _computed_weights(network) if not any(fnmatch.filter([name], p) for p in scope.exclude)
    ]
    if computed:
        raise MaskError(
            f"{computed[0]!r} is computed from other parameters (weight norm or another parametrization), so masks "
            f"cannot hold it at zero: remove the parametrization first, or exclude {computed[0]!r} in the scope"
        )
    if not candidates:
        raise MaskError(f"{type(network).__name__} has no prunable weights (convolutions or linear maps)")
    dropped = set() if scope.head else set(_head_names(network, candidates, head))
    for pattern in scope.exclude:
        matched = fnmatch.filter(candidates, pattern)
        if not matched and not fnmatch.filter(_computed_weights(network), pattern):
            raise UsageError(
                f"scope: exclude pattern {pattern!r} matches no prunable parameter{did_you_mean(pattern, candidates)}"
            )
        dropped.update(matched)
    selected = {name: parameter for name, parameter in candidates.items() if name not in dropped}
    if not selected:
        raise MaskError(f"scope {scope} leaves no prunable weights in {type(network).__name__}")
    return selected


def _head_names(network: nn.Module, candidates: dict[str, nn.Parameter], head: Iterable[str] | None) -> Iterable[str]:
    if head is not None:
        return head
    from torch import nn

    get_classifier = getattr(network, "get_classifier", None)
    classifier = get_classifier() if callable(get_classifier) else None
    if not isinstance(classifier, nn.Module):
        raise UsageError(
            f"scope: head=False, but {type(network).__name__} does not say which module is its head; "
            "name its parameters in `exclude` instead"
        )
    inside = {id(parameter) for parameter in classifier.parameters()}
    return [name for name, parameter in candidates.items() if id(parameter) in inside]
