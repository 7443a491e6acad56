"""The errors that pruningbench raises on purpose.

Each message is one line that says what was wrong, where, and what to do. The command line prints the
message and exits with `exit_code`; no user ever needs a traceback to understand their own mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PruningBenchError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1
    page = ""
    """Page of the documentation that explains such errors, as a path in ``docs/`` without ``.md``; "" for none."""


class UsageError(PruningBenchError):
    """The request was wrong, so nothing ran and nothing was written."""

    exit_code = 2


class SuiteError(UsageError):
    """A suite file is malformed: bad YAML, an unknown or mistyped key, a value out of range."""

    page = "suites"


class UnknownComponentError(UsageError):
    """No plugin registered a component under that name."""

    page = "commands"


class FieldError(UsageError):
    """A component was given a field that it lacks, or a value that its field refuses."""

    page = "commands"


class RunFolderError(UsageError):
    """The output folder cannot be used: not writable, in use, or from another suite."""

    page = "suites"


class RemoteError(UsageError):
    """A run folder at a URL cannot be reached, read or written; the message says why."""

    page = "cluster"


class MissingDataError(UsageError):
    """A data set or a weights file is not on this machine; the message says how to get it."""

    page = "data"


class FetchError(PruningBenchError):
    """A download failed or returned something other than requested; the message says what to do."""

    page = "data"


class DataError(PruningBenchError):
    """A data set on this machine is damaged or not in the expected layout; the message names the file."""

    page = "own-data"


class SubmissionError(UsageError):
    """A file is no submission, is damaged, or is of a later version; or a run cannot be submitted."""

    page = "submitting"


class PublishError(PruningBenchError):
    """A hub did not accept what was to be published; the message says why and what to do."""

    page = "publishing"


class PluginError(PruningBenchError):
    """A plugin broke the contract of its component (wrong type, wrong shape, a clash of names)."""

    page = "plugins"


class RefusedError(PruningBenchError):
    """A pruner cannot work on this network: the architecture is unsuitable, or memory is too small."""

    page = "pruners"


class ScoreError(PruningBenchError, ValueError):
    """Scores cannot rank weights: NaN or infinite, missing, or of a shape other than the parameter's."""

    page = "own-pruner"


class MaskError(PruningBenchError, ValueError):
    """Masks do not fit the network, or a mask file is damaged."""

    page = "own-network"


class ViewUnavailableError(PruningBenchError):
    """The architecture has no such view (for example patch features of a network without a grid)."""

    page = "own-network"


class CollapseWarning(UserWarning):
    """A pruning left a layer without any weight, so that nothing passes through it."""


def did_you_mean(word: str, candidates: Iterable[str], *, count: int = 3) -> str:
    """Return ``"; did you mean 'a' or 'b'?"`` for the closest known words, or ``""`` if none is close."""
    spelled = {name.lower(): name for name in sorted(candidates, reverse=True)}
    near = difflib.get_close_matches(word.lower(), sorted(spelled), n=count, cutoff=0.55)
    return f"; did you mean {' or '.join(repr(spelled[n]) for n in near)}?" if near else ""
