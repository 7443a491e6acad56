"""Second-order pruners: diagonal, block and layer-wise curvature, with and without weight updates.

The linear algebra can be used without the harness; it is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_hessian.blocks import BlockGram
    from pruningbench_hessian.surgeon import greedy_removals, joint_update

__all__ = ["BlockGram", "greedy_removals", "joint_update"]


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    """Register the pruners of this plugin."""
    register("obd", "pruningbench_hessian.scores:Obd")
    register("taylor", "pruningbench_hessian.scores:Taylor")
    register("block-fisher", "pruningbench_hessian.scores:BlockFisher")
    register("wanda", "pruningbench_hessian.scores:Wanda")
    register("obs", "pruningbench_hessian.updates:Obs")
    register("cap", "pruningbench_hessian.updates:Cap")
    register("layer-obs", "pruningbench_hessian.updates:LayerObs")
    register("sparse-swaps", "pruningbench_hessian.swapping:SparseSwaps")
    register("block-hessian", "pruningbench_hessian.hutchinson:BlockHessian")
    register("oba", "pruningbench_hessian.apoptosis:Oba")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pruningbench_hessian import blocks, surgeon

    return getattr(blocks if name == "BlockGram" else surgeon, name)
