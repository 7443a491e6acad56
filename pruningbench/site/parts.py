"""Controls that several pages have."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pruningbench.site.html import Html, e

BOARD_SCRIPTS = ("assets/board.js",)
"""What a page that shows a board runs first."""


def segments(name: str, legend: str, choices: Sequence[tuple[str, str]]) -> Html:
    """Return a choice between few things: the group ``NAME-group`` of radio buttons, none of which is checked yet.

    Args:
        name: name of the group.
        legend: what is chosen.
        choices: value and text of each.
    """
    labels = [e("label", e("input", type="radio", name=name, value=value), e("span", text)) for value, text in choices]
    group = e("div", labels, class_="segments")
    return e("fieldset", e("legend", legend), group, class_="field", id=f"{name}-group")


def percent(share: float) -> str:
    """Write a sparsity as the scripts of the pages do: ``80 %``, ``83.2 %``; beyond 99 % with all its digits."""
    return f"{100 * share:.6g} %" if share > 0.99 or share < 0.001 else f"{math.floor(1000 * share + 0.5) / 10:g} %"
