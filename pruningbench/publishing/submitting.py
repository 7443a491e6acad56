"""Makes a submission of a finished run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pruningbench.base.files import expanded, read_plain, write_whole
from pruningbench.base.reading import parse_json, printable
from pruningbench.base.scrubbing import paths_in, scrubbed
from pruningbench.base.yamlsource import MOST_BYTES
from pruningbench.errors import DataError, PruningBenchError, RunFolderError, SubmissionError, SuiteError
from pruningbench.harness.driver import damaged
from pruningbench.harness.resume import assess
from pruningbench.harness.run import with_recorded_labels
from pruningbench.harness.sources import Sources
from pruningbench.plugins import Registry
from pruningbench.store.attempts import attempts_of
from pruningbench.store.journal import read_journal
from pruningbench.store.marks import read_marks, shown
from pruningbench.store.packing import TaskRun, pack
from pruningbench.store.records import Record
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import read_arrays
from pruningbench.store.submission import MaskSummary, arrays_bytes
from pruningbench.store.submission_format import (
    ENVIRONMENT,
    FORMAT,
    INDEX,
    MANIFEST,
    MASKS,
    RESULTS,
    SAMPLES,
    SCHEMA,
    SUFFIX,
    SUITE,
    Manifest,
    archive_bytes,
    manifest_bytes,
    member,
)
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import Suite, suite_from_text
from pruningbench.version import __version__

ENVIRONMENT_KEYS = (
    "suite_digest", "pruningbench", "source", "python", "machine", "cpu_count", "packages", "plugins", "device",
    "device_name", "cuda", "threads", "interop_threads", "deterministic_algorithms", "seeds",
)  # fmt: skip
"""What a submission says about the environment: nothing that names a user, a host or a time."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def submit(run: Path, registry: Registry, out: Path | None = None, *, name: str = "") -> Path:
    """Write the submission of a finished run and return its file.

    Args:
        run: the run folder.
        registry: where the components of its suite are looked up, to know whether the run is finished.
        out: the file; ``NAME.pbsub.zip`` in the current folder by default.
        name: name of the submission in tables; the suite's name by default.

    Raises:
        SubmissionError: if the run is not finished, is being run, or holds something that may not leave this machine.
        RunFolderError: if the folder holds no run.
    """
    members, shown = submission_members(run, registry, name)
    path = expanded(out) if out is not None else Path(f"{shown}{SUFFIX}")
    if path.is_dir():
        path /= f"{shown}{SUFFIX}"
    try:
        write_whole(path, archive_bytes(members))
    except OSError as error:
        raise SubmissionError(f"{printable(path)}: cannot be written ({error.strerror})") from None
    return path


def submission_members(run: Path, registry: Registry, name: str = "") -> tuple[dict[str, bytes], str]:
    """Return the members of the submission of a finished run, and its name; see `submit`."""
    folder = RunFolder(run)
    if not folder.results.is_file():
        raise RunFolderError(
            f"{printable(folder.path)}: is not a run folder (it has no {RESULTS}); give the folder of a run"
        )
    if folder.locked():
        raise SubmissionError(f"{printable(folder.path)}: a process is running this suite; wait until it has finished")
    suite, suite_yaml = _suite(folder, registry)
    shown = name or suite.name[:64]
    if not _NAME.fullmatch(shown):
        raise SubmissionError(f"name {shown!r}: must be at most 64 letters, digits, '.', '_' and '-'; choose --name")
    records = _finished(folder, make_plan(suite, registry))
    index, arrays = pack(_samples(folder, records))
    environment = _environment(folder, suite.digest)
    members = {
        SUITE: suite_yaml,
        ENVIRONMENT: _json(environment),
        RESULTS: b"".join(_line(record) for record in records),
        MASKS: _json({key: summary.model_dump() for key, summary in sorted(_masks(folder, records).items())}),
        INDEX: index.model_dump_json().encode(),
        SAMPLES: arrays_bytes(arrays),
    }
    manifest = Manifest(
        format=FORMAT,
        schema_version=SCHEMA,
        name=shown,
        suite=suite.name,
        suite_digest=suite.digest,
        pruningbench=__version__,
        rows=len(records),
        cells=len({record.cell for record in records}),
        task_runs=len({(record.cell, record.task) for record in records}),
        distributions={p["distribution"]: p["version"] for p in environment["plugins"]},
        members={key: member(content) for key, content in members.items()},
    )
    return {MANIFEST: manifest_bytes(manifest), **members}, shown


def _suite(folder: RunFolder, registry: Registry) -> tuple[Suite, bytes]:
    """Return the suite of a run folder and its text.

    Raises:
        SubmissionError: if it cannot be read, needs something that is not installed, or names an absolute path.
    """
    where = printable(folder.suite)
    try:
        text = read_plain(folder.suite, most=MOST_BYTES)
        suite = suite_from_text(text.decode("utf-8"), registry, source=where)
    except FileNotFoundError:
        raise SubmissionError(f"{where}: there is no such file; run the suite in a new folder") from None
    except (OSError, UnicodeDecodeError, SuiteError) as error:
        raise SubmissionError(f"the suite of this run cannot be used here: {error}") from None
    for place, path in paths_in(suite.resolved()):
        if place != "description":
            raise SubmissionError(
                f"{where}: `{place}` is the absolute path {path!r}, which nobody else has; use a path relative to the "
                "folder of data sets (PRUNINGBENCH_DATA), and run the suite again"
            )
    return suite, text


def _finished(folder: RunFolder, plan: Plan) -> list[Record]:
    """Return the valid records of a finished run.

    Raises:
        SubmissionError: if task runs are missing or stale, or per-sample values are damaged.
    """
    records, _ = read_journal(folder.results)
    attempts = attempts_of(records)
    plan = with_recorded_labels(plan, attempts)
    unreadable = damaged(folder, attempts)
    state = assess(plan, attempts, Sources(folder.sources, plan).contents.parts, None, unreadable)
    where = printable(folder.path)
    if state.stale:
        first = state.stale[0]
        raise SubmissionError(
            f"{where}: {len(state.stale)} finished task runs are stale (first: {first.cell.label}, {first.run.label}: "
            f"{first.words}); run the suite again"
        )
    if state.jobs:
        first_job = state.jobs[0]
        raise SubmissionError(
            f"{where}: is not finished: {state.task_runs} of {plan.task_runs()} task runs are missing (first: "
            f"{first_job.cell.label}, {first_job.tasks[0].label}); run the suite to its end"
        )
    valid = shown([record.group for record in records], read_marks(folder.stale))
    planned = {(cell.key, run.label) for cell in plan.cells for run in plan.tasks_of(cell)}
    return [record for record, is_valid in zip(records, valid, strict=True) if is_valid and record.group[:2] in planned]


def _samples(folder: RunFolder, records: Iterable[Record]) -> dict[TaskRun, dict[str, Any]]:
    """Return the per-sample values of all task runs with a value."""
    samples = {}
    for key in sorted({(record.cell, record.task) for record in records if record.status == "ok"}):
        path = folder.samples_file(*key)
        try:
            samples[key] = read_arrays(path)
        except FileNotFoundError:
            raise SubmissionError(f"{printable(path)}: is missing; run the suite in a new folder") from None
        except (OSError, ValueError) as error:
            raise SubmissionError(f"{printable(path)}: {error}; run the suite again") from None
    return samples


def _masks(folder: RunFolder, records: Iterable[Record]) -> dict[str, MaskSummary]:
    """Return the masks of all pruned cells; those of a run that began as a submission come from its summary."""
    from pruningbench.pruning.masks import Masks
    from pruningbench.store.submission import read_masks

    known: Mapping[str, MaskSummary] = {}
    with suppress(FileNotFoundError):
        known = read_masks(read_plain(folder.path / MASKS))
    masks = {}
    for cell in {record.cell for record in records}:
        path = folder.mask_file(cell)
        if path.is_file():
            try:
                stored = Masks.load(path)
            except (PruningBenchError, OSError, ValueError) as error:
                raise SubmissionError(f"{printable(path)}: {error}; run the suite in a new folder") from None
            masks[cell] = MaskSummary(digest=stored.digest, kept=stored.kept, total=stored.total)
        elif cell in known:
            masks[cell] = known[cell]
    return masks


def _environment(folder: RunFolder, digest: str) -> dict[str, Any]:
    """Return what a submission says about the environment, without anything that names a user, a host or a time."""
    try:
        stored = parse_json(read_plain(folder.environment, most=1 << 24), printable(folder.environment))
        plugins = stored.get("plugins", [])
        chosen = {key: stored[key] for key in ENVIRONMENT_KEYS if key in stored}
        chosen["plugins"] = [{key: str(p[key]) for key in ("name", "distribution", "version")} for p in plugins]
    except (OSError, DataError, AttributeError, TypeError, KeyError) as error:
        raise SubmissionError(f"{printable(folder.environment)}: damaged ({error}); run the suite again") from None
    chosen["platform"] = _platform(str(stored.get("platform", "")))
    changed = {key for resumed in stored.get("resumed", []) for key in resumed.get("changed", {})}
    changed |= set(map(str, stored.get("changed_while_resumed", [])))  # of a folder that was made from a submission
    if changed:
        chosen["changed_while_resumed"] = sorted(changed)
    return {**_scrubbed(chosen), "suite_digest": digest}


def _platform(text: str) -> str:
    """Return the system of a platform's description; the rest may hold the name that someone gave a kernel."""
    system, _, rest = text.partition("-")
    library = re.search(r"glibc[\d.]+|musl[\d.]+", rest)
    return f"{system}-{library[0]}" if library else system


def _scrubbed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _scrubbed(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_scrubbed(item) for item in value]
    return scrubbed(value) if isinstance(value, str) else value


def _line(record: Record) -> bytes:
    """Return the line of a record, with paths and names removed from the fields that hold messages."""
    clean = replace(
        record,
        error=scrubbed(record.error), notes=scrubbed(record.notes),
        remarks=scrubbed(record.remarks), stale=scrubbed(record.stale),
    )  # fmt: skip
    return json.dumps(clean.to_json(), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
