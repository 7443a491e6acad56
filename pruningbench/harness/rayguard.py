"""A guard of a Ray cluster that a run has started for itself: if the run is killed, its processes end, too."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

QUIET, MOST = 3.0, 30.0
"""The guard ends after so many seconds without a process of the cluster, and after so many at most."""

# It is a program of its own without packages, because it has to outlive a `kill -9` of the process that starts it, and
# starts in a few hundredths of a second. The pipe ends when that process does, however it ends.
_PROGRAM = """
import os, shutil, signal, sys, time

place, quiet, most = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
if sys.stdin.buffer.read():
    sys.exit()  # the cluster has been ended
begun = last = time.monotonic()
while time.monotonic() - last < quiet and time.monotonic() - begun < most:
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                named = place.encode() in file.read()
            files = f"/proc/{entry}/fd"
            if named or any(place in os.readlink(f"{files}/{number}") for number in os.listdir(files)):
                os.kill(int(entry), signal.SIGKILL)
                last = time.monotonic()
        except OSError:
            pass
    time.sleep(0.1)
shutil.rmtree(place, ignore_errors=True)
"""


class RayGuard:
    """Ends the processes of a cluster on this machine once the process that made the guard has ended.

    It kills every process that names the cluster's folder in its command or has a file of it open, as Ray's do for
    their logs, and removes the folder. Ray ends its processes itself when the driver dies, but not those that are just
    being started: its agents look for their node for a minute, and hold memory and ports.

    Args:
        place: the cluster's own folder, which no other process uses.
    """

    def __init__(self, place: Path) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if not Path("/proc/self/fd").exists():
            return  # processes cannot be found in this way
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(place), str(QUIET), str(MOST)]
        with contextlib.suppress(OSError):  # without it, Ray's own ways remain
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                env={}, start_new_session=True,
            )  # fmt: skip

    def dismiss(self) -> None:
        """End the guard, because the cluster has been ended."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.communicate(b".")
            self._process = None
