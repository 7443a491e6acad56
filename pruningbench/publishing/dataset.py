"""The data set of published results: submissions, a parquet of their measurements, tables, and the card."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.errors import UsageError
from pruningbench.leaderboard.board import build
from pruningbench.leaderboard.formats import render
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.rows import Board
from pruningbench.plugins import Registry
from pruningbench.publishing.card import Entry, dataset_card
from pruningbench.store.hub import FOLDER
from pruningbench.store.origins import from_submission
from pruningbench.store.submission_format import SUFFIX

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENTS = "measurements"
"""Folder of the parquet files in a data set."""
_TEXT = (
    "suite", "run", "cell", "model", "pruner", "recipe", "task", "variant", "metric", "unit", "status", "error",
    "device", "pruningbench_version", "plugin", "plugin_version", "data_fingerprint", "mark", "inapplicable",
    "remarks", "plan", "artifact", "made_of",
)  # fmt: skip
_NUMBERS = (
    "sparsity", "sparsity_achieved", "sparsity_total", "value", "ci_low", "ci_high", "chance", "chance_p", "ceiling",
    "ties", "seconds", "prepare_seconds", "peak_memory_mb",
)  # fmt: skip
_COUNTS = ("seed", "n", "undefined", "degenerate", "limit", "batch_size", "attempts")


def check_extra() -> None:
    """Make sure that parquet can be written.

    Raises:
        UsageError: if pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise UsageError("publishing writes parquet files with pyarrow: pip install pruningbench[hub]")


@dataclass(frozen=True)
class Item:
    """A submission that is published.

    Attributes:
        path: its file.
        run: name of its run in tables; it holds the beginning of its digest.
    """

    path: Path
    run: str

    @classmethod
    def of(cls, path: Path) -> Item:
        """Return a submission file as an item.

        Raises:
            SubmissionError: if it is not a submission that this version reads.
        """
        return cls(path, from_submission(path).run)

    @property
    def name(self) -> str:
        """Its name in the data set."""
        return f"{FOLDER}/{self.run}{SUFFIX}"

    @property
    def table(self) -> str:
        """Name of the parquet of its measurements in the data set."""
        return f"{MEASUREMENTS}/{self.run}.parquet"

    @cached_property
    def results(self) -> pd.DataFrame:
        """Its measurements, with details."""
        return load_results(self.path, details=True)

    @cached_property
    def values(self) -> frozenset[tuple[Any, ...]]:
        """What it measured, without times: the same values on the same cells are equal."""
        names = ["cell", "task", "variant", "metric", "status", "artifact", "value", "n"]
        return frozenset(self.results[names].fillna("nan").itertuples(index=False, name=None))


def without_superseded(items: Iterable[Item], new: Sequence[Item]) -> list[Item]:
    """Return the items without those whose values a new one holds: earlier states of the same run."""
    return [item for item in items if not any(item.run != other.run and item.values <= other.values for other in new)]


def parquet_bytes(results: pd.DataFrame) -> bytes:
    """Return measurements as a parquet file; all files of a data set have the same columns and types."""
    import pandas
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, Any] = {}
    for name in _TEXT:
        values = [json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value or "")
                  for value in results[name]]  # fmt: skip
        columns[name] = pyarrow.array(values, pyarrow.string())
    for name in _NUMBERS:
        columns[name] = pyarrow.array([*map(float, results[name])], pyarrow.float64())
    for name in _COUNTS:
        columns[name] = pyarrow.array([*map(int, results[name])], pyarrow.int64())
    known = [not pandas.isna(value) for value in results["higher_is_better"]]
    pairs = zip(results["higher_is_better"], known, strict=True)
    directions = [bool(value) if is_known else None for value, is_known in pairs]
    columns["higher_is_better"] = pyarrow.array(directions, pyarrow.bool_())
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def dataset_files(
    repo: str, new: Sequence[Item], others: Sequence[Item], *, licence: str, registry: Registry, with_site: bool
) -> dict[str, bytes]:
    """Return the files of a data set that a publication adds or replaces, by name.

    Args:
        repo: ``OWNER/NAME``.
        new: submissions that are published.
        others: submissions that the data set holds and keeps; the tables show them as well.
        licence: identifier of the licence, as hubs know it.
        registry: where columns and statements of the tables are looked up.
        with_site: whether there is a space of the same name with the site.
    """
    items = sorted({item.run: item for item in (*others, *new)}.values(), key=lambda item: item.run)
    boards = boards_of(items, registry)
    markdown = render(boards, "markdown") + "\n"
    files: dict[str, bytes] = {}
    for item in new:
        files[item.name] = item.path.read_bytes()
        files[item.table] = parquet_bytes(item.results)
    entries = [_entry(item) for item in items]
    files["tables/leaderboard.md"] = markdown.encode()
    files["tables/leaderboard.csv"] = (render(boards, "csv") + "\n").encode()
    files["README.md"] = dataset_card(repo, entries, markdown, licence=licence, with_site=with_site).encode()
    return files


def boards_of(items: Sequence[Item], registry: Registry) -> list[Board]:
    """Return the boards of several submissions together."""
    paths = [item.path for item in items]
    return build(load_results(paths, details=True), paths, registry=registry)


def _entry(item: Item) -> Entry:
    results = item.results
    measured = results[results["status"] == "ok"]
    return Entry(
        run=item.run,
        suites=tuple(dict.fromkeys(map(str, results["suite"]))),
        models=tuple(dict.fromkeys(map(str, results["model"]))),
        cells=int(results["cell"].nunique()),
        values=len(measured),
        versions=tuple(sorted(set(map(str, results["pruningbench_version"])))),
    )
