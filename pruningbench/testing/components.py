"""Checks of any component: its class, its fields and its documentation."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable, Iterator

from pruningbench.contract.component import Use
from pruningbench.plugins import Registry
from pruningbench.suite.binding import bind


def documentation(use: Use, registry: Registry) -> Iterator[str]:
    """Users choose by `list` and `show`: give the class a docstring whose first line is a sentence."""
    del registry
    component = type(use.component)
    text = inspect.cleandoc(vars(component).get("__doc__") or "")
    if not text or text.startswith(f"{component.__name__}("):  # what a dataclass generates
        yield f"{component.__name__} has no docstring"
    elif not text.splitlines()[0].rstrip().endswith((".", "!")):
        yield f"the first line of its docstring is not a sentence: {text.splitlines()[0]!r}"


def fields(use: Use, registry: Registry) -> Iterator[str]:
    """Fields are shown by `show` and in the docs: declare each with ``param(default, doc="meaning, unit, range")``."""
    del registry
    for field in dataclasses.fields(use.component):
        if not field.metadata.get("doc"):
            yield f"field {field.name!r} has no documentation"


def round_trip(use: Use, registry: Registry) -> Iterator[str]:
    """A run folder keeps the suite with all fields spelled out, which must give the same component again."""
    again = bind(registry, use.component.kind, use.spec())
    if again.component != use.component:
        yield f"its spec {use.spec()!r} gives another component"
    elif again.identity() != use.identity():
        yield f"its spec {use.spec()!r} gives another identity"


def picklable(use: Use, registry: Registry) -> Iterator[str]:
    """Executors send components to other processes: keep no open files, locks or functions in fields."""
    del registry
    pickle.dumps(use.component)  # raises for what cannot be pickled, which is a finding
    if copy.deepcopy(use.component) != use.component:  # by the same protocol, and loads no pickle
        yield "a copy is not equal to it"


COMPONENT_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "documentation": documentation,
    "fields": fields,
    "round trip": round_trip,
    "picklable": picklable,
}
