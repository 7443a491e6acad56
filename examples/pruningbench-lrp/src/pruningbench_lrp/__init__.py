"""Registers the pruners `lrp` and `lrp-weights`; imports nothing heavy, so that every command stays fast."""

from pruningbench.contract import Register, hookimpl

pruningbench_contract = "1.0"
"""Version of the contract that this plugin is written for."""


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    """Register the pruners; their module is imported when one of them is first used."""
    register("lrp", "pruningbench_lrp.pruners:Lrp")
    register("lrp-weights", "pruningbench_lrp.pruners:LrpWeights")
