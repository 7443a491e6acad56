"""Checks of data sets: what they load is the same each time and can be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import torch

from pruningbench.contract import Context, Dataset, Samples, Use
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind

MOST = 64
"""Maximum number of samples to look at."""


def load(use: Use, registry: Registry) -> Samples:
    """Load a data set as the harness does."""

    def open_dataset(reference: object) -> Samples:
        return load(bind(registry, "dataset", reference), registry)

    component = use.component
    if not isinstance(component, Dataset):
        raise PruningBenchError(f"{use.name!r} is a {component.kind}")
    samples = component.load(Context(torch.device("cpu"), 0, Cache(), open_dataset))
    if not isinstance(samples, Samples):
        raise PruningBenchError(f"it loaded a {type(samples).__name__}, not Samples")
    return samples


def fingerprint(use: Use, registry: Registry) -> Iterator[str]:
    """Caches and tables distinguish data by fingerprint: derive it from the content, the same on every load."""
    first, second = load(use, registry).fingerprint, load(use, registry).fingerprint
    if not isinstance(first, str) or not first:
        yield f"its fingerprint is {first!r}, not text"
    elif first != second:
        yield f"its fingerprint is {first!r} and then {second!r}"


def samples(use: Use, registry: Registry) -> Iterator[str]:
    """Results are paired by sample: give each sample its own key, an image, and a label within the classes."""
    loaded = load(use, registry)
    if not len(loaded):
        yield "it has no samples"
        return
    looked_at = [loaded[i] for i in range(min(len(loaded), MOST))]
    key, count = Counter(sample.key for sample in looked_at).most_common(1)[0]
    if count > 1:
        yield f"{count} samples have the key {key!r}"
    for sample in looked_at:
        if sample.image.ndim != 3 or sample.image.dtype != torch.uint8:
            shape = tuple(sample.image.shape)
            yield f"the image of {sample.key!r} is {shape} {sample.image.dtype}, not (C, H, W) uint8"
            return
        if sample.label is not None and loaded.classes and not 0 <= sample.label < len(loaded.classes):
            yield f"the label of {sample.key!r} is {sample.label}, and there are {len(loaded.classes)} classes"
            return


DATASET_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "fingerprint": fingerprint,
    "samples": samples,
}
