"""Computes cells of a submission again, from nothing, and compares values within the tolerances of their metrics."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pruningbench.base.identity import derive_seed
from pruningbench.contract import Metric
from pruningbench.errors import SubmissionError, UsageError
from pruningbench.harness.artifacts import NETWORK
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.plugins import Registry
from pruningbench.publishing.evidence import Evidence, outcome, place
from pruningbench.store.journal import read_journal
from pruningbench.store.records import Record
from pruningbench.store.trust import Outcome, Rerun

MeasurementKey = tuple[str, str, str, str]
"""Cell, task, variant and metric."""


@dataclass(frozen=True)
class Deviation:
    """The difference between a submitted and a repeated value.

    Attributes:
        record: the submitted record.
        value: the repeated value; NaN if there is none.
        size: difference as a multiple of what is allowed: more than 1 is too much.
    """

    record: Record
    value: float
    size: float


def choose(evidence: Evidence, count: int, seed: int) -> tuple[str, ...]:
    """Return the keys of `count` cells, drawn without replacement among those with a value.

    The draw depends on the seed and on the submission, so a submitter cannot know the cells in advance unless the
    seed is known in advance.
    """
    cells = sorted({record.cell for record in evidence.values()} & evidence.cells.keys())
    drawn = random.Random(derive_seed(seed, evidence.submission.digest)).sample(cells, min(count, len(cells)))  # noqa: S311
    return tuple(drawn)


def repeat(
    evidence: Evidence, registry: Registry, count: int, seed: int, *, device: str = "auto",
    run_code: bool = False, observer: object | None = None,
) -> tuple[Outcome, Rerun]:  # fmt: skip
    """Compute randomly chosen cells again in a temporary folder, without the cache, and compare their values.

    Args:
        evidence: the submission and its plan.
        registry: the installed components.
        count: number of cells.
        seed: seed of the choice.
        device: where to compute.
        run_code: allow suites with a model that runs code outside any plugin.
        observer: an object with observing hooks.

    Raises:
        UsageError: if the suite runs such code and `run_code` is False, or cannot be run here.
        SubmissionError: if no cell can be computed again.
    """
    from pruningbench.harness.passes import recorded_passes

    code = evidence.plan.runs()
    if code and not run_code:
        raise UsageError(f"--rerun would run {code[0]}: read that code first, then give --run-code")
    chosen = choose(evidence, count, seed)
    if not chosen:
        raise SubmissionError("no cell of this submission can be computed again with the installed plugins")
    options = RunOptions(
        device=device, only=tuple(f"cell={key}" for key in chosen), no_cache=True,
        passes=recorded_passes(evidence.values()),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pruningbench-rerun-") as folder:
        prepared = prepare(evidence.plan.suite, registry, Path(folder) / "run", options)
        execute(prepared, registry, observer)
        records, _ = read_journal(prepared.folder.results)
    return compare(evidence, chosen, records, seed)


def compare(evidence: Evidence, chosen: Iterable[str], repeated: Iterable[Record], seed: int) -> tuple[Outcome, Rerun]:
    """Compare the submitted values of cells with repeated ones; see `repeat`."""
    again = {_key(record): record for record in repeated if record.status == "ok" and record.metric}
    cells = tuple(chosen)
    deviations: dict[str, list[Deviation]] = {key: [] for key in cells}
    problems = []
    for record in evidence.values():
        metric = evidence.metric(record)
        if record.cell not in deviations or metric is None or not metric.deterministic:
            continue
        found = deviation(record, again.get(_key(record)), metric)
        deviations[record.cell].append(found)
        if not found.size <= 1:
            problems.append(f"{place(record)}: {record.value:.6g} was submitted, the re-run gave {found.value:.6g}")
        problems += _other_data(evidence, record, again)
        problems += _other_chance(record, again)
    agreed = [key for key, listed in deviations.items() if listed and all(one.size <= 1 for one in listed)]
    listed = [one for found in deviations.values() for one in found]
    worst = max(listed, key=lambda one: one.size, default=None)
    largest = worst.size if worst is not None and math.isfinite(worst.size) else None
    rerun = Rerun(
        seed=seed, cells=list(cells), agreed=agreed, of=evidence.submission.manifest.cells,
        largest=largest, where=place(worst.record) if worst is not None and worst.size > 0 else "",
    )  # fmt: skip
    equal = sum(one.size == 0 for one in listed)
    fine = f"{len(cells)} of {rerun.of} cells (seed {seed}): {len(listed)} values agree, {equal} of them exactly"
    if largest:
        fine += f"; the largest deviation is {largest:.0%} of what is allowed"
    return outcome("re-run", problems, fine), rerun


def deviation(record: Record, repeated: Record | None, metric: Metric) -> Deviation:
    """Return how far a repeated value is from a submitted one, in multiples of what is allowed.

    The metric's tolerance is allowed. If the measured network is not the same to the bit, because training on another
    machine rounds differently, it is another draw of the same procedure: the width of the submitted interval, which two
    such draws seldom exceed, is allowed in addition, unless the tolerance is 0.
    """
    if repeated is None:
        return Deviation(record, math.nan, math.inf)
    a, b = record.value, repeated.value
    if a == b or (math.isnan(a) and math.isnan(b)):
        return Deviation(record, b, 0.0)
    low, high = metric.range
    scale = high - low if math.isfinite(high - low) else max(abs(a), abs(b))
    allowed = metric.rerun_tolerance * scale
    if allowed > 0 and record.made_of.get(NETWORK) != repeated.made_of.get(NETWORK):
        width = record.ci_high - record.ci_low
        allowed += width if math.isfinite(width) else 0.0
    difference = abs(a - b)
    if math.isnan(difference) or not allowed > 0:
        return Deviation(record, b, math.inf)
    return Deviation(record, b, difference / allowed)


def _other_data(evidence: Evidence, record: Record, again: Mapping[MeasurementKey, Record]) -> list[str]:
    """Return a problem if a value was measured on other data than the re-run's; weights may differ by rounding."""
    repeated = again.get(_key(record))
    run = evidence.runs.get(record.task)
    if repeated is None or run is None:
        return []
    names = [f"task {name}" for name, use in run.task.references.items() if use.component.kind == "dataset"]
    different = [name for name in ("data", *names) if record.made_of.get(name) != repeated.made_of.get(name)]
    return [f"{place(record)}: measured on other data than here ({', '.join(different)})"] if different else []


def _other_chance(record: Record, again: Mapping[MeasurementKey, Record]) -> list[str]:
    """Return a problem if the same network has another chance level, test or count of degenerate outputs here."""
    repeated = again.get(_key(record))
    if repeated is None or record.made_of.get(NETWORK) != repeated.made_of.get(NETWORK):
        return []
    pairs = [(record.chance, repeated.chance), (record.chance_p, repeated.chance_p)]
    same = all(
        math.isnan(a) == math.isnan(b) and (math.isnan(a) or math.isclose(a, b, rel_tol=0.01, abs_tol=0.01))
        for a, b in pairs
    )
    apart = abs(record.degenerate - repeated.degenerate)
    if same and apart <= 1 + 0.01 * (record.n + record.undefined):
        return []
    return [f"{place(record)}: its chance level, its test against chance or its count of degenerate outputs is another"]


def _key(record: Record) -> MeasurementKey:
    return (record.cell, record.task, record.variant, record.metric)
