"""The hub's client: addresses of repositories, and errors of huggingface-hub in one line, never with a token."""

from __future__ import annotations

import re
from typing import Literal

from pruningbench.base.reading import one_line

Kind = Literal["dataset", "space"]
NOUNS: dict[Kind, str] = {"dataset": "data set", "space": "space"}
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_TOKEN = re.compile(r"\b(?:hf|api_org)_\w{8,}|(?<=Bearer )\S+")
_QUOTA = re.compile(r"quota|storage|limit|too large|exceed", re.IGNORECASE)


def is_repo(text: str) -> bool:
    """Whether a text is ``OWNER/NAME`` as hubs accept it."""
    return bool(_REPO.fullmatch(text)) and "--" not in text and ".." not in text and text[-1] not in ".-"


def explained(error: Exception, kind: Kind, repo: str) -> str:
    """Return what an error of the hub's client means and what to do, in one line without the token."""
    from huggingface_hub import errors

    noun = NOUNS[kind]
    if isinstance(error, errors.GatedRepoError):
        return f"{repo}: needs an account: accept the terms on its page, and run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo}: there is no such commit or branch; look at its history on the hub"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{repo}: {_unreachable(error)}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repo}: a file no longer exists ({_first(error)})"
    status = status_of(error)
    if status == 401 and "credentials" in str(error).lower():
        return f"{repo}: the hub does not accept the token; run `hf auth login`, or set HF_TOKEN to a valid one"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repo}: the hub has no such {noun}, or it is private and the token may not see it"
    if isinstance(error, (errors.HfHubHTTPError, ValueError)):
        return f"{repo}: {_refused(error, status)}"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{repo}: {error.filename} cannot be written ({error.strerror}); free some space, or set HF_HOME"
    return f"{repo}: {_unreachable(error)}"


def _refused(error: Exception, status: int | None) -> str:
    first = _first(error)
    if status == 401:
        return f"the hub does not accept the token ({first}); run `hf auth login`, or set HF_TOKEN to a valid one"
    if status in (402, 413, 507) or (status == 403 and _QUOTA.search(str(error))):
        return f"the hub refuses it for its size or the account's quota ({first}); remove old files, or publish less"
    if status == 403:
        return f"the token may not write here ({first}); use one with write access to this owner"
    if status == 429:
        return "too many requests; wait some minutes, and run the same command again"
    if status is not None and status >= 500:
        return f"the hub has a problem ({first}); run the same command again later"
    return f"the hub refuses it ({first})"


def status_of(error: Exception) -> int | None:
    """Return the HTTP status behind an error of the client; None if there is none."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def without_token(text: object) -> str:
    """Return text as one line in which tokens are replaced by ``***``: the user's own, and whatever looks like one."""
    words = " ".join(str(text).split())
    try:
        from huggingface_hub import get_token

        own = get_token()
    except Exception:  # noqa: BLE001 - a token that cannot be got is in no text
        own = None
    if own:
        words = words.replace(own, "***")
    return one_line(_TOKEN.sub("***", words))


def _unreachable(error: Exception) -> str:
    return f"the hub cannot be reached ({_first(error)}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE"


def _first(error: Exception) -> str:
    """Return the first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return without_token(next((line for line in lines if line), type(error).__name__))
