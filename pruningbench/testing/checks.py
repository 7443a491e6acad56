"""Which checks a component of each kind has to pass, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pruningbench.contract.component import Kind, Use
from pruningbench.errors import PluginError
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.binding import bind
from pruningbench.testing.components import COMPONENT_CHECKS
from pruningbench.testing.datasets import DATASET_CHECKS
from pruningbench.testing.methods import ATTRIBUTION_CHECKS, DISCOVERY_CHECKS
from pruningbench.testing.metrics import METRIC_CHECKS
from pruningbench.testing.models import MODEL_CHECKS
from pruningbench.testing.pruners import PRUNER_CHECKS
from pruningbench.testing.recipes import RECIPE_CHECKS
from pruningbench.testing.tasks import TASK_CHECKS

Check = Callable[[Use, Registry], Iterator[str]]
"""Yields what is wrong with a component, one sentence per problem."""

_OF_KIND: dict[str, dict[str, Check]] = {
    "pruner": PRUNER_CHECKS, "dataset": DATASET_CHECKS, "task": TASK_CHECKS, "model": MODEL_CHECKS,
    "metric": METRIC_CHECKS, "recipe": RECIPE_CHECKS, "attribution-method": ATTRIBUTION_CHECKS,
    "discovery-method": DISCOVERY_CHECKS,
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A violation of the contract by a component.

    Attributes:
        component: kind and name.
        check: name of the check.
        what: what is wrong.
        remedy: why it matters and what to do, the docstring of the check.
    """

    component: str
    check: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.component}, {self.check}: {self.what}. {self.remedy}"


def findings(kind: Kind, name: str, *, registry: Registry | None = None, **fields: Any) -> Iterator[Finding]:
    """Yield the violations of the contract by a registered component; nothing if it has none.

    Args:
        kind: kind of component. Every kind has checks of class and fields, and is also run: metrics on planted
            outputs, recipes and methods on a small network, tasks on few samples of their data, unless files that
            they need are not on this machine.
        name: registered name.
        registry: where it is registered; the installed plugins by default.
        fields: fields of the component: required ones, and ones that make it fast.

    Raises:
        UnknownComponentError: for a name that is not registered.
        BindingError: for fields that it lacks or refuses.
    """
    registry = registry or load_registry()
    use = bind(registry, kind, {"use": name, **fields})
    absent = getattr(use.component, "missing", None)
    running = {} if absent is not None and absent() else _OF_KIND.get(kind, {})
    for title, run in {**COMPONENT_CHECKS, **running}.items():
        remedy = " ".join((run.__doc__ or "").split())
        try:
            yield from (Finding(f"{kind} {use.name!r}", title, what, remedy) for what in run(use, registry))
        except Exception as error:  # noqa: BLE001 - anybody's component; what it raises is a finding
            what = f"raised {type(error).__name__}: {error}"
            yield Finding(f"{kind} {use.name!r}", title, what.splitlines()[0], remedy)


def check(kind: Kind, name: str, *, registry: Registry | None = None, **fields: Any) -> None:
    """Raise an error that lists all findings on a component; return silently if there are none.

    Arguments and errors are those of `findings`.

    Raises:
        PluginError: with one line per finding.
    """
    problems = list(map(str, findings(kind, name, registry=registry, **fields)))
    if problems:
        raise PluginError("\n".join(problems))


__all__ = ["Finding", "check", "findings"]
