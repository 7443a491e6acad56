"""What the server of `kit.commands` runs: it imports what takes long, and forks for each request.

It is run as ``python -c``, so that a process has the same ``__main__`` as any that is started in this way.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

LARGEST = 1 << 20
"""Bytes of a request, at most."""


def places() -> list[str]:
    """Return the folders of the environment's path of modules."""
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def become(request: dict[str, Any], outputs: list[int]) -> NoReturn:
    """Be the process that was asked for: its outputs, folder, environment, path of modules and arguments."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for to, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, to)
        os.close(output)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    old = places()
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:] = ["", *places(), *(place for place in sys.path[1:] if place not in old)]
    sys.argv[:] = ["-c", *request["arguments"]]
    code = run(request["code"])
    try:  # as the interpreter does at its end, whose frames here belong to the server
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001
        code = code or 120
    os._exit(code)


def run(code: str) -> int:
    """Run code as a module of its own; return the exit code."""
    main = sys.modules["__main__"].__dict__
    try:
        exec(compile(code, "<string>", "exec"), main)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 255
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def serve(server: socket.socket) -> NoReturn:
    """Fork for each request, until nobody can ask any more; tell the number of each process, and its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that wait for a command
    while True:
        text, descriptors, _, _ = socket.recv_fds(server, LARGEST, 3)
        if not text:
            os._exit(0)
        if os.fork() == 0:
            server.close()
            attend(json.loads(text), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def attend(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Start a process and wait for its end."""
    *outputs, said = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(said)
        become(request, outputs)
    for output in outputs:
        os.close(output)
    os.write(said, b"%d" % process)
    os.write(said, b"%d" % os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    os._exit(0)


if __name__ == "__main__":
    import timm as _timm  # noqa: F401

    serve(socket.socket(fileno=int(sys.argv[1])))
