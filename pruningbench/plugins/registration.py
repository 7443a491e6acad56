"""Registrations of plugins: a component or an extension under a name, imported when first needed."""

from __future__ import annotations

import ast
import re
import typing
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pruningbench.contract.component import BUILT_IN, KINDS, Component, Kind
from pruningbench.errors import PluginError
from pruningbench.plugins.containment import contained

Extension = Literal["suite", "executor", "observer", "exhibit", "figure", "column", "statement"]
EXTENSIONS: tuple[Extension, ...] = typing.get_args(Extension)
"""What plugins add besides components: files and functions that have no parameters in a suite."""

_TARGET = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True)
class Plugin:
    """A plugin that was found: entry-point name, distribution and version."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that does not work, or that has a component that does not work, and the reason."""

    plugin: Plugin
    reason: str


@dataclass
class Registration:
    """A registered component or extension.

    Attributes:
        kind: kind of component (`KINDS`) or extension (`EXTENSIONS`).
        name: kebab-case name that the plugin gave it.
        target: the object itself or ``"module:name"``; for a suite, its file.
        plugin: the plugin that registered it.
    """

    kind: Kind | Extension
    name: str
    target: Any
    plugin: Plugin

    @property
    def full_name(self) -> str:
        """The name ``distribution/name``, which always finds it."""
        return f"{self.plugin.distribution}/{self.name}"

    @property
    def what(self) -> str:
        """Kind, name and plugin, for messages."""
        return f"{self.kind} {self.name!r} of plugin {self.plugin}"

    def check(self) -> None:
        """Check the target as far as possible without importing it.

        Raises:
            PluginError: for a target that cannot be what it is registered as.
        """
        if self.kind == "suite":
            if not isinstance(self.target, Path) or not self.target.is_file():
                raise PluginError(f"{self.what}: {self.target!r} is not the path of a file")
        elif isinstance(self.target, str):
            if not _TARGET.fullmatch(self.target):
                raise PluginError(f"{self.what}: {self.target!r} is not 'module:name'")
        else:
            self._check_object(self.target)

    def load(self) -> Any:
        """Return the registered object, importing it if necessary; for a suite, return the path of its file.

        Raises:
            PluginError: if it cannot be imported, or is not what it is registered as.
        """
        if isinstance(self.target, str):
            module, _, attribute = self.target.partition(":")
            changed: list[str] = []
            own = self.plugin.distribution == BUILT_IN
            try:
                with nullcontext() if own else contained(self.what, changed.append, slow=False):
                    value = getattr(import_module(module), attribute)
            except (Exception, SystemExit) as error:  # a third-party module may raise anything
                raise PluginError(
                    f"{self.what} cannot be imported from {self.target!r}: {type(error).__name__}: {error}"
                ) from error
            finally:
                for words in changed:
                    warnings.warn(f"{self.what}, while it was imported: {words}", stacklevel=2)
            self._check_object(value)
            self.target = value
        return self.target

    def _check_object(self, value: Any) -> None:
        if self.kind in KINDS:
            _check_component(self.what, self.kind, value)
        elif not callable(value):
            raise PluginError(f"{self.what} is {value!r}, which cannot be called")

    @property
    def where(self) -> str:
        """The location of the object as ``module:name``, or the path of a file."""
        if isinstance(self.target, (str, Path)):
            return str(self.target)
        return f"{self.target.__module__}:{self.target.__qualname__}"

    def summary(self) -> str:
        """Return the first line of its docstring, read from the source without importing it; "" for a file."""
        if isinstance(self.target, Path):
            return ""
        if isinstance(self.target, str):
            module, _, name = self.target.partition(":")
            return _docstrings(module).get(name, "")
        return _first_line(self.target.__doc__ or "")


def _check_component(subject: str, kind: str, value: Any) -> None:
    if not (isinstance(value, type) and issubclass(value, Component)):
        raise PluginError(f"{subject} is {value!r}, not a Component class")
    if getattr(value, "kind", None) != kind:
        raise PluginError(f"{subject}: {value.__name__} is not a {kind}")
    if not getattr(vars(value).get("__dataclass_params__"), "frozen", False):
        raise PluginError(f"{subject}: {value.__name__} lacks @dataclass(frozen=True)")
    abstract = sorted(getattr(value, "__abstractmethods__", ()))
    if abstract:
        raise PluginError(f"{subject}: {value.__name__} does not define {', '.join(abstract)}")


@cache
def _docstrings(module: str) -> dict[str, str]:
    """Map classes and functions of a module to the first lines of their docstrings, without running it."""
    try:
        spec = find_spec(module)
        source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
        tree = ast.parse(source)
    except (Exception, SystemExit):  # noqa: BLE001 - finding a submodule runs its package
        return {}
    return {
        node.name: _first_line(ast.get_docstring(node) or "")
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    }


def _first_line(docstring: str) -> str:
    return docstring.strip().partition("\n")[0]
