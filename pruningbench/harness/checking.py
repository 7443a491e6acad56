"""The check before a run resumes: would the finished task runs still be made from the same parts today?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Model, Use, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.harness.artifacts import key_of
from pruningbench.harness.resume import Stale, State, TaskKey, accepted, assess, sentences
from pruningbench.harness.shelves import load_model
from pruningbench.store.cache import Cache
from pruningbench.store.marks import Mark, read_marks, write_marks
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.harness.driver import Driver
    from pruningbench.harness.sources import Sources
    from pruningbench.harness.worker import Worker


class KeptOnly:
    """A cache that returns stored tensors and makes none, because a check must not train a model."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def tensors(self, room: str, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors stored under `identity`.

        Raises:
            PruningBenchError: if they are not in the cache.
        """
        del make
        stored = self._cache.find(room, identity)
        if stored is None:
            raise PruningBenchError("its weights are no longer in the cache and would have to be trained again")
        return stored

    def find(self, room: str, identity: Any) -> dict[str, Tensor] | None:
        """Return the tensors stored under `identity`, or None."""
        return self._cache.find(room, identity)

    def forget(self, room: str, identity: Any) -> None:
        """Keep what is stored: a check changes nothing."""


def check(
    driver: Driver,
    worker: Worker,
    sources: Sources,
    retry: Mapping[TaskKey, int],
    *,
    accept: bool,
    everything: bool = False,
) -> State:
    """Compare finished task runs with the current components, report what changed, and return what is left to do.

    Args:
        driver: holds the journal and notifies observers.
        worker: opens models and data sets.
        sources: what is already known about them; new findings are stored there.
        retry: task runs to try again, with their number of attempts so far.
        accept: keep finished task runs even if the parts that they were made from have changed.
        everything: open all models and data sets, also those whose files seem unchanged.
    """
    if any(attempt.knows_parts for attempt in driver.journal.attempts):
        _look_into(driver, worker, sources, retry, everything)
    worker.contents.data |= sources.contents.data
    state = driver.state(sources.contents.parts, retry)
    if not state.stale:
        return state
    accepted_items = [item for item in state.stale if accept and not item.failed]
    again = [item for item in state.stale if not accept or item.failed]
    for stale, fate in ((accepted_items, "kept, marked as accepted"), (again, "measured again")):
        for line in sentences(stale):
            driver.observers.warn(f"{line} {fate}")
    for item, records in zip(accepted_items, accepted(accepted_items), strict=True):
        _copy_files(driver.folder, item, records[0].cell)
        driver.journal.append(records)
    _mark(driver.folder, state.stale)
    return driver.state(sources.contents.parts, retry) if accepted_items else state


def _look_into(
    driver: Driver, worker: Worker, sources: Sources, retry: Mapping[TaskKey, int], everything: bool
) -> None:
    """Open the models and data sets that are not known to be unchanged."""
    state = assess(driver.plan, driver.journal.attempts, sources.contents.parts, retry)
    keys = set(sources.unknown()) if state.jobs else set(sources.touched())
    if everything:
        keys = set(sources.uses)
    busy = {key_of(job.cell.model) for job in state.jobs}

    def open_model(use: Use) -> VisionModel:
        driver.observers.note(f"checking model {use.label}")
        cache = worker.cache if key_of(use) in busy else KeptOnly(worker.cache)
        return load_model(use, lambda seed: worker.context(seed, cache))

    for problem in sources.look_into(_in_order(keys, sources), open_model, worker.shelf.open):
        driver.observers.warn(f"{problem}: its finished task runs are kept unchanged")
    sources.save()


def _in_order(selected: Iterable[str], sources: Sources) -> list[str]:
    """Return the keys of data sets, then those of models, each in the order of the plan."""
    keys = [key for key in sources.uses if key in set(selected)]
    return sorted(keys, key=lambda key: isinstance(sources.uses[key].component, Model))


def _mark(folder: RunFolder, stale: Iterable[Stale]) -> None:
    marks = read_marks(folder.stale)
    marks |= {item.attempt.group: Mark(item.words, item.cell.key) for item in stale}
    write_marks(folder.stale, marks)


def _copy_files(folder: RunFolder, item: Stale, cell: str) -> None:
    """Copy the files of accepted measurements to a cell whose key has changed."""
    before = item.attempt
    pairs = [
        (folder.mask_file(before.cell), folder.mask_file(cell)),
        (folder.weights_file(before.cell), folder.weights_file(cell)),
        (folder.samples_file(before.cell, before.task), folder.samples_file(cell, before.task)),
    ]
    pairs += [
        (folder.exhibit_file(before.cell, before.task, variant), folder.exhibit_file(cell, before.task, variant))
        for variant in {line.variant for line in item.attempt.lines}
    ]
    for old, new in pairs:
        if old != new and old.exists() and not new.exists():
            shutil.copyfile(old, new)
