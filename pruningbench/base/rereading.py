"""Whether digests of files that are stored by size and time may be used, or every file has to be read again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_REREAD: ContextVar[bool] = ContextVar("pruningbench_reread", default=False)


def must_reread() -> bool:
    """Whether the content of files has to be read even if their size and times are as before (``--verify-data``)."""
    return _REREAD.get()


@contextmanager
def rereading(wanted: bool = True) -> Iterator[None]:
    """Inside the block, `must_reread` returns `wanted`."""
    token = _REREAD.set(wanted)
    try:
        yield
    finally:
        _REREAD.reset(token)
