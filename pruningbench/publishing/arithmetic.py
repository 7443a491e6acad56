"""Checks that each value and its interval follow from the per-sample values of a submission."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from pruningbench.contract import Metric
from pruningbench.contract.statistics import Estimate, Floats, bootstrap, mean
from pruningbench.publishing.evidence import Evidence, outcome, place
from pruningbench.store.packing import Array
from pruningbench.store.records import Record
from pruningbench.store.trust import VALUES, Outcome

CLOSE = 1e-9
"""Largest relative deviation: sums of the same numbers in another order differ by far less."""


def check_values(evidence: Evidence) -> list[Outcome]:
    """Compute each value, its interval and its counts of samples again, and compare them with the record."""
    values: list[str] = []
    intervals: list[str] = []
    count = 0
    for record in evidence.values():
        count += 1
        samples = evidence.submission.samples.get((record.cell, record.task), {})
        name = f"{record.variant}|{record.metric}"
        array = samples.get(name)
        if array is None or array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
            values.append(f"{place(record)}: has no per-sample values")
            continue
        if array.ndim == 2 and not array.shape[1]:
            values.append(f"{place(record)}: has no value for a sample")
            continue
        draws = samples.get(f"{name}|draws")
        found = _estimate(evidence, record, np.asarray(array, dtype=np.float64))
        if isinstance(found, str):
            values.append(f"{place(record)}: {found}")
            continue
        values += [f"{place(record)}: {text}" for text in _wrong_value(record, found)]
        intervals += [f"{place(record)}: {text}" for text in _wrong_interval(record, found, draws)]
    if not count:
        return [Outcome(name=VALUES, passed=None, detail="there are no values: every task run failed")]
    return [
        outcome(VALUES, values, f"{count:,} values and counts follow from the per-sample values"),
        outcome("intervals", intervals, f"{count:,} intervals follow from the per-sample values"),
    ]


def _estimate(evidence: Evidence, record: Record, array: Floats) -> Estimate | str:
    """Return the estimate that per-sample values give, or what prevents it."""
    metric = evidence.metric(record)
    if metric is None:
        return "the suite does not ask for this metric"
    statistic: Callable[[Floats], float] = mean if type(metric).aggregate is Metric.aggregate else metric.aggregate
    if statistic is mean and array.ndim != 1:
        return "has several values for a sample, but their mean is reported"
    try:
        return bootstrap(array, statistic, limits=metric.range)
    except Exception as error:  # noqa: BLE001 - a third-party metric on numbers of strangers may raise anything
        return f"its metric cannot aggregate these values ({type(error).__name__})"


def _wrong_value(record: Record, found: Estimate) -> Iterator[str]:
    if (record.n, record.undefined) != (found.n, found.undefined):
        yield (
            f"{record.n} defined and {record.undefined} undefined samples are reported, but there are {found.n} and "
            f"{found.undefined}"
        )
    if not _same(record.value, found.value):
        yield f"{record.value:.6g} is reported, but the samples give {found.value:.6g}"


def _wrong_interval(record: Record, found: Estimate, draws: Array | None) -> Iterator[str]:
    if not (_same(record.ci_low, found.low) and _same(record.ci_high, found.high)):
        yield (
            f"[{record.ci_low:.6g}, {record.ci_high:.6g}] is reported, but the samples give "
            f"[{found.low:.6g}, {found.high:.6g}]"
        )
    if (found.draws is None) != (draws is None):
        yield "its resamples are stored although it is a mean" if found.draws is None else "its resamples are missing"
    elif found.draws is not None and draws is not None and not _same_draws(found.draws, draws):
        yield "its resamples do not follow from the samples"


def _same(reported: float, computed: float) -> bool:
    if math.isnan(reported) or math.isnan(computed):
        return math.isnan(reported) and math.isnan(computed)
    return reported == computed or math.isclose(reported, computed, rel_tol=CLOSE, abs_tol=1e-12)


def _same_draws(computed: Floats, stored: Array) -> bool:
    """Whether the stored draws are the computed ones, in the precision that they are stored in."""
    close = max(CLOSE, float(np.finfo(stored.dtype).eps)) if stored.dtype.kind == "f" else CLOSE
    return stored.shape == computed.shape and bool(
        np.allclose(stored.astype(np.float64), computed, rtol=close, atol=1e-12, equal_nan=True)
    )
