"""Versions of installed distributions."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return _found(name)
    except PackageNotFoundError:
        return None  # not kept: it may be installed later


# reading metadata takes milliseconds; what a process has imported stays as it is, whatever is installed meanwhile
_found = cache(version)
