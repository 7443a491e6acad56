"""Python in processes of their own that need not import torch again: a server has imported it and forks for each.

An import of torch and timm takes longer than what most commands of the tests do. The forked process has the folder, the
environment, the path of modules and the outputs of its command, has imported nothing of pruningbench, and ends as an
interpreter does. Where the environment decides what happens while Python or torch starts, a new interpreter runs.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

MAIN = "from pruningbench.cli.main import main; main()"
COMMAND = [sys.executable, "-c", MAIN]
AT_START = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "TORCH", "CUDA_", "LD_", "LC_", "LANG", "MPL", "HF_")
"""Beginnings of the variables that Python or a library reads while it starts."""
SERVER = (Path(__file__).parent / "forkserver.py").read_text("utf-8")


@dataclass
class Running:
    """A process that was forked, with the names of `subprocess.Popen`.

    Attributes:
        args: its command.
        pid: its number.
        returncode: its exit code once it is known to have ended; negative: the signal that ended it.
    """

    args: list[str]
    pid: int
    _said: socket.socket = field(repr=False)
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit code."""
        code = self._look(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._said], [], [], timeout)[0]:
            self.returncode = int(self._said.recv(64))
            self._said.close()
        return self.returncode


Process = Running | subprocess.Popen[str]


class Server:
    """A process that forks for each command; it ends with this one."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait(timeout=10)

    def start(self, code: str, arguments: list[str], cwd: Path, env: Mapping[str, str], outputs: list[int]) -> Running:
        """Run code as ``python -c`` does, with two files as its outputs."""
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        request = {"code": code, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
        with theirs:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [*outputs, theirs.fileno()])
            return Running([sys.executable, "-c", code, *arguments], int(ours.recv(64)), ours)


@cache
def _server() -> Server:
    return Server()


def start_python(code: str, *arguments: str, cwd: Path, env: Mapping[str, str], out: int, err: int) -> Process:
    """Begin ``python -c code arguments``.

    Args:
        code: what to run.
        arguments: of the code.
        cwd: its working folder.
        env: its environment.
        out: file descriptor of its standard output.
        err: file descriptor of its standard error.
    """
    changed = {name for name in env.keys() | os.environ.keys() if env.get(name) != os.environ.get(name)}
    if any(name.startswith(AT_START) and name != "PYTHONPATH" for name in changed):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, cwd=cwd, env=dict(env), stdout=out, stderr=err, text=True)
    return _server().start(code, list(arguments), cwd, env, [out, err])


def start_silently(*arguments: str, cwd: Path, env: Mapping[str, str]) -> Process:
    """Begin the command line, and let go of what it writes."""
    with Path(os.devnull).open("w") as nowhere:
        return start_python(MAIN, *arguments, cwd=cwd, env=env, out=nowhere.fileno(), err=nowhere.fileno())


def run_python(
    code: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 280
) -> subprocess.CompletedProcess[str]:
    """Run ``python -c code arguments`` to its end; return its exit code and what it wrote."""
    with TemporaryFile("w+", encoding="utf-8") as out, TemporaryFile("w+", encoding="utf-8") as err:
        process = start_python(code, *arguments, cwd=cwd, env=env, out=out.fileno(), err=err.fileno())
        try:
            process.wait(timeout)
        finally:
            process.kill()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    assert process.returncode is not None
    return subprocess.CompletedProcess([sys.executable, "-c", code, *arguments], process.returncode, *said)
