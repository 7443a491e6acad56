"""Measures one task on one model: outputs, metrics, per-sample values, estimates."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pruningbench.base.machine import give_memory_back
from pruningbench.base.randomness import random_state, set_random_state
from pruningbench.contract import Context, Exhibit, Metric, Missing, Outputs, Task, VisionModel, above_chance
from pruningbench.contract.statistics import Estimate, Floats, bootstrap, mean, within
from pruningbench.contract.task import dimension_of
from pruningbench.errors import PluginError, PruningBenchError
from pruningbench.harness.joining import Seen, Variant
from pruningbench.harness.lending import Blame, lending
from pruningbench.harness.lent import LentOutputs
from pruningbench.store.samples import exhibit_arrays
from pruningbench.suite.cells import TaskRun

T = TypeVar("T")
PARTS_TO_TRIM = 32
"""Parts of outputs after which freed memory is given back to the system, so that many parts need no more than a few."""
BESIDE_OTHERS = "measured while other workers of the run used the same device"
"""Remark on times and other values that are not deterministic: they are those of a busy device."""


@dataclass(frozen=True)
class MetricValue:
    """A metric's estimate on one variant of a task's outputs.

    Attributes:
        variant, metric, estimate, unit, higher_is_better: what was measured.
        ceiling: the value that people reach; NaN if unknown.
        chance: the value of the best answer that ignores the input; NaN if that has no meaning.
        chance_p: for the task's main metric, the one-sided p-value that it is no better than chance; else NaN.
        degenerate: number of the variant's samples whose output carries no information.
        note: why these outputs are degenerate, and what is likely to help.
        settings: settings that the task chose for this model.
    """

    variant: str
    metric: str
    estimate: Estimate
    unit: str
    higher_is_better: bool | None
    ceiling: float = float("nan")
    chance: float = float("nan")
    chance_p: float = float("nan")
    degenerate: int = 0
    note: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A part of a task without a value: a metric on a variant, a variant (metric ""), or the rest of the task."""

    variant: str
    metric: str
    error: str


@dataclass
class Measured:
    """Everything that a task yields on one model.

    Attributes:
        measurements: the metrics' values.
        samples: arrays of per-sample values, by ``variant|metric``, and of the samples' keys.
        exhibits: arrays for figures, by variant.
        inapplicable: requested metrics that apply to nothing that the task yields.
        failures: the parts without a value; the measurements remain valid.
        dimension: the ability that the task measures.
    """

    measurements: list[MetricValue] = field(default_factory=list)
    samples: dict[str, NDArray[Any]] = field(default_factory=dict)
    exhibits: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    inapplicable: tuple[str, ...] = ()
    failures: list[Failure] = field(default_factory=list)
    dimension: str = ""


def measure(
    run: TaskRun, model: VisionModel, context: Context, *, may_lack: bool = False, blame: Blame | None = None
) -> Measured:
    """Run a task on a model and apply its metrics; a failure loses only its own part if anything is measured.

    Args:
        run: the task and the requested metrics.
        model: what to measure.
        context: lent to the task.
        may_lack: whether no metric needs to apply, because other metrics of the task already have values.
        blame: records which metric changed outputs, which are restored for the others.

    Raises:
        PluginError: if the task yields a variant twice, or nothing that its metrics consume.
        Exception: what a component raised, if nothing was measured; always for out of memory, as a smaller batch may
            fit.
    """
    task = run.task.component
    if not isinstance(task, Task):
        raise PluginError(f"{run.task.name!r} is a {task.kind}, not a task")
    measured = Measured(dimension=dimension_of(task, run.task.name))
    errors: list[Exception] = []
    seen: dict[str, Variant] = {}
    parts = 0
    for variant, outputs in _until_it_fails(task.run(model, context), measured, errors):
        _check(run.label, variant, outputs, seen)
        if isinstance(outputs, Missing):
            errors.append(PruningBenchError(f"{variant}: {outputs.reason}"))
            measured.failures.append(Failure(variant, "", outputs.reason))
            continue
        _look_at(run, variant, outputs, seen[variant], measured, errors, blame or Blame())
        parts += outputs.part
        trim = outputs.part and parts % PARTS_TO_TRIM == 0
        del outputs  # before the task makes the next ones
        if trim:
            give_memory_back()
    for variant, joined in seen.items():
        _conclude(run, task, variant, joined, measured, errors, shared=context.shared)
    if not measured.measurements and errors:
        raise errors[0]
    applied = {measurement.metric for measurement in measured.measurements}
    failed = {failure.metric for failure in measured.failures}
    measured.inapplicable = tuple(use.label for use in run.metrics if use.label not in applied | failed)
    if not measured.measurements and not may_lack:
        names = ", ".join(use.label for use in run.metrics) or "none"
        raise PluginError(f"task {run.label!r} yielded nothing that its metrics ({names}) apply to")
    return measured


def _look_at(
    run: TaskRun,
    variant: str,
    outputs: Outputs,
    joined: Variant,
    measured: Measured,
    errors: list[Exception],
    blame: Blame,
) -> None:
    """Apply the metrics to outputs, which may be a part of a variant's."""
    lent, state = LentOutputs(outputs), random_state()
    for use in run.metrics:
        before = joined.metrics.get(use.label)
        try:
            # no metric's draws depend on which others there are, nor on where the outputs are divided
            set_random_state(before.random if before else state)
            with lending(f"metric {use.label!r}", blame, lent):
                fits = isinstance(use.component, Metric) and use.component.applies(outputs)
                if fits and use.label not in joined.failed:
                    assert isinstance(use.component, Metric)  # noqa: S101 - just asked
                    _apply(use.component, use.label, outputs, joined)
        except Exception as error:  # noqa: BLE001 - third-party metric; the others remain valid
            joined.failed.add(use.label)
            _fail(error, variant, use.label, measured, errors)
        if use.label in joined.metrics:
            joined.metrics[use.label].random = random_state()
    set_random_state(state)
    try:
        joined.add(outputs)
        joined.add_degenerate(outputs.degenerate())
    except Exception as error:  # noqa: BLE001 - third-party outputs
        _fail(error, variant, "", measured, errors)


def _conclude(
    run: TaskRun,
    task: Task,
    variant: str,
    joined: Variant,
    measured: Measured,
    errors: list[Exception],
    *,
    shared: bool,
) -> None:
    """Store what the metrics say about all samples of a variant."""
    for use in run.metrics:
        if use.label not in joined.metrics or use.label in joined.failed:
            continue
        assert isinstance(use.component, Metric)  # noqa: S101 - it has values
        try:
            main = use.name in task.metrics[:1]
            _store(use.component, use.label, variant, joined, measured, main=main, shared=shared)
        except Exception as error:  # noqa: BLE001 - third-party aggregation; the other metrics remain valid
            _fail(error, variant, use.label, measured, errors)
    if names := joined.names():
        measured.samples[f"keys of {variant}"] = np.array(names, dtype=str)
    if joined.exhibit is not None:
        measured.exhibits[variant] = _exhibit(run.label, joined.exhibit)


def _until_it_fails(
    yielded: Iterable[tuple[str, Outputs]], measured: Measured, errors: list[Exception]
) -> Iterator[tuple[str, Outputs]]:
    """Yield what a task yields; if it raises, record a failure and keep what it has already yielded."""
    iterator = iter(yielded)
    while True:
        try:
            pair = [next(iterator)]
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - third-party task
            _fail(error, "", "", measured, errors)
            return
        yield pair.pop()  # outputs can be large: nothing here holds on to them


def _fail(error: Exception, variant: str, metric: str, measured: Measured, errors: list[Exception]) -> None:
    if is_out_of_memory(error) or isinstance(error, TimeoutError):
        raise error
    errors.append(error)
    measured.failures.append(Failure(variant, metric, "".join(traceback.format_exception(error)).strip()))


def _check(label: str, variant: object, outputs: object, seen: dict[str, Variant]) -> None:
    """Make sure that a task yields outputs, each under its own name unless they are parts of the same."""
    if not isinstance(outputs, Outputs):
        raise PluginError(f"task {label!r} yielded a {type(outputs).__name__}, not Outputs")
    if not isinstance(variant, str):
        raise PluginError(f"task {label!r} yielded variant {variant!r}, which is not text")
    if variant in seen and not (seen[variant].part and outputs.part):
        raise PluginError(f"task {label!r} yielded variant {variant!r} twice")
    if not isinstance(outputs, Missing):
        seen.setdefault(variant, Variant(outputs.part))


def _apply(metric: Metric, label: str, outputs: Outputs, joined: Variant) -> None:
    """Add a metric's values on a part of a variant's outputs."""
    values = metric.values(outputs)
    if not isinstance(values, torch.Tensor) or values.ndim not in (1, 2):
        shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise PluginError(f"metric {label!r} returned {shape}, not a tensor (N,) or (N, K) of per-sample values")
    if outputs.keys and len(outputs.keys) != len(values):
        raise PluginError(f"metric {label!r} returned {len(values)} values for {len(outputs.keys)} keys of samples")
    if outputs.count is not None and len(values) != outputs.count:
        raise PluginError(f"metric {label!r} returned {len(values)} values for {outputs.count} samples")
    if not isinstance(metric.unit, str) or metric.higher_is_better not in (True, False, None):
        raise PluginError(f"metric {label!r}: unit must be text, and higher_is_better true, false or none")
    array = _flat(metric, label, values)
    constant = None if metric.higher_is_better is None else metric.chance(outputs)
    at_chance = None if constant is None else _flat(metric, label, constant)
    if at_chance is not None and at_chance.shape != array.shape:
        raise PluginError(f"metric {label!r}: values {array.shape}, but {at_chance.shape} at chance")
    ceiling, curve = metric.ceiling(outputs), metric.curve(outputs)
    seen = joined.metrics.get(label, Seen())
    seen.add(label, outputs, array, at_chance, ceiling)
    if curve is not None:
        seen.add_curve(label, curve, len(values))
    joined.metrics[label] = seen  # after all else: a metric that fails halfway has no value


def _flat(metric: Metric, label: str, values: torch.Tensor) -> Floats:
    """Return a metric's values as it averages them: one per sample, because differences are paired by sample."""
    array = values.detach().cpu().double().numpy()
    if _statistic(metric) is mean and array.ndim == 2:
        if not array.shape[1]:
            raise PluginError(f"metric {label!r} returned {tuple(array.shape)}: it has no values per sample")
        array = array.mean(axis=1)
    return np.asarray(array)


def _store(
    metric: Metric, label: str, variant: str, joined: Variant, measured: Measured, *, main: bool, shared: bool
) -> None:
    """Estimate a metric from all its values, and keep them."""
    seen, statistic = joined.metrics[label], _statistic(metric)
    array = np.concatenate(seen.values)
    estimate = bootstrap(array, statistic, limits=metric.range)
    low, high = metric.range
    if not within(estimate.value, (low, high)):
        raise PluginError(
            f"metric {label!r} is {estimate.value:g}, outside the range [{low:g}, {high:g}] that it states"
        )
    chance, chance_p = _chance(metric, seen, array, main=main)
    found = joined.degenerate
    note = "; ".join(filter(None, (_note(joined), BESIDE_OTHERS if shared and not metric.deterministic else "")))
    measured.measurements.append(
        MetricValue(
            variant, label, estimate, metric.unit, metric.higher_is_better,
            ceiling=float("nan") if seen.ceiling is None else float(seen.ceiling), chance=chance, chance_p=chance_p,
            degenerate=found.count if found else 0, note=note, settings=seen.settings,
        )
    )  # fmt: skip
    name = f"{variant}|{label}"
    measured.samples[name] = array
    if seen.curves:
        measured.samples[f"{name}|curve"] = np.concatenate(seen.curves)
        measured.samples[f"{name}|x"] = seen.x
        measured.samples[f"{name}|x label"] = np.asarray(seen.x_label)
    if estimate.draws is not None:  # the statistic is not a mean: differences are computed from the draws
        # in single precision: a thousand numbers that do not compress are most of what a run of many cells stores, and
        # their spread is 10^5 times the rounding; the interval of the record is that of the exact draws
        measured.samples[f"{name}|draws"] = estimate.draws.astype(np.float32)


def _note(joined: Variant) -> str:
    """Say what is degenerate in a variant's outputs, and what is likely to help."""
    found = joined.degenerate
    if found is None:
        return ""
    of = "" if joined.count is None else f" of {joined.count}"
    return f"{found.what} in {found.count}{of} samples" + (f"; {found.remedy}" if found.remedy else "")


def _statistic(metric: Metric) -> Callable[[Floats], float]:
    """Return a metric's statistic, which gets a copy: one that sorts in place would break the pairing of resamples."""
    if type(metric).aggregate is Metric.aggregate:
        return mean
    return _Aggregate(metric)


class _Aggregate:
    """A metric's statistic, of one sample of values and of many resamples."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def __call__(self, values: Floats) -> float:
        return self._metric.aggregate(values.copy())

    def each(self, values: Floats, picks: NDArray[np.int64]) -> Floats:
        if type(self._metric).aggregate_each is Metric.aggregate_each:
            return np.array([self._metric.aggregate(values[pick]) for pick in picks], dtype=np.float64)
        return np.asarray(self._metric.aggregate_each(values.copy(), picks), dtype=np.float64)


def _chance(metric: Metric, seen: Seen, values: Floats, *, main: bool) -> tuple[float, float]:
    """Return a metric's chance level and, for the main metric, the p-value that it is no better; NaN if undefined."""
    if not seen.chance:
        return float("nan"), float("nan")
    array, statistic = np.concatenate(seen.chance), _statistic(metric)
    defined = ~np.isnan(array.reshape(len(array), -1)).any(axis=1)
    level = float(statistic(array[defined])) if defined.any() else float("nan")
    if not main:
        return level, float("nan")
    return level, above_chance(values, array, statistic, higher_is_better=bool(metric.higher_is_better))


def _exhibit(label: str, exhibit: Exhibit) -> dict[str, NDArray[Any]]:
    try:
        return exhibit_arrays(exhibit)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise PluginError(f"task {label!r} yielded an exhibit that cannot be stored: {error}") from error


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")
"""What torch says if the memory of a CPU or a GPU has run out; the last if cuBLAS, cuDNN or cuSOLVER asked for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that GPU or CPU memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def with_smaller_batches(work: Callable[[int], T], batch_size: int, note: Callable[[str], None]) -> tuple[T, int]:
    """Call ``work(batch_size)``, halving the batch size each time memory runs out.

    Returns:
        What `work` returned and the batch size that fitted.

    Raises:
        The last out-of-memory error, if even a batch of one does not fit.
    """
    while True:
        try:
            return work(batch_size), batch_size
        except Exception as error:
            if not is_out_of_memory(error) or batch_size == 1:
                raise
        batch_size = max(batch_size // 2, 1)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        note(f"out of memory: trying again with batches of {batch_size}")
