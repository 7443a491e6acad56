"""Submissions: one file with the results of a run, which anyone can read, check and use like a run folder.

A submission is a zip archive with exactly these members:

====================  ===========================================================================
``manifest.json``     format, schema version, and size and SHA-256 of all other members
``suite.yaml``        the resolved suite
``environment.json``  versions of pruningbench, Python, packages and plugins; device
``results.jsonl``     the valid records, one line each, as in a run folder
``masks.json``        for each cell the digest of its masks and the numbers of weights, kept and all
``samples.json``      index of the packed per-sample values (`pruningbench.store.packing`)
``samples.npz``       the packed per-sample values
====================  ===========================================================================

The *digest* of a submission is the SHA-256 of its manifest. It covers the content of all members, and does not change
if the archive is compressed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pruningbench.base.reading import one_line, open_file, parse_json, printable, read_file
from pruningbench.errors import DataError, PruningBenchError, SubmissionError

SUFFIX = ".pbsub.zip"
FORMAT, SCHEMA = "pruningbench-submission", 1
MANIFEST, SUITE, ENVIRONMENT, RESULTS = "manifest.json", "suite.yaml", "environment.json", "results.jsonl"
MASKS, INDEX, SAMPLES = "masks.json", "samples.json", "samples.npz"
MEMBERS: Mapping[str, int] = {
    MANIFEST: 1 << 20, SUITE: 1 << 20, ENVIRONMENT: 1 << 20, RESULTS: 1 << 30, MASKS: 1 << 26, INDEX: 1 << 28,
    SAMPLES: 1 << 30,
}  # fmt: skip
"""All members in their order in the archive, with the largest size of each in bytes."""
LARGEST_FILE = 1 << 29
"""Largest submission, in bytes."""
LONGEST_DIRECTORY = 1 << 16
"""Largest size of an archive's list of members, in bytes."""
_TIME = (1980, 1, 1, 0, 0, 0)
"""Time of all members, so that equal content gives equal bytes."""
_METHODS = {RESULTS: zipfile.ZIP_LZMA, SAMPLES: zipfile.ZIP_LZMA}
"""How members are compressed that are not deflated: the large ones by LZMA, which leaves a sixth less."""
_TOO_NEW = "was made by a newer version of pruningbench"


class Member(BaseModel):
    """Size in bytes and SHA-256 of a member."""

    model_config = ConfigDict(extra="forbid", strict=True)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a submission says about itself; `submission_digest` of its bytes identifies the submission.

    Attributes:
        format, schema_version: of the file; a later schema is refused by earlier versions.
        name: name of the submission in tables: letters, digits, ``.``, ``_`` and ``-``.
        suite: name of the suite.
        suite_digest: hash of everything in the suite that can change a result.
        pruningbench: version that made the file.
        rows, cells, task_runs: number of records, and of the cells and task runs that they belong to.
        distributions: version of each distribution that registered a plugin.
        members: size and hash of all other members.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    format: str
    schema_version: int
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    suite: str = Field(max_length=10_000)
    suite_digest: str = Field(pattern=r"^[0-9a-f]{16}$")
    pruningbench: str = Field(max_length=100)
    rows: int = Field(ge=1)
    cells: int = Field(ge=1)
    task_runs: int = Field(ge=1)
    distributions: dict[str, str]
    members: dict[str, Member]


def submission_digest(manifest: bytes) -> str:
    """Return the digest that identifies a submission, as 64 hex digits, from the bytes of its manifest."""
    return hashlib.sha256(manifest).hexdigest()


def member(content: bytes) -> Member:
    """Return the size and hash of a member."""
    return Member(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return a manifest as the bytes that are stored."""
    return (json.dumps(manifest.model_dump(), indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def archive_bytes(members: Mapping[str, bytes]) -> bytes:
    """Return the archive of all members; equal members give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name in MEMBERS:
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # the same on every system
            file.writestr(info, members[name], _METHODS.get(name, zipfile.ZIP_DEFLATED), compresslevel=9)
    return buffer.getvalue()


def read_archive(path: Path) -> tuple[bytes, str]:
    """Return the bytes of a submission file and their SHA-256.

    Raises:
        SubmissionError: if there is no such file, it is no regular file, is too large, or is no zip archive.
    """
    try:
        content = read_file(path, LARGEST_FILE)
    except FileNotFoundError:
        raise SubmissionError(f"{printable(path)}: there is no such file or folder") from None
    except DataError as error:
        raise SubmissionError(str(error)) from None
    if not content.startswith(b"PK"):
        raise SubmissionError(
            f"{printable(path)}: is not a submission (a zip archive); `pruningbench submit` makes one"
        )
    return content, hashlib.sha256(content).hexdigest()


def unpack_archive(content: bytes, into: Path, where: str) -> dict[str, bytes]:
    """Unpack a submission into an empty folder and return its members.

    The archive is written to the folder first and read from there, so that nobody can exchange it in between.

    Args:
        content: the archive.
        into: an empty folder.
        where: the file's name, for messages.

    Raises:
        SubmissionError: for a damaged archive, other members than `MEMBERS`, members that are too large, links,
            places outside the folder, or two members with one name.
    """
    from pruningbench.images.archives import unpack

    copy, folder = into / "copy.zip", into / "members"
    copy.write_bytes(content)
    try:
        _check_members(copy)
        unpack(copy, folder)
        return {name: read_file(folder / name, largest) for name, largest in MEMBERS.items()}
    except SubmissionError as error:
        raise SubmissionError(f"{where}: {error}") from None
    except (PruningBenchError, OSError) as error:
        why = str(error).replace(f"{printable(copy)}: ", "").replace("is removed ", "").replace("; fetch it again", "")
        raise SubmissionError(f"{where}: {one_line(why)}") from None
    finally:
        copy.unlink(missing_ok=True)
        for name in MEMBERS:
            (folder / name).unlink(missing_ok=True)


def _check_members(path: Path) -> None:
    """Make sure that an archive holds the members of a submission and nothing else, before anything is unpacked."""
    try:
        with open_file(path) as stream:
            _check_directory(stream)
            with zipfile.ZipFile(stream) as file:
                members = file.infolist()
    except SubmissionError:
        raise
    except Exception as error:  # noqa: BLE001 - readers of archives raise nearly anything for a damaged one
        why = one_line(error) or type(error).__name__
        raise SubmissionError(f"is not a zip archive, or is damaged ({why})") from None
    names = [info.orig_filename for info in members]
    missing = [name for name in MEMBERS if name not in names]
    if MANIFEST in missing:
        raise SubmissionError(f"is not a submission: it has no {MANIFEST}")
    extra = [name for name in names if name not in MEMBERS]
    if extra:
        raise SubmissionError(f"contains {one_line(extra[0], 80)!r}, which is not part of a submission")
    if missing:
        raise SubmissionError(f"is incomplete: it has no {', '.join(missing)}")
    if len(names) != len(MEMBERS):
        twice = next(name for name in names if names.count(name) > 1)
        raise SubmissionError(f"contains {twice} twice")
    for info in members:
        if info.file_size > MEMBERS[info.orig_filename]:
            largest = MEMBERS[info.orig_filename]
            raise SubmissionError(f"{info.orig_filename} has {info.file_size:,} bytes, at most {largest:,} are read")
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
        if info.compress_type not in methods or info.flag_bits & 1:
            wrong = "is encrypted, or compressed by another method than deflate or LZMA"
            raise SubmissionError(f"{info.orig_filename} {wrong}")


def _check_directory(stream: BinaryIO) -> None:
    """Refuse an archive with a long list of members, before zipfile reads the list into memory."""
    size = stream.seek(0, 2)
    stream.seek(max(size - 42, 0))
    end = stream.read()[-42:]
    stream.seek(0)
    record, before = end[-22:], end[:-22]
    if record[:4] != b"PK\x05\x06" or before[:4] == b"PK\x06\x07":
        raise SubmissionError("is not a zip archive, is cut off, has a comment, or has more than 4 GiB")
    if int.from_bytes(record[12:16], "little") > LONGEST_DIRECTORY:
        raise SubmissionError(f"has more members than the {len(MEMBERS)} of a submission")


def read_manifest(content: bytes) -> Manifest:
    """Return a checked manifest.

    Raises:
        SubmissionError: if it is no manifest, or of a later schema; without the name of the file.
    """
    try:
        values = parse_json(content, MANIFEST)
    except DataError as error:
        raise SubmissionError(str(error)) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise SubmissionError(f"is not a submission: {MANIFEST} does not say `format: {FORMAT}`")
    schema = values.get("schema_version")
    if isinstance(schema, int) and schema > SCHEMA:
        raise SubmissionError(
            f"{_TOO_NEW} (schema {str(schema)[:12]}, this version reads schemas up to {SCHEMA}): update pruningbench"
        )
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise SubmissionError(f"{MANIFEST}: schema_version must be a whole number from 1, got {one_line(schema, 80)}")
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise SubmissionError(f"{MANIFEST}: {first_problem(error)}") from None


def check_hashes(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Make sure that the members are those that the manifest lists.

    Raises:
        SubmissionError: for a member that is not listed, or has another size or hash.
    """
    if set(manifest.members) != set(MEMBERS) - {MANIFEST}:
        raise SubmissionError(f"{MANIFEST} does not list exactly the other {len(MEMBERS) - 1} members")
    for name, listed in manifest.members.items():
        if member(members[name]) != listed:
            raise SubmissionError(f"{name} has changed since the submission was made (its hash is another)")


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a validation in one line: where, and what is wrong."""
    first: Any = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(one_line(part, 80) for part in first["loc"])
    return f"{place}: {one_line(first['msg'])}"
