"""The further processes of a training, as the first sees them: started, told, heard, and missed if they die."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from pruningbench.base.processes import describe_exit
from pruningbench.training.errors import ExchangeError, TrainingError
from pruningbench.training.member import CONTACT, DONE, FAILED, MEMORY, READY, Membership, serve

GRACE = 20.0
"""Seconds to wait for the reason why an exchange has failed."""
LEAVE = 10.0
"""Seconds that a process has to end by itself."""


class Crew:
    """The processes of one training but the first.

    Args:
        memberships: what each process is told, in the order of their ranks.

    Raises:
        TrainingError: if a process cannot begin.
    """

    def __init__(self, memberships: Sequence[Membership]) -> None:
        if current_process().daemon:
            raise TrainingError("processes: this process may start no others; set processes: 1")
        self._size = len(memberships) + 1
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        self._failures: dict[int, tuple[str, str]] = {}
        self._begun = self._ended = False
        spawn = get_context("spawn")  # a fork of a process that has used torch's threads or a GPU may hang
        try:
            for told in memberships:
                ours, theirs = spawn.Pipe()
                name = f"training {told.rank + 1}/{told.size}"
                process = spawn.Process(target=serve, args=(theirs, os.getpid()), name=name, daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)
            self._send(pickle.dumps(one) for one in memberships)  # one at a time: they hold the model
            self._hear(READY)
        except BaseException:
            self.kill()
            raise
        self._begun = True

    def watch(self, died: Callable[[], None]) -> None:
        """Call a function, in a thread of its own, when a process ends before the training does."""

        def look() -> None:
            wait([process.sentinel for process in self._processes])
            if not self._ended:
                died()

        threading.Thread(target=look, daemon=True).start()

    def tell(self, messages: Sequence[Any]) -> None:
        """Send each process its message.

        Raises:
            TrainingError: if a process has died.
        """
        self._send([pickle.dumps(message) for message in messages])

    def _send(self, contents: Iterable[bytes]) -> None:
        try:
            for connection, content in zip(self._connections, contents, strict=True):
                connection.send_bytes(content)
        except OSError as error:
            raise self.lost(error) from error

    def answers(self) -> list[Any]:
        """Return what the processes answer to what they were told, in the order of their ranks.

        Raises:
            TrainingError: if a process fails or dies.
            torch.OutOfMemoryError: if the memory of a process has run out.
        """
        return self._hear(DONE)

    def _hear(self, kind: str) -> list[Any]:
        heard: dict[int, Any] = {}
        while len(heard) < len(self._processes):
            missing = [place for place in range(len(self._processes)) if place not in heard]
            wait([*(self._connections[place] for place in missing), *(one.sentinel for one in self._processes)])
            for place in missing:
                message = self._read(place)
                if message is not None and message[0] == kind:
                    heard[place] = message[1]
            if self._failures or any(not one.is_alive() for one in self._processes):
                raise self.lost(None)
        return [heard[place] for place in sorted(heard)]

    def _read(self, place: int) -> tuple[str, Any] | None:
        """Return what a process has sent, if there is something; note its failure."""
        with suppress(EOFError, OSError):  # it is dead: its exit status says how
            if self._connections[place].poll():
                kind, value = self._connections[place].recv()
                if kind == FAILED:
                    self._failures[place] = value
                return kind, value
        return None

    def lost(self, error: Exception | None) -> Exception:
        """Return why the training cannot go on, as an error to raise: which process died, or what it says."""
        end = time.monotonic() + GRACE
        while True:
            codes = [one.exitcode for one in self._processes]  # before reading: what has ended sends no more
            for place in range(len(self._processes)):
                while self._read(place):
                    pass
            for place, code in enumerate(codes):
                if code is not None and place not in self._failures:
                    return self._blame(place, describe_exit(code))
            for place, (why, text) in self._failures.items():
                if why == MEMORY:
                    return torch.OutOfMemoryError(f"in {self._name(place)}: {text}")
                if why != CONTACT:
                    return TrainingError(f"{self._name(place)} of this training failed: {text}")
            if time.monotonic() > end:
                return ExchangeError(
                    "the processes of this training have lost contact" if error is None else str(error)
                )
            time.sleep(0.02)

    def _blame(self, place: int, how: str) -> TrainingError:
        if self._begun:
            return TrainingError(
                f"{self._name(place)} of this training {how}; run again to continue from what is stored"
            )
        return TrainingError(
            f"{self._name(place)} of this training {how} before it could begin (its message is above); a script that "
            "trains with several processes needs `if __name__ == '__main__':` around the call"
        )

    def _name(self, place: int) -> str:
        return f"process {place + 2} of {self._size}"

    def dismiss(self) -> None:
        """Let the processes end, because the training has."""
        self._ended = True
        with suppress(OSError):
            for connection in self._connections:
                connection.send_bytes(pickle.dumps(None))

    def kill(self) -> None:
        """End all processes; those that were dismissed have a few seconds to end by themselves."""
        dismissed, self._ended = self._ended, True
        end = time.monotonic() + (LEAVE if dismissed else 0.0)
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
            process.kill()
            process.join()
        for connection in self._connections:
            connection.close()
