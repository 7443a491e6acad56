"""What the modules of a network are called with, and what they return."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """What a module was called with, and the result; `times` says how often it was called."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    times: int

    def again(self, module: nn.Module) -> Any:
        """Run a module on the same arguments."""
        return module(*(a.clone() if isinstance(a, Tensor) else a for a in self.args), **self.kwargs)


def recorded_calls(
    network: nn.Module, images: Tensor, modules: Iterable[nn.Module] | None = None
) -> dict[nn.Module, Call]:
    """Run a network and return the last call of modules; arguments are copies.

    Args:
        network: to run once, without gradients.
        images: (B, ...) inputs that it accepts.
        modules: whose calls to record; by default those that have parameters. Without any, the network is not run.
    """
    if modules is None:
        modules = [module for module in network.modules() if any(True for _ in module.parameters())]
    calls: dict[nn.Module, Call] = {}
    given: dict[nn.Module, tuple[Any, ...]] = {}

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        given[module] = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)

    def after(module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        times = calls[module].times + 1 if module in calls else 1
        calls[module] = Call(given.pop(module), kwargs, output, times)

    handles = []
    for module in modules:
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after, with_kwargs=True)]
    try:
        if handles:
            with torch.no_grad():
                network(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls
