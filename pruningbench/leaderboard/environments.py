"""Names what differs between the environments of two sets of runs: versions, device, platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pruningbench.base.files import read_plain
from pruningbench.base.reading import one_line, parse_json
from pruningbench.errors import DataError
from pruningbench.leaderboard.results import RunPath
from pruningbench.store.origins import origins
from pruningbench.store.runfolder import RunFolder

LARGEST = 1 << 20
"""Bytes of the largest file with an environment that is read."""
MOST = 20
"""Number of differences that are named."""
_PLAIN = ("pruningbench", "python", "machine", "device", "device_name", "threads")


def changed_environment(before: Sequence[RunPath], after: Sequence[RunPath]) -> list[str]:
    """Return what differs between the environments that two sets of runs recorded: ``torch 2.6 before, 2.7 after``.

    A run without a readable environment says nothing.
    """
    old, new = _gathered(before), _gathered(after)
    changed = [
        f"{name} {' and '.join(sorted(old[name]))} before, {' and '.join(sorted(new[name]))} after"
        for name in old
        if name in new and old[name] != new[name]
    ]
    more = [f"and {len(changed) - MOST} more differences of the environment"] if len(changed) > MOST else []
    return [*changed[:MOST], *more]


def _gathered(sources: Sequence[RunPath]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for origin in origins(sources):
        for name, value in _values(_environment(origin.folder)):
            values.setdefault(one_line(name, 60), set()).add(one_line(value, 100))
    return values


def _environment(folder: Path) -> dict[str, Any]:
    path = RunFolder(folder).environment
    try:
        environment = parse_json(read_plain(path, most=LARGEST), str(path))
    except (OSError, DataError):
        return {}
    return environment if isinstance(environment, dict) else {}


def _values(environment: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, environment[name]) for name in _PLAIN if environment.get(name) is not None)
    packages = environment.get("packages")
    yield from packages.items() if isinstance(packages, dict) else ()
    plugins = environment.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else ():
        if isinstance(plugin, dict) and plugin.get("distribution") != "pruningbench":
            yield f"plugin {plugin.get('name')}", f"{plugin.get('distribution')} {plugin.get('version')}"
