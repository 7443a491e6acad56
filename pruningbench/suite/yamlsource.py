"""YAML that remembers where each value stands, so that an error can name file, line and column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pruningbench.errors import SuiteError, did_you_mean

_MOST_NODES = 20_000
KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2: 1e-4 is a number, 12:30 and `no` are text."""


_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": (r"<<", ["<"]),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})\\Z"), _first)


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


@dataclass
class Document:
    """A parsed YAML text.

    Attributes:
        source: what errors call it: a file name, or ``--set``.
        value: plain Python values.
        marks: key path -> (line, column) of the value there, both from 1; keys under ``(path, "?key")``.
        settings: key path -> the setting that put the value there.
    """

    source: str
    value: Any
    marks: dict[KeyPath, tuple[int, int]]
    settings: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath = (), *, key: bool = False) -> str:
        """Return ``file:line:column`` of the value at `path` (or of its key), or of the nearest parent."""
        for length in range(len(path) + 1):
            if path[:length] in self.settings:
                return self.settings[path[:length]]
        for length in range(len(path), -1, -1):
            part = path[:length]
            if key and length == len(path) and part and (*part[:-1], f"?{part[-1]}") in self.marks:
                part = (*part[:-1], f"?{part[-1]}")
            if part in self.marks:
                line, column = self.marks[part]
                return f"{self.source}:{line}:{column}"
        return self.source

    def error(self, path: KeyPath, message: str, *, key: bool = False) -> SuiteError:
        """Return an error about the value at `path` that says where it stands."""
        return SuiteError(f"{self.where(path, key=key)}: {message}")


def read_yaml(path: Path, *, source: str | None = None) -> Document:
    """Read a YAML file.

    Raises:
        SuiteError: if it cannot be read, is not UTF-8, or is not YAML.
    """
    source = source or str(path)
    try:
        text = path.read_text("utf-8")
    except IsADirectoryError:
        raise SuiteError(f"{source}: is a folder, not a suite file") from None
    except OSError as error:
        raise SuiteError(f"{source}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"{source}: is not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, source)


def parse_yaml(text: str, source: str) -> Document:
    """Parse YAML text safely: plain values only, no duplicate keys, no recursive or exploding aliases.

    Raises:
        SuiteError: naming source, line and column.
    """
    loader = None
    try:
        loader = _Loader(text)  # the reader checks the characters at once
        node = loader.get_single_node()
        document = Document(source, None, {})
        if node is not None:
            builder = _Builder(document)
            document.value = builder.build(node, (), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        context = f" ({error.context})" if error.context and error.problem_mark is not error.context_mark else ""
        raise SuiteError(f"{place}: not valid YAML: {error.problem or error.context}{context}") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SuiteError(f"{source}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()
    return document


class _Builder:
    """Turns a node tree into plain values and notes where each stands."""

    def __init__(self, document: Document) -> None:
        self.document, self.count = document, 0

    def build(self, node: yaml.Node, path: KeyPath, parents: tuple[int, ...]) -> Any:
        mark = node.start_mark
        self.document.marks.setdefault(path, (mark.line + 1, mark.column + 1))
        self.count += 1
        if id(node) in parents:
            raise self.document.error(path, "an alias refers to itself")
        if self.count > _MOST_NODES:
            raise self.document.error(path, f"more than {_MOST_NODES} values (aliases multiply?)")
        parents = (*parents, id(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            raise self.document.error(path, f"tag {node.tag!r} is not allowed: plain values only")
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path, parents))
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i), parents) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        try:
            if kind == "int":
                return _int(text)
            if kind == "float":
                return _float(text)
        except ValueError:
            raise self.document.error(path, f"{text!r} is no {kind}") from None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "null":
            return None
        if kind in ("str", "merge"):
            return text
        raise self.document.error(path, f"tag {node.tag!r} is not allowed: plain values only")

    def _items(self, node: yaml.MappingNode, path: KeyPath, parents: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            here = f"{self.document.source}:{line}:{column}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise SuiteError(f"{here}: a key must be plain text")
            key = str(key_node.value)
            if key == "<<":
                raise SuiteError(f"{here}: merge keys (<<) are not supported; write the fields out")
            if key in seen:
                raise SuiteError(f"{here}: key {key!r} stands here a second time (first on line {seen[key]})")
            seen[key] = line
            self.document.marks[(*path, f"?{key}")] = (line, column)
            yield key, self.build(value_node, (*path, key), parents)


def apply_setting(document: Document, setting: str) -> None:
    """Change one value of a document in place: ``KEY=VALUE`` with a dotted key and a YAML value.

    ``recipes.1.epochs=5`` reaches into lists by index; a field of a component given by name only turns
    the name into a mapping.

    Raises:
        SuiteError: for a setting that is not KEY=VALUE, or a key that leads nowhere.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise SuiteError(f"--set {setting}: must be KEY=VALUE, for example sparsities=[0,.9]")
    value = parse_yaml(text, f"--set {key}").value
    parts = key.strip().split(".")
    node: Any = document.value
    done: list[str | int] = []
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                items = f"items 0 to {len(node) - 1}" if node else "no items"
                raise SuiteError(f"--set {key}: {'.'.join(map(str, done))} has {items}, not {part!r}")
            step: Any = int(part)
        elif isinstance(node, dict):
            step = part
            if not last and part not in node:
                raise SuiteError(f"--set {key}: there is no {part!r}{did_you_mean(part, map(str, node))}")
        else:
            raise SuiteError(f"--set {key}: {'.'.join(map(str, done))} is a single value, it has no {part!r}")
        done.append(step)
        if last:
            node[step] = value
            document.settings[tuple(done)] = f"--set {setting}"
        else:
            if isinstance(node[step], str):  # a component given by its name only
                node[step] = {"use": node[step]}
            node = node[step]
