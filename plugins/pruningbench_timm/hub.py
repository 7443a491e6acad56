"""Files of model repositories on the Hugging Face hub: cached or fetched, with one-line errors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pruningbench.contract import MissingDataError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of weight files in timm's repositories, in order of preference."""


@dataclass(frozen=True)
class Repository:
    """A model repository at a revision.

    Attributes:
        name: ``owner/name``.
        revision: branch, tag or commit; None for the main branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def cached(self, *files: str) -> Path | None:
        """Return the first of `files` in the local cache, without network access; None if none is there."""
        from huggingface_hub import try_to_load_from_cache

        for file in files:
            found = try_to_load_from_cache(self.name, file, revision=self.revision)
            if isinstance(found, (str, os.PathLike)):
                return Path(found)
        return None

    def fetch(self, *files: str) -> Path:
        """Return the first of `files` that the repository has, from the cache or the hub.

        A cached commit needs no network access. Files appear in the cache only when complete; the next call
        continues an interrupted download.

        Raises:
            MissingDataError: if the repository, the revision or all files are absent or unreachable.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        for file in files:
            try:
                return Path(hf_hub_download(self.name, file, revision=self.revision))
            except LocalEntryNotFoundError as error:
                raise MissingDataError(f"{self._lacks(file)}: {self._unreachable()}") from error
            except EntryNotFoundError:
                continue
            except GatedRepoError as error:
                raise MissingDataError(
                    f"{self}: requires consent; agree at https://huggingface.co/{self.name} and log in "
                    "with `hf auth login`"
                ) from error
            except RepositoryNotFoundError as error:
                raise MissingDataError(
                    f"{self.name}: no such repository on the hub, or it is private (`hf auth login`)"
                ) from error
            except RevisionNotFoundError as error:
                raise MissingDataError(
                    f"{self.name} has no revision {self.revision!r}; leave `revision` out for the main branch"
                ) from error
            except Exception as error:  # anything that the connection, the disk or a proxy may raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise MissingDataError(
                    f"{self._lacks(file)}: the download was interrupted ({reason}); run again to continue it"
                ) from error
        raise MissingDataError(f"{self}: the repository has no {' and no '.join(files)}; is it a timm model?")

    def command(self, *files: str) -> str:
        """Return the command that fetches `files` into the cache."""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.name} {' '.join(files)}{revision}"

    def _lacks(self, file: str) -> str:
        return f"{file} of {self} is not on this machine"

    def _unreachable(self) -> str:
        why = "is switched off (HF_HUB_OFFLINE)" if offline() else "cannot be reached"
        return f"the hub {why}; with a network, run `{self.command('config.json', *WEIGHTS[:1])}`"


def offline() -> bool:
    """Whether the user has switched the hub off with ``HF_HUB_OFFLINE``."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
