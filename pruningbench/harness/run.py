"""From a suite to a finished run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.machine import resolve_device
from pruningbench.contract.executor import Executor, Work
from pruningbench.errors import MissingDataError, PluginError, RunFolderError, UsageError
from pruningbench.harness.driver import Driver, Summary, TaskKey, damaged, failures, not_ok, pending, skipping
from pruningbench.harness.telling import Teller
from pruningbench.hookspecs import RunInfo
from pruningbench.plugins import Registry, load_registry
from pruningbench.store.journal import read_journal
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.plan import Cell, Plan, make_plan, shard
from pruningbench.suite.schema import Suite

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RunOptions:
    """How to run a suite; none of it changes a result.

    Attributes:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        executor: name of a registered executor.
        workers: processes that it may use.
        shard: (i, n): only the part i of n of the cells, from 1.
        retry_failed: try again what is not ok.
        only: filters ``KIND=NAME``.
    """

    device: str = "auto"
    executor: str = "serial"
    workers: int = 1
    shard: tuple[int, int] | None = None
    retry_failed: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A run that is checked and planned, and has written nothing yet; `pending` task runs of `cells` are to do."""

    plan: Plan
    folder: RunFolder
    options: RunOptions
    pending: int
    cells: tuple[Cell, ...] = ()
    retry: Mapping[TaskKey, int] = field(default_factory=dict)


def default_folder(suite: Suite, options: RunOptions) -> Path:
    """Return where a run goes when nobody says otherwise: ``runs/NAME``; shards lie side by side."""
    name = suite.name
    if options.shard:
        name += f"-shard-{options.shard[0]}-of-{options.shard[1]}"
    return Path("runs") / name


def prepare(suite: Suite, registry: Registry, out: str | os.PathLike[str] | None, options: RunOptions) -> Prepared:
    """Check everything that can be checked before anything is written or computed.

    Raises:
        UsageError: for options that make no sense, a folder that cannot be used, or missing data.
    """
    problem = _executor(registry, options).problem(options.workers)
    if problem:
        raise UsageError(f"--executor {options.executor} --workers {options.workers}: {problem}")
    plan = make_plan(suite, registry, options.only)
    if options.shard:
        plan = replace(plan, cells=shard(plan.cells, *options.shard))
    folder = RunFolder(out if out is not None else default_folder(suite, options))
    folder.check(suite.digest, suite.resolved())
    records, _ = read_journal(folder.results)
    retry = failures(plan, records) if options.retry_failed else {}
    jobs = pending(plan, records, retry, damaged(folder, records))
    missing = plan.missing() if jobs else []
    if missing:
        raise MissingDataError("; ".join(missing))
    tasks, cells = sum(len(job.tasks) for job in jobs), tuple(job.cell for job in jobs)
    return Prepared(plan, folder, options, pending=tasks, cells=cells, retry=retry)


def _executor(registry: Registry, options: RunOptions) -> type[Executor]:
    found = registry.entry("executor", options.executor).load()
    if not (isinstance(found, type) and issubclass(found, Executor)):
        raise PluginError(f"executor {options.executor!r} is {found!r}, not a subclass of Executor")
    return found


def execute(prepared: Prepared, registry: Registry, observer: object | None = None) -> Summary:
    """Run what is pending; the run folder then holds the results.

    Args:
        prepared: what `prepare` returned.
        registry: its plugins observe the run.
        observer: one more object with observing hooks.

    Raises:
        UsageError: if another process is running in the folder, the device is not there, or the scope does not
            fit a model; nothing was written.
        KeyboardInterrupt: passed on; finished tasks are safe and the same call resumes.
    """
    if not prepared.pending:
        return finished_summary(prepared)
    with registry.door.admitted("observer", observer):
        return _execute(prepared, registry)


def _execute(prepared: Prepared, registry: Registry) -> Summary:
    plan, folder = prepared.plan, prepared.folder
    device = resolve_device(prepared.options.device)
    refused = plan.refusals(plan.costs(str(device), prepared.cells))
    teller = Teller(registry.door, RunInfo(plan.suite.name, folder.path, len(plan.cells), 0, 0))
    folder.lock()
    try:
        folder.check(plan.suite.digest, plan.suite.resolved())  # another suite may have been faster
        folder.create(plan.suite.to_yaml(), plan.suite.digest)
        _note_environment(prepared, registry, str(device), teller)
        driver = Driver(plan, folder, teller)
        jobs = driver.jobs(prepared.retry)
        work = _Work(plan.suite.name, folder, device, registry, driver.note)
        executor = _executor(registry, prepared.options)(work, prepared.options.workers)
        return driver.run(jobs, skipping(executor.run, refused, plan.suite.name))
    finally:
        folder.unlock()


def finished_summary(prepared: Prepared) -> Summary:
    """Return the summary of a run with nothing left to do, from its journal and without torch.

    Raises:
        RunFolderError: if the journal has been deleted meanwhile.
    """
    plan, results = prepared.plan, prepared.folder.results
    if plan.cells and plan.tasks and not results.exists():
        raise RunFolderError(f"{results}: was deleted as the run ended; run the same command again to begin anew")
    records, _ = read_journal(results)
    before = len(plan.cells) * len(plan.tasks) - prepared.pending
    left = sum(len(job.tasks) for job in pending(plan, records, prepared.retry))
    return Summary(len(plan.cells), prepared.pending - left, before, not_ok(plan, records), left)


class _Work:
    """Makes the worker of a process.

    Unpickled in another process it finds that process's plugins, and has nobody to pass progress notes to.
    """

    def __init__(
        self, suite: str, folder: RunFolder, device: torch.device, registry: Registry, note: Callable[[str], None]
    ) -> None:
        self.suite, self.folder, self.device = suite, folder, device
        self._here: tuple[Registry, Callable[[str], None]] | None = (registry, note)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_here": None}

    def __call__(self) -> Work:
        from pruningbench.harness.worker import Worker
        from pruningbench.store.cache import Cache

        registry, note = self._here or (load_registry(), lambda _message: None)
        return Worker(self.suite, registry, self.device, Cache(), self.folder.checkpoint_file, note).run


def _note_environment(prepared: Prepared, registry: Registry, device: str, teller: Teller) -> None:
    from pruningbench.store.environment import capture

    plugins: Sequence[tuple[str, str, str]] = [(p.name, p.distribution, p.version) for p in registry.plugins]
    environment = capture(device=device, seeds=prepared.plan.suite.seeds, plugins=plugins)
    changed = prepared.folder.write_environment(environment)
    told = {key: pair for key, pair in changed.items() if key not in ("source",)}
    if told:
        names = ", ".join(sorted(told))
        teller.warn(f"the environment has changed since this run began ({names}); see environment.json")
