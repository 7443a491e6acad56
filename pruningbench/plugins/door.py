"""The door: one plugin manager for all plugins, which calls every hook and contains every failure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pluggy

from pruningbench import hookspecs

Report = Callable[[str, str], None]
"""A callback that receives the name of a plugin and what went wrong in it."""


class Door:
    """Calls the hooks of each plugin separately.

    pluggy finds the implementations and checks their names and arguments. This class makes the calls, one by one,
    because pluggy stops at the first exception and does not say which plugin raised it.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)

    def admit(self, name: str, module: ModuleType | object) -> None:
        """Register a plugin's module, or any object with hooks.

        Raises:
            pluggy.PluginValidationError: for a hook that does not exist or has other arguments.
            ValueError: for a plugin that has already been admitted.
        """
        try:
            self.manager.register(module, name=name)
            self.manager.check_pending()
        except pluggy.PluginValidationError:
            self.dismiss(name)
            raise

    def dismiss(self, name: str) -> None:
        """Unregister a plugin; do nothing if it is not registered."""
        if self.manager.has_plugin(name):
            self.manager.unregister(name=name)

    @contextmanager
    def admitted(self, name: str, observer: object | None) -> Iterator[None]:
        """Admit an observer for the duration of the block."""
        if observer is None:
            yield
            return
        self.admit(name, observer)
        try:
            yield
        finally:
            self.dismiss(name)

    def implemented(self, name: str) -> list[str]:
        """Return the hooks that a plugin implements."""
        callers = self.manager.get_hookcallers(self.manager.get_plugin(name)) or []
        return sorted(caller.name for caller in callers)

    def call_one(self, name: str, hook: str, **arguments: Any) -> None:
        """Call a hook of one plugin if the plugin implements it; exceptions propagate."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                implementation.function(*(arguments[argument] for argument in implementation.argnames))

    def tell(self, hook: str, report: Report, silent: Container[str] = (), **arguments: Any) -> None:
        """Call a hook of all plugins except the `silent` ones, in the order in which they were admitted.

        A failure in one plugin is reported, and the others are still called.
        """
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name in silent:
                continue
            try:
                implementation.function(*(arguments[argument] for argument in implementation.argnames))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - an observer may raise anything
                report(implementation.plugin_name, f"{hook}: {type(error).__name__}: {error}")
