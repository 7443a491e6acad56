"""The hooks a plugin may implement: one for each kind of component."""

from __future__ import annotations

from typing import Protocol

import pluggy

PROJECT = "pruningbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """Registers a component under a kebab-case name, as a class or as ``"module:Class"``."""

    def __call__(self, name: str, component: type | str) -> None:
        """Register `component` as `name`."""
        ...


@hookspec
def pruningbench_register_models(register: Register) -> None:
    """Register models: ``register(name, component)``, subclasses of `pruningbench.Model`."""


@hookspec
def pruningbench_register_pruners(register: Register) -> None:
    """Register pruners: ``register(name, component)``, subclasses of `pruningbench.Pruner`."""


@hookspec
def pruningbench_register_tasks(register: Register) -> None:
    """Register tasks: ``register(name, component)``, subclasses of `pruningbench.Task`."""


@hookspec
def pruningbench_register_metrics(register: Register) -> None:
    """Register metrics: ``register(name, component)``, subclasses of `pruningbench.Metric`."""


@hookspec
def pruningbench_register_datasets(register: Register) -> None:
    """Register data sets: ``register(name, component)``, subclasses of `pruningbench.Dataset`."""
