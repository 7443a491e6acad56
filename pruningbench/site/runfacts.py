"""What a run folder says about itself, as terms and texts: environment, distributions, data, state of its rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pruningbench.base.files import read_plain
from pruningbench.base.reading import parse_json
from pruningbench.base.text import last_line
from pruningbench.errors import DataError
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.provenance import mark_of
from pruningbench.site.about import Fact
from pruningbench.site.components import Catalogue
from pruningbench.store.runfolder import RunFolder

LARGEST = 4 << 20
"""Most bytes of an environment file."""
LONGEST = 300
"""Most characters of a value."""
Measurement = Mapping[str, Any]

_WORDS = {
    "time": "Started", "pruningbench": "pruningbench", "python": "Python", "platform": "Platform", "machine": "Machine",
    "cpu_count": "CPUs", "device": "Device", "device_name": "Device name", "cuda": "CUDA", "threads": "Threads",
    "interop_threads": "Threads between operations", "deterministic_algorithms": "Deterministic algorithms",
    "seeds": "Seeds",
}  # fmt: skip
_FOLDERS = re.compile(r"(?<![\w:/])(?:(?:/[^\s/:'\"]+){2,}/|[A-Za-z]:(?:\\[^\\:'\"]+)+\\)(?=[^\s/:'\"]+)")


def read_environment(run: RunFolder) -> dict[str, Any]:
    """Return the environment that a run recorded; an empty one if it cannot be read."""
    try:
        stored = parse_json(read_plain(run.environment, most=LARGEST), "environment.json")
    except (OSError, DataError):
        return {}
    return stored if isinstance(stored, dict) else {}


def environment_facts(environment: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield what a run recorded about its machine and its packages."""
    for key, words in _WORDS.items():
        if environment.get(key) not in (None, "", []):
            yield words, _text(environment[key])
    source = environment.get("source")
    if isinstance(source, Mapping):
        state = ", with uncommitted changes" if source.get("dirty") else ""
        yield "Commit", f"{_text(source.get('commit'))}{state}"
    packages = environment.get("packages")
    if isinstance(packages, Mapping):
        yield "Packages", elide(", ".join(f"{name} {version}" for name, version in packages.items()), 2 * LONGEST)
    for resumed in _listed(environment.get("resumed"))[:20]:
        if isinstance(resumed, Mapping):
            changed = resumed.get("changed")
            differs = (
                f"differs in {', '.join(map(str, changed))}"
                if isinstance(changed, Mapping) and changed
                else "the same environment"
            )
            yield "Resumed", elide(f"{resumed.get('time')}: {differs}", LONGEST)


def distributions(environment: Mapping[str, Any], measurements: Sequence[Measurement]) -> list[tuple[str, str, str]]:
    """Return (distribution, versions, plugins or tasks) of the plugins of a run.

    Args:
        environment: what the run recorded; without it, only the distributions of the tasks are known.
        measurements: the rows of the run.
    """
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for plugin in _listed(environment.get("plugins")):
        if isinstance(plugin, Mapping):
            versions, names = found.setdefault(str(plugin.get("distribution")), ({}, {}))
            versions[str(plugin.get("version"))] = None
            names[str(plugin.get("name"))] = None
    for m in measurements:
        if m["plugin"]:
            versions, names = found.setdefault(str(m["plugin"]), ({}, {}))
            versions[str(m["plugin_version"])] = None
            if not names:
                names[f"task {m['task']}"] = None
    return [
        (elide(name, 80), elide(", ".join(versions), LONGEST), elide(", ".join(names), LONGEST))
        for name, (versions, names) in found.items()
    ]


def data_rows(measurements: Sequence[Measurement], catalogue: Catalogue) -> list[tuple[str, str, str, str]]:
    """Return (task, data sets, fingerprint, largest number of samples) of the data of a run."""
    found: dict[tuple[str, str], int] = {}
    for m in measurements:
        if m["data_fingerprint"]:
            key = (str(m["task"]), str(m["data_fingerprint"]))
            found[key] = max(found.get(key, 0), int(m["n"]))
    return [
        (
            task,
            "; ".join(
                f"{use.label} ({use.licence or 'licence not stated'})" for use in catalogue.about("task", task).data
            )
            or "not known here",
            fingerprint,
            f"{samples:,}",
        )
        for (task, fingerprint), samples in found.items()
    ]


def state_facts(measurements: Sequence[Measurement]) -> Iterator[Fact]:
    """Yield how far the rows of a run can be believed: origin, checks, rehearsals, failures."""
    trusts = Counter(str(m.get("trust") or "") for m in measurements)
    words = [f"{_trust(word)}: {count:,} rows" if len(trusts) > 1 else _trust(word) for word, count in trusts.items()]
    yield "Origin", "; ".join(words)
    marked = Counter(mark for m in measurements if (mark := mark_of(m)))
    kinds: dict[str, list[tuple[str, int]]] = {}
    for mark, count in marked.items():
        kind, _, why = mark.partition(":")
        kinds.setdefault(kind, []).append((why.strip(), count))
    for kind in ("stale", "accepted", "unchecked", "version alone"):
        for why, count in kinds.get(kind, [])[:10]:
            yield kind.capitalize(), f"{count:,} row{'s' if count != 1 else ''}: {elide(why, LONGEST)}"
    if not kinds:
        yield "Validity", "No row is marked: code, weights and data were the same when the run was last checked."
    limits = sorted({int(m["limit"]) for m in measurements} - {0})
    if limits:
        yield "Rehearsal", f"limited to {', '.join(map(str, limits))} samples of each data set"
    failed = sum(m["status"] != "ok" for m in measurements)
    yield "Failures", f"{failed:,} (listed below)" if failed else "none"


def failures(measurements: Sequence[Measurement]) -> list[tuple[Measurement, str]]:
    """Return the rows that failed, each with the last line of its error, without folders of the machine."""
    return [
        (m, without_folders(elide(last_line(str(m["error"] or "")), LONGEST)))
        for m in measurements
        if m["status"] != "ok"
    ]


def remarks(measurements: Sequence[Measurement]) -> list[tuple[str, int]]:
    """Return the notes and remarks of rows with how often they occur, the most frequent first."""
    counts = Counter(
        without_folders(elide(" ".join(str(m[kind]).split()), LONGEST))
        for m in measurements
        for kind in ("notes", "remarks")
        if isinstance(m.get(kind), str) and m[kind]
    )
    return counts.most_common()


def without_folders(text: str) -> str:
    """Return text in which absolute paths keep only their last part, because folders are private."""
    return _FOLDERS.sub("…/", text)


def _trust(word: str) -> str:
    return elide(word, 80) if word else "a run folder of the author of this site, which nobody else has checked"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return elide(without_folders(text), LONGEST)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
