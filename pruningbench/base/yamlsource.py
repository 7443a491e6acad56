"""YAML that remembers the position of each value, so that an error can name file, line and column.

The input is not trusted. Limits: files up to 1 MiB, 20,000 values with aliases counted each time, 50 levels, texts of
10,000 characters, integers of 100 digits, no tags, no halves of surrogate pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pruningbench.errors import SuiteError

MOST_BYTES = 1 << 20
_MOST_NODES = 20_000
_DEEPEST = 50
_MOST_DIGITS = 100
_LONGEST = 10_000
KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2: 1e-4 is a number, 12:30 and `no` are text.

    It counts the nodes that it composes, so that a file full of brackets stays cheap.
    """

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node as PyYAML does, unless there are too many nodes or levels."""
        self.nodes, self.depth = self.nodes + 1, self.depth + 1
        if self.nodes > _MOST_NODES or self.depth > _DEEPEST:
            problem = f"more than {_MOST_NODES} values" if self.depth <= _DEEPEST else f"more than {_DEEPEST} levels"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


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


_SURROGATE = re.compile("[\ud800-\udfff]")


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


@dataclass
class Document:
    """A parsed YAML text.

    Attributes:
        source: its name in errors: a file name, or ``--set``.
        value: plain Python values.
        marks: key path -> (line, column) of the value there, both counted from 1; keys under ``(path, "?key")``.
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
        """Return an error about the value at `path` that names its position."""
        return SuiteError(f"{self.where(path, key=key)}: {message}")


def read_yaml(path: Path, *, source: str | None = None) -> Document:
    """Read a YAML file.

    Raises:
        SuiteError: if it cannot be read, is larger than 1 MiB, is not UTF-8, or is not YAML.
    """
    source = source or str(path)
    try:
        if path.is_fifo() and not path.is_symlink():  # a shell's <(...) is a link to a pipe with a writer
            raise SuiteError(f"{source}: is a named pipe, not a suite file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SuiteError(f"{source}: is larger than {MOST_BYTES >> 20} MiB, the limit for suites")
        return parse_yaml(content.decode("utf-8"), source)
    except IsADirectoryError:
        raise SuiteError(f"{source}: is a folder, not a suite file") from None
    except OSError as error:
        raise SuiteError(f"{source}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"{source}: is not UTF-8 text (byte {error.start})") from None


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
        raise SuiteError(f"{place}: not valid YAML: {_clipped(error.problem or error.context)}{context}") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{source}: not valid YAML: {_clipped(error)}") from None
    except (ValueError, OverflowError) as error:  # PyYAML, for escapes and versions beyond what Python can hold
        raise SuiteError(f"{source}: not valid YAML: {_clipped(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    return document


def _unfit(subject: str, text: str) -> str:
    if len(text) > _LONGEST:
        return f"{subject} of more than {_LONGEST} characters"
    return f"{subject} holds a lone surrogate, which is not a character"


def _clipped(message: object) -> str:
    text = " ".join(str(message).split())
    return text if len(text) <= 200 else f"{text[:199]}…"


class _Builder:
    """Turns a node tree into plain values and records the position of each."""

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
        if len(parents) >= _DEEPEST:
            raise self.document.error(path, f"more than {_DEEPEST} levels (aliases nest?)")
        parents = (*parents, id(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            raise self.document.error(path, f"tag {str(node.tag)[:60]!r} is not allowed: use plain values")
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path, parents))
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i), parents) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        if len(text) > _LONGEST or _SURROGATE.search(text):
            raise self.document.error(path, _unfit("text", text))
        try:
            if kind == "int" and len(text) > _MOST_DIGITS:
                raise self.document.error(path, f"a number of more than {_MOST_DIGITS} digits")
            if kind == "int":
                return _int(text)
            if kind == "float":
                return _float(text)
        except ValueError:
            raise self.document.error(path, f"{text[:60]!r} is not a valid {kind}") from None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "null":
            return None
        if kind in ("str", "merge"):
            return text
        raise self.document.error(path, f"tag {str(node.tag)[:60]!r} is not allowed: use plain values")

    def _items(self, node: yaml.MappingNode, path: KeyPath, parents: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        line_of_key: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            place = f"{self.document.source}:{line}:{column}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise SuiteError(f"{place}: a key must be plain text")
            key = str(key_node.value)
            if len(key) > _LONGEST or _SURROGATE.search(key):
                raise SuiteError(f"{place}: {_unfit('a key', key)}")
            if key == "<<":
                raise SuiteError(f"{place}: merge keys (<<) are not supported; write the fields out")
            if key in line_of_key:
                raise SuiteError(f"{place}: key {key!r} is repeated here (first on line {line_of_key[key]})")
            line_of_key[key] = line
            self.document.marks[(*path, f"?{key}")] = (line, column)
            yield key, self.build(value_node, (*path, key), parents)
