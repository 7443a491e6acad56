"""Runs work in a child process, so that a cell that kills its process does not end the run.

The child computes; the parent only waits. If the child dies (a segmentation fault, the kernel's
out-of-memory killer, ``os._exit`` in a component), the death is recorded for the current cell and the child is
restarted; thanks to the journal it continues where it stopped. When the parent dies, so does the child.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from pruningbench.base.processes import describe_exit, die_with
from pruningbench.base.text import displayable_lines
from pruningbench.errors import PruningBenchError


class ChildDiedError(PruningBenchError):
    """The child died while no cell was running, so restarting it would not help."""


def can_supervise() -> bool:
    """Return whether this platform can fork and PRUNINGBENCH_SUPERVISE=0 (for debuggers) is not set."""
    return hasattr(os, "fork") and os.environ.get("PRUNINGBENCH_SUPERVISE", "1") != "0"


def supervise(work: Callable[[], int], died: Callable[[str], bool]) -> int:
    """Run ``work()`` in a child process until it ends normally, and return its exit code.

    Each interrupt or termination signal is passed on to the child once.

    Args:
        work: called in the child; returns an exit code. An exception is printed there and becomes exit code 1.
        died: called in the parent with a description when a child dies; returns whether to start a new child.

    Raises:
        ChildDiedError: if a child dies and `died` returns False.
    """
    while True:
        child, report = _fork(work)
        status = _wait_for(child)
        # only the exit code in the pipe counts: a component can exit the process with any status; a process that the
        # child left behind may keep the pipe open, so its end is not waited for
        os.set_blocking(report, False)
        with os.fdopen(report, "rb") as pipe:
            message = (pipe.read() or b"").decode()
        if message:
            return int(message)
        how = describe_exit(os.waitstatus_to_exitcode(status))
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")  # a live display may have hidden the cursor
        if not died(how):
            raise ChildDiedError(f"the worker process {how} before it began any cell; see `pruningbench doctor`")


def _fork(work: Callable[[], int]) -> tuple[int, int]:
    """Return the child's process id and the reading end of the pipe to which the child writes its exit code."""
    _flush()
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which passes it on once
        die_with(parent)
        signal.signal(signal.SIGINT, _interrupt)
        code = work()
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - a bug in pruningbench: print it, as it cannot be raised in the parent
        if sys.stderr is not None:
            sys.stderr.write(displayable_lines(traceback.format_exc()))
    finally:
        _flush()
        os.write(writing, str(code).encode())
        os._exit(0)


_interrupted = threading.Event()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Interrupt the child's work, and remember the interrupt in case a callback swallows the exception."""
    _interrupted.set()
    raise KeyboardInterrupt


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if this process was asked to stop, even if the first exception was swallowed."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed or missing
            stream.flush()


def _wait_for(pid: int) -> int:
    """Wait for the child while passing signals on, and return its wait status."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            if number == signal.SIGTSTP:  # Ctrl-Z stops both; resuming the parent resumes both
                os.kill(pid, signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(pid, signal.SIGCONT)
            else:
                os.kill(pid, signal.SIGINT)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP)}
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status
