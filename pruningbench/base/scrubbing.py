"""Removes from text what says where and by whom it was made: absolute paths, and names of users and hosts."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGES = re.compile(r"^.*[/\\](?:site|dist)-packages[/\\]")
_POSIX = r"(?<![\w.:/~)\]}>])~?/(?:[^\s/:\"'<>|(),;\[\]{}]+/)*[^\s/:\"'<>|(),;\[\]{}]+/?"
_WINDOWS = r"(?<![\w])[A-Za-z]:[\\/](?:[^\s\\/:\"'<>|]+[\\/])*[^\s\\/:\"'<>|]*|\\\\[^\s\\]+\\[^\s\"'<>|]*"
_QUOTED = re.compile(r"""(["'])(~?/[^"'\n]*|[A-Za-z]:[\\/][^"'\n]*)\1""")
_PATH = re.compile(f"{_POSIX}|{_WINDOWS}")
_SHORTEST = 3
"""Names of users and hosts with fewer characters than this are left in text: they are parts of ordinary words."""
_ORDINARY = frozenset({"root", "user", "admin", "localhost", "runner", "nobody", "ubuntu", "debian", "docker"})
"""Names that identify nobody."""


def scrubbed(text: str) -> str:
    """Return text without absolute paths and without the names of this user and this host.

    A path in an installed package keeps its part from the package on, any other path its last part: ``File
    "/home/ann/lib/site-packages/torch/nn/x.py"`` becomes ``File "torch/nn/x.py"``.
    """
    text = _QUOTED.sub(lambda found: f"{found[1]}{_shortened(found[2])}{found[1]}", text)
    text = _PATH.sub(lambda found: _shortened(found[0]), text)
    for name, word in _names().items():
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word, text, flags=re.IGNORECASE)
    return text


def private_parts(text: str) -> Iterator[str]:
    """Yield the absolute paths in a text, and the names of this user and host that it holds as words."""
    for found in _QUOTED.finditer(text):
        yield found[2]
    for found in _PATH.finditer(text):
        yield found[0]
    for name in _names():
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, flags=re.IGNORECASE):
            yield name


def paths_in(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, path) for each absolute path in the text of plain values, such as those of a suite."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from paths_in(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from paths_in(item, f"{where}.{i}")
    elif isinstance(value, str):
        found = _PATH.match(value)
        if found is not None or Path(value).is_absolute():
            yield where, value


def _shortened(path: str) -> str:
    inside = _PACKAGES.sub("", path)
    if inside != path:
        return inside.replace("\\", "/")
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


@cache
def _names() -> Mapping[str, str]:
    """Return the names of this user and host, with the word that replaces each."""
    names: dict[str, str] = {}
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = ""
    host = socket.gethostname()
    for name, word in ((Path.home().name, "USER"), (user, "USER"), (host, "HOST"), (host.partition(".")[0], "HOST")):
        if len(name) >= _SHORTEST and name.lower() not in _ORDINARY:
            names.setdefault(name, word)
    return names
