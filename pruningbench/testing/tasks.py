"""Checks of tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pruningbench.contract.component import Use
from pruningbench.contract.task import Task
from pruningbench.plugins import Registry

_NAME = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*)?")


def dimension(use: Use, registry: Registry) -> Iterator[str]:
    """Ranks and sweet spots are stated per dimension: name one in kebab-case, or none for the task's own name."""
    del registry
    if isinstance(use.component, Task):
        stated: object = type(use.component).dimension
        if not isinstance(stated, str) or not _NAME.fullmatch(stated):
            yield f"its dimension {stated!r} is not a name in kebab-case"


TASK_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {"dimension": dimension}
