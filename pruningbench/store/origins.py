"""Where results come from: a run folder, a submission file, a folder of submissions, or a scheme such as ``hub:``.

Everything that reads results takes *sources* and asks `origins` for the readable run folders behind them. A submission
is unpacked into the cache of this machine once, under the hash of its file, and read from there. The cache of
submissions is bounded; the least recently used ones are evicted first.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.base.files import default_cache_folder, expanded
from pruningbench.base.reading import printable
from pruningbench.errors import RunFolderError, SubmissionError, UsageError, did_you_mean
from pruningbench.store.remote import is_url
from pruningbench.store.runfolder import RESULTS

if TYPE_CHECKING:
    from pruningbench.store.hub import Published

Source = str | os.PathLike[str]
MOST_BYTES = 4 << 30
"""Largest total size of the unpacked submissions in the cache, in bytes."""
ROOM = "submissions"
_SCHEME = re.compile(r"([a-z][a-z0-9-]+):(?!//)(.*)", re.DOTALL)
_STAMP = "unpacked.txt"
_OLD = 24 * 3600
"""Age in seconds from which an unfinished unpacking is taken to be abandoned."""


@dataclass(frozen=True)
class Origin:
    """A readable run folder, and what is known about where it comes from.

    Attributes:
        folder: the run folder.
        run: name of the run in tables; the name of the folder.
        source: the source as it was given, for messages; if there is a revision, a source that names it.
        trust: "" for a run folder; for a submission ``self-reported``, ``checked``, ``re-run (n of m cells)`` or
            ``failed verification`` (`pruningbench.store.trust`).
        digest: digest of the submission; "" for a run folder.
        revision: revision of the place that it was fetched from; "" for files on this machine.
    """

    folder: Path
    run: str
    source: str
    trust: str = ""
    digest: str = ""
    revision: str = ""


Opener = Callable[[str], Sequence[Origin]]
"""Returns the origins behind the part of a source after its scheme."""


def _of_hub(address: str) -> Sequence[Origin]:
    """Open ``hub:OWNER/NAME[@REVISION]``: the submissions in a data set on a hub."""
    from pruningbench.store.hub import fetch_published

    return from_published(fetch_published(address))


def from_published(published: Published) -> list[Origin]:
    """Return fetched submissions as readable run folders.

    They are self-reported: what their author says about having verified them does not count.

    Raises:
        SubmissionError: as `from_submission`; the message names the data set and the file in it.
    """
    from pruningbench.store.trust import SELF_REPORTED

    opened = []
    for path in published.files:
        try:
            origin = from_submission(path, published.address, revision=published.revision)
        except SubmissionError as error:
            place = f"hub:{published.repo}: {path.name}"
            raise SubmissionError(str(error).replace(printable(path), place)) from None
        opened.append(replace(origin, trust=SELF_REPORTED))
    return opened


_openers: dict[str, Opener] = {"hub": _of_hub}


def register_scheme(scheme: str, opener: Opener) -> None:
    """Let sources ``SCHEME:REST`` be opened by ``opener(REST)``; a file or folder of that name has precedence.

    Args:
        scheme: lower-case letters, digits and ``-``; at least two characters.
        opener: returns one origin or more, or raises a PruningBenchError in one line. Submissions that it has fetched
            become origins through `from_submission`.
    """
    _openers[scheme] = opener


def origins(sources: Source | Iterable[Source]) -> tuple[Origin, ...]:
    """Return the readable run folders behind one source or several, in the given order.

    Raises:
        UsageError: for a source that does not exist, is no run or submission, or cannot be read; in one line.
    """
    several = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    return tuple(origin for source in several for origin in _open(os.fspath(source)))


def origin(source: Source) -> Origin:
    """Return the only run folder behind a source.

    Raises:
        UsageError: as `origins`, or if there are several.
    """
    opened = origins(source)
    if len(opened) != 1:
        raise UsageError(f"{printable(source)}: holds {len(opened)} submissions; give one of them")
    return opened[0]


def pinned(sources: Source | Iterable[Source]) -> list[Source]:
    """Return sources with the revision of each place that changes: ``hub:OWNER/NAME@COMMIT`` for ``hub:OWNER/NAME``.

    What reads sources more than once then reads the same results each time.

    Raises:
        UsageError, FetchError: as `origins`.
    """
    several = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    fixed: list[Source] = []
    for source in several:
        opened = origins(source)
        revisions = all(origin.revision for origin in opened)
        fixed += dict.fromkeys(origin.source for origin in opened) if opened and revisions else [source]
    return fixed


def _open(source: str) -> Sequence[Origin]:
    if is_url(source):
        from pruningbench.store.mirroring import fetched

        return _of_folder(fetched(source), source)
    path = expanded(source)
    try:
        is_folder, exists = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(source)[:200]}: cannot be read ({error})") from None
    if is_folder:
        return _of_folder(path, source)
    scheme = None if exists else _SCHEME.fullmatch(source)
    if scheme is not None:
        opener = _openers.get(scheme[1])
        if opener is None:
            hint = did_you_mean(scheme[1], _openers)
            raise UsageError(f"{printable(source)[:200]}: there is no such file, and no scheme {scheme[1]!r}{hint}")
        return opener(scheme[2])
    if not exists:
        raise RunFolderError(f"{printable(path)}: is not a run folder (there is no such file or folder)")
    return [from_submission(path, source)]


def _of_folder(path: Path, source: str) -> Sequence[Origin]:
    """Return a run folder, or the submissions in a folder that is none."""
    from pruningbench.store.submission_format import SUFFIX

    if (path / RESULTS).is_file():
        return [Origin(path, path.resolve().name, source)]
    submissions = sorted(file for file in path.glob(f"*{SUFFIX}") if file.is_file())
    if not submissions:
        raise RunFolderError(
            f"{printable(path)}: is not a run folder (it has no {RESULTS}) and has no submissions (*{SUFFIX}); give "
            "the folder of a run"
        )
    return [from_submission(file, os.fspath(file)) for file in submissions]


def from_submission(path: Path, source: str = "", *, revision: str = "") -> Origin:
    """Return a submission file as a readable run folder; it is unpacked if that has not been done before.

    Args:
        path: the file.
        source: what the user gave, for messages; the path by default.
        revision: revision of the place that it was fetched from.

    Raises:
        SubmissionError: if it is no submission that this version reads.
        UsageError: if the cache folder cannot be written.
    """
    from pruningbench.store.submission_format import read_archive
    from pruningbench.store.trust import trust_of

    _, file_hash = read_archive(path)
    place = default_cache_folder() / ROOM / file_hash[:2] / file_hash
    known = _unpacked(place)
    if known is None:
        known = _unpack(path, file_hash, place)
    run, digest = known
    with suppress(OSError):
        os.utime(place)
    return Origin(place / run, run, source or printable(path), trust_of(path, digest), digest, revision)


def _unpacked(place: Path) -> tuple[str, str] | None:
    """Return the name of the run and the digest of an unpacked submission; None if it is not whole."""
    try:
        run, digest, files = (place / _STAMP).read_text().split("\n")[:3]
        whole = sum(1 for file in (place / run).rglob("*") if file.is_file()) == int(files)
    except (OSError, ValueError):
        return None
    return (run, digest) if whole else None


def _unpack(path: Path, file_hash: str, place: Path) -> tuple[str, str]:
    """Check and unpack a submission into the cache; return the name of its run and its digest."""
    from pruningbench.store.submission import open_submission

    submission = open_submission(path)
    if submission.file_hash != file_hash:
        raise SubmissionError(f"{printable(path)}: changed while it was read; try again")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _make_room(place.parent.parent)
        folder = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
        try:
            submission.write_folder(folder / submission.run)
            files = sum(1 for file in (folder / submission.run).rglob("*") if file.is_file())
            (folder / _STAMP).write_text(f"{submission.run}\n{submission.digest}\n{files}\n")
            _move(folder, place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"{printable(path)}: cannot be unpacked into {printable(place.parent)} ({error.strerror}); "
            "set PRUNINGBENCH_CACHE to another folder"
        ) from None
    return submission.run, submission.digest


def _move(folder: Path, place: Path) -> None:
    """Move an unpacked submission into place, unless another process has just done so."""
    if _unpacked(place) is not None:
        return
    shutil.rmtree(place, ignore_errors=True)
    try:
        folder.rename(place)
    except OSError:
        if _unpacked(place) is None:
            raise


def _make_room(room: Path) -> None:
    """Remove abandoned unpackings, and the least recently used submissions beyond `MOST_BYTES`."""
    for folder in room.glob("*/.*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _OLD:
                shutil.rmtree(folder, ignore_errors=True)
    kept = []
    for place in room.glob("*/*"):
        with suppress(OSError):
            if not place.name.startswith("."):
                kept.append((place.stat().st_mtime, _size(place), place))
    total = sum(size for _, size, _ in kept)
    for _, size, place in sorted(kept):
        if total <= MOST_BYTES:
            break
        shutil.rmtree(place, ignore_errors=True)
        total -= size


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
