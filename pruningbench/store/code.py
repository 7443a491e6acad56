"""The code that a component is made of, as a hash: what a version number says only if somebody raises it."""

from __future__ import annotations

import hashlib
import inspect
import sys
from functools import cache
from pathlib import Path


@cache
def code_hash(component: type) -> str:
    """Return a hash of the Python source of the package, or single file, in which a class is defined.

    Every ``.py`` file of the class's top-level package counts, by its path inside and its bytes: helpers that the
    class imports from its own distribution are in it. It is read once a process.

    Returns:
        16 hex digits, or "" where no source can be read (a class made at run time, a zipped installation).
    """
    top = component.__module__.partition(".")[0]
    package = sys.modules.get(top)
    try:
        folders = [Path(folder) for folder in getattr(package, "__path__", ())]
        if folders:
            files = [(file.relative_to(folder).as_posix(), file) for folder in folders for file in folder.rglob("*.py")]
        else:
            files = [(top, Path(inspect.getfile(component)))]
        sha = hashlib.sha256()
        for name, file in sorted(files):
            content = file.read_bytes()
            sha.update(f"{name}\0{len(content)}\0".encode() + content)
    except (OSError, TypeError):  # inspect says TypeError of a class without a file
        return ""
    return sha.hexdigest()[:16] if files else ""
