"""Paired differences between two conditions, from the per-sample values that runs keep."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import expanded
from pruningbench.contract.reporting import Measurement
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pruningbench.contract.statistics import Floats

CLOSE = 1e-9
"""How far, relatively, the mean of stored values may be from the value in the journal."""


class Pairs:
    """Compares measurements sample by sample.

    Args:
        runs: run folders; a measurement whose run is not among them has no per-sample values.
    """

    def __init__(self, runs: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._folders: dict[str, list[RunFolder]] = {}
        for run in runs:
            folder = expanded(run)
            self._folders.setdefault(folder.resolve().name, []).append(RunFolder(folder))
        self._read = lru_cache(maxsize=512)(_arrays)

    def difference(self, measurement: Measurement, reference: Measurement) -> dict[str, float] | None:
        """Return how much a metric differs between two measurements of it on the same samples and seed.

        Returns:
            ``value ci_low ci_high n`` of measurement less reference, with a paired bootstrap interval over
            samples; None where the samples are not there. Of a metric that is no mean over samples, the
            interval is that of the paired resamples that the runs keep.
        """
        from pruningbench.contract.statistics import paired_bootstrap

        if measurement["data_fingerprint"] != reference["data_fingerprint"]:
            return None
        mine, other = self._values(measurement), self._values(reference)
        if mine is None and other is None:
            return self._difference_of_draws(measurement, reference)
        if mine is None or other is None or mine.shape != other.shape:
            return None
        estimate = paired_bootstrap(mine, other)
        return {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high, "n": estimate.n}

    def _difference_of_draws(self, measurement: Measurement, reference: Measurement) -> dict[str, float] | None:
        """Return the difference of two measurements of several columns a sample; None if it is not to be had."""
        import numpy as np

        (mine, my_draws), (other, other_draws) = self._draws(measurement), self._draws(reference)
        if mine is None or other is None or my_draws is None or other_draws is None or mine.shape != other.shape:
            return None
        defined = ~np.isnan(mine).any(axis=1)
        if not np.array_equal(defined, ~np.isnan(other).any(axis=1)) or my_draws.shape != other_draws.shape:
            return None  # resamples of different samples are not paired
        draws = my_draws - other_draws
        low, high = np.quantile(draws[~np.isnan(draws)], [0.025, 0.975]) if not np.isnan(draws).all() else (np.nan,) * 2
        value = float(measurement["value"]) - float(reference["value"])
        return {"value": value, "ci_low": float(low), "ci_high": float(high), "n": int(defined.sum())}

    def _draws(self, measurement: Measurement) -> tuple[Floats | None, Floats | None]:
        """Return the (N, K) values of a metric with a statistic of its own, and that statistic on each resample."""
        for folder in self._folders.get(measurement["run"], []):
            arrays = self._read(folder.samples_file(measurement["cell"], measurement["task"]))
            name = f"{measurement['variant']}|{measurement['metric']}"
            values, draws = arrays.get(name), arrays.get(f"{name}|draws")
            if values is not None and values.ndim == 2 and draws is not None and draws.ndim == 1:
                return values, draws
        return None, None

    def _values(self, measurement: Measurement) -> Floats | None:
        """Return the (N,) values whose mean a measurement is, or None if they are not to be had."""
        for folder in self._folders.get(measurement["run"], []):
            arrays = self._read(folder.samples_file(measurement["cell"], measurement["task"]))
            values = arrays.get(f"{measurement['variant']}|{measurement['metric']}")
            if values is not None and values.ndim == 1 and _is_mean(values, float(measurement["value"])):
                return values
        return None


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    from pruningbench.store.samples import read_arrays

    try:
        return read_arrays(path)
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}  # a board without differences is better than none


def _is_mean(values: NDArray[Any], value: float) -> bool:
    import numpy as np

    defined = values[~np.isnan(values)]
    return len(defined) > 0 and bool(np.isclose(defined.mean(), value, rtol=CLOSE, atol=1e-12))
