"""Pruning at initialization, safe on pretrained weights: SNIP, iterative SNIP, FORCE, GraSP, SynFlow, NTK-SAP, PX."""

from __future__ import annotations

from pruningbench.contract import Register, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    """Register the pruners designed for pruning at initialization."""
    register("snip", "pruningbench_pai.sensitivity:Snip")
    register("iterative-snip", "pruningbench_pai.sensitivity:IterativeSnip")
    register("force", "pruningbench_pai.sensitivity:Force")
    register("grasp", "pruningbench_pai.sensitivity:Grasp")
    register("synflow", "pruningbench_pai.flow:SynFlow")
    register("ntk-sap", "pruningbench_pai.kernel:NtkSap")
    register("px", "pruningbench_pai.kernel:PathExclusion")
