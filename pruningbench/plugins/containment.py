"""Holds what a plugin must not change in the process while it is imported, names what it changed, and sets it back.

Libraries are never imported for this: the state of one that a plugin imports is read right after that import, before
the plugin can change it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

from pruningbench.base.files import change_folder, current_folder
from pruningbench.errors import PluginError

SLOW = 1.0
"""Seconds of import after which a plugin is called slow."""
PATIENCE = 10.0
"""Seconds of import after which a line says which plugin is being imported."""
LONGEST = 120.0
"""Seconds after which an import is given up, where that is possible: in the main thread of a POSIX process."""


@dataclass(frozen=True)
class State:
    """A part of the process that plugins share.

    Attributes:
        words: what a change is called.
        read: returns the state, comparable with ``==``.
        restore: sets it; None if it cannot be set.
        library: the module that must be imported; "" for Python itself.
    """

    words: str
    read: Callable[[], Any]
    restore: Callable[[Any], None] | None
    library: str = ""


class _Filters:
    """Filters of warnings; equal to earlier ones if none of those is gone and only libraries' own were added."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = list(items)
        # of Python's warnings, in all modules and with all texts; libraries add filters for their own
        self.of_all = [i for i in self.items if i[1] is i[3] is None and i[2].__module__ == "builtins"]

    def __eq__(self, before: object) -> bool:
        if not isinstance(before, _Filters) or before.of_all != self.of_all:
            return False
        return all(item in self.items for item in before.items)

    __hash__ = None  # type: ignore[assignment]


def _filters() -> _Filters:
    return _Filters(warnings.filters)


def _to_filters(before: _Filters) -> None:
    now = _filters()
    added = [item for item in now.items if item not in before.items and item not in now.of_all]
    warnings.simplefilter("default")  # tells Python's caches that filters change, and goes with the next line
    warnings.filters[:] = [*added, *before.items]  # type: ignore[index]


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals() if isinstance(number, signal.Signals)}


def _to_handlers(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:  # None: it was not set by Python
            with suppress(ValueError, OSError):  # another thread than the main one, or a signal that cannot be set
                signal.signal(number, handler)


def _hooks() -> tuple[Any, ...]:
    return (sys.excepthook, sys.displayhook, warnings.showwarning, sys.stderr)


def _to_hooks(before: tuple[Any, ...]) -> None:
    sys.excepthook, sys.displayhook, warnings.showwarning, sys.stderr = before


def _numpy_state() -> tuple[Any, ...]:
    kind, keys, *rest = sys.modules["numpy.random"].get_state()
    return (kind, keys.tobytes(), *rest)


def _to_numpy_state(before: tuple[Any, ...]) -> None:
    import numpy as np

    kind, keys, *rest = before
    np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))


def _torch_random() -> bytes:
    return bytes(sys.modules["torch"].get_rng_state().numpy().tobytes())


def _to_torch_random(before: bytes) -> None:
    torch = sys.modules["torch"]
    torch.set_rng_state(torch.frombuffer(bytearray(before), dtype=torch.uint8))


STATES = (
    State("the working folder was changed", current_folder, change_folder),
    State("the filters of all warnings were changed", _filters, _to_filters),
    State("signal handlers were changed", _handlers, _to_handlers),
    State("hooks of the interpreter were replaced", _hooks, _to_hooks),
    State("the recursion limit was changed", sys.getrecursionlimit, sys.setrecursionlimit),
    State("the state of `random` was changed", random.getstate, random.setstate),
    State("a thread was started or ended", threading.active_count, None),
    State("NumPy's random state was changed", _numpy_state, _to_numpy_state, "numpy.random"),
    State("torch's random state was changed", _torch_random, _to_torch_random, "torch"),
    State(
        "the backend of matplotlib was changed",
        lambda: dict.__getitem__(sys.modules["matplotlib"].rcParams, "backend"),
        lambda name: dict.__setitem__(sys.modules["matplotlib"].rcParams, "backend", name),
        "matplotlib",
    ),
)


class Containment:
    """Process state as it was at the start, or, for a library that is imported later, after its import."""

    def __init__(self) -> None:
        self._before: dict[State, Any] = {}
        self._settings: Any = None
        for library in ("", *sorted({state.library for state in STATES if state.library})):
            if not library or library in sys.modules:
                self.note(library)

    def note(self, library: str) -> None:
        """Read the state of a library that has just been imported; "" for Python itself."""
        self._before |= {state: state.read() for state in STATES if state.library == library}
        if library == "torch":
            from pruningbench.base.surroundings import Surroundings

            self._settings = Surroundings()

    def collect(self) -> list[str]:
        """Set back what changed, and return it in words."""
        found = []
        for state, before in self._before.items():
            if state.read() != before:
                found.append(state.words + ("" if state.restore else ", which stays"))
                if state.restore:
                    state.restore(before)
        return found + (self._settings.collect() if self._settings is not None else [])


class _Watcher(importlib.abc.MetaPathFinder):
    """Calls back when one of some libraries has been imported."""

    def __init__(self, libraries: set[str], imported: Callable[[str], None]) -> None:
        self._libraries, self._imported = libraries, imported

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec that the other finders find, with a loader that calls back after running the module."""
        if name not in self._libraries:
            return None
        self._libraries.discard(name)
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._telling(name, spec.loader.exec_module)  # type: ignore[assignment,method-assign]
        return spec

    def _telling(self, name: str, run: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def run_and_tell(module: ModuleType) -> None:
            run(module)
            self._imported(name)

        return run_and_tell


@contextmanager
def contained(what: str, report: Callable[[str], None], *, slow: bool = True) -> Iterator[None]:
    """Run a block that imports third-party code; name and set back what it changes in the process.

    Args:
        what: what is imported, for messages.
        report: receives each finding in words.
        slow: whether to report a block that takes longer than `SLOW` seconds: every command imports a plugin, but
            components, which need large libraries, are imported only when they are used.

    Raises:
        PluginError: if the block takes longer than `LONGEST` seconds.
    """
    containment = Containment()
    watched = {state.library for state in STATES if state.library} - set(sys.modules)
    watcher = _Watcher(watched, containment.note)
    sys.meta_path.insert(0, watcher)
    waiting = threading.Timer(PATIENCE, warnings.warn, [f"{what} has been importing for {PATIENCE:g} s"])
    waiting.daemon = True
    begun, computing = time.perf_counter(), time.process_time()
    try:
        with _limit(what):
            waiting.start()
            yield
    finally:
        waiting.cancel()
        waiting.join()
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not watcher]
        for words in containment.collect():
            report(words)
    seconds, computed = time.perf_counter() - begun, time.process_time() - computing
    # on a busy machine anything takes a second; it is the plugin's if it computes half of it
    if slow and seconds > SLOW and (computed > SLOW / 2 or seconds > PATIENCE):
        report(f"it took {seconds:.1f} s; register 'package.module:Class' and import libraries in methods")


@contextmanager
def _limit(what: str) -> Iterator[None]:
    """Interrupt the block after `LONGEST` seconds, where no one else uses the alarm."""
    free = (
        threading.current_thread() is threading.main_thread()
        and hasattr(signal, "setitimer")
        and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )
    if not free:
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise PluginError(f"{what} takes longer than {LONGEST:g} s to import")

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
