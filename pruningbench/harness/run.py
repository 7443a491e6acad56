"""From a suite to a finished run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.base.machine import resolve_device
from pruningbench.errors import MissingDataError, RunFolderError, UsageError, did_you_mean
from pruningbench.harness.driver import Driver, Execute, Summary, TaskKey, damaged, failures, not_ok, pending, skipping
from pruningbench.harness.events import Observer
from pruningbench.plugins import Registry
from pruningbench.store.journal import read_journal
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.plan import Cell, Plan, make_plan, shard
from pruningbench.suite.schema import Suite

if TYPE_CHECKING:
    import torch

EXECUTORS = ("serial",)


@dataclass(frozen=True)
class RunOptions:
    """How to run a suite; none of it changes a result.

    Attributes:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        executor: ``serial``.
        workers: processes; one for the serial executor.
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
    if options.executor not in EXECUTORS:
        hint = did_you_mean(options.executor, EXECUTORS) or f"; there is: {', '.join(EXECUTORS)}"
        raise UsageError(f"--executor {options.executor}: unknown executor{hint}")
    if options.workers != 1:
        raise UsageError(f"--workers {options.workers}: the serial executor has exactly one")
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


def execute(prepared: Prepared, registry: Registry, observer: Observer | None = None) -> Summary:
    """Run what is pending; the run folder then holds the results.

    Raises:
        UsageError: if another process is running in the folder, the device is not there, or the scope does not
            fit a model; nothing was written.
        KeyboardInterrupt: passed on; finished tasks are safe and the same call resumes.
    """
    plan, folder = prepared.plan, prepared.folder
    observer = observer or Observer()
    if not prepared.pending:
        return finished_summary(prepared)
    device = resolve_device(prepared.options.device)
    refused = plan.refusals(plan.costs(str(device), prepared.cells))
    folder.lock()
    try:
        folder.check(plan.suite.digest, plan.suite.resolved())  # another suite may have been faster
        folder.create(plan.suite.to_yaml(), plan.suite.digest)
        _note_environment(prepared, registry, str(device), observer)
        driver = Driver(plan, folder, observer)
        jobs = driver.jobs(prepared.retry)
        return driver.run(jobs, skipping(_serial(prepared, registry, device, driver), refused, plan.suite.name))
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


def _serial(prepared: Prepared, registry: Registry, device: torch.device, driver: Driver) -> Execute:
    from pruningbench.harness.executors import SerialExecutor
    from pruningbench.harness.worker import Worker
    from pruningbench.store.cache import Cache

    suite = prepared.plan.suite
    worker = Worker(suite.name, registry, device, Cache(), prepared.folder.checkpoint_file, driver.note)
    return SerialExecutor(worker).run


def _note_environment(prepared: Prepared, registry: Registry, device: str, observer: Observer) -> None:
    from pruningbench.store.environment import capture

    plugins: Sequence[tuple[str, str, str]] = [(p.name, p.distribution, p.version) for p in registry.plugins]
    environment = capture(device=device, seeds=prepared.plan.suite.seeds, plugins=plugins)
    changed = prepared.folder.write_environment(environment)
    told = {key: pair for key, pair in changed.items() if key not in ("source",)}
    if told:
        names = ", ".join(sorted(told))
        observer.warn(f"the environment has changed since this run began ({names}); see environment.json")
