"""What a run folder says about itself, as terms and texts: environment, distributions, data, state of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import read_plain
from pruningbench.base.reading import parse_json
from pruningbench.base.scrubbing import scrubbed
from pruningbench.base.text import last_line
from pruningbench.contract.precision import FULL
from pruningbench.errors import DataError
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.provenance import precision_of
from pruningbench.site.about import Fact
from pruningbench.site.components import Catalogue
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 4 << 20
"""Most bytes of an environment file."""
LONGEST = 300
"""Most characters of a value."""
Measurement = Mapping[str, Any]
FAILED = ("model", "pruner", "recipe", "sparsity", "seed", "task", "variant", "metric", "status", "error")
"""Columns that say what failed, and why."""
MARKS = ("stale", "accepted", "unchecked", "version alone")
"""Kinds of marks of rows, see `pruningbench.leaderboard.results`."""

_WORDS = {
    "time": "Started", "pruningbench": "pruningbench", "python": "Python", "platform": "Platform", "machine": "Machine",
    "cpu_count": "CPUs", "device": "Device", "device_name": "Device name", "cuda": "CUDA", "threads": "Threads",
    "interop_threads": "Threads between operations", "deterministic_algorithms": "Deterministic algorithms",
    "seeds": "Seeds",
}  # fmt: skip


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


def distributions(environment: Mapping[str, Any], results: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return (distribution, versions, plugins or tasks) of the plugins of a run.

    Args:
        environment: what the run recorded; without it, only the distributions of the tasks are known.
        results: the rows of the run.
    """
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for plugin in _listed(environment.get("plugins")):
        if isinstance(plugin, Mapping):
            versions, names = found.setdefault(str(plugin.get("distribution")), ({}, {}))
            versions[str(plugin.get("version"))] = None
            names[str(plugin.get("name"))] = None
    for m in distinct(results, "plugin", "plugin_version", "task"):
        if m["plugin"]:
            versions, names = found.setdefault(str(m["plugin"]), ({}, {}))
            versions[str(m["plugin_version"])] = None
            if not names:
                names[f"task {m['task']}"] = None
    return [
        (elide(name, 80), elide(", ".join(versions), LONGEST), elide(", ".join(names), LONGEST))
        for name, (versions, names) in found.items()
    ]


def data_rows(results: pd.DataFrame, catalogue: Catalogue) -> list[tuple[str, str, str, str]]:
    """Return (task, data sets, fingerprint, largest number of samples) of the data of a run."""
    known = results[results["data_fingerprint"] != ""]
    largest = known.groupby(["task", "data_fingerprint"], sort=False)["n"].max().reset_index()
    found = {(str(m["task"]), str(m["data_fingerprint"])): int(m["n"]) for m in largest.to_dict("records")}
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


def state_facts(results: pd.DataFrame) -> Iterator[Fact]:
    """Yield how far the rows of a run can be believed: origin, checks, rehearsals, failures."""
    trusts = counted(results["trust"]) if "trust" in results else {"": len(results)}
    words = [f"{_trust(word)}: {count:,} rows" if len(trusts) > 1 else _trust(word) for word, count in trusts.items()]
    yield "Origin", "; ".join(words)
    kinds: dict[str, list[tuple[str, int]]] = {}
    for mark, count in counted(results["mark"]).items():
        kind, _, why = mark.partition(":")
        if mark:
            kinds.setdefault(kind, []).append((why.strip(), count))
    for kind in MARKS:
        for why, count in kinds.get(kind, [])[:10]:
            yield kind.capitalize(), f"{count:,} row{'s' if count != 1 else ''}: {elide(scrubbed(why), LONGEST)}"
    if not kinds:
        yield "Validity", "No row is marked: code, weights and data were the same when the run was last checked."
    limits = sorted({int(limit) for limit in results["limit"].unique()} - {0})
    if limits:
        yield "Rehearsal", f"limited to {', '.join(map(str, limits))} samples of each data set"
    precisions = sorted(set(map(precision_of, results["made_of"]))) if "made_of" in results else [FULL]
    if precisions != [FULL]:
        yield "Precision", f"of the forward passes: {', '.join(precisions)}"
    failed = int((results["status"] != "ok").sum())
    yield "Failures", f"{failed:,} (listed below)" if failed else "none"


def failures(results: pd.DataFrame, most: int) -> list[tuple[Measurement, str]]:
    """Return the first rows that failed, each with the last line of its error, without folders of the machine."""
    failed = distinct(results[results["status"] != "ok"].head(most), *FAILED)
    return [(m, scrubbed(elide(last_line(str(m["error"] or "")), LONGEST))) for m in failed]


def remarks(results: pd.DataFrame) -> list[tuple[str, int]]:
    """Return the notes and remarks of rows with how often they occur, the most frequent first."""
    counts: Counter[str] = Counter()
    for kind in ("notes", "remarks"):
        for text, count in counted(results[kind]).items() if kind in results else ():
            if text:
                counts[scrubbed(elide(" ".join(text.split()), LONGEST))] += count
    return counts.most_common()


def distinct(results: pd.DataFrame, *columns: str) -> list[Measurement]:
    """Return the different combinations of values in columns, in their order."""
    return [
        dict(zip(columns, row, strict=True)) for row in results[list(columns)].drop_duplicates().itertuples(index=False)
    ]


def counted(values: pd.Series[Any]) -> dict[str, int]:
    """Return how often each text occurs, in the order of the first; a missing value counts as ""."""
    counts = values.fillna("").astype(str).value_counts(sort=False)
    return {str(text): int(count) for text, count in counts.items()}


def _trust(word: str) -> str:
    return elide(word, 80) if word else "a run folder of the author of this site, which nobody else has checked"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return elide(scrubbed(text), LONGEST)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
