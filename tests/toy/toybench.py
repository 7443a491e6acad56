"""A third party's plugin, registered through its own entry point; the tests put this folder on the path.

Like any good plugin it registers names and imports nothing heavy.
"""

from __future__ import annotations

from pruningbench.hookspecs import Register, hookimpl


@hookimpl
def pruningbench_register_models(register: Register) -> None:
    register("toy-net", "toybench_parts:ToyModel")


@hookimpl
def pruningbench_register_datasets(register: Register) -> None:
    register("toy-data", "toybench_parts:ToyData")


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    register("toy-pruner", "toybench_parts:ToyPruner")


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    register("toy-task", "toybench_parts:ToyTask")
    register("toy-fault", "toybench_faults:ToyFault")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    register("toy-accuracy", "toybench_parts:ToyAccuracy")
    register("toy-margin", "toybench_parts:ToyMargin")
    register("toy-median", "toybench_parts:ToyMedian")
