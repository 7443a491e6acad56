"""What stands beside ``use:`` in a suite and is not a field of the component: its label, and which cells it is for."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.base.identity import content_hash
from pruningbench.contract.component import ComponentRef, Use
from pruningbench.plugins import Registry
from pruningbench.suite.binding import BindingError
from pruningbench.suite.filters import Filter
from pruningbench.suite.labels import DENSE, LONGEST

FOR = "for"
"""Key of a pruner, recipe or task: the models that it is for."""
LIMITED = ("pruners", "recipes", "tasks")
ONLY = "only"
"""Key of a pruner or recipe: the seeds and sparsities of the suite that it is for."""
RESTRICTED = ("pruners", "recipes")
AS = "as"
"""Key of a model or pruner: its label in tables. It changes no key and no result.

The labels of recipes and tasks have a meaning of their own: they say whether anything is trained, and which dimension a
value belongs to."""
ALIASED = ("models", "pruners")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of suites, and labels that a suite gives."""


def without_beside(key: str, reference: ComponentRef) -> ComponentRef:
    """Return an item of a suite's list `key` without the keys of this module."""
    if not isinstance(reference, Mapping):
        return reference
    beside = [word for word, keys in ((FOR, LIMITED), (ONLY, RESTRICTED), (AS, ALIASED)) if key in keys]
    return {name: value for name, value in reference.items() if name not in beside}


def with_beside(key: str, reference: ComponentRef, use: Use, registry: Registry) -> Use:
    """Return a component with the label and the cells that the item `reference` of list `key` states.

    Args:
        key: ``models``, ``pruners``, ``recipes`` or ``tasks``; other lists have nothing beside the fields.
        reference: the item.
        use: the component of the item.
        registry: the installed components; a label must not be the name of another one of the kind.

    Raises:
        BindingError: if a value is not allowed.
    """
    if not isinstance(reference, Mapping):
        return use
    if key in LIMITED and FOR in reference:
        use = dataclasses.replace(use, only_for=_models(reference[FOR]))
    if key in RESTRICTED and ONLY in reference:
        use = _only(use, reference[ONLY])
    if key in ALIASED and AS in reference:
        use = dataclasses.replace(use, alias=_alias(reference[AS], use, registry))
    return use


def item_of(use: Use) -> ComponentRef:
    """Return a component's item in a suite, with its label and the cells that it is for."""
    spec = use.spec()
    beside: dict[str, Any] = {AS: use.alias} if use.alias else {}
    if use.only_for:
        beside[FOR] = list(use.only_for)
    if only := only_of(use):
        beside[ONLY] = only
    return {**(spec if isinstance(spec, dict) else {"use": spec}), **beside} if beside else spec


def only_of(use: Use) -> dict[str, list[float]]:
    """Return the seeds and sparsities that a component is for; no entry where it is for all."""
    given: dict[str, list[float]] = {"seeds": list(use.only_seeds), "sparsities": list(use.only_sparsities)}
    return {key: values for key, values in given.items() if values}


def is_for(use: Use, model: Use) -> bool:
    """Whether a pruner, recipe or task of a suite is for a model (``for:``)."""
    return not use.only_for or any(Filter("for", "model", label).matches(model.label) for label in use.only_for)


def repeated_label(uses: Sequence[Use]) -> int | None:
    """Return the place of the first component whose given label another one has too; None if there is none."""
    labels = Counter(label for label, _ in {(use.label, content_hash(use.identity())) for use in uses})
    return next((i for i, use in enumerate(uses) if use.alias and labels[use.alias] > 1), None)


def repeated(uses: Sequence[Use], models: Sequence[Use] | None = None) -> tuple[int, int, str] | None:
    """Return the places of two items that are one component, and for which model; None if there are none.

    Args:
        uses: the items.
        models: if given, an item may come again, with other seeds or sparsities, for other ones of these models.
    """
    identities = [content_hash(use.identity()) for use in uses]
    for j, use in enumerate(uses):
        for i in (i for i in range(j) if identities[i] == identities[j]):
            if models is None:
                return i, j, ""
            for model in models:
                if is_for(use, model) and is_for(uses[i], model):
                    return i, j, f" for {model.label}"
    return None


def _models(value: Any) -> tuple[str, ...]:
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        wrong = f"for: must be a list of labels of models, such as [resnet] or ['vit*'], got {value!r}"
        raise BindingError(wrong, (FOR,))
    return tuple(labels)


def _only(use: Use, value: Any) -> Use:
    if not isinstance(value, Mapping) or not value or not value.keys() <= {"seeds", "sparsities"}:
        wrong = f"only: must be a mapping with seeds or sparsities, such as {{seeds: [0]}}, got {value!r}"
        raise BindingError(wrong, (ONLY,))
    for key, values in value.items():
        kinds = int if key == "seeds" else (int, float)
        if (
            not isinstance(values, list)
            or not values
            or not all(type(item) is not bool and isinstance(item, kinds) for item in values)
        ):
            raise BindingError(f"only.{key}: must be a list of {key} of the suite, got {values!r}", (ONLY, key))
    seeds, sparsities = value.get("seeds", []), value.get("sparsities", [])
    return dataclasses.replace(use, only_seeds=tuple(seeds), only_sparsities=tuple(map(float, sparsities)))


def _alias(value: Any, use: Use, registry: Registry) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value) or len(value) > LONGEST:
        words = f"text of at most {LONGEST} letters, digits, '.', '_' and '-'"
        raise BindingError(f"as: must be {words}, got {value!r}", (AS,))
    kind = use.component.kind
    if value == DENSE or (value in registry.names(kind) and value != use.name):
        raise BindingError(f"as: {value!r} is the name of another {kind}; choose a name that no component has", (AS,))
    return value
