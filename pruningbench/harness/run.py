"""From a suite to a finished run folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.base.rereading import rereading
from pruningbench.contract.context import MEMORY
from pruningbench.contract.executor import Executor
from pruningbench.contract.precision import FULL, refusal
from pruningbench.errors import MissingDataError, PluginError, PruningBenchError, RunFolderError, UsageError
from pruningbench.harness.driver import Driver, RunJobs, Summary, checking, damaged, failures, not_ok, skipping
from pruningbench.harness.events import CellJob
from pruningbench.harness.observing import Observers
from pruningbench.harness.pacing import paced
from pruningbench.harness.resume import State, TaskKey, assess
from pruningbench.harness.sources import Sources
from pruningbench.harness.workerfactory import WorkerFactory
from pruningbench.hookspecs import RunInfo
from pruningbench.plugins import Registry
from pruningbench.store.attempts import Attempt, read_attempts
from pruningbench.store.mending import mend, readable
from pruningbench.store.mirroring import EVERY, RemoteRun, remote_run
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.beside import is_for
from pruningbench.suite.cells import Cell, plan_key
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import Suite
from pruningbench.suite.shards import shard

if TYPE_CHECKING:
    import torch

    from pruningbench.harness.passes import Passes


LEAST_MEMORY = 1 << 20
"""A smaller bound is a mistake, such as a number of gigabytes."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a suite; no option changes a result.

    Attributes:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        executor: name of a registered executor.
        workers: number of processes that it may use.
        address: the cluster that it uses; None if it needs none, or starts one.
        shard: (i, n): run only part i of n of the cells, counted from 1 (`pruningbench.suite.shards`).
        retry_failed: retry task runs that are not ok.
        only, without: filters ``KIND=LABEL`` that select what to run and what to leave out.
        accept_changed: keep finished task runs whose parts have changed since, and mark them.
        no_cache: neither read nor fill the cache of this machine.
        verify_data: read all weights and data again, even if the times of their files have not changed.
        task_timeout: seconds that a task, or making a cell's model, may take without a sign of progress; None for
            no limit.
        memory: bytes that a task may hold for its samples; None for the default of 4 GiB.
        budget: seconds after which nothing is started any more, nor what is likely to take longer; None for no limit.
        observers: names of registered observers of the run.
        upload_every: seconds between two uploads of a run at a URL.
        passes: choices of memory format and batch size to repeat, by label of the model; the folder's own come first.
    """

    device: str = "auto"
    executor: str = "serial"
    workers: int = 1
    address: str | None = None
    shard: tuple[int, int] | None = None
    retry_failed: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    accept_changed: bool = False
    no_cache: bool = False
    verify_data: bool = False
    task_timeout: float | None = None
    memory: int | None = None
    budget: float | None = None
    observers: tuple[str, ...] = ()
    upload_every: float = EVERY
    passes: Mapping[str, Passes] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A run that is checked and planned, and has not written anything yet.

    Attributes:
        plan, folder, options: what to run, where, and how.
        pending: number of task runs left to do.
        cells: the cells with work left to do.
        retry: task runs to try again, with their number of attempts so far.
        damaged: whether the journal has lines that cannot be read; they are set aside when the run begins.
        touched: whether files of models or data sets have changed, so that finished task runs may be stale.
        groups: number of task runs in the journal, counting every attempt.
        notes: what the user should know before anything runs.
        remote: the run at a URL that the folder is a working copy of; None for a folder.
    """

    plan: Plan
    folder: RunFolder
    options: RunOptions
    pending: int
    cells: tuple[Cell, ...] = ()
    retry: Mapping[TaskKey, int] = field(default_factory=dict)
    touched: bool = False
    damaged: bool = False
    groups: int = 0
    notes: tuple[str, ...] = ()
    remote: RemoteRun | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute and nothing to check."""
        return not (self.pending or self.cells or self.touched or self.damaged)


def default_folder(suite: Suite, options: RunOptions) -> Path:
    """Return the default run folder, ``runs/NAME``; rehearsals and shards get folders of their own beside it."""
    name = suite.name
    if suite.limit is not None:
        name += f"-limit-{suite.limit}"
    if suite.precision != FULL:
        name += f"-{suite.precision}"
    if options.shard:
        name += f"-shard-{options.shard[0]}-of-{options.shard[1]}"
    return Path("runs") / name


def prepare(suite: Suite, registry: Registry, out: str | os.PathLike[str] | None, options: RunOptions) -> Prepared:
    """Check everything that can be checked before anything is written or computed.

    Raises:
        UsageError: for invalid options, an unusable folder, or missing data.
    """
    _check_executor(_executor(registry, options), options)
    remote = remote_run(out, options.upload_every)
    plan = make_plan(suite, registry, options.only, options.without)
    for name in options.observers:
        registry.entry("observer", name)  # refuses unknown names
    if options.shard:
        plan = replace(plan, cells=shard(plan, *options.shard))
    notes: list[str] = []
    if remote is not None:
        remote.fill(notes.append)
    folder = remote.folder if remote else RunFolder(out if out is not None else default_folder(suite, options))
    folder.check(suite.digest, suite.resolved())
    attempts, unreadable = readable(folder.results)
    plan = with_recorded_labels(plan, attempts)
    retry = failures(plan, attempts) if options.retry_failed else {}
    sources = Sources(folder.sources, plan)
    state = assess(plan, attempts, sources.contents.parts, retry, damaged(folder, attempts))
    jobs = [*state.jobs, *lacking_weights(plan, folder, attempts, state)]
    touched = options.verify_data or bool(sources.touched())
    missing = plan.missing() if jobs else []
    if missing:
        raise MissingDataError("; ".join(missing))
    return Prepared(
        plan, folder, options,
        pending=state.task_runs, cells=tuple(job.cell for job in jobs), retry=retry, touched=touched,
        damaged=unreadable, groups=measured_groups(attempts), notes=(*notes, *_notes(folder, state)), remote=remote,
    )  # fmt: skip


def _notes(folder: RunFolder, state: State) -> tuple[str, ...]:
    if not state.unknown:
        return ()
    runs = "1 finished task run is" if state.unknown == 1 else f"{state.unknown} finished task runs are"
    return (
        f"{folder.path}: {runs} from an older version of pruningbench, which did not record what rows are made of: "
        "they are kept, marked as unchecked; to measure them again, choose another --out",
    )


def _observer(registry: Registry, name: str) -> object:
    try:
        return registry.entry("observer", name).load()()
    except PruningBenchError:
        raise
    except Exception as error:  # a third-party observer may raise anything
        raise PluginError(f"observer {name!r} cannot be made: {type(error).__name__}: {error}") from error


def _executor(registry: Registry, options: RunOptions) -> type[Executor]:
    executor = registry.entry("executor", options.executor).load()
    if not (isinstance(executor, type) and issubclass(executor, Executor)):
        raise PluginError(f"executor {options.executor!r} is {executor!r}, not a subclass of Executor")
    return executor


def _check_executor(kind: type[Executor], options: RunOptions) -> None:
    problem = kind.problem(options.workers)
    if problem:
        raise UsageError(f"--executor {options.executor} --workers {options.workers}: {problem}")
    if options.address is not None and not kind.takes_address:
        raise UsageError(f"--address: executor {options.executor!r} uses no cluster; choose --executor ray")
    if options.budget is not None and not 0 < options.budget < float("inf"):
        raise UsageError(f"--budget {options.budget:g} s: must be a time > 0")
    if options.budget is not None and not kind.observes_budget:
        raise UsageError(f"--budget: executor {options.executor!r} cannot observe a budget")
    if options.memory is not None and options.memory < LEAST_MEMORY:
        raise UsageError(f"--memory {options.memory} bytes: must be at least {LEAST_MEMORY >> 20} MB")
    limit = options.task_timeout
    if limit is not None and not 0 < limit < float("inf"):
        raise UsageError(f"--task-timeout {limit:g}: must be a number of seconds > 0")
    if limit is not None and not kind.limits_time:
        raise UsageError(f"--task-timeout: executor {options.executor!r} cannot limit the time of a task")


def execute(prepared: Prepared, registry: Registry, observer: object | None = None) -> Summary:
    """Run what is pending; the run folder then holds the results.

    Finished task runs whose weights, data or code have changed since are measured again, and each change is reported
    in one line.

    Args:
        prepared: what `prepare` returned.
        registry: its plugins observe the run.
        observer: one more object with observing hooks.

    Raises:
        UsageError: if another process is running in the folder, the device does not exist, the scope does not fit a
            model, or the library of an observer is not installed; nothing was written.
        KeyboardInterrupt: passed on; finished tasks are safe and the same call resumes.
    """
    with ExitStack() as admitted:
        if not prepared.idle:
            for name in dict.fromkeys(prepared.options.observers):
                full_name = registry.entry("observer", name).full_name
                admitted.enter_context(registry.door.admitted(full_name, _observer(registry, name)))
        admitted.enter_context(registry.door.admitted("observer", observer))
        return _execute(prepared, registry)


def _execute(prepared: Prepared, registry: Registry) -> Summary:
    plan, folder = prepared.plan, prepared.folder
    observers = Observers(registry.door, RunInfo(plan.suite.name, folder.path, len(plan.cells), 0, 0))
    for note in prepared.notes:
        observers.warn(note)
    if prepared.idle:
        if prepared.remote:
            prepared.remote.finish(observers.warn)
        return finished_summary(prepared)
    work = WorkerFactory()
    executor = _executor(registry, prepared.options)(work, prepared.options.workers)
    executor.address = prepared.options.address
    with closing(executor):
        executor.start()
        device = executor.resolve_device(prepared.options.device)
        executor.device = str(device)
        if problem := refusal(plan.suite.precision, device):
            raise UsageError(problem)
        refused = plan.refusals(plan.costs(device, prepared.cells))
        folder.lock(observers.warn)
        try:
            with prepared.remote.kept(observers.warn) if prepared.remote else nullcontext() as keeping:
                folder.check(plan.suite.digest, plan.suite.resolved())  # another suite may have taken it meanwhile
                folder.create(plan.suite.to_yaml(), plan.suite.digest)
                _note_environment(prepared, registry, executor, observers)
                checks = (folder.check_lock, *([keeping.check] if keeping else []))
                run_jobs = checking(skipping(executor.run, refused, plan.suite.name), checks)
                return _run(prepared, registry, executor, work, device, run_jobs, observers)
        finally:
            folder.unlock()


def _run(
    prepared: Prepared,
    registry: Registry,
    executor: Executor,
    work: WorkerFactory,
    device: torch.device,
    run_jobs: RunJobs,
    observers: Observers,
) -> Summary:
    from pruningbench.harness.checking import check
    from pruningbench.harness.comparing import lost_references
    from pruningbench.harness.passes import recorded_passes
    from pruningbench.harness.worker import Worker
    from pruningbench.store.cache import Cache

    plan, folder, options = prepared.plan, prepared.folder, prepared.options
    for line in mend(folder.results, folder.damaged) if prepared.damaged else ():
        observers.warn(line)
    if options.task_timeout is not None:
        executor.time_limit = options.task_timeout
    driver = Driver(plan, folder, observers, isolated=executor.isolated)
    cache = Cache(folder.private_cache if options.no_cache else None, driver.note)
    worker = Worker(
        plan.suite.name, registry, device, cache, driver.note,
        keep_weights=plan.suite.keep == "weights", limit=plan.suite.limit or 0,
        passes={**options.passes, **recorded_passes(driver.journal.attempts)},
        memory=MEMORY if options.memory is None else options.memory, shared=executor.shares_device,
    )  # fmt: skip
    sources = Sources(folder.sources, plan)
    sources.stamp_all()
    with rereading(options.verify_data):
        state = check(
            driver, worker, sources, prepared.retry, accept=options.accept_changed, everything=options.verify_data
        )
    jobs = [*state.jobs, *lacking_weights(plan, folder, driver.journal.attempts, state)]
    worker.lost |= lost_references(plan, driver.journal.attempts, [job.cell.key for job in jobs])
    work.adopt(worker)
    jobs, budget = paced(jobs, executor, driver, budget=options.budget, limited=options.task_timeout is not None)
    try:
        summary = driver.run(jobs, run_jobs)
    finally:
        if folder.results.exists():  # unless the folder has been deleted
            worker.contents.models |= driver.contents.models
            worker.contents.data |= driver.contents.data
            sources.save(worker.contents)
    if options.no_cache:
        shutil.rmtree(folder.private_cache, ignore_errors=True)
    if budget is not None and budget.refused:
        cells = "1 cell is" if budget.refused == 1 else f"{budget.refused} cells are"
        observers.warn(f"the budget is used up: {cells} left, which the same command continues with")
        summary = replace(summary, pending=budget.left)
    return summary


def finished_summary(prepared: Prepared) -> Summary:
    """Return the summary of a run with nothing left to do, from its journal and without torch.

    Raises:
        RunFolderError: if the journal has been deleted in the meantime.
    """
    plan, results = prepared.plan, prepared.folder.results
    if plan.cells and plan.tasks and not results.exists():
        raise RunFolderError(f"{results}: was deleted as the run ended; run the same command again to start over")
    attempts, _ = read_attempts(results)
    sources = Sources(prepared.folder.sources, plan)
    left = assess(plan, attempts, sources.contents.parts, prepared.retry).task_runs
    computed = measured_groups(attempts) - prepared.groups
    before = plan.task_runs() - computed - left
    return Summary(len(plan.cells), computed, max(before, 0), not_ok(plan, attempts), left)


def measured_groups(attempts: Iterable[Attempt]) -> int:
    """Count the attempted task runs in a journal; task runs that were only accepted do not count."""
    return len({attempt.group for attempt in attempts if not attempt.stale})


def with_recorded_labels(plan: Plan, attempts: Iterable[Attempt]) -> Plan:
    """Return a plan whose tasks have the labels that a journal knows them by.

    When a suite gains a second use of a task, longer labels tell the two apart. A finished task keeps its label, so it
    stays finished.
    """
    label_of_plan = {attempt.plan: attempt.task for attempt in attempts if attempt.plan}
    if not label_of_plan:
        return plan
    labels = {run.label for run in plan.tasks}
    tasks = []
    for run in plan.tasks:
        keys = (plan_key(cell, run) for cell in plan.cells if is_for(run.task, cell.model))
        recorded = next((label_of_plan[key] for key in keys if key in label_of_plan), None)
        label = recorded if recorded is not None and recorded not in labels else run.label
        labels.add(label)
        tasks.append(replace(run, label=label))
    return replace(plan, tasks=tuple(tasks))


def lacking_weights(plan: Plan, folder: RunFolder, attempts: Iterable[Attempt], state: State) -> list[CellJob]:
    """Return jobs without tasks for finished cells whose weights the suite keeps but the folder lacks."""
    if plan.suite.keep != "weights":
        return []
    finished = {attempt.cell for attempt in attempts if attempt.some_ok} - {job.cell.key for job in state.jobs}
    cells = [cell for cell in plan.cells if cell.pruner is not None and cell.key in finished]
    return [CellJob(cell, ()) for cell in cells if not folder.weights_file(cell.key).exists()]


def _note_environment(prepared: Prepared, registry: Registry, executor: Executor, observers: Observers) -> None:
    from pruningbench.store.environment import capture

    plugins: Sequence[tuple[str, str, str]] = [(p.name, p.distribution, p.version) for p in registry.plugins]
    environment = capture(device=executor.device, seeds=prepared.plan.suite.seeds, plugins=plugins)
    threads = executor.threads_each
    if threads is not None:
        environment["threads"] = threads
    changed = prepared.folder.write_environment(environment)
    differing = {key: pair for key, pair in changed.items() if key not in ("source",)}
    if differing:
        names = ", ".join(sorted(differing))
        observers.warn(f"the environment has changed since this run began ({names}); see environment.json")
