"""Print which room imports which, and fail on a circle of imports among files.

Every import counts: at the top of a file, inside a function, and under TYPE_CHECKING. Run it as
``make graph``. It reads the source as text and runs none of it.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT, ROOT / "plugins")

Graph = dict[str, set[str]]
"""Module -> the modules of the repository that it imports."""


def sources() -> dict[str, Path]:
    """Return all modules of the core and of the plugins: dotted name -> file."""
    paths = {}
    for base in PACKAGES:
        for path in sorted(base.glob("pruningbench*/**/*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imported(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the known modules that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.module in modules:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else node.module


def graph() -> Graph:
    """Return the imports of every module."""
    modules = sources()
    return {name: set(imported(path, modules)) - {name} for name, path in modules.items()}


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of two or more modules that reach each other (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            start = stack.index(node)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return groups


def room(module: str) -> str:
    """Return the room of a module: a folder of the core, a single file of it, or a plugin."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "pruningbench" else parts[0]


def main() -> int:
    """Print the rooms and the circles; return 1 if there is a circle."""
    edges = graph()
    rooms: dict[str, Counter[str]] = {}
    for module, others in sorted(edges.items()):
        rooms.setdefault(room(module), Counter()).update(room(other) for other in others)
    lines = []
    for name, counts in sorted(rooms.items()):
        targets = (f"{other} ({count})" for other, count in sorted(counts.items()) if other != name)
        lines.append(f"{name} -> {', '.join(targets) or 'nothing'}")
    between = {name: set(counts) - {name} for name, counts in rooms.items()}
    bad = [f"import cycle of packages: {', '.join(group)}" for group in circles(between)]
    bad += [f"import cycle of files: {', '.join(group)}" for group in circles(edges)]
    sys.stdout.write("\n".join([*lines, "", *(bad or ["no import cycles"])]) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
