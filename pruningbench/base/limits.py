"""Limits that the user sets as environment variables."""

from __future__ import annotations

import os

from pruningbench.errors import UsageError

DEFAULT_GIB = 20.0


def size_limit(variable: str) -> int:
    """Return a limit in bytes from a variable in GiB, which may be a fraction; `DEFAULT_GIB` if it is not set.

    Raises:
        UsageError: if it is not a number >= 0.
    """
    text = os.environ.get(variable, str(DEFAULT_GIB))
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not gib >= 0:
        raise UsageError(f"{variable} is {text!r}, but must be a number of GiB >= 0")
    return int(min(gib, 2**33) * 2**30)
