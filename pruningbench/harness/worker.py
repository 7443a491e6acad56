"""The worker: makes a cell's pruned model and runs its tasks."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from pruningbench.base.identity import content_hash, derive_seed, tensors_digest
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Context, Metric, Recipe, RecipeJob, TensorCache, Use, VisionModel
from pruningbench.contract.context import MEMORY
from pruningbench.contract.precision import FULL, computed_in, kernels
from pruningbench.errors import DataError, MissingDataError, PluginError, RefusedError
from pruningbench.harness.artifacts import (
    NETWORK,
    REFERENCE,
    ROUNDS,
    Contents,
    Parts,
    artifact_key,
    chosen,
    key_of,
    model_parts,
)
from pruningbench.harness.comparing import ComparingContext, reason_of
from pruningbench.harness.events import CellDone, CellJob, CellPrepared, Event, Step, TaskDone
from pruningbench.harness.lending import Blame, Loan, lending, same_weights
from pruningbench.harness.made import check_masks, check_zeros, reduce_to_weights
from pruningbench.harness.measure import Measured, is_out_of_memory, measure, with_smaller_batches
from pruningbench.harness.networks import is_worth_keeping, kept_network
from pruningbench.harness.passes import Choices, Passes
from pruningbench.harness.session import ModelSession
from pruningbench.harness.shelves import DataShelf, ModelShelf
from pruningbench.harness.thresholds import ties_of
from pruningbench.plugins import Registry
from pruningbench.pruning.masks import Masks, measured_sparsity
from pruningbench.store.cache import Cache
from pruningbench.store.records import Record, Status
from pruningbench.suite.binding import bind
from pruningbench.suite.cells import Cell, TaskRun, plan_key
from pruningbench.version import __version__


class Worker:
    """Runs cells one after another on one device, and keeps what they share.

    Args:
        suite: name of the suite, for the records.
        registry: where references are looked up.
        device: where to compute.
        cache: weights, scores and masks on disk.
        report: receives progress notes.
        keep_weights: whether to hand out pruned networks, so that the run folder can store them.
        limit: number of samples to use from each data set; 0 for all.
        lost: keys of dense cells that failed in an earlier process, with the reason.
        passes: recorded choices of memory format and batch size, by label of the model.
        memory: bytes that a task may hold for its samples.
        shared: whether other workers compute on the same device meanwhile.
    """

    def __init__(
        self,
        suite: str,
        registry: Registry,
        device: torch.device,
        cache: Cache,
        report: Callable[[str], None],
        *,
        keep_weights: bool = False,
        limit: int = 0,
        lost: Mapping[str, str] | None = None,
        passes: Mapping[str, Passes | None] | None = None,
        memory: int = MEMORY,
        shared: bool = False,
    ) -> None:
        self.suite, self.registry, self.device, self.cache = suite, registry, device, cache
        self.report, self.keep_weights, self.limit, self.lost = report, keep_weights, limit, dict(lost or {})
        self.shelf = DataShelf(registry, lambda: self._context(0), limit)
        self.models = ModelShelf(registry, self._context)
        self.memory, self.shared, self.blame = memory, shared, Blame()
        self.contents = Contents()
        self.passes = Choices(passes or {})
        self._session: tuple[str, ModelSession | BaseException] | None = None

    def run(self, job: CellJob) -> Iterator[Event]:
        """Make the cell's model and run its pending tasks; failures become records, not exceptions."""
        cell = job.cell
        yield Step(job, "prepare")
        start = time.perf_counter()
        try:
            session = self._session_of(cell)
            model, masks = self._prepare(cell, session)
            network = tensors_digest(dict(model.network.state_dict()))
            sparsities = measured_sparsity(model.network, dict.fromkeys(session.prunable_names(cell)))
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - components may raise anything
            seconds = time.perf_counter() - start
            if cell.pruner is None and cell.trained:
                self.lost[cell.key] = reason_of(error)  # cells that are compared with it do not try again
            for run in job.tasks:
                yield TaskDone(job, run.label, (self._failure(job, run, error, seconds),))
            yield CellDone(job, self.contents)
            return
        prepare_seconds = time.perf_counter() - start
        weights = dict(model.network.state_dict()) if self.keep_weights and masks is not None else None
        yield CellPrepared(job, masks, prepare_seconds, weights)
        job = job.for_network(network[:16])
        base = self._base(cell, sparsities, prepare_seconds)
        if masks is not None:
            base = replace(base, ties=ties_of(masks), remarks=str(masks.provenance.get("undecided", "")))
        loan = Loan(model)
        session.begin(cell)
        if cell.pruner is None and cell.trained:
            session.reference.adopt(loan)
        for run in job.tasks:
            yield Step(job, run.label)
            yield self._run_task(job, run, loan, session, base, network[:16])
        yield CellDone(job, self.contents)

    def context(self, seed: int, cache: TensorCache, kind: type[Context] = Context, **extra: Any) -> Context:
        """Return a context with a given cache instead of the worker's own."""
        return kind(
            self.device, seed, cache, self.shelf, open_model=self.models,
            component=lambda kind, reference: bind(self.registry, kind, reference), report=self.report, **extra
        )  # fmt: skip

    def _context(self, seed: int, **extra: Any) -> Context:
        return self.context(seed, self.cache, **extra)

    def _session_of(self, cell: Cell) -> ModelSession:
        """Return the session of the cell's model; a model is loaded once, and one that fails is not loaded again."""
        key = key_of(cell.model)
        if self._session is None or self._session[0] != key:
            self._session = None  # free the last model before the next one is loaded
            try:
                opened = ModelSession(
                    cell.model, self._context, self.cache, self.shelf, self.blame,
                    lambda session, dense: self._prepare(dense, session)[0], self.lost,
                    lambda dense: self.passes.prepare(
                        cell.model.label, dense, cell.batch_size, self.cache, cell.precision
                    ),
                )  # fmt: skip
                self._session = (key, opened)
                self.contents.models[key] = model_parts(opened.dense)
            except (Exception, SystemExit) as error:
                self._session = (key, error)
                raise
        session = self._session[1]
        if isinstance(session, BaseException):
            raise session
        return session

    def _prepare(self, cell: Cell, session: ModelSession) -> tuple[VisionModel, Masks | None]:
        if cell.pruner is None and not cell.changes_dense:
            return session.dense.clone(), None
        if not isinstance(cell.recipe.component, Recipe):
            raise PluginError(f"{cell.recipe.name!r} is a {cell.recipe.component.kind}, not a recipe")
        if is_worth_keeping(cell):
            identity = session.network_identity(cell)
            model, masks = kept_network(
                self.cache, identity, session.dense.clone, lambda model: self._make(cell, session, model), self.report
            )
            check_zeros(cell, masks, model.network)  # it may have been kept by a version that did not check
        else:
            model = session.dense.clone()
            masks = self._make(cell, session, model)
        return model, masks if cell.pruner is not None else None  # a dense reference prunes nothing

    def _make(self, cell: Cell, session: ModelSession, model: VisionModel) -> Masks:
        """Prune and train a copy of the dense model in place with the cell's recipe; return its masks."""
        recipe = cell.recipe.component
        assert isinstance(recipe, Recipe)  # noqa: S101 - _prepare checked the kind

        def prune(model: VisionModel, sparsity: float, within: Masks | None = None) -> Masks:
            untouched = same_weights(model.network, session.dense.network)
            return session.prune(cell, model, sparsity, untouched=untouched, within=within)

        def shared(key: Any, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
            return self.cache.tensors("trajectories", {**session.trajectory_identity(cell, key), "key": key}, make)

        data = self.shelf.open(cell.data) if recipe.needs_data() and cell.data is not None else None
        # two cells that differ in only one axis train on the same stream of samples
        seed = derive_seed(cell.seed, "recipe", cell.recipe.identity(without=("training", "draws")))
        context = self._context(seed, dense=session.loan.model, as_loaded=session.loan.model)
        rounds = cell.rounds if cell.pruner is None else 1
        job = RecipeJob(model, cell.sparsity, prune, data, context, shared, session.mover(cell), rounds)
        job.once = lambda key, make: session.prune_once(cell, model, key, make)
        if recipe.trains:
            job.identity = session.network_identity(cell)
        lenders = (session.loan, self.shelf, self.models)
        # a recipe's own passes, such as those that recalibrate; its training has a precision of its own
        with isolated_randomness(seed), kernels(FULL), lending(f"recipe {cell.recipe.label!r}", self.blame, *lenders):
            masks = recipe.run(job)
        model.network.eval()
        check_masks(cell, masks, session.prunable_names(cell))
        reduce_to_weights(cell, session.dense, model, self.blame)
        check_zeros(cell, masks, model.network)
        return masks

    def _run_task(
        self, job: CellJob, run: TaskRun, loan: Loan, session: ModelSession, base: Record, network: str
    ) -> TaskDone:
        cell = job.cell
        start = time.perf_counter()
        changed: list[str] = []
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        # independent of the cell, so that conditions are compared under the same random choices
        seed = derive_seed(cell.seed, "task", run.task.identity())
        memo, reference = session.memo(run.label, cell), session.reference
        reference.lend(loan, session.loan)

        def attempt(batch_size: int) -> Measured:
            model = loan.model
            context = self._context(
                seed, kind=ComparingContext, reference=reference, as_loaded=session.loan.model, batch_size=batch_size,
                memory=self.memory, shared=self.shared,
                whole=any(isinstance(use.component, Metric) and use.component.joint for use in run.metrics),
                _memo=memo, _of_dense=reference.memo, _of_pruned=session.of_pruned,
                _of_others=session.of_others, _of_loaded=session.references.loaded.memo, _pruned=model,
            )  # fmt: skip
            with isolated_randomness(seed), computed_in(cell.precision, model.network, session.loan.model.network):
                return measure(run, model, context, may_lack=bool(job.kept.get(run.label)), blame=self.blame)

        try:
            lenders = (loan, session.loan, reference, self.shelf, self.models)
            with lending(f"task {run.label!r}", self.blame, *lenders) as changed:
                largest = self.passes.largest(cell.model.label, run.label, cell.batch_size)
                measured, batch_size = with_smaller_batches(attempt, largest, self.report)
            self.passes.fitted(cell.model.label, run.label, batch_size)
            fingerprint = self._fingerprint(run)
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - a component may raise anything
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
            dimension=measured.dimension,
            seconds=time.perf_counter() - start,
            peak_memory_mb=_peak_memory(self.device),
            batch_size=batch_size,
            attempts=job.attempts.get(run.label, 0) + 1,
            plugin=run.task.plugin,
            plugin_version=run.task.plugin_version,
            data_fingerprint=fingerprint,
            notes=self.blame.take(),
            plan=plan_key(cell, run),
            inapplicable=", ".join(measured.inapplicable),
        )
        memo.compared |= reference.used
        made_of = {**self._parts(cell, run), NETWORK: network}
        if memo.compared:
            made_of[REFERENCE] = reference.identity
        elif cell.pruner is not None:
            made_of.pop(ROUNDS, None)  # nothing here depends on the reference
        passes = self.passes.settings(cell.model.label)
        records = tuple(
            replace(
                common,
                artifact=artifact_key(cell, run, made_of | chosen({**m.settings, **passes}), m.metric),
                made_of=made_of | chosen({**m.settings, **passes}),
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
            replace(common, made_of=made_of, variant=f.variant, metric=f.metric, status="failed", error=f.error)
            for f in measured.failures
        )
        records = records or (replace(common, made_of=made_of),)
        return TaskDone(job, run.label, records, measured.samples, measured.exhibits)

    def _parts(self, cell: Cell, run: TaskRun) -> Parts:
        """Return the known parts that a task on a cell is made from."""
        self.contents.data |= self.shelf.fingerprints()
        others = {key: parts for key, parts in self.models.parts().items() if key not in self.contents.models}
        self.contents.models |= others
        return self.contents.parts(cell, run)

    def _fingerprint(self, run: TaskRun) -> str:
        use = run.task.references.get(getattr(run.task.component, "main_data", ""))
        if use is None:
            return ""
        data = self._fingerprint_of(use)
        others = {
            name: self._fingerprint_of(other)
            for name, other in run.task.references.items()
            if other.component.kind in ("dataset", "model")
        }
        # the task's settings and its other data also decide whether values are comparable
        return f"{data}:{content_hash([run.task.identity(), others], length=8)}"

    def _fingerprint_of(self, use: Use) -> str:
        """Return the fingerprint of data or of a model, or "missing" for data that a task did without."""
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
            limit=self.limit,
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
            plan=plan_key(job.cell, run),
            made_of=self._parts(job.cell, run),
        )


def _peak_memory(device: torch.device) -> float:
    """Return the peak memory in MiB: of a GPU during the task, or of the whole process so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
