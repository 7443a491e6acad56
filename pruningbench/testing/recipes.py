"""Checks of recipes, on a small network that is pruned by magnitude."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pruningbench.base.identity import tensors_digest
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import PruningContext, Recipe, RecipeJob, Use, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.harness.lending import structural_changes
from pruningbench.harness.thresholds import prune_within
from pruningbench.plugins import Registry
from pruningbench.pruning.allocation import number_to_prune
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.testing.small import SmallMagnitude, SmallModel, lent, small_samples

SPARSITY = 0.5


def recipe_of(use: Use) -> Recipe:
    """Return the recipe."""
    if not isinstance(use.component, Recipe):
        raise PruningBenchError(f"{use.name!r} is a {use.component.kind}")
    return use.component


def made(use: Use, registry: Registry, sparsity: float, seed: int = 0) -> tuple[VisionModel, Masks]:
    """Run a recipe as the harness does; return the network that it leaves, and its masks."""
    recipe, samples, kept = recipe_of(use), small_samples(), dict[str, dict[str, Tensor]]()
    dense = SmallModel(samples.classes)

    def prune(model: VisionModel, sparsity: float, within: Masks | None = None) -> Masks:
        if job.sparsity == 0:
            return Masks.ones(prunable_parameters(model.network))
        context = PruningContext(model.network, prunable_parameters(model.network), seed)
        masks = prune_within(SmallMagnitude(), context, sparsity, within)
        masks.apply(model.network)
        return masks

    def shared(key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        name = json.dumps(key)
        if name not in kept:
            kept[name] = {name: tensor.clone() for name, tensor in make().items()}
        return kept[name]

    context = lent(registry, seed, dense=dense)
    job = RecipeJob(dense.clone(), sparsity, prune, samples if recipe.needs_data() else None, context, shared)
    with isolated_randomness("recipe", seed):
        masks = recipe.run(job)
    if not isinstance(masks, Masks):
        raise PruningBenchError(f"it returned a {type(masks).__name__}, not Masks")
    return job.model, masks


def masks(use: Use, registry: Registry) -> Iterator[str]:
    """Rows say how sparse a network is: return masks of all prunable weights, and prune as many as were asked for."""
    model, found = made(use, registry, SPARSITY)
    expected = set(prunable_parameters(model.network))
    if set(found) != expected:
        yield f"its masks are not those of the prunable parameters ({sorted(set(found) ^ expected)})"
        return
    pruned, requested = found.total - found.kept, number_to_prune(SPARSITY, found.total)
    if pruned != requested:
        yield f"at sparsity {SPARSITY} it pruned {pruned} of {found.total} weights, not {requested}"


def zeros(use: Use, registry: Registry) -> Iterator[str]:
    """The network that is measured must be as sparse as its masks: keep pruned weights at zero, also while training."""
    model, found = made(use, registry, SPARSITY)
    parameters = dict(model.network.named_parameters())
    alive = {name: int((parameters[name].detach()[~mask] != 0).sum()) for name, mask in found.items()}
    if any(alive.values()):
        yield f"it left {sum(alive.values())} pruned weights at other values than zero"


def only_weights(use: Use, registry: Registry) -> Iterator[str]:
    """Networks are kept as weights: leave no hooks, and the modules, shapes and types that they had."""
    model, _ = made(use, registry, SPARSITY)
    model.network.eval()
    for change in structural_changes(SmallModel(model.classes).network, model.network):
        yield f"it left a network with other things than weights: {change}"


def dense_reference(use: Use, registry: Registry) -> Iterator[str]:
    """Pruned networks are compared with one that was trained alike: at sparsity 0, train and prune nothing."""
    if not recipe_of(use).trains:
        return
    model, found = made(use, registry, 0.0)
    if found.kept != found.total:
        yield f"at sparsity 0 it pruned {found.total - found.kept} weights"
    before = SmallModel(model.classes).network.state_dict()
    if all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items()):
        yield "it says that it trains, but at sparsity 0 it leaves all weights as they were"


def repeatable(use: Use, registry: Registry) -> Iterator[str]:
    """Equal seeds must give equal networks: draw from ``job.context.generator(...)``, and from nothing else."""
    first, second = (tensors_digest(dict(made(use, registry, SPARSITY)[0].network.state_dict())) for _ in range(2))
    if first != second:
        yield "two runs with one seed give different networks"


def announced(use: Use, registry: Registry) -> Iterator[str]:
    """Plans count and share trainings: return plain JSON keys from ``trainings``, and a number from ``rounds_of``."""
    del registry
    recipe = recipe_of(use)
    json.dumps(recipe.trainings(SPARSITY))  # what it raises for other keys is a finding
    rounds: object = recipe.rounds_of(SPARSITY)
    if not isinstance(rounds, int) or rounds < 1:
        yield f"rounds_of gives {rounds!r}, not a number of at least 1"
    if recipe.trains and not recipe.trainings(SPARSITY):
        yield "it says that it trains, but names no training"


RECIPE_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "masks": masks,
    "zeros": zeros,
    "only weights": only_weights,
    "dense reference": dense_reference,
    "repeatable": repeatable,
    "announced": announced,
}
