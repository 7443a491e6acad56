"""Random, magnitude and N:M pruning, with all common ways to allocate a sparsity to layers.

`lamp_scores` can be used without the harness; it is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_magnitude.lamp import lamp_scores

__all__ = ["lamp_scores"]


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    """Register `random`, `magnitude` and `n-m`."""
    register("random", "pruningbench_magnitude.pruners:Random")
    register("magnitude", "pruningbench_magnitude.pruners:Magnitude")
    register("gradual", "pruningbench_magnitude.moving:Gradual")
    register("movement", "pruningbench_magnitude.moving:Movement")
    register("rigl", "pruningbench_magnitude.moving:Rigl")
    register("n-m", "pruningbench_magnitude.n_m:NOfM")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pruningbench_magnitude import lamp

    return getattr(lamp, name)
