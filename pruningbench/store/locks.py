"""Locks between processes that end with their holder, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LONGEST_PAUSE = 0.5
NOTED_EVERY = 5.0
"""Seconds between two notes while waiting."""


@contextmanager
def only_process(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock on `path` in the block, as the only process on all machines that share the file system.

    The lock is a POSIX record lock: the kernel releases it when the process ends, and no child inherits it. The file
    is removed afterwards. The same process can take the lock twice. On Windows, and where the file cannot be made,
    there is no lock.

    Args:
        path: file of the lock; its folder is created if necessary.
        waiting: called every few seconds while another process holds the lock.
    """
    handle = None if sys.platform == "win32" else _acquire(path, waiting)
    try:
        yield
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _acquire(path: Path, waiting: Callable[[], None]) -> int | None:
    """Return the descriptor that holds the lock; None if there can be no lock."""
    pause, noted = 0.02, time.monotonic()
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return None
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(handle, path):  # else the last holder has removed it in the meantime
                return handle
        except (BlockingIOError, PermissionError):  # which of them depends on the system
            pass
        except OSError:  # a file system without locks
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        if time.monotonic() - noted > NOTED_EVERY:
            noted = time.monotonic()
            waiting()


def _is_file(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
