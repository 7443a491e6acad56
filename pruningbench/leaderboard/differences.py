"""Paired differences between two conditions, from the per-sample values that runs store."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.contract.reporting import Measurement
from pruningbench.leaderboard.aggregation import Entry, average, p_value_of_mean
from pruningbench.leaderboard.inference import Spread, Variances, paired_p_value, variances
from pruningbench.store.origins import origins
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pruningbench.contract.statistics import Floats

KEYS = "keys of "
"""Prefix that turns the name of a variant into the name of the array with the keys of its samples."""
CLOSE = 1e-9
"""Largest relative deviation of the mean of stored values from the value in the journal."""


class Pairs:
    """Compares measurements sample by sample.

    Args:
        runs: sources, as for `load_results`; a measurement of any other run has no per-sample values.
    """

    def __init__(self, runs: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._folders: dict[str, list[tuple[RunFolder, frozenset[str]]]] = {}
        for origin in origins(runs):
            folder = RunFolder(origin.folder)
            if names := _names_of_samples(folder):
                self._folders.setdefault(origin.run, []).append((folder, names))
        self._read = lru_cache(maxsize=512)(_arrays)
        self._file = lru_cache(maxsize=65536)(RunFolder.samples_file)

    @property
    def available(self) -> bool:
        """Whether any run has stored per-sample values, so that there may be differences."""
        return bool(self._folders)

    def difference(self, measurement: Measurement, reference: Measurement) -> dict[str, float] | None:
        """Return the difference between two measurements of a metric on the same samples and seed.

        Samples are paired by their keys. If the conditions are measured on different samples (such as those that each
        network classifies correctly), the samples that both have are paired.

        Returns:
            ``value ci_low ci_high n p`` of measurement minus reference, with a paired bootstrap interval over
            samples and the two-sided p-value of `inference.paired_p_value`; None if the samples are not
            available. For a metric that is not a mean over samples, the interval and the p-value (from the standard
            error) come from the paired resamples that the runs store.
        """
        from pruningbench.contract.statistics import paired_bootstrap

        found = self._paired(measurement, reference)
        if found is None:
            return self._difference_of_draws(measurement, reference)
        mine, other, _ = found
        estimate = paired_bootstrap(mine, other)
        known = ~(_isnan(mine) | _isnan(other))
        p = paired_p_value(mine[known], other[known])
        return {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high, "n": estimate.n, "p": p}

    def over_seeds(self, pairs: Sequence[tuple[Measurement, Measurement]]) -> Entry | None:
        """Return the mean difference over seeds, given (measurement, reference) for each; None if it is unknown.

        For one seed it is `difference`. For several seeds measured on the same samples, the interval and the p-value
        come from `inference.crossed`, otherwise from `aggregation.average`.
        """
        differences = [found for pair in pairs if (found := self.difference(*pair)) is not None]
        if not differences:
            return None
        entry = average(differences)
        if entry.seeds == 1:
            (only,) = [d for d in differences if not math.isnan(d["value"])]
            return replace(entry, p=only["p"])
        known = self._crossed(pairs) if entry.seeds == len(pairs) else None
        if known is None:
            return replace(entry, p=p_value_of_mean(entry))
        spread = known.spread(entry.value)
        low, high = spread.interval()
        return replace(entry, low=low, high=high, p=spread.p_value(), variances=known)

    def _crossed(self, pairs: Sequence[tuple[Measurement, Measurement]]) -> Variances | None:
        """Return the variances of differences over seeds and samples; None if not all of them are available."""
        found = [self._paired(*pair) for pair in pairs]
        paired = [one for one in found if one is not None]
        if len(paired) < len(pairs):
            return None
        return _variances([(mine - other, names) for mine, other, names in paired])

    def mean(self, measurements: Sequence[Measurement]) -> Entry:
        """Return the mean of the values of one condition, given one measurement for each seed.

        The interval of several seeds comes from `inference.crossed` if the values of all samples are stored, else from
        `aggregation.average`.
        """
        entry = average(measurements)
        if entry.seeds < 2 or entry.seeds < len(measurements) or not math.isfinite(entry.value):
            return entry
        found = [self._values(measurement) for measurement in measurements]
        stored = [one for one in found if one is not None]
        unique = all(len(set(names)) == len(names) for _, names in stored)
        known = _variances(stored) if len(stored) == len(measurements) and unique else None
        if known is None:
            return entry
        low, high = known.spread(entry.value).interval()
        return replace(entry, low=low, high=high)

    def _paired(self, measurement: Measurement, reference: Measurement) -> tuple[Floats, Floats, list[str]] | None:
        """Return the values of the samples that both have, and their keys; None if they are not available.

        Without keys, the samples are the first ones of the data set, in order.
        """
        if measurement["data_fingerprint"] != reference["data_fingerprint"]:
            return None
        mine, other = self._values(measurement), self._values(reference)
        if mine is None or other is None:
            return None
        (a, my_keys), (b, other_keys) = mine, other
        if my_keys == other_keys:
            return (a, b, my_keys) if len(a) == len(b) and len(set(my_keys)) == len(my_keys) else None
        my_names, other_names = _named(my_keys, a), _named(other_keys, b)
        place = {key: i for i, key in enumerate(other_names)}
        both = [i for i, key in enumerate(my_names) if key in place]
        if not both or len(place) < len(other_names) or len(set(my_names)) < len(my_names):
            return None
        keys = [my_names[i] for i in both]
        return a[both], b[[place[key] for key in keys]], keys

    def _difference_of_draws(self, measurement: Measurement, reference: Measurement) -> dict[str, float] | None:
        """Return the difference of two measurements whose statistic is not a mean; None if it is unknown."""
        import numpy as np

        if measurement["data_fingerprint"] != reference["data_fingerprint"]:
            return None
        (mine, my_draws), (other, other_draws) = self._draws(measurement), self._draws(reference)
        if mine is None or other is None or my_draws is None or other_draws is None or mine.shape != other.shape:
            return None
        defined = ~_isnan(mine)
        same = np.array_equal(defined, ~_isnan(other)) and self._keys(measurement) == self._keys(reference)
        if not same or my_draws.shape != other_draws.shape:
            return None  # resamples of different samples are not paired
        draws = my_draws - other_draws
        known = draws[~np.isnan(draws)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan,) * 2
        value = float(measurement["value"]) - float(reference["value"])
        error = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        n = int(defined.sum())
        p = Spread(value, error, n - 1).p_value() if math.isfinite(error) and n > 1 else math.nan
        return {"value": value, "ci_low": float(low), "ci_high": float(high), "n": n, "p": p}

    def _stored(self, measurement: Measurement) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the stored arrays of a measurement from each run folder with the name of its run."""
        for folder, names in self._folders.get(measurement["run"], []):
            path = self._file(folder, measurement["cell"], measurement["task"])
            if path.name in names:
                yield self._read(path)

    def _draws(self, measurement: Measurement) -> tuple[Floats | None, Floats | None]:
        """Return the (N,) or (N, K) values of a metric whose statistic is not a mean, and that of each resample."""
        name = f"{measurement['variant']}|{measurement['metric']}"
        for arrays in self._stored(measurement):
            values, draws = arrays.get(name), arrays.get(f"{name}|draws")
            if values is not None and values.ndim in (1, 2) and draws is not None and draws.ndim == 1:
                return values, draws.astype(float)
        return None, None

    def _values(self, measurement: Measurement) -> tuple[Floats, list[str]] | None:
        """Return the (N,) values whose mean is the measurement, with their keys, or None if they are not available."""
        name = f"{measurement['variant']}|{measurement['metric']}"
        for arrays in self._stored(measurement):
            values = arrays.get(name)
            if values is None or values.ndim != 1 or f"{name}|draws" in arrays:
                continue
            keys = _keys(arrays, measurement)
            if len(keys) in (0, len(values)) and _is_mean(values, float(measurement["value"])):
                return values, keys
        return None

    def _keys(self, measurement: Measurement) -> list[str]:
        return next((keys for arrays in self._stored(measurement) if (keys := _keys(arrays, measurement))), [])


def _variances(seeds: Sequence[tuple[Floats, list[str]]]) -> Variances | None:
    """Return the variances over seeds and the samples on which all seeds are defined; None for fewer than two samples.

    Args:
        seeds: the (N,) values and the keys of the samples of each seed.
    """
    import numpy as np

    rows, keys = [values for values, _ in seeds], [names for _, names in seeds]
    if any(names != keys[0] for names in keys) or len({len(row) for row in rows}) > 1:
        shared = set.intersection(*(set(_named(names, row)) for names, row in zip(keys, rows, strict=True)))
        places = [dict(zip(_named(names, row), row, strict=True)) for names, row in zip(keys, rows, strict=True)]
        rows = [np.array([place[key] for key in sorted(shared)]) for place in places]
    values = np.stack(rows)
    values = values[:, np.isfinite(values).all(axis=0)]
    return variances(values) if values.shape[1] > 1 else None


def _keys(arrays: Mapping[str, NDArray[Any]], measurement: Measurement) -> list[str]:
    """Return the keys of the samples; none if the samples are all those of the data set, in order."""
    keys = arrays.get(f"{KEYS}{measurement['variant']}")
    return [] if keys is None else [str(key) for key in keys]


def _named(keys: list[str], values: Floats) -> list[str]:
    """Return the keys of samples, or their positions if there are no keys."""
    return keys or [str(i) for i in range(len(values))]


def _isnan(values: Floats) -> NDArray[np.bool_]:
    import numpy as np

    return np.asarray(np.isnan(values.reshape(len(values), -1)).any(axis=1), dtype=np.bool_)


def _names_of_samples(folder: RunFolder) -> frozenset[str]:
    """Return the names of the files of samples; one look at the folder is faster than one for each file."""
    try:
        return frozenset(file.name for file in folder.samples_file("cell", "task").parent.iterdir())
    except OSError:
        return frozenset()


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
