"""The data set `hub`: any image data set on the Hugging Face hub that is stored as parquet, or local parquet files."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import DataCard, DataError, MissingDataError, expanded, param
from pruningbench.images.fetch import Progress, data_folder, silent
from pruningbench_data._disk import OnDisk
from pruningbench_data._sampling import Sampled

if TYPE_CHECKING:
    from pruningbench.contract import Samples

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Hub(OnDisk, Sampled):
    """A hub data set at a pinned commit, or parquet files in the same form in a local folder.

    The files of a split are named ``SPLIT.parquet`` or ``SPLIT-*.parquet``, or are in a folder SPLIT. They are
    kept in the hub's own cache (HF_HOME), so files fetched by other programs are not fetched again. Each file is
    checked against the hash that the hub publishes.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="the data set's own, on its hub page",
        citation="the data set's own",
        homepage="https://huggingface.co/datasets",
        checksum="sha256 or git blob hash of each file at the pinned commit",
        obtain="put parquet files with images there",
    )
    name: ClassVar[str] = "hub"
    place: ClassVar[str] = "hub"
    example = {"path": "my-parquet-files"}  # noqa: RUF012 - a constant of a frozen dataclass

    repo: str | None = param(None, doc="OWNER/NAME on the hub; needs `revision`")
    revision: str | None = param(
        None, doc="commit of the data set, 40 hex digits; branch names are refused, since branches move"
    )
    path: str | None = param(None, doc="instead of `repo`: folder of parquet files, below the data folder or absolute")
    split: str = param("test", doc="name of the split")
    image: str = param("image", doc="column with the images")
    label: str | None = param("label", doc="column with the labels; null for images without labels")

    def problem(self) -> str | None:
        """Check that the data set is named in one way, and pinned."""
        if (self.repo is None) == (self.path is None):
            return "name either repo (with revision) or path"
        if self.repo is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            return f"repo is {self.repo!r}, but must be OWNER/NAME"
        if self.repo is not None and not _COMMIT.fullmatch(self.revision or ""):
            return f"revision is {self.revision!r}, but must be a commit of 40 hex digits (see the repo's history)"
        if self.label is None and (self.balanced or self.classes is not None):
            return "classes and balanced need a label column"
        return super().problem()

    def folder(self) -> Path:
        """Return the local folder, or the folder of records about the repo."""
        return data_folder() / (expanded(self.path) if self.path else self.place)

    def needs(self) -> Sequence[str]:
        """Return the local folder itself."""
        return ("",) if self.path else ()

    def missing(self) -> str | None:
        """Return which files are missing, without network access."""
        from pruningbench_data._parquet import lacks_pyarrow

        if self.repo is None or self.revision is None:
            return super().missing() or lacks_pyarrow()
        from pruningbench_data._hub import local_files

        if local_files(self.repo, self.revision, self.split) is None:
            return f"{self.repo} is not on this machine; get it with `{self.command()}`"
        return lacks_pyarrow()

    def command(self) -> str:
        """Return the command that fetches the split."""
        fields = [f.name for f in dataclasses.fields(self) if f.name in ("repo", "revision", "split")]
        words = [f"--set {name}={value}" for name in fields if (value := getattr(self, name)) is not None]
        return shlex.join(["pruningbench", "data", "fetch", self.name, *" ".join(words).split()])

    def fetch(self, progress: Progress = silent) -> None:
        """Fetch the split's files into the hub's cache and check them."""
        if self.repo is None or self.revision is None:
            if self.missing():
                raise MissingDataError(f"data set {self.name}: {self.missing()}")
            return
        from pruningbench_data._hub import fetch_files

        fetch_files(self.repo, self.revision, self.split, progress)

    def open(self) -> Samples:
        """Return RGB images; keys are ``SPLIT-ROW``."""
        from pruningbench_data._hub import local_files, split_files
        from pruningbench_data._parquet import Columns
        from pruningbench_data._tables import parquet_samples

        if self.repo is not None and self.revision is not None:
            paths = local_files(self.repo, self.revision, self.split) or []
        else:
            root = self.folder()
            files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
            paths_of_split = split_files([path.relative_to(root).as_posix() for path in files], self.split)
            paths = [root] if root.is_file() else [root / name for name in paths_of_split]
            if not paths:
                names = ", ".join(path.name for path in files) or "none"
                raise DataError(f"{root}: has no parquet file of split {self.split!r} (files there: {names})")
        return parquet_samples(
            paths,
            self.split,
            Columns(self.image, self.label),
            select=self.select,
            chosen=self.chosen,
            remedy="fetch the file again" if self.repo else "replace the file",
        )
