"""The registered attribution methods, for tests that call them without a suite."""

from __future__ import annotations

from typing import Any

from pruningbench.contract import AttributionMethod, Use
from pruningbench.plugins import load_registry
from pruningbench.suite.binding import bind


def look_up(kind: Any, reference: Any) -> Use:
    """Look up a component as the harness does for `Context.component`."""
    return bind(load_registry(), kind, reference)


METHODS: dict[str, AttributionMethod] = {
    one.name: look_up("attribution-method", one.name).component  # type: ignore[misc]
    for one in load_registry().registrations("attribution-method")
}
"""Name -> method, with the defaults of its fields."""
