"""Data sets that a suite can name: their source, their terms, and how they are opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract.component import Component, Kind
from pruningbench.images.fetch import Download, Progress, fetch, silent

if TYPE_CHECKING:
    from pathlib import Path

    from pruningbench.contract.context import Context
    from pruningbench.contract.samples import Samples


@dataclass(frozen=True)
class DataCard:
    """Where a data set comes from and under which terms.

    Attributes:
        licence: its terms of use, in a few words.
        citation: who made it, where it was published.
        homepage: the page of its authors.
        size: bytes to download; 0 for data that ships with a package.
        checksum: what the source publishes to verify a download.
        obtain: how to get it if it cannot be downloaded freely: the account, the folder layout.
    """

    licence: str = "not stated"
    citation: str = "not stated"
    homepage: str = ""
    size: int = 0
    checksum: str = "none published"
    obtain: str = ""


@dataclass(frozen=True)
class Dataset(Component, ABC):
    """A data set that a suite can name. Subclasses declare their splits and limits as fields."""

    kind: ClassVar[Kind] = "dataset"
    card: ClassVar[DataCard] = DataCard()

    @abstractmethod
    def load(self, context: Context) -> Samples:
        """Open the data set.

        Raises:
            MissingDataError: if it is not on this machine; the message says how to get it.
            DataError: if a file is damaged or is not where the layout requires it.
        """

    def folder(self) -> Path | None:
        """Return where its files are or will be, or None if it needs none."""
        return None

    def missing(self) -> str | None:
        """Return what must be fetched before `load` can work, and how; None if nothing is missing."""
        return None

    def downloads(self) -> Sequence[Download]:
        """Return what `fetch` downloads into `folder`; empty if there is nothing to download."""
        return ()

    def fetch(self, progress: Progress = silent) -> None:
        """Download the files to this machine; existing files are left alone.

        Raises:
            FetchError: if the download fails; the message says what to do.
            MissingDataError: if the data cannot be downloaded freely; the message says how to get it.
        """
        folder = self.folder()
        if folder is not None and self.downloads():
            fetch(self.downloads(), folder, progress)
