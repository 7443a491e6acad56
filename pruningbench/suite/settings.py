"""Settings: changes of single values of a suite from the command line."""

from __future__ import annotations

from typing import Any

from pruningbench.base.yamlsource import Document, parse_yaml
from pruningbench.errors import SuiteError, did_you_mean


def apply_setting(document: Document, setting: str) -> None:
    """Change one value of a document in place: ``KEY=VALUE`` with a dotted key and a YAML value.

    ``recipes.1.epochs=5`` addresses list items by index. If a component is given by its name only, setting one of its
    fields turns the name into a mapping.

    Raises:
        SuiteError: for a setting that is not KEY=VALUE, or a key that does not exist.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise SuiteError(f"--set {setting}: must be KEY=VALUE, for example sparsities=[0,.9]")
    value = parse_yaml(text, f"--set {key}").value
    parts = key.strip().split(".")
    node: Any = document.value
    path: list[str | int] = []
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                items = f"items 0 to {len(node) - 1}" if node else "no items"
                raise SuiteError(f"--set {key}: {'.'.join(map(str, path))} has {items}, not {part!r}")
            step: Any = int(part)
        elif isinstance(node, dict):
            step = part
            if not last and part not in node:
                raise SuiteError(f"--set {key}: there is no {part!r}{did_you_mean(part, map(str, node))}")
        else:
            raise SuiteError(f"--set {key}: {'.'.join(map(str, path))} is a single value, it has no {part!r}")
        path.append(step)
        if last:
            node[step] = value
            document.settings[tuple(path)] = f"--set {setting}"
        else:
            if isinstance(node[step], str):  # a component given only by name
                node[step] = {"use": node[step]}
            node = node[step]
