"""Checks of models: a model loads the same each time, and an image's logits do not depend on its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pruningbench.base.identity import tensors_digest
from pruningbench.contract import Context, Model, Use, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind
from pruningbench.testing.datasets import load as load_data

SIDE = 48
"""Side of the images for a model that leaves images unresized."""
CLOSE = 1e-4
"""Largest difference that a batch may make, relative to the largest logit."""


def load(use: Use, registry: Registry, seed: int = 0) -> VisionModel:
    """Load a model as the harness does, on the CPU."""
    component = use.component
    if not isinstance(component, Model):
        raise PruningBenchError(f"{use.name!r} is a {component.kind}")
    context = Context(
        torch.device("cpu"), seed, Cache(), lambda reference: load_data(bind(registry, "dataset", reference), registry)
    )
    model = component.load(context)
    if not isinstance(model, VisionModel):
        raise PruningBenchError(f"it loaded a {type(model).__name__}, not a VisionModel")
    return model


def images_for(model: VisionModel, count: int = 4) -> Tensor:
    """Return normalised random images of the model's size."""
    side = model.preprocessing.size or SIDE
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, len(model.preprocessing.mean), side, side, generator=generator)


def same_weights(use: Use, registry: Registry) -> Iterator[str]:
    """Results are kept by the content of the weights: load the same weights each time, whatever the run's seed."""
    digests = [tensors_digest(dict(load(use, registry, seed).network.state_dict())) for seed in (0, 1)]
    if digests[0] != digests[1]:
        yield "two loads give different weights; draw them from a field `seed`, not from the context's seed"


def logits(use: Use, registry: Registry) -> Iterator[str]:
    """Tasks compare logits with classes: return (B, classes) finite logits, one for each name in `classes`."""
    model = load(use, registry)
    images = images_for(model)
    with torch.no_grad():
        found = model.logits(images)
    if found.ndim != 2 or len(found) != len(images):
        yield f"the logits of {len(images)} images have the shape {tuple(found.shape)}, not (B, classes)"
        return
    if model.classes and found.shape[1] != len(model.classes):
        yield f"there are {found.shape[1]} logits and {len(model.classes)} classes"
    if not bool(found.isfinite().all()):
        yield "some logits are not finite"


def batch_invariance(use: Use, registry: Registry) -> Iterator[str]:
    """Batch sizes are chosen for speed: return the network in eval mode, so that an image's logits stay the same."""
    model = load(use, registry)
    images = images_for(model)
    training = sorted({type(module).__name__ for module in model.network.modules() if module.training})
    if training:
        yield f"the network is in training mode ({training[0]})"
    with torch.no_grad():
        together, alone = model.logits(images), torch.cat([model.logits(image[None]) for image in images])
    if together.shape != alone.shape:
        shapes = f"{tuple(together.shape)}, those of single images {tuple(alone.shape)}"
        yield f"the logits of a batch have the shape {shapes}"
    elif float((together - alone).abs().max()) > CLOSE * max(float(together.abs().max()), 1e-6):
        yield "the logits of an image change with the other images of its batch"


def half_precision(use: Use, registry: Registry) -> Iterator[str]:
    """Large networks run in bfloat16: keep constants in buffers, which follow the network's type."""
    model = load(use, registry)
    model.network.to(torch.bfloat16)
    with torch.no_grad():
        found = model.logits(images_for(model).to(torch.bfloat16))
    if found.dtype != torch.bfloat16:
        yield f"in bfloat16, the logits are {found.dtype}"


def clones(use: Use, registry: Registry) -> Iterator[str]:
    """Every cell prunes a clone: keep all weights in the network, where a clone copies them."""
    model = load(use, registry)
    images = images_for(model, 2)
    with torch.no_grad():
        before = model.logits(images)
        twin = model.clone()
        for parameter in twin.network.parameters():
            parameter.zero_()
        if not torch.equal(model.logits(images), before):
            yield "changing the weights of a clone changes the model's logits"


MODEL_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "same weights": same_weights,
    "logits": logits,
    "batch invariance": batch_invariance,
    "half precision": half_precision,
    "clones": clones,
}
