"""A submission in memory: read from a file, checked as far as the file alone allows, and written as a run folder."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pruningbench.base.reading import one_line, parse_json, printable
from pruningbench.errors import DataError, RunFolderError, SubmissionError
from pruningbench.store.journal import latest, read_journal
from pruningbench.store.packing import Array, Index, TaskRun, unpack
from pruningbench.store.records import Record
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import read_arrays, write_arrays
from pruningbench.store.submission_format import (
    ENVIRONMENT,
    INDEX,
    MANIFEST,
    MASKS,
    RESULTS,
    SAMPLES,
    SUITE,
    Manifest,
    check_hashes,
    first_problem,
    read_archive,
    read_manifest,
    submission_digest,
    unpack_archive,
)

LONGEST_LINE = 1 << 20
"""Longest line of the records, in bytes."""


class MaskSummary(BaseModel):
    """The masks of one cell: SHA-256 of their content, and the numbers of weights, kept and all."""

    model_config = ConfigDict(extra="forbid", strict=True)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    kept: int = Field(ge=0)
    total: int = Field(ge=1)


_MASKS = TypeAdapter(dict[str, MaskSummary])


@dataclass(frozen=True)
class Submission:
    """The checked content of a submission file.

    Attributes:
        where: the file's name, for messages.
        digest: identifies the submission, 64 hex digits.
        file_hash: SHA-256 of the file, 64 hex digits.
        manifest: what the submission says about itself.
        members: the members by name.
        records: the measurements, in order.
        masks: masks by key of the cell.
        environment: versions and device, as plain values.
    """

    where: str
    digest: str
    file_hash: str
    manifest: Manifest
    members: Mapping[str, bytes]
    records: tuple[Record, ...]
    masks: Mapping[str, MaskSummary]
    environment: Mapping[str, Any]

    @property
    def run(self) -> str:
        """Name of the run in tables: the submission's name and the beginning of its digest."""
        return run_name(self.manifest, self.digest)

    @cached_property
    def samples(self) -> dict[TaskRun, dict[str, Array]]:
        """The per-sample values by (cell, task), as `pruningbench.store.samples` stores them.

        Raises:
            SubmissionError: if they are damaged, or belong to no record.
        """
        try:
            index = Index.model_validate_json(self.members[INDEX])
        except ValidationError as error:
            raise SubmissionError(f"{self.where}: {INDEX}: {first_problem(error)}") from None
        measured = {(record.cell, record.task) for record in self.records if record.status == "ok"}
        try:
            samples = dict(unpack(index, _arrays(self.members[SAMPLES])))
        except (DataError, ValueError) as error:
            raise SubmissionError(f"{self.where}: {SAMPLES}: {one_line(error)}") from None
        for cell, task in samples.keys() - measured:
            where = f"cell {one_line(cell, 80)}, task {one_line(task, 80)}"
            raise SubmissionError(f"{self.where}: {SAMPLES} has values of {where}, which has no record")
        return samples

    def write_folder(self, path: Path) -> None:
        """Write a run folder with the same content: tables, comparisons and resumed runs can use it.

        File names come from `RunFolder`, not from the submission.
        """
        samples = self.samples  # checked before anything is written
        path.mkdir(parents=True)
        folder = RunFolder(path)
        for (cell, task), arrays in samples.items():
            write_arrays(folder.samples_file(cell, task), arrays, durable=False)
        for name in (SUITE, ENVIRONMENT, MASKS, RESULTS):
            (path / name).write_bytes(self.members[name])


def run_name(manifest: Manifest, digest: str) -> str:
    """Return the name of a submission's run in tables; the digest's beginning tells two of the same name apart."""
    return f"{manifest.name}-{digest[:8]}"


def open_submission(path: Path) -> Submission:
    """Read and check a submission file.

    Raises:
        SubmissionError: for anything but a submission that this version reads, with the reason in one line. It says
            nothing about whether the numbers are right: `pruningbench verify` does.
    """
    content, file_hash = read_archive(path)
    where = printable(path)
    with tempfile.TemporaryDirectory(prefix="pruningbench-") as folder:
        members = unpack_archive(content, Path(folder), where)
        try:
            manifest = read_manifest(members[MANIFEST])
            check_hashes(manifest, members)
            records = _records(members[RESULTS], Path(folder))
            masks = read_masks(members[MASKS])
            environment = parse_json(members[ENVIRONMENT], ENVIRONMENT)
            if not isinstance(environment, dict) or environment.get("suite_digest") != manifest.suite_digest:
                raise SubmissionError(f"{ENVIRONMENT} does not belong to the suite of the {MANIFEST}")
            _check_counts(manifest, records)
        except (SubmissionError, DataError, RunFolderError) as error:
            raise SubmissionError(f"{where}: {error}") from None
    digest = submission_digest(members[MANIFEST])
    return Submission(where, digest, file_hash, manifest, members, tuple(records), masks, environment)


def _records(content: bytes, folder: Path) -> list[Record]:
    """Return the records, which must be whole, in JSON without NaN, and without duplicates."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if len(line) > LONGEST_LINE:
            raise SubmissionError(f"{RESULTS}:{number}: {len(line):,} bytes, at most {LONGEST_LINE:,} are read")
        if line:
            _check_line(line, number)
    path = folder / RESULTS
    path.write_bytes(content)
    try:
        records, good = read_journal(path)
    except RunFolderError as error:
        place = str(error).replace(f"{path}", RESULTS).partition("; ")[0]
        raise SubmissionError(place) from None
    finally:
        path.unlink()
    if good != len(content):
        raise SubmissionError(f"{RESULTS}: its end is damaged, or its last task run is incomplete")
    if len(latest(records)) != len(records) or len({_key(r) for r in records}) != len(records):
        twice = _first_duplicate(records)
        raise SubmissionError(f"{RESULTS}: cell {twice[0]}, task {one_line(twice[1], 80)} is listed twice")
    return records


def _key(record: Record) -> tuple[str, ...]:
    return (record.cell, record.task, record.variant, record.metric)


def _first_duplicate(records: list[Record]) -> tuple[str, ...]:
    seen: dict[tuple[str, ...], int] = {}
    for record in records:
        key = _key(record)
        if key in seen:
            return key
        seen[key] = record.attempts
    attempts = {(r.cell, r.task): r.attempts for r in latest(records)}
    return next(_key(r) for r in records if r.attempts != attempts[r.cell, r.task])


def _check_line(line: bytes, number: int) -> None:
    """Refuse what Python's reader accepts but JSON does not, and keys that are there twice."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a JSON number")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(items)
        if len(values) != len(items):
            raise ValueError("a key is there twice")
        return values

    try:
        json.loads(line, parse_constant=refuse, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise SubmissionError(f"{RESULTS}:{number}: damaged line ({why})") from None


def read_masks(content: bytes) -> dict[str, MaskSummary]:
    """Return the masks of the cells from a member's content.

    Raises:
        SubmissionError: if they are damaged.
    """
    try:
        return _MASKS.validate_json(content, strict=True)
    except ValidationError as error:
        raise SubmissionError(f"{MASKS}: {first_problem(error)}") from None


def _arrays(content: bytes) -> dict[str, Array]:
    with tempfile.TemporaryDirectory(prefix="pruningbench-") as folder:
        path = Path(folder) / SAMPLES
        path.write_bytes(content)
        try:
            with zipfile.ZipFile(path) as file:
                unpacked = sum(info.file_size for info in file.infolist())
            if unpacked > len(content):
                raise DataError(f"its {len(content):,} bytes unpack to {unpacked:,}, but it must not be compressed")
            return read_arrays(path)
        except zipfile.BadZipFile as error:
            raise DataError(f"is damaged ({one_line(error)})") from None
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from None


def arrays_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return named arrays as an .npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _check_counts(manifest: Manifest, records: list[Record]) -> None:
    counts = {
        "rows": len(records),
        "cells": len({record.cell for record in records}),
        "task_runs": len({(record.cell, record.task) for record in records}),
    }
    for name, count in counts.items():
        listed = getattr(manifest, name)
        if listed != count:
            raise SubmissionError(f"{MANIFEST} says {listed} {name.replace('_', ' ')}, but there are {count}")
