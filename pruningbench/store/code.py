"""The code behind a component: its hash changes even when nobody raises the version number."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pruningbench.contract.component import Use

CORE = "pruningbench"
_INSTALLED = ("site-packages", "dist-packages")
_IMPORTS = re.compile(rb"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([^\n#;(]+))", re.MULTILINE)
UNREAD = "unread"
"""Stands for the hash of code whose source cannot be read."""


def code_of(use: Use) -> str:
    """Return a text that identifies the code of a component; it is the same for the same code.

    Returns:
        ``DISTRIBUTION VERSION vN HASH``: the distribution that registered it, the class's own `version`, and its
        `code_hash`, or `UNREAD` if the source cannot be read.
    """
    component: Any = type(use.component)  # mypy does not consider a class hashable
    return f"{use.plugin or '?'} {use.plugin_version or '?'} v{component.version} {code_hash(component) or UNREAD}"


@cache
def code_hash(component: type) -> str:
    """Return a hash of the Python source behind a class.

    For a plugin, the hash covers every ``.py`` file of the class's top-level package (or the single file), by its path
    in the package and its bytes, so it includes helpers that the class imports from that package. Modules and packages
    beside it that it imports, directly or indirectly, are covered too, unless the folder is one of installed packages,
    where distributions lie side by side and have versions. For the core,
    which is large, the hash covers the class's module and the core modules that it imports, directly or indirectly. The
    source is read once per process.

    Returns:
        16 hex digits, or "" if no source can be read (a class made at run time, a zipped installation).
    """
    try:
        module = component.__module__
        return _hash(_imported(module) if _top(module) == CORE else _with_neighbours(_package(module), _top(module)))
    except (OSError, ValueError, SyntaxError):
        return ""


def unread_packages(modules: Iterable[str]) -> list[str]:
    """Return the top-level packages of `modules` whose source cannot be read, without importing anything."""
    unread = []
    for top in sorted(set(map(_top, modules))):
        try:
            digest = _hash(_package(top))
        except (OSError, ValueError):
            digest = ""
        if not digest:
            unread.append(top)
    return unread


def _top(module: str) -> str:
    return module.partition(".")[0]


def _hash(files: dict[str, Path]) -> str:
    sha = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = file.read_bytes()
        sha.update(f"{name}\0{len(content)}\0".encode() + content)
    return sha.hexdigest()[:16] if files else ""


def _package(module: str) -> dict[str, Path]:
    """Return the Python files of a module's top-level package by their path in it, or the module's single file."""
    top = _top(module)
    loaded = sys.modules.get(top)
    if loaded is not None:
        folders, origin = list(getattr(loaded, "__path__", ())), getattr(loaded, "__file__", None)
    else:
        spec = importlib.util.find_spec(top)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        origin = spec.origin if spec else None
    if folders:
        sources = [(Path(folder), file) for folder in folders for file in Path(folder).rglob("*.py")]
        return {file.relative_to(folder).as_posix(): file for folder, file in sources}
    return {top: Path(origin)} if origin and origin.endswith(".py") else {}


def _with_neighbours(files: dict[str, Path], top: str) -> dict[str, Path]:
    """Add the modules and packages that lie beside a package and that it imports, directly or indirectly."""
    if not files:
        return {}
    name, file = next(iter(files.items()))
    folder = file.parent if file.stem == top else file.parents[len(Path(name).parts)]
    every, seen, waiting = dict(files), {top, CORE}, list(files.values())
    while waiting and folder.name not in _INSTALLED:
        for imported in _imported_tops(waiting.pop().read_bytes()) - seen:
            seen.add(imported)
            beside = folder / imported
            is_package = (beside / "__init__.py").is_file()
            found = sorted(beside.rglob("*.py")) if is_package else [folder / f"{imported}.py"]
            found = [path for path in found if path.is_file()]
            every |= {f"../{path.relative_to(folder).as_posix()}": path for path in found}
            waiting += found
    return every


def _imported_tops(source: bytes) -> set[str]:
    """Return the top-level names that Python source imports; a line of a docstring may add one too many."""
    found = set()
    for start, names in _IMPORTS.findall(source):
        found |= (
            {start} if start else {part.split()[0].partition(b".")[0] for part in names.split(b",") if part.strip()}
        )
    return {name.decode("utf-8", "replace") for name in found}


def _imported(module: str) -> dict[str, Path]:
    """Return a core module and all core modules that it imports, directly or indirectly and at any place in a file."""
    root = Path(__file__).resolve().parents[1]
    modules: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name, root)
        if file is None or name in modules:
            continue
        modules[name] = file
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if _top(alias.name) == CORE]
            elif isinstance(node, ast.ImportFrom) and node.module and _top(node.module) == CORE:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return modules


def _file_of(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split(".")[1:])
    candidates = [base / "__init__.py"] if module == CORE else [base.with_suffix(".py"), base / "__init__.py"]
    return next((file for file in candidates if file.is_file()), None)
