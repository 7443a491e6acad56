"""What the observers have in common: the values of a task, and the error for a library that is not installed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from pruningbench.contract import UsageError


def library(name: str, extra: str) -> Any:
    """Return a module.

    Raises:
        UsageError: if it is not installed, with the extra that brings it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            f"--observer {extra} needs {error.name or name}: pip install 'pruningbench[{extra}]'"
        ) from None


def values_of(task: str, records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield ``task/metric`` or ``task/variant/metric``, and the value, for each finite value of a task."""
    for record in records:
        value = record["value"]
        if record["status"] == "ok" and isinstance(value, float) and math.isfinite(value):
            yield "/".join(filter(None, (task, record["variant"], record["metric"]))), value
