"""Formatting of numbers in tables."""

from __future__ import annotations

import math
from collections.abc import Iterable


def decimals_for(values: Iterable[float]) -> int | None:
    """Return how many decimals make a column readable, or None for scientific notation.

    The largest value decides: three decimals below 10, two below 100, one below 1000, none below a million; scientific
    notation above that and for values so small that three decimals would show little but zeros.
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes:
        return 3
    largest = max(sizes)
    if largest >= 1e6 or largest < 5e-3:
        return None
    return 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0


def number(value: float, decimals: int | None) -> str:
    """Format a number without a zero before the point: ``.912``, ``-.05``, ``1.000``; NaN as ``nan``."""
    if not math.isfinite(value):
        return f"{value}"
    if decimals is None:
        return f"{value:.2e}"
    text = f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
