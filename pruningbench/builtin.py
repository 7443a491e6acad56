"""What the core itself brings through the door of plugins."""

from __future__ import annotations

from pruningbench.hookspecs import RegisterFunction, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_executors(register: RegisterFunction) -> None:
    """Register the executors of the harness; ``ray`` says what to install if Ray is missing."""
    register("serial", "pruningbench.harness.executors:SerialExecutor")
    register("processes", "pruningbench.harness.executors:ProcessesExecutor")
    register("ray", "pruningbench.harness.raycluster:RayExecutor")


@hookimpl
def pruningbench_register_exhibits(register: RegisterFunction) -> None:
    """Register how maps, boxes and concepts are drawn."""
    register("maps", "pruningbench.leaderboard.grids:grids")
    register("boxes", "pruningbench.leaderboard.grids:grids")
    register("concepts", "pruningbench.leaderboard.sheets:sheets")


@hookimpl
def pruningbench_register_figures(register: RegisterFunction) -> None:
    """Register the figures of a run."""
    register("curves", "pruningbench.leaderboard.curves:all_curves")
    register("profiles", "pruningbench.leaderboard.profiles:profile_figures")


@hookimpl
def pruningbench_register_columns(register: RegisterFunction) -> None:
    """Register columns that a leaderboard shows on request."""
    register("achieved", "pruningbench.leaderboard.columns:achieved")
    register("seconds", "pruningbench.leaderboard.columns:seconds")
