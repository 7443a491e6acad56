"""Checks of attribution and discovery methods, on a small network and on planted objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import (
    AttributionMethod,
    AttributionSettings,
    DiscoveryMethod,
    DiscoverySettings,
    FoundObjects,
    Patches,
    Use,
    ViewUnavailableError,
    VisionModel,
)
from pruningbench.errors import PruningBenchError
from pruningbench.harness.lending import Loan
from pruningbench.plugins import Registry
from pruningbench.testing.small import CHANNELS, SIDE, SmallModel

COUNT, GRID = 4, 12
"""Images, and patches on a side of the grid."""
OBJECT = slice(3, 8)
"""Rows and columns of the object, in pixels or patches."""
CLOSE = 1e-3
"""Largest difference that a batch may make, relative to the largest value."""


def explained() -> tuple[VisionModel, Tensor, Tensor, AttributionSettings]:
    """Return a network in which brightness anywhere speaks for class 1, images with an object, targets and settings."""
    model = SmallModel(("nothing", "object"))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.abs_()
        head = model.network.get_parameter("7.weight")
        head[0], head[1] = 0, 1 / head.shape[1]
    images = torch.zeros(COUNT, CHANNELS, SIDE, SIDE)
    images[:, :, OBJECT, OBJECT] = 1 + torch.arange(COUNT).view(-1, 1, 1, 1) / COUNT
    settings = AttributionSettings(torch.zeros(1, CHANNELS, 1, 1), batch_size=32, masks=128)
    return model, images, torch.ones(COUNT, dtype=torch.int64), settings


def maps(use: Use, model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor | None:
    """Return a method's attributions as the task asks for them; None if it does not support the small network."""
    if not isinstance(use.component, AttributionMethod):
        raise PruningBenchError(f"{use.name!r} is a {use.component.kind}")
    try:
        with isolated_randomness("method"):
            found = use.component.attributions(model, images, targets, settings)
    except ViewUnavailableError:
        return None
    if not isinstance(found, Tensor) or found.shape not in (images.shape, images[:, 0].shape):
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise PruningBenchError(f"for images {tuple(images.shape)} it gives {what}, not (N, C, H, W) or (N, H, W)")
    return found.detach()


def attributions(use: Use, registry: Registry) -> Iterator[str]:
    """Maps are pooled and compared: give finite attributions (N, C, H, W) or (N, H, W), one for each image."""
    del registry
    found = maps(use, *explained())
    if found is not None and not bool(found.isfinite().all()):
        yield "some attributions are not finite"


def repeatable_maps(use: Use, registry: Registry) -> Iterator[str]:
    """Equal seeds must give equal maps: draw from ``settings.seed``, and from nothing else."""
    del registry
    first, second = (maps(use, *explained()) for _ in range(2))
    if first is not None and second is not None and not torch.equal(first.nan_to_num(), second.nan_to_num()):
        yield "two calls with one seed give different attributions"


def batch_invariance(use: Use, registry: Registry) -> Iterator[str]:
    """Batch sizes are chosen for speed: a map depends neither on ``settings.batch_size`` nor on the other images."""
    del registry
    model, images, targets, settings = explained()
    together = maps(use, model, images.clone(), targets, settings)
    if together is None:
        return
    small = replace(settings, batch_size=3)
    singly = [(images[i : i + 1].clone(), targets[i : i + 1]) for i in range(COUNT)]
    for what, parts in (
        ("the batch size", [maps(use, model, images.clone(), targets, small)]),
        ("the other images", [maps(use, model, *one, settings) for one in singly]),
    ):
        apart = torch.cat([part for part in parts if part is not None])
        if float((apart - together).abs().max()) > CLOSE * max(float(together.abs().max()), 1e-6):
            yield f"{what} change the attributions of an image" if what.endswith("s") else f"{what} changes them"


def leaves_no_trace(use: Use, registry: Registry) -> Iterator[str]:
    """The network is lent to one method after another: leave its weights, modes, gradients and hooks as they were."""
    del registry
    model, images, targets, settings = explained()
    loan, before = Loan(model), images.clone()
    maps(use, loan.model, images, targets, settings)
    yield from loan.collect()
    if not torch.equal(images, before):
        yield "it changed the images"


def on_the_object(use: Use, registry: Registry) -> Iterator[str]:
    """Metrics read larger as more relevant: the only object in an image must not get less than what surrounds it."""
    del registry
    model, images, targets, settings = explained()
    found = maps(use, model, images, targets, settings)
    if found is None:
        return
    strength = found.abs() if found.ndim == 3 else found.abs().sum(1)
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[OBJECT, OBJECT] = True
    on, off = float(strength[:, inside].mean()), float(strength[:, ~inside].mean())
    if on < 0.9 * off:
        yield f"a planted object gets {on:g} on average, and what surrounds it {off:g}"


ATTRIBUTION_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "attributions": attributions,
    "repeatable": repeatable_maps,
    "batch invariance": batch_invariance,
    "leaves no trace": leaves_no_trace,
    "direction": on_the_object,
}


def planted(count: int = COUNT) -> Patches:
    """Return features of an object before a background, which differ in direction, and attention to the object."""
    generator = torch.Generator().manual_seed(0)
    features = torch.zeros(count, GRID, GRID, 8)
    features[..., 0] = 1
    features[:, OBJECT, OBJECT, 0], features[:, OBJECT, OBJECT, 1] = 0, 1
    features += 0.05 * torch.randn(features.shape, generator=generator)
    attention = torch.full((count, 1, GRID, GRID), 0.001)
    attention[:, :, OBJECT, OBJECT] = 0.02
    return Patches(features.flatten(1, 2), (GRID, GRID), 8, lambda: attention.flatten(2))


def of_image(patches: Patches, index: int) -> Patches:
    """Return the patches of one image."""
    one = slice(index, index + 1)
    return Patches(patches.features[one], patches.grid, patches.size, lambda: patches.attention()[one])


def objects(use: Use, patches: Patches) -> FoundObjects:
    """Return what a method finds, as the task asks for it."""
    if not isinstance(use.component, DiscoveryMethod):
        raise PruningBenchError(f"{use.name!r} is a {use.component.kind}")
    with isolated_randomness("method"):
        found = use.component.find(patches, DiscoverySettings())
    if not isinstance(found, FoundObjects):
        raise PruningBenchError(f"it returned a {type(found).__name__}, not FoundObjects")
    return found


def found_objects(use: Use, registry: Registry) -> Iterator[str]:
    """Boxes are drawn around masks: give bool masks, (B, h, w) of the foreground and (B, K, h, w) of objects."""
    del registry
    found = objects(use, planted())
    for name, mask, expected in (("foreground", found.foreground, 3), ("objects", found.objects, 4)):
        shape = (*mask.shape[:1], *mask.shape[-2:])
        if mask.dtype != torch.bool or mask.ndim != expected or shape != (COUNT, GRID, GRID):
            yield f"{name} is {tuple(mask.shape)} {mask.dtype} for {COUNT} images of {GRID} x {GRID} patches"


def repeatable_objects(use: Use, registry: Registry) -> Iterator[str]:
    """Rows are run again: find the same objects each time."""
    del registry
    first, second = objects(use, planted()), objects(use, planted())
    if not torch.equal(first.foreground, second.foreground) or not torch.equal(first.objects, second.objects):
        yield "two calls find different objects"


def of_each_image(use: Use, registry: Registry) -> Iterator[str]:
    """Batch sizes are chosen for speed: what is found in an image does not depend on the others."""
    del registry
    patches = planted()
    together = objects(use, patches).foreground
    alone = torch.cat([objects(use, of_image(patches, i)).foreground for i in range(COUNT)])
    if not torch.equal(together, alone):
        yield "the other images of the batch change what is found"


def unchanged_patches(use: Use, registry: Registry) -> Iterator[str]:
    """Methods share the features: change nothing in them, and work on copies."""
    del registry
    patches = planted()
    objects(use, patches)
    if not torch.equal(patches.features, planted().features):
        yield "it changed the features"


def the_object(use: Use, registry: Registry) -> Iterator[str]:
    """Objects are foreground: a small object before an even background must be found, and not the background."""
    del registry
    found = objects(use, planted()).foreground.float()
    inside = torch.zeros(GRID, GRID, dtype=torch.bool)
    inside[OBJECT, OBJECT] = True
    on, off = float(found[:, inside].mean()), float(found[:, ~inside].mean())
    if on <= off:
        yield f"of a planted object it finds {on:.0%}, and of the background {off:.0%}"


DISCOVERY_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "objects": found_objects,
    "repeatable": repeatable_objects,
    "batch invariance": of_each_image,
    "leaves no trace": unchanged_patches,
    "direction": the_object,
}
