"""Working copies: a run folder at a URL is a folder of this machine's cache while somebody works on it.

What is there and what is here are compared with a note of both as they were last equal. Files go first and the journal
last, so that every line of the journal there has its files there, too, whenever a machine is lost. The journal is
always replaced whole: the folder at the URL is then a run folder that any tool can copy, and no line can be torn.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection, Mapping

from pruningbench.base.files import default_cache_folder, read_plain, write_whole
from pruningbench.base.identity import content_hash
from pruningbench.errors import RemoteError, RunFolderError
from pruningbench.store.cachefiles import COPIES
from pruningbench.store.copies import READING, WORKING, hold
from pruningbench.store.journal import finished_part
from pruningbench.store.remote import RemoteFolder, shown
from pruningbench.store.runfolder import DAMAGED, RESULTS, SOURCES, STALE
from pruningbench.store.workingcopy import ROOMS, Same, WorkingCopy, stat_of

READ = ("masks", "samples", "exhibits")
"""Subfolders that commands need which only read runs."""
Say = Callable[[str], None]


class Mirror(WorkingCopy):
    """A folder at a URL and its working copy on this machine, which nobody removes until this process ends.

    Only one process at a time may call the methods that write: who calls them holds the lock of the working copy, and
    to upload also the lease at the URL.

    Args:
        url: the folder.
        reading: subfolders for a copy for reading only, apart from the copy that a run works on; () for the latter.

    Attributes:
        folder: the working copy.
        copy: a random text that identifies the working copy.
        remote: the folder.
    """

    def __init__(self, url: str, *, reading: tuple[str, ...] = ()) -> None:
        self.remote = RemoteFolder(url)
        place = default_cache_folder() / COPIES / content_hash(self.remote.url, length=16)
        root = place / (READING if reading else WORKING)
        hold(root)
        super().__init__(root / self.remote.name, reading or ROOMS, shown(self.remote.url))

    def _there(self) -> dict[str, str]:
        """Return the files at the URL that belong to the run, with their tags.

        Raises:
            RunFolderError: if there are other files and no run.
        """
        listing = self.remote.listing()
        files = {name: tag for name, tag in listing.items() if self.belongs(name)}
        others = [name for name in listing if not files and not name.rpartition("/")[2].startswith(".")]
        if others:
            raise RunFolderError(
                f"{self.remote.shown}: holds other files, such as {others[0]}, and is not a run folder"
            )
        return files

    def fetch(self, warn: Say) -> None:
        """Bring what is new at the URL into the working copy.

        If the journal here continues the one there, changes here stay, to be uploaded later. Else, somebody else has
        continued the run, and the working copy becomes what is there.

        Args:
            warn: receives a line if finished tasks are here that never got there and are given up.

        Raises:
            RemoteError: if the URL cannot be read.
            RunFolderError: if it holds something else, or the working copy cannot be written.
        """
        self.read_note()
        there = self._there()
        journal, ours = self._compared(there)
        if journal is not None:
            tag, there = there[RESULTS], self._there()  # files that its lines need got there before it
            there[RESULTS] = tag
        try:
            self._take(there, journal, warn, ours=ours)
        except OSError as error:
            raise RunFolderError(
                f"{self.folder}: cannot be written ({error.strerror}); set PRUNINGBENCH_CACHE"
            ) from None

    def _compared(self, there: Mapping[str, str]) -> tuple[bytes | None, bool]:
        """Return the journal at the URL if it must be read, and whether the one here is it or continues it."""
        if RESULTS not in there:
            return None, RESULTS not in self._same
        known = self._same.get(RESULTS)
        if known is not None and known.tag == there[RESULTS] and stat_of(self.folder / RESULTS) is not None:
            return None, True
        journal = self.remote.read(RESULTS)
        if journal is None:
            raise RemoteError(f"{self.remote.shown}: changes while it is read; run the same command again")
        return journal, self._journal().startswith(journal)

    def _journal(self) -> bytes:
        try:
            return read_plain(self.folder / RESULTS)
        except FileNotFoundError:
            return b""

    def _take(self, there: Mapping[str, str], journal: bytes | None, warn: Say, *, ours: bool) -> None:
        here = self.here()
        unchanged = {name for name, stat in here.items() if name in self._same and self._same[name].stat == stat}
        given_up = set() if ours else set(self._journal().splitlines()) - set((journal or b"").splitlines())
        if given_up:
            warn(
                f"{self.remote.shown}: was changed by somebody else; {len(given_up)} lines of finished tasks on this "
                "machine had not been uploaded and are given up"
            )
        wanted = []
        for name, tag in there.items():
            newer = name not in self._same or self._same[name].tag != tag
            if name != RESULTS and (
                (newer and name in unchanged) or (name not in here and not (name in self._same and _may_go(name)))
                if ours
                else newer or name not in unchanged
            ):
                wanted.append(name)
        for name in here.keys() - there.keys():
            if name in unchanged or not ours:
                (self.folder / name).unlink(missing_ok=True)
        self._download(wanted)
        if journal is not None and not ours:
            write_whole(self.folder / RESULTS, journal, durable=True)
        self._became_same(there, [*wanted, *([RESULTS] if journal is not None and not ours else [])])

    def _download(self, names: list[str]) -> None:
        """Download files, each under another name first: a reader or a kill finds whole files only."""
        temporary = self.folder / f".{uuid.uuid4().hex[:12]}.tmp"
        try:
            self.remote.download(names, temporary)
            for name in names:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).replace(self.folder / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _became_same(self, there: Mapping[str, str], names: Collection[str]) -> None:
        """Note that files are now equal here and there."""
        here = self.here()
        kept = {name: same for name, same in self._same.items() if name in there}
        self._same = kept | {name: Same(there[name], here[name]) for name in names if name in here}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_note()

    def upload(self) -> None:
        """Bring what is new in the working copy to the URL; the journal up to the last finished task.

        Raises:
            RemoteError: if the URL cannot be written.
            RunFolderError: if the working copy cannot be read.
        """
        try:
            journal_stat = stat_of(self.folder / RESULTS)
            known = self._same.get(RESULTS)
            if known and journal_stat is None:
                raise RunFolderError(f"{self.folder}: was deleted or moved; what has been uploaded is safe")
            journal = None if journal_stat is None or (known and known.stat == journal_stat) else self._journal()
            here = self.here()
            changed = [
                name for name, stat in here.items()
                if name != RESULTS and (name not in self._same or self._same[name].stat != stat)
            ]  # fmt: skip
            gone = [name for name in self._same if name not in here and _may_go(name)]
            if not (changed or gone or journal is not None):
                return
            self.remote.upload(changed, self.folder)
            if journal is not None:
                self.remote.write(RESULTS, finished_part(journal))
            self.remote.remove(gone)
            there = self._there()
            stats = here if journal_stat is None else {**here, RESULTS: journal_stat}
            uploaded = [*changed, *([RESULTS] if journal is not None else [])]
            self._same = {name: same for name, same in self._same.items() if name not in gone}
            self._same |= {name: Same(there[name], stats[name]) for name in uploaded if name in there}
            self.write_note()
        except OSError as error:
            raise RunFolderError(f"{self.folder}: cannot be read or written ({error.strerror})") from None


def _may_go(name: str) -> bool:
    """Whether a run removes such files; others that are missing here were lost, and are never removed at the URL."""
    return name in (STALE, SOURCES, DAMAGED) or name.startswith("figures/")
