"""Data sets in a folder below the data folder: what they need, and how to get it."""

from __future__ import annotations

import dataclasses
import shlex
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import Dataset, MissingDataError
from pruningbench.images.fetch import UNFINISHED, Progress, data_folder, silent

if TYPE_CHECKING:
    from pruningbench.contract import Context, HumanResponses, Samples
    from pruningbench_data._sampling import Choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnDisk(Dataset):
    """A data set in a folder of its own."""

    name: ClassVar[str]
    """The name that it is registered under."""
    place: ClassVar[str]
    """Its folder below the data folder."""
    decides: ClassVar[tuple[str, ...]] = ()
    """Fields that decide what has to be fetched."""

    def folder(self) -> Path:
        """Return the data set's folder, whether it exists or not."""
        return data_folder() / self.place

    @abstractmethod
    def needs(self) -> Sequence[str]:
        """Return the paths below the folder that must exist."""

    @abstractmethod
    def open(self) -> Samples:
        """Open the data; everything in `needs` exists."""

    def missing(self) -> str | None:
        """Return the first missing path and how to get it, or None."""
        folder = self.folder()
        if (folder / UNFINISHED).exists():
            return f"{folder} was not unpacked completely; {self.remedy()}"
        lacking = [path for path in self.needs() if not (folder / path).exists()]
        return f"{folder / lacking[0]} is missing; {self.remedy()}" if lacking else None

    def remedy(self) -> str:
        """Return how to get the data."""
        if not self.downloads():
            return self.card.obtain
        return f"get it with `{self.command()}`, or set PRUNINGBENCH_DATA to the folder that holds {self.place}/"

    def command(self) -> str:
        """Return the command that fetches the data."""
        words = ["pruningbench", "data", "fetch", self.name]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in self.decides and value != field.default:
                words += ["--set", f"{field.name}={value}"]
        return shlex.join(words)

    def load(self, context: Context) -> Samples:
        """Open the data set, or raise an error that says how to get it."""
        del context
        lack = self.missing()
        if lack:
            raise MissingDataError(f"data set {self.name}: {lack}")
        return self.open()

    def fetch(self, progress: Progress = silent) -> None:
        """Download what is missing; leave existing data unchanged."""
        if self.missing() is None:
            return
        if not self.downloads():
            raise MissingDataError(f"data set {self.name}: {self.missing()}")
        super().fetch(progress)
        lack = self.missing()
        if lack:
            raise MissingDataError(f"data set {self.name}: the fetch is complete, but {lack}")


def files_as_samples(
    root: Path, files: Sequence[str], choice: Choice, remedy: str, human: HumanResponses | None = None
) -> Samples:
    """Return the chosen image files with their labels; keys are the paths below `root`.

    Args:
        root: the folder to which the paths are relative.
        files: paths of all files below `root`, with ``/``.
        choice: which of them to take.
        remedy: what to do about an image that cannot be decoded.
        human: people's responses to the chosen images.
    """
    import torch

    from pruningbench.contract import EncodedSamples
    from pruningbench.images.decode import read_encoded
    from pruningbench_data._digests import contents, fingerprint

    keys = [files[i] for i in choice.positions]
    paths = [root / key for key in keys]
    return EncodedSamples(
        keys,
        lambda i: read_encoded(paths[i]),
        name=lambda i: str(paths[i]),
        fingerprint=fingerprint(keys, contents(paths), choice.labels, choice.classes, numbers(human)),
        labels=torch.tensor(choice.labels, dtype=torch.int64),
        classes=choice.classes,
        human=human,
        remedy=remedy,
    )


def unlabelled_files(
    root: Path, files: Sequence[str], keys: Sequence[str], human: HumanResponses, remedy: str
) -> Samples:
    """Return image files below `root` without labels, with people's responses to them."""
    from pruningbench.contract import EncodedSamples
    from pruningbench.images.decode import read_encoded
    from pruningbench_data._digests import contents, fingerprint

    paths = [root / file for file in files]
    return EncodedSamples(
        keys,
        lambda i: read_encoded(paths[i]),
        name=lambda i: str(paths[i]),
        fingerprint=fingerprint(list(keys), contents(paths), numbers(human)),
        human=human,
        remedy=remedy,
    )


def numbers(human: HumanResponses | None) -> list[object]:
    """Return all fields of human responses as plain values and bytes, for a fingerprint."""
    import torch

    if human is None:
        return []
    values = [getattr(human, field.name) for field in dataclasses.fields(human)]
    return [v.contiguous().numpy().tobytes() if isinstance(v, torch.Tensor) else v for v in values]
