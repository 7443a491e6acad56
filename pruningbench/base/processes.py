"""Processes: one that ends with its parent, and how one has ended, in words."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies; if that is not supported, poll for its death."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
            if os.getppid() != parent:  # the parent died before the request
                os._exit(1)
            return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def describe_exit(code: int | None) -> str:
    """Return in words how a process ended.

    Args:
        code: its exit status; the negative number of the signal that killed it; None if unknown.
    """
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited without a message (exit status {code})"
