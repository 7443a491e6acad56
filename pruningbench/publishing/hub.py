"""Repositories on a hub, as publishing uses them: created if missing, and changed by one commit on the newest one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from pruningbench.errors import PruningBenchError, PublishError, UsageError
from pruningbench.store.hub import Listed
from pruningbench.store.hubclient import NOUNS, Kind, explained, status_of
from pruningbench.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
TRIES = 10
"""How often a commit is tried while others commit to the same branch."""
PAUSE = 0.5
"""Average pause before the second try, in seconds; it grows with each try."""
_MOVED = (409, 412)
"""HTTP statuses of a commit whose parent is no longer the newest commit, or that collides with another one."""
BRANCH = "main"


@dataclass(frozen=True)
class Edit:
    """What a commit changes.

    Attributes:
        parent: the newest commit when the edit was prepared, 40 hex digits.
        there: the files of that commit.
        files: content of all files that the new commit is to hold, by name.
        deleted: names of the files that it is not to hold.
    """

    parent: str
    there: Mapping[str, Listed]
    files: Mapping[str, bytes]
    deleted: frozenset[str] = field(default_factory=frozenset)

    def operations(self) -> list[Any]:
        """Return what differs from the newest commit, as the hub's client takes it."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        changed = {
            name: content
            for name, content in sorted(self.files.items())
            if name not in self.there or not self.there[name].is_of(content)
        }
        return [
            *(CommitOperationDelete(name) for name in sorted(self.deleted)),
            *(CommitOperationAdd(name, content) for name, content in changed.items()),
        ]


class Hub:
    """A hub and the account whose token huggingface-hub keeps on this machine.

    Raises:
        UsageError: if there is no token.
    """

    def __init__(self) -> None:
        from huggingface_hub import HfApi, get_token

        token = get_token()
        if not token:
            raise UsageError("publishing needs an account on the hub: run `hf auth login`, or set HF_TOKEN")
        self._api: HfApi = HfApi(token=token, library_name="pruningbench", library_version=__version__)

    def page(self, kind: Kind, repo: str) -> str:
        """Return the address of a repository's page."""
        return f"{self._api.endpoint}/{kind}s/{repo}"

    def make(self, kind: Kind, repo: str, *, private: bool) -> None:
        """Create a repository if it does not exist.

        Raises:
            PublishError: if it cannot be created, or if `private` is asked for and it exists and is public.
        """
        sdk: Any = "static" if kind == "space" else None
        self._asked(
            kind, repo,
            lambda: self._api.create_repo(repo, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk),
        )  # fmt: skip
        if private and not self._info(kind, repo).private:
            raise PublishError(
                f"{repo}: this {NOUNS[kind]} exists and is public; make it private on the hub, choose another --repo, "
                "or leave out --private"
            )

    def push(self, kind: Kind, repo: str, prepare: Callable[[], Edit], message: str) -> tuple[str, Edit]:
        """Commit an edit, and prepare it again whenever the branch has moved meanwhile.

        Args:
            kind: of the repository.
            repo: ``OWNER/NAME``.
            prepare: returns the edit of the newest commit.
            message: first line of the commit's message.

        Returns:
            The commit, 40 hex digits (its parent if nothing differs), and the edit.

        Raises:
            PublishError: if the hub refuses it, or the branch has moved `TRIES` times.
        """
        for attempt in range(1, TRIES + 1):
            edit = prepare()
            commit = self._committed(kind, repo, edit, message)
            if commit is not None:
                return commit, edit
            time.sleep(PAUSE * attempt * 2 * random.SystemRandom().random())
        raise PublishError(
            f"{repo}: others have committed to this {NOUNS[kind]} during each of {TRIES} tries; run the same command "
            "again later"
        )

    def _committed(self, kind: Kind, repo: str, edit: Edit, message: str) -> str | None:
        """Return the commit, or None if the parent is no longer the newest one."""
        from huggingface_hub.errors import HfHubHTTPError

        operations = edit.operations()
        if not operations:
            return edit.parent

        def commit() -> str | None:
            try:
                made = self._api.create_commit(
                    repo, operations, commit_message=message, repo_type=kind, revision=BRANCH,
                    parent_commit=edit.parent,
                )  # fmt: skip
            except HfHubHTTPError as error:
                if status_of(error) in _MOVED:
                    return None
                raise
            return str(made.oid)

        with _without_progress():
            return self._asked(kind, repo, commit)

    def _info(self, kind: Kind, repo: str) -> Any:
        return self._asked(kind, repo, lambda: self._api.repo_info(repo, repo_type=kind, revision=BRANCH))

    @staticmethod
    def _asked(kind: Kind, repo: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except PruningBenchError:
            raise
        except Exception as error:  # noqa: BLE001 - errors of the client's HTTP library, which changes with its version
            raise PublishError(explained(error, kind, repo)) from None


@contextmanager
def _without_progress() -> Iterator[None]:
    """Hide the client's progress bars, unless they are hidden already."""
    utils: Any = import_module("huggingface_hub.utils")
    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
