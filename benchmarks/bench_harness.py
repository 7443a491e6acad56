"""What the harness adds to the same work in a bare loop. The bar is 5 %.

The work: the quickstart's 17 cells of one network without training, with the four tasks.
The bare loop calls the same components in the same order with no plan, journal, intervals or files. Both
run in turn in one process on warm caches, and the ratio of the medians is what counts.

    python -m pytest benchmarks/bench_harness.py --benchmark-only -s
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
import torch

from pruningbench.contract import Context
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.harness.shelves import DataShelf
from pruningbench.plugins import load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.store.cache import Cache
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import Suite, load_suite

SETTINGS = ["models=[digits-resnet]", "recipes=[none]"]
ROUNDS = 3


def bare_loop(plan: Plan) -> int:
    """Do the same work, loading included, with nothing around it; return the number of values."""
    device = torch.device("cpu")
    cache = Cache()
    shelf = DataShelf(load_registry(), lambda: Context(device, 0, cache, shelf))
    model = plan.cells[0].model.component.load(Context(device, 0, cache, shelf))
    values = 0
    for cell in plan.cells:
        pruned = model.clone()
        if cell.pruner is not None:
            from pruningbench.contract import PruningContext

            parameters = prunable_parameters(pruned.network)
            masks: Masks = cell.pruner.component.prune(PruningContext(pruned.network, parameters), cell.sparsity)
            masks.apply(pruned.network)
        for run in plan.tasks:
            for _, outputs in run.task.component.run(pruned, Context(device, 0, cache, shelf, dense=model)):
                for metric in run.metrics:
                    if metric.component.applies(outputs):
                        values += len(metric.component.values(outputs))
    return values


def through_harness(suite: Suite, out: Path) -> int:
    """Run the suite into a fresh folder; return the number of task runs."""
    registry = load_registry()
    return execute(prepare(suite, registry, out, RunOptions(device="cpu")), registry).computed


def test_harness_overhead(benchmark: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time both in turn; the ratio stands in `extra_info` and is printed."""
    registry = load_registry()
    suite = load_suite("quickstart", registry, SETTINGS)
    plan = make_plan(suite, registry)
    bare_loop(plan)
    through_harness(suite, tmp_path / "warm")
    bare, harness = [], []
    for i in range(ROUNDS):
        start = time.perf_counter()
        bare_loop(plan)
        bare.append(time.perf_counter() - start)
        start = time.perf_counter()
        through_harness(suite, tmp_path / str(i))
        harness.append(time.perf_counter() - start)
    ratio = statistics.median(harness) / statistics.median(bare)
    benchmark.extra_info.update(bare_s=statistics.median(bare), harness_s=statistics.median(harness), ratio=ratio)  # type: ignore[attr-defined]
    print(f"\nharness {statistics.median(harness):.2f} s, bare loop {statistics.median(bare):.2f} s, ratio {ratio:.3f}")  # noqa: T201
    benchmark.pedantic(through_harness, args=(suite, tmp_path / "shown"), rounds=1)  # type: ignore[attr-defined]
