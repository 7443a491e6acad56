"""What the tests of hostile input share: limited processes, special files, damaged copies of files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

PEAK = """
status = open("/proc/self/status").read()  # getrusage would tell the peak of the process that it was forked from
print("peak", int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def peak_memory(code: str, *arguments: object, seconds: float = 60) -> tuple[str, int]:
    """Run code in a process of its own and return what it printed, and its peak of memory in MiB.

    The code finds its arguments, as text, in ``args``.
    """
    whole = f"import resource, sys, json\nargs = json.loads(sys.argv[1])\n{code}\n{PEAK}"
    done = subprocess.run(
        [sys.executable, "-c", whole, json.dumps([str(argument) for argument in arguments])],
        capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, _, peak = done.stdout.rpartition("peak ")
    return told.strip(), int(peak)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (fifo, "is a named pipe, not a file"),
    "folder": (folder, "is a folder, not a file"),
    "device": (device, "is a device, not a file"),
    "socket": (bound_socket, "is a socket, not a file"),
}
"""How to make each kind of thing that is no file, and what is said of it."""


def damaged(contents: list[bytes]) -> st.SearchStrategy[bytes]:
    """Draw files that begin as valid ones: bytes changed, cut out, repeated, put in; the end cut off."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        content = bytearray(draw(st.sampled_from(contents)))
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, max(len(content) - 1, 0)))
            length = draw(st.integers(1, 16))
            what = draw(st.sampled_from(["change", "extreme", "cut", "repeat", "insert", "end"]))
            if what == "change":
                content[start : start + length] = draw(st.binary(min_size=length, max_size=length))
            elif what == "extreme":
                content[start : start + length] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"9"])) * length
            elif what == "cut":
                del content[start : start + length]
            elif what == "repeat":
                content[start:start] = content[start : start + length]
            elif what == "insert":
                content[start:start] = draw(st.binary(min_size=length, max_size=length))
            else:
                del content[start:]
        return bytes(content)

    return draw_one()
