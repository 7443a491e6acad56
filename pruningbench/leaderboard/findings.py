"""Sweet spots, Pareto fronts and contests as JSON values."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from pruningbench.contract.findings import SweetSpot
from pruningbench.leaderboard.contests import contests
from pruningbench.leaderboard.pareto import pareto_fronts
from pruningbench.leaderboard.rows import Board
from pruningbench.leaderboard.sweetspots import sweet_spots


def finding_values(board: Board) -> dict[str, Any]:
    """Return ``{"sweet_spots": [...], "pareto": [...], "contests": [...]}`` of a board as JSON values.

    The items have the fields of `SweetSpot`, `ParetoFront` and `Contest`; a sweet spot also has ``sentence``,
    ``sparsities``, ``kept_up_to``, ``shown_up_to`` and ``lost_at``. NaN becomes null, and infinity the text "inf" or
    "-inf".
    """
    return {
        "sweet_spots": [{**json_value(spot), **_derived(spot)} for spot in sweet_spots(board)],
        "pareto": [json_value(front) for front in pareto_fronts(board)],
        "contests": [json_value(contest) for contest in contests(board)],
    }


def _derived(spot: SweetSpot) -> dict[str, Any]:
    names = ("sentence", "sparsities", "kept_up_to", "shown_up_to", "lost_at")
    return {name: json_value(getattr(spot, name)) for name in names}


def json_value(value: Any) -> Any:
    """Return dataclasses, tuples and numbers as JSON values."""
    if is_dataclass(value):
        return {field.name: json_value(getattr(value, field.name)) for field in fields(value) if field.name != "words"}
    if isinstance(value, (tuple, list)):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{value}"
    return value
