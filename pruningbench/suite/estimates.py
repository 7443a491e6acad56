"""Estimates what a pruner needs on a model before anything is loaded; torch is imported only for known networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pruningbench.contract.component import Use
from pruningbench.contract.cost import SCORING_BATCH, Cost, Outline, format_bytes
from pruningbench.contract.model import Model
from pruningbench.contract.pruner import Pruner
from pruningbench.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pruningbench.pruning.scope import Scope


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of pruning a model once.

    Attributes:
        model, pruner: labels.
        cost: passes and memory; None if unknown, for the reason in `unknown`.
        refusal: why the pair's cells are skipped, in one line; None if they are not skipped.
    """

    model: str
    pruner: str
    cost: Cost | None = None
    refusal: str | None = None
    unknown: str = ""


def skeleton_of(use: Use) -> nn.Module | str:
    """Return a model's network without weights, or why there is none."""
    model = use.component
    assert isinstance(model, Model)  # noqa: S101 - binding checked the kind
    try:
        skeleton = model.skeleton()
        if skeleton is None and "model" in use.references:
            inner = skeleton_of(use.references["model"])
            if isinstance(inner, str):
                return inner
            skeleton = model.skeleton_around(inner)
    except Exception as error:  # noqa: BLE001 - third-party component; loading it will say more
        return f"its network cannot be built without weights ({_line(error)})"
    return "the model does not declare its architecture" if skeleton is None else skeleton


@dataclass(frozen=True)
class Subject:
    """A model that costs are estimated on, with what does not depend on the pruner.

    Attributes:
        model: its label.
        network: its network without weights, or why there is none.
        outline: of the network; None without one, or if the head must stay but is not known.
        device: where it would run; None without a network.
    """

    model: str
    network: nn.Module | str
    outline: Outline | None = None
    device: torch.device | None = None


def subject(model: Use, scope: Scope | None, device: str | torch.device) -> Subject:
    """Build a model's network without weights and outline it.

    Args:
        model: the model.
        scope: which parameters may be pruned; None for all.
        device: where it would run, as given to ``--device``; a device of torch may be one that this machine lacks.

    Raises:
        UsageError: if the scope does not fit the network, or there is no such device.
    """
    network = skeleton_of(model)
    if isinstance(network, str):
        return Subject(model.label, network)
    from pruningbench.base.machine import resolve_device
    from pruningbench.suite.outlines import outline

    where = resolve_device(device) if isinstance(device, str) else device
    try:
        return Subject(model.label, network, outline(network, scope, device=where), where)
    except UsageError as error:
        raise UsageError(f"model {model.label!r}: {error}") from error


def estimate(subject: Subject, pruner: Use, sparsity: float, batch_size: int = SCORING_BATCH) -> CostEstimate:
    """Estimate the cost of a pruner on a model, and say whether the pair cannot work.

    Args:
        subject: the model.
        pruner: the pruner.
        sparsity: in [0, 1).
        batch_size: the suite's batch size; scoring batches are no larger.
    """
    labels, component = (subject.model, pruner.label), pruner.component
    assert isinstance(component, Pruner)  # noqa: S101 - binding checked the kind
    network, outlined = subject.network, subject.outline
    if isinstance(network, str):
        return CostEstimate(*labels, unknown=network)
    if outlined is not None:
        size = getattr(component, "batch_size", min(SCORING_BATCH, batch_size))
        outlined = replace(outlined, batch_size=size, sparsity=sparsity)
    try:
        reason = component.refuses(network)
        cost = component.cost(outlined) if outlined else None
    except Exception as error:  # noqa: BLE001 - third-party component; pruning will say more
        return CostEstimate(*labels, unknown=f"the pruner's estimate failed ({_line(error)})")
    reason = reason or (cost.refusal if cost else None)
    if reason:
        return CostEstimate(*labels, cost, f"pruner {pruner.label!r} cannot prune {subject.model!r}: {reason}")
    if cost is None or outlined is None:
        return CostEstimate(*labels, unknown="the network does not say which module is its head")
    needed = cost.memory + 2 * outlined.state_bytes  # the dense network and the pruned one
    if outlined.device_memory is None or needed <= outlined.device_memory:
        return CostEstimate(*labels, cost)
    return CostEstimate(*labels, cost, _too_large(labels, needed, outlined.device_memory, subject.device))


def _too_large(labels: tuple[str, str], needed: int, memory: int, device: torch.device | None) -> str:
    where = "this machine" if device is None or device.type == "cpu" else f"device {device}"
    subject = f"pruner {labels[1]!r} on {labels[0]!r}"
    return f"{subject} needs about {format_bytes(needed)} of memory, {where} has {format_bytes(memory)}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
