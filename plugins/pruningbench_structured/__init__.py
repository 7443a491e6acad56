"""Structured pruning: whole channels, found with the dependency graph of the Torch-Pruning library, and whole blocks.

`shrink` physically removes the channels and blocks that masks leave empty, and `compare_size` measures the gain. Both
are loaded on first use; for channels they need the library: ``pip install 'pruningbench[structured]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_structured.shrinking import shrink
    from pruningbench_structured.size import Size, SizeChange, compare_size

__all__ = ["Size", "SizeChange", "compare_size", "shrink"]


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    """Register `structured`, `blocks` and `snapvit`."""
    register("structured", "pruningbench_structured.pruner:Structured")
    register("blocks", "pruningbench_structured.blocks:Blocks")
    register("snapvit", "pruningbench_structured.snapvit:SnapVit")


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register `shrunk-efficiency`."""
    register("shrunk-efficiency", "pruningbench_structured.efficiency:ShrunkEfficiency")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pruningbench_structured import shrinking, size

    return getattr(shrinking if name == "shrink" else size, name)
