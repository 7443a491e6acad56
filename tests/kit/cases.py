"""How many cases a property test draws."""

from __future__ import annotations

import os

from hypothesis import settings

EXPLORING = os.environ.get("PRUNINGBENCH_HYPOTHESIS") == "explore"


def cases(count: int) -> settings:
    """Draw `count` cases, always the same ones; ten times as many new ones under ``make test-explore``."""
    return settings(max_examples=count * 10 if EXPLORING else count)
