"""What executors are given: it makes the worker of a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pruningbench.contract.executor import Work
from pruningbench.plugins import load_registry

if TYPE_CHECKING:
    from pruningbench.harness.worker import Worker


class WorkerFactory:
    """Gives a process the worker that runs its jobs: the driver's own worker here, a new one in another process.

    After unpickling in another process, it uses that process's plugins.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._settings: tuple[Any, ...] = ()

    def adopt(self, worker: Worker) -> None:
        """Use the driver's worker in this process, and its settings in others."""
        self._worker = worker
        self._settings = (
            worker.suite, worker.device, worker.cache.folder,
            worker.keep_weights, worker.limit, worker.lost, worker.passes.known, worker.memory, worker.shared,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_worker": None}

    def __call__(self, note: Callable[[str], None] = lambda _message: None) -> Work:
        """Return the function that runs jobs in this process; `note` receives progress notes of other processes."""
        if self._worker is not None:
            return self._worker.run
        from pruningbench.harness.worker import Worker
        from pruningbench.store.cache import Cache

        suite, device, cache, keep_weights, limit, lost, passes, memory, shared = self._settings
        worker = Worker(
            suite, load_registry(), device, Cache(cache, note), note,
            keep_weights=keep_weights, limit=limit, lost=lost, passes=passes, memory=memory, shared=shared,
        )  # fmt: skip
        return worker.run
