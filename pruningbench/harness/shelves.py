"""Shelves: data sets and models opened by reference, each once per process, and guarded while they are lent."""

from __future__ import annotations

from collections.abc import Callable

from pruningbench.base.identity import derive_seed, tensors_digest
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import ComponentRef, Context, Dataset, Model, Samples, Use, VisionModel
from pruningbench.errors import PluginError
from pruningbench.harness.artifacts import Parts, key_of, model_parts
from pruningbench.harness.lending import Loan
from pruningbench.harness.lent import LentSamples
from pruningbench.harness.limited import limited
from pruningbench.plugins import Registry
from pruningbench.suite.binding import bind


class DataShelf:
    """Opens data sets by reference; each is loaded once per process.

    Args:
        registry: where references are looked up.
        context: makes the context in which they are loaded.
        limit: largest number of samples of each; 0 for all.
    """

    def __init__(self, registry: Registry, context: Callable[[], Context], limit: int = 0) -> None:
        self.registry, self._context, self._limit = registry, context, limit
        self._open: dict[str, Samples] = {}
        self._lent: list[LentSamples] = []

    def __call__(self, reference: ComponentRef) -> Samples:
        """Return the samples that `reference` names."""
        return self.open(bind(self.registry, "dataset", reference))

    def open(self, use: Use) -> Samples:
        """Return the samples of a bound data set."""
        key = key_of(use)
        if key not in self._open:
            component = use.component
            if not isinstance(component, Dataset):
                raise PluginError(f"{use.name!r} is a {component.kind}, not a dataset")
            samples = component.load(self._context())
            if not isinstance(samples, Samples):
                raise PluginError(f"dataset {use.name!r} loaded a {type(samples).__name__}, not Samples")
            if not isinstance(samples.fingerprint, str) or not samples.fingerprint:
                raise PluginError(
                    f"dataset {use.name!r}: its fingerprint is {samples.fingerprint!r}, but must be text that changes "
                    "with the content; without it values of other data would count as the same"
                )
            if self._limit:
                samples = limited(samples, self._limit)
            self._open[key] = samples
            self._lent.append(LentSamples(samples))
        return self._open[key]

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each opened data set, by the key of its use."""
        return {key: str(samples.fingerprint) for key, samples in self._open.items()}

    def collect(self) -> list[str]:
        """Restore labels, boxes and images that a borrower changed; return what it changed, in words."""
        return [what for lent in self._lent for what in lent.collect()]


class ModelShelf:
    """Loads models by reference, for tasks that need a second model; each is loaded once per process."""

    def __init__(self, registry: Registry, context: Callable[[int], Context]) -> None:
        self.registry, self._context = registry, context
        self._open: dict[str, Loan] = {}

    def __call__(self, reference: ComponentRef) -> VisionModel:
        """Return the dense model that `reference` names."""
        return self.open(bind(self.registry, "model", reference))

    def open(self, use: Use) -> VisionModel:
        """Return the dense model of a bound reference."""
        key = key_of(use)
        if key not in self._open:
            self._open[key] = Loan(load_model(use, self._context))
        return self._open[key].model

    def parts(self) -> dict[str, Parts]:
        """Return the parts that identify each model, by the key of its use."""
        return {key: model_parts(loan.original) for key, loan in self._open.items()}

    def collect(self) -> list[str]:
        """Replace the models that a borrower changed; return what it changed, in words."""
        return [what for loan in self._open.values() for what in loan.collect()]


def load_model(use: Use, context: Callable[[int], Context]) -> VisionModel:
    """Load a bound model, in eval mode, and fingerprint its weights.

    Raises:
        PluginError: if the component is not a model, or does not load a `VisionModel`.
    """
    component = use.component
    if not isinstance(component, Model):
        raise PluginError(f"{use.name!r} is a {component.kind}, not a model")
    identity = use.identity()
    with isolated_randomness("load", identity):
        dense = component.load(context(derive_seed("load", identity)))
    if not isinstance(dense, VisionModel):
        raise PluginError(f"model {use.name!r} loaded a {type(dense).__name__}, not a VisionModel")
    dense.network.eval()
    dense.fingerprint = tensors_digest(dict(dense.network.state_dict()))[:16]
    return dense
