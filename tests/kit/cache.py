"""A cache that keeps nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pruningbench.contract import TensorCache


class NoCache(TensorCache):
    """Makes what is asked for each time."""

    def tensors(self, room: str, identity: Any, make: Any) -> dict[str, Tensor]:
        made: dict[str, Tensor] = make()
        return made
