"""Lines of a journal: decoded and checked in one step, grouped into finished tasks, or named as damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pruningbench.base.files import open_plain
from pruningbench.errors import RunFolderError
from pruningbench.store.records import INTEGERS, NUMBERS, SCHEMA, Record, Status

T = TypeVar("T")
Line = Record | Any
"""A `Record`, or a structure with the same attributes in which a number without a value is None instead of NaN."""


class DamagedJournalError(RunFolderError):
    """A line of a journal is no record, or no part of the task around it; a run sets it aside (`store.mending`)."""


def finished_tasks(path: Path, parse: Callable[[bytes], T | None]) -> Iterator[tuple[list[T], int]]:
    """Yield the lines of each finished task, as `journal.read_journal` does, with the position in bytes behind them.

    Args:
        path: the journal; nothing is yielded if it is missing.
        parse: maps a line to an object with the attributes of a `Record`, or to None if the line is damaged.

    Raises:
        RunFolderError: as `store.journal.read_journal` does.
    """
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            yield from _finished(path, file, parse)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror})") from None


def _finished(path: Path, file: BinaryIO, parse: Callable[[bytes], T | None]) -> Iterator[tuple[list[T], int]]:
    group: list[Any] = []
    offset, expected = 0, 1
    first: Any = None
    for number, line in enumerate(file, start=1):
        offset += len(line)
        try:
            record: Any = parse(line)
        except RunFolderError as error:
            raise RunFolderError(f"{path}:{number}: {error}") from None
        if record is None:
            if not file.read(1):
                return  # incomplete because the process was killed during a write
            raise DamagedJournalError(
                f"{path}:{number}: damaged line; remove it, or run the suite again to measure its task again"
            )
        part = record.part
        goes_on = part == expected and (
            part == 1 or (record.cell == first.cell and record.task == first.task and record.attempts == first.attempts)
        )
        if not goes_on:
            if part != 1:
                raise DamagedJournalError(
                    f"{path}:{number}: line {part} of a task, but the line before belongs to another task; run "
                    "the suite again to measure it again"
                )
            group = []  # an unfinished task that was later measured again
        if part == 1:
            first = record
        group.append(record)
        expected = part + 1
        if part == record.parts:
            yield group, offset
            group, expected = [], 1


def parse_record(line: bytes) -> Record | None:
    """Return the record on a line; None if the line is incomplete or is not a record.

    Raises:
        RunFolderError: if a later version of pruningbench wrote it.
    """
    if not line.endswith(b"\n"):
        return None
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            return None
        written = values.get("schema", SCHEMA)
        if type(written) is int and written > SCHEMA:
            raise RunFolderError(
                f"written by a later version of pruningbench (schema {str(written)[:12]}, this version reads "
                f"{SCHEMA}): update pruningbench to read it"
            )
        return Record.from_json(values)
    except (ValueError, TypeError, OverflowError, RecursionError):  # also for huge numbers and too deep nesting
        return None


@lru_cache(maxsize=1)
def fast_parser() -> Callable[[bytes], Line | None]:
    """Return a function that accepts the same lines as `parse_record`, ten times as fast.

    It returns a structure instead of a `Record` where msgspec accepts the line. Everything that msgspec refuses
    (infinity as text, halves of surrogate pairs, wrong types) is left to `parse_record`.
    """
    import msgspec

    decode: Callable[[bytes], Any] = msgspec.json.Decoder(line_structure()).decode
    refusals = (msgspec.MsgspecError, ValueError, RecursionError)

    def parse(line: bytes) -> Line | None:
        try:
            values = decode(line)
        except refusals:
            return parse_record(line)
        if line[-1:] == b"\n" and 1 <= values.part <= values.parts and values.schema == SCHEMA:
            return values
        return parse_record(line)

    return parse


def line_structure(parts: type | None = None) -> Any:
    """Return the type of a line, with the same checks as `Record.from_json`; `parts`: another type of mappings."""
    import msgspec

    integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    types: dict[str, Any] = {
        "str": str, "bool | None": bool | None, "Status": Status, "float": float, "int": integer,
        "Mapping[str, str]": parts or dict[str, str],
    }  # fmt: skip
    listed: list[Any] = []
    for field in fields(Record):
        kind = types[str(field.type)]
        if field.name in NUMBERS:
            kind = float | None
        elif field.name in INTEGERS:
            kind = integer
        elif field.name == "sparsity":
            kind = Annotated[float, msgspec.Meta(ge=0, lt=1)]
        if field.default_factory is not MISSING:
            factory = (lambda: parts(b"")) if parts else field.default_factory
            listed.append((field.name, kind, msgspec.field(default_factory=factory)))
        elif field.default is not MISSING:
            listed.append((field.name, kind, field.default))
        else:
            listed.append((field.name, kind))
    listed.append(("schema", int, SCHEMA))
    return msgspec.defstruct("Line", listed, gc=False)
