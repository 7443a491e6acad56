"""Recipes: prune only, prune and fine-tune, or prune in rounds with training between them."""

from __future__ import annotations

from pruningbench.contract import Register, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_recipes(register: Register) -> None:
    """Register the recipes."""
    register("none", "pruningbench_recipes.basic:NoTraining")
    register("finetune", "pruningbench_recipes.basic:Finetune")
    register("iterative", "pruningbench_recipes.iterative:Iterative")
