"""What the cells of a plan share, counted by groups, against the same counted cell by cell."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from pruningbench.cli.plan import describe
from pruningbench.contract.pruner import ScorePruner
from pruningbench.harness.resume import assess
from pruningbench.plugins import load_registry
from pruningbench.suite.alike import alike
from pruningbench.suite.cells import Cell, mask_identity, pruner_of, recipe_of, score_identity, trainings_of
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import load_suite

SUITES = ["quickstart", "suwal2025-small", "cassano2025-small", "iurada2025-small", "cifar", "suwal2025"]


@pytest.fixture(scope="module", params=SUITES)
def plan(request: pytest.FixtureRequest) -> Plan:
    registry = load_registry()
    return make_plan(load_suite(request.param, registry, ()), registry)


def without_sparsity_and_seed(cell: Cell) -> tuple[object, ...]:
    components = [cell.model, cell.pruner, cell.recipe, cell.data]
    return (
        *(use and use.canonical() for use in components),
        repr(cell.scope),
        cell.rounds,
        cell.batch_size,
        cell.limit,
    )


def test_groups_hold_each_cell_once_in_order_and_differ_in_sparsity_and_seed_only(plan: Plan) -> None:
    groups = alike(plan.cells)
    assert Counter(id(cell) for cells in groups for cell in cells) == Counter(map(id, plan.cells))
    places = {id(cell): place for place, cell in enumerate(plan.cells)}
    for cells in groups:
        assert [places[id(cell)] for cell in cells] == sorted(places[id(cell)] for cell in cells)
        assert len({without_sparsity_and_seed(cell) for cell in cells}) == 1
    assert 1 < len(groups) < len(plan.cells)


def test_shared_work_is_that_of_single_cells(plan: Plan) -> None:
    def different(identities: list[object]) -> int:
        return len({json.dumps(identity, sort_keys=True, default=str) for identity in identities})

    pruned = [cell for cell in plan.cells if cell.pruner is not None and recipe_of(cell).prunes_dense()]
    scored = [cell for cell in pruned if isinstance(pruner_of(cell), ScorePruner)]
    work = plan.shared_work()
    assert work["scoring_passes"] == different([score_identity(cell) for cell in scored])
    assert work["prunings"] == different([mask_identity(cell) for cell in pruned])
    assert work["trainings"] == len({key for cell in plan.cells for key in trainings_of(cell)})
    assert (work["scored_once"], work["pruned_once"]) == (len(scored), len(pruned))
    assert work["trained"] == sum(cell.trained for cell in plan.cells)
    assert work["task_runs"] == sum(len(plan.tasks_of(cell)) for cell in plan.cells)


def test_nothing_done_means_that_all_is_to_do(plan: Plan) -> None:
    jobs = assess(plan, [], {}).jobs
    assert [(job.cell.key, [run.label for run in job.tasks]) for job in jobs] == [
        (cell.key, [run.label for run in plan.tasks_of(cell)]) for cell in plan.cells
    ]


def test_the_description_lists_every_cell(plan: Plan, tmp_path: object) -> None:
    pending = {cell.key: plan.tasks_of(cell) for cell in plan.cells[::2]}
    described = describe(plan, tmp_path, pending, "cpu")  # type: ignore[arg-type]
    assert [cell["key"] for cell in described["cells"]] == [cell.key for cell in plan.cells]
    assert described["pending_task_runs"] == sum(len(cell["pending"]) for cell in described["cells"])
    assert all(bool(cell["pending"]) == (place % 2 == 0) for place, cell in enumerate(described["cells"]))
