"""The worker: makes a cell's pruned model and runs its tasks."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from pruningbench.base.files import write_whole
from pruningbench.base.identity import content_hash, derive_seed, tensors_digest
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Context, Pruner, Recipe, RecipeJob, Use, VisionModel
from pruningbench.errors import DataError, MissingDataError, PluginError, RefusedError
from pruningbench.harness.events import CellDone, CellJob, Event, Prepared, Step, TaskDone
from pruningbench.harness.lending import Blame, Loan, lending, same_weights
from pruningbench.harness.measure import Measured, is_out_of_memory, measure, with_smaller_batches
from pruningbench.harness.session import DataShelf, ModelSession, ModelShelf, check_names
from pruningbench.harness.thresholds import ties_of
from pruningbench.plugins import Registry
from pruningbench.pruning.allocation import number_to_prune
from pruningbench.pruning.masks import Masks, measured_sparsity
from pruningbench.store.cache import Cache
from pruningbench.store.records import Record, Status
from pruningbench.suite.plan import Cell, TaskRun
from pruningbench.version import __version__


class Worker:
    """Runs cells one after the other on one device, keeping what they share.

    Args:
        suite: name of the suite, for the records.
        registry: where references are looked up.
        device: where to compute.
        cache: weights, scores and masks on disk.
        checkpoint: maps a cell's key to the file that keeps its trained weights until it is finished.
        report: receives progress notes.
    """

    def __init__(
        self,
        suite: str,
        registry: Registry,
        device: torch.device,
        cache: Cache,
        checkpoint: Callable[[str], Path],
        report: Callable[[str], None],
    ) -> None:
        self.suite, self.device, self.cache = suite, device, cache
        self.checkpoint, self.report = checkpoint, report
        self.shelf = DataShelf(registry, lambda: self._context(0))
        self.models = ModelShelf(registry, self._context)
        self.blame = Blame()
        self._session: tuple[str, ModelSession | BaseException] | None = None

    def run(self, job: CellJob) -> Iterator[Event]:
        """Make the cell's model and run its pending tasks; failures become records, not exceptions."""
        cell = job.cell
        yield Step(job, "prepare")
        start = time.perf_counter()
        try:
            session = self._session_of(cell)
            model, masks = self._prepare(cell, session)
            sparsities = measured_sparsity(model.network, dict.fromkeys(session.prunable_names(cell)))
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - components may raise anything
            seconds = time.perf_counter() - start
            for run in job.tasks:
                yield TaskDone(job, run.label, (self._failure(job, run, error, seconds),))
            yield CellDone(job)
            return
        prepare_seconds = time.perf_counter() - start
        yield Prepared(job, masks, prepare_seconds)
        base = self._base(cell, sparsities, prepare_seconds)
        if masks is not None:
            base = replace(base, ties=ties_of(masks), remarks=str(masks.provenance.get("undecided", "")))
        loan = Loan(model)
        session.begin(cell)
        for run in job.tasks:
            yield Step(job, run.label)
            yield self._run_task(job, run, loan, session, base)
        self.checkpoint(cell.key).unlink(missing_ok=True)
        yield CellDone(job)

    def _context(self, seed: int, **extra: Any) -> Context:
        return Context(
            self.device, seed, self.cache, self.shelf, open_model=self.models, report=self.report, **extra
        )  # fmt: skip

    def _session_of(self, cell: Cell) -> ModelSession:
        """Return the session of the cell's model, loading it once; a model that fails to load fails once."""
        key = content_hash(cell.model.identity())
        if self._session is None or self._session[0] != key:
            self._session = None  # let go of the last model before the next one is loaded
            try:
                self._session = (key, ModelSession(cell.model, self._context, self.cache, self.shelf, self.blame))
            except (Exception, SystemExit) as error:
                self._session = (key, error)
                raise
        session = self._session[1]
        if isinstance(session, BaseException):
            raise session
        return session

    def _prepare(self, cell: Cell, session: ModelSession) -> tuple[VisionModel, Masks | None]:
        model = session.dense.clone()
        if cell.pruner is None and not cell.trained:
            return model, None
        recipe = cell.recipe.component
        if not isinstance(recipe, Recipe):
            raise PluginError(f"{cell.recipe.name!r} is a {recipe.kind}, not a recipe")
        file = self.checkpoint(cell.key)
        made_of = content_hash(session.trajectory_identity(cell))
        if recipe.trains and file.exists():
            try:
                return model, _of_pruned(cell, _restore(file, model, made_of))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, training makes it again
                self.report(f"checkpoint is made again ({error})")
                file.unlink(missing_ok=True)
                model = session.dense.clone()

        def prune(model: VisionModel, sparsity: float, within: Masks | None = None) -> Masks:
            untouched = same_weights(model.network, session.dense.network)
            return session.prune(cell, model, sparsity, untouched=untouched, within=within)

        def shared(key: Any, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
            return self.cache.tensors("trajectories", {**session.trajectory_identity(cell, key), "key": key}, make)

        data = self.shelf.open(cell.data) if recipe.needs_data() and cell.data is not None else None
        # pairs of cells that differ in one axis only train on the same stream of samples
        seed = derive_seed(cell.seed, "recipe", cell.recipe.identity(without="training"))
        context = self._context(seed, dense=session.loan.model)
        job = RecipeJob(model, cell.sparsity, prune, data, context, shared, session.mover(cell))
        lenders = (session.loan, self.shelf, self.models)
        with isolated_randomness(seed), lending(f"recipe {cell.recipe.label!r}", self.blame, *lenders):
            masks = recipe.run(job)
        model.network.eval()
        check_masks(cell, masks, session.prunable_names(cell))
        if recipe.trains:
            try:
                _keep(file, model, masks, made_of)
            except OSError as error:  # costs a training if this process is killed, and nothing else
                self.report(f"checkpoint cannot be written ({error.strerror})")
        return model, _of_pruned(cell, masks)

    def _run_task(self, job: CellJob, run: TaskRun, loan: Loan, session: ModelSession, base: Record) -> TaskDone:
        cell = job.cell
        start = time.perf_counter()
        changed: list[str] = []
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        # not of the cell: conditions are compared on the same random choices
        seed = derive_seed(cell.seed, "task", run.task.identity())
        memo = session.memos.setdefault((run.label, cell.seed), {})

        def attempt(batch_size: int) -> Measured:
            model = loan.model
            context = self._context(
                seed, dense=session.loan.model, batch_size=batch_size,
                _memo=memo, _of_dense=session.of_dense, _of_pruned=session.of_pruned,
                _of_others=session.of_others, _pruned=model,
            )  # fmt: skip
            with isolated_randomness(seed):
                return measure(run, model, context)

        try:
            lenders = (loan, session.loan, self.shelf, self.models)
            with lending(f"task {run.label!r}", self.blame, *lenders) as changed:
                measured, batch_size = with_smaller_batches(attempt, cell.batch_size, self.report)
            fingerprint = self._fingerprint(run)
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - anybody's component may raise anything
            failure = self._failure(job, run, error, time.perf_counter() - start)
            measured_before = replace(
                failure,
                sparsity_achieved=base.sparsity_achieved,
                sparsity_total=base.sparsity_total,
                prepare_seconds=base.prepare_seconds,
            )
            return TaskDone(job, run.label, (measured_before,))
        finally:
            if changed:
                session.forget()
                memo.clear()
        common = replace(
            base,
            task=run.label,
            seconds=time.perf_counter() - start,
            peak_memory_mb=_peak_memory(self.device),
            batch_size=batch_size,
            attempts=job.attempts.get(run.label, 0) + 1,
            plugin=run.task.plugin,
            plugin_version=run.task.plugin_version,
            data_fingerprint=fingerprint,
            notes=self.blame.take(),
            inapplicable=", ".join(measured.inapplicable),
        )
        records = tuple(
            replace(
                common,
                variant=m.variant,
                metric=m.metric,
                value=m.estimate.value,
                ci_low=m.estimate.low,
                ci_high=m.estimate.high,
                n=m.estimate.n,
                undefined=m.estimate.undefined,
                unit=m.unit,
                higher_is_better=m.higher_is_better,
                ceiling=m.ceiling,
                chance=m.chance,
                chance_p=m.chance_p,
                degenerate=m.degenerate,
                remarks="; ".join(filter(None, (common.remarks, m.note))),
            )
            for m in measured.measurements
        ) + tuple(
            replace(common, variant=f.variant, metric=f.metric, status="failed", error=f.error)
            for f in measured.failures
        )
        return TaskDone(job, run.label, records, measured.samples, measured.exhibits)

    def _fingerprint(self, run: TaskRun) -> str:
        use = run.task.references.get(getattr(run.task.component, "main_data", ""))
        if use is None:
            return ""
        data = self._fingerprint_of(use)
        others = {name: self._fingerprint_of(other) for name, other in run.task.references.items()}
        # how the task is set and what other data it uses decide as well whether values may be compared
        return f"{data}:{content_hash([run.task.identity(), others], length=8)}"

    def _fingerprint_of(self, use: Use) -> str:
        """Return the fingerprint of data or of a model; of data that a task did without, that they are missing."""
        try:
            return self._shelf_of(use).open(use).fingerprint
        except (DataError, MissingDataError):
            return "missing"

    def _shelf_of(self, use: Use) -> DataShelf | ModelShelf:
        return self.models if use.component.kind == "model" else self.shelf

    def _base(self, cell: Cell, sparsities: tuple[float, float], prepare_seconds: float) -> Record:
        return Record(
            suite=self.suite,
            cell=cell.key,
            model=cell.model.label,
            pruner=cell.pruner_label,
            recipe=cell.recipe.label,
            sparsity=cell.sparsity,
            seed=cell.seed,
            task="",
            sparsity_achieved=sparsities[0],
            sparsity_total=sparsities[1],
            prepare_seconds=prepare_seconds,
            device=str(self.device),
            batch_size=cell.batch_size,
            pruningbench_version=__version__,
        )

    def _failure(self, job: CellJob, run: TaskRun, error: BaseException, seconds: float) -> Record:
        status: Status = "timeout" if isinstance(error, TimeoutError) else "failed"
        if is_out_of_memory(error):
            status = "oom"
        refused = isinstance(error, RefusedError)  # nothing went wrong that a traceback would explain
        nothing = (float("nan"), float("nan"))
        return replace(
            self._base(job.cell, nothing, 0.0),
            task=run.label,
            status="skipped" if refused else status,
            error=str(error) if refused else "".join(traceback.format_exception(error)).strip(),
            seconds=seconds,
            attempts=job.attempts.get(run.label, 0) + 1,
            plugin=run.task.plugin,
            plugin_version=run.task.plugin_version,
            notes=self.blame.take(),
        )


def _keep(file: Path, model: VisionModel, masks: Masks, made_of: str) -> None:
    """Write a trained cell's weights and masks, so that a kill during its tasks costs no training.

    Raises:
        OSError: if the disk refuses; nothing half-written stays.
    """
    tensors = {f"weights/{name}": tensor.detach().cpu().contiguous().clone()
               for name, tensor in model.network.state_dict().items()}  # fmt: skip
    tensors |= {f"masks/{name}": mask for name, mask in masks.items()}
    meta = {"digest": tensors_digest(tensors), "provenance": json.dumps(masks.provenance), "made_of": made_of}
    write_whole(file, save(tensors, meta))


def _restore(file: Path, model: VisionModel, made_of: str) -> Masks:
    with safe_open(file, framework="pt") as opened:
        meta = opened.metadata() or {}
        stored = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - no mapping
    if meta.get("digest") != tensors_digest(stored):
        raise ValueError("its content does not match its digest")
    if meta.get("made_of") != made_of:
        raise ValueError("it was made from other weights, data or code")
    weights = {name.removeprefix("weights/"): t for name, t in stored.items() if name.startswith("weights/")}
    model.network.load_state_dict(weights)
    model.network.eval()
    order = dict(model.network.named_parameters())
    masks = {name.removeprefix("masks/"): t for name, t in stored.items() if name.startswith("masks/")}
    return Masks({name: masks[name] for name in order if name in masks}, json.loads(meta["provenance"]))


def _of_pruned(cell: Cell, masks: Masks) -> Masks | None:
    """Return the masks of a pruned cell; those of a dense reference, which prune nothing, are not kept."""
    return None if cell.pruner is None else masks


def check_masks(cell: Cell, masks: Masks, prunable: list[str]) -> None:
    """Make sure that a pruner did what was asked: it is never taken at its word.

    Raises:
        PluginError: for masks of other parameters than the scope allows, another number of pruned weights
            than ``round(sparsity * prunable)`` from a pruner that claims to be exact, or provenance that
            cannot be stored.
    """
    pruner = cell.pruner.component if cell.pruner else None
    if not isinstance(masks, Masks):
        raise PluginError(f"recipe {cell.recipe.label!r} returned a {type(masks).__name__}, not Masks")
    check_names(cell.pruner_label, masks, prunable)
    pruned, asked = masks.total - masks.kept, number_to_prune(cell.sparsity, masks.total)
    if cell.pruner is None and pruned:
        raise PluginError(f"recipe {cell.recipe.label!r} pruned {pruned} weights of its dense reference")
    if isinstance(pruner, Pruner) and pruner.exact and pruned != asked:
        raise PluginError(
            f"pruner {cell.pruner_label!r} pruned {pruned} of {masks.total} weights, not {asked}, "
            f"at sparsity {cell.sparsity:g}"
        )
    try:
        json.dumps(masks.provenance)
    except (TypeError, ValueError) as error:
        raise PluginError(f"pruner {cell.pruner_label!r}: the masks' provenance cannot be stored ({error})") from error


def _peak_memory(device: torch.device) -> float:
    """Return the peak in MiB: of the device during the task, or of the whole process so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
