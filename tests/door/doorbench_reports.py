"""Executor, observer, figures, column and statement of the plugin that adds one of everything."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from matplotlib.figure import Figure

from pruningbench.contract import (
    Comparison,
    Drawing,
    Executor,
    Measurement,
    ReportedRun,
    RunInfo,
    ShownExhibit,
    Work,
    hookimpl,
    percent,
)

_work: Work | None = None


def _begin(make_work: Callable[[], Work]) -> None:
    global _work
    _work = make_work()


def _events(job: Any) -> list[Any]:
    assert _work is not None
    return list(_work(job))


class Processes(Executor):
    """Run jobs in several processes, and pass their events on job by job."""

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, spawn, _begin, (self.make_work,)) as pool:
            for events in pool.map(_events, jobs):
                yield from events


class Counter:
    """Counts the tasks of a run, into a file of its folder."""

    def __init__(self) -> None:
        self.tasks = 0

    @hookimpl
    def pruningbench_task_done(self) -> None:
        self.tasks += 1

    @hookimpl
    def pruningbench_run_done(self, run: RunInfo) -> None:
        (run.folder / "counted.txt").write_text(str(self.tasks), "utf-8")


def _bar_chart(title: str, heights: Sequence[float]) -> Figure:
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.bar(range(len(heights)), heights)
    axes.set_title(title)
    return figure


def bars(names: Sequence[str], shown: Sequence[ShownExhibit]) -> Iterator[Drawing]:
    """Draw the probabilities of the first sample of each condition."""
    for one in shown:
        sample = next(iter(one.samples.values()))
        heights = [float(value) for value in sample.arrays["probabilities"]]
        yield (
            ["bars", *filter(None, names), one.pruner, one.recipe, percent(one.sparsity)],
            lambda heights=heights: _bar_chart("p", heights),
        )


def summary(run: ReportedRun) -> Iterator[Drawing]:
    """Draw how many measurements there are."""
    yield ["door-summary"], lambda: _bar_chart("rows", [len(run.results)])


def count_tasks(measurements: Sequence[Measurement]) -> int:
    """Count the tasks of a row."""
    return len({m["task"] for m in measurements})


def claim(results: Comparison) -> Iterator[str]:
    """Say how many values were measured."""
    yield f"The door was used {len(results.measurements)} times."
