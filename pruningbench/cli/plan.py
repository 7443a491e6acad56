"""``pruningbench plan SUITE``."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pruningbench.cli.common import only_option, registry_with_warnings, set_option

if TYPE_CHECKING:
    from pruningbench.plan import Plan


@click.command()
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to compare with; runs/NAME by default.")
@set_option
@only_option
@click.option("--json", is_flag=True, help="For machines: counts, shared work, missing data, every cell.")
def plan(suite: str, out: Path | None, settings: tuple[str, ...], only: tuple[str, ...], json: bool) -> int:
    """Say how many cells SUITE has, what work they share, what is done and what data is missing."""
    from pruningbench.harness.driver import pending
    from pruningbench.harness.run import RunOptions, default_folder
    from pruningbench.plan import make_plan
    from pruningbench.store.journal import read_journal
    from pruningbench.store.runfolder import RunFolder
    from pruningbench.suite import load_suite

    registry = registry_with_warnings()
    loaded = load_suite(suite, registry, settings)
    made = make_plan(loaded, registry, only)
    folder = RunFolder(out if out is not None else default_folder(loaded, RunOptions()))
    folder.check(loaded.digest, loaded.resolved())
    records, _ = read_journal(folder.results)
    left = pending(made, records)
    described = describe(made, folder.path, {job.cell.key: [run.label for run in job.tasks] for job in left})
    click.echo(jsonlib.dumps(described, indent=2) if json else _text(made, described))
    return 0


def describe(made: Plan, folder: Path, pending: dict[str, list[str]]) -> dict[str, Any]:
    """Return the plan as plain values."""
    return {
        "suite": made.suite.name,
        "folder": str(folder),
        "shared_work": made.shared_work(),
        "pending_task_runs": sum(map(len, pending.values())),
        "missing": made.missing(),
        "tasks": [{"label": run.label, "metrics": [m.label for m in run.metrics]} for run in made.tasks],
        "cells": [
            {
                "key": cell.key,
                "model": cell.model.label,
                "pruner": cell.pruner_label,
                "recipe": cell.recipe.label,
                "sparsity": cell.sparsity,
                "seed": cell.seed,
                "pending": pending.get(cell.key, []),
            }
            for cell in made.cells
        ],
    }


def _text(made: Plan, described: dict[str, Any]) -> str:
    suite, work = made.suite, described["shared_work"]
    dense = sum(cell.pruner is None for cell in made.cells)
    lines = [f"suite {suite.name}" + (f": {suite.description}" if suite.description else "")]
    for name, values in _axes(made).items():
        lines.append(f"  {name:<11} {', '.join(values)}")
    lines += [
        "",
        f"cells         {work['cells']} ({dense} dense, {work['cells'] - dense} pruned)",
        f"task runs     {work['task_runs']} ({len(made.tasks)} tasks on each cell), "
        f"{described['pending_task_runs']} still to do in {described['folder']}",
        "shared work",
        f"  {work['model_loads']} model loads serve {work['cells']} cells",
        f"  {work['scoring_passes']} scoring passes serve {work['cells'] - dense} pruned cells",
        f"  {work['prunings']} masks serve {work['cells'] - dense} pruned cells",
        f"  {work['trainings']} cells are trained after pruning",
    ]
    if described["missing"]:
        lines += ["missing (nothing can run until it is there)", *(f"  {text}" for text in described["missing"])]
    else:
        lines.append("missing       nothing: all data and weights are at hand")
    return "\n".join(lines)


def _axes(made: Plan) -> dict[str, list[str]]:
    """Return the names on each axis with the number of cells, as they stand in the plan."""
    cells = made.cells
    counted = {
        "models": Counter(cell.model.label for cell in cells),
        "pruners": Counter(cell.pruner_label for cell in cells),
        "sparsities": Counter(f"{cell.sparsity:g}" for cell in cells),
        "recipes": Counter(cell.recipe.label for cell in cells if cell.pruner),
        "seeds": Counter(str(cell.seed) for cell in cells),
    }
    axes = {name: [f"{value} ({n})" for value, n in counts.items()] for name, counts in counted.items() if counts}
    axes["tasks"] = [f"{run.label} ({', '.join(m.label for m in run.metrics)})" for run in made.tasks]
    return axes
