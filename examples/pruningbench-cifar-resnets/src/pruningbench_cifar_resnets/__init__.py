"""Registers the model `cifar-resnet`; imports nothing heavy, so that every command stays fast."""

from pruningbench.contract import Register, hookimpl

pruningbench_contract = "1.0"
"""Version of the contract that this plugin is written for."""


@hookimpl
def pruningbench_register_models(register: Register) -> None:
    """Register the model; its module is imported when it is first used."""
    register("cifar-resnet", "pruningbench_cifar_resnets.model:CifarResNetModel")
