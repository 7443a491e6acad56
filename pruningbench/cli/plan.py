"""``pruningbench plan SUITE``."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pruningbench.base.text import displayable, span
from pruningbench.cli.common import (
    RunPath,
    announce,
    few_collections,
    limit_option,
    not_option,
    only_option,
    registry_with_warnings,
    say,
    say_json,
    set_option,
    with_limit,
)
from pruningbench.cli.completion import suites
from pruningbench.contract.precision import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pruningbench.harness.resume import State
    from pruningbench.plugins import Registry
    from pruningbench.store.attempts import Attempt
    from pruningbench.suite.cells import TaskRun
    from pruningbench.suite.plan import Plan
    from pruningbench.suite.schema import Suite


@click.command()
@click.argument("suite", shell_complete=suites)
@click.option("--out", type=RunPath(), help="Run folder, or its URL, to compare with; runs/NAME by default.")
@set_option
@only_option
@not_option
@limit_option
@click.option(
    "--device", default="auto", show_default=True, help="Device whose memory is compared: cpu, cuda, cuda:N, mps, auto."
)
@click.option(
    "--check-data", is_flag=True, help="Open every data set and decode some samples; exit code 1 if one cannot be used."
)
@click.option(
    "--calibrate", is_flag=True, help="Measure on few samples for about a minute, to estimate the time of what is left."
)
@click.option("--json", is_flag=True, help="Print JSON: counts, shared work, missing data, costs, every cell.")
def plan(
    suite: str,
    out: Path | str | None,
    settings: tuple[str, ...],
    only: tuple[str, ...],
    without: tuple[str, ...],
    limit: int | None,
    device: str,
    check_data: bool,
    calibrate: bool,
    json: bool,
) -> int:
    """Show how many cells SUITE has, what work they share, what pruning costs, what is done, and which data is missing.

    Pairs of model and pruner that cannot work or do not fit into memory are listed; a run skips them. To estimate the
    costs, models of the kind `python` are built, which runs their files; a line announces this first. Of a finished
    run the text says nothing of costs (--json does). The time of what is left is estimated from the results that the
    run folder has, or with --calibrate.
    """
    from pruningbench.suite.schema import load_suite

    registry = registry_with_warnings()
    loaded = load_suite(suite, registry, with_limit(settings, limit))
    with few_collections():
        return _show(
            registry, loaded, out, only, without, device, check_data=check_data, calibrate=calibrate, json=json
        )


def _show(
    registry: Registry,
    loaded: Suite,
    out: Path | str | None,
    only: Sequence[str],
    without: Sequence[str],
    device: str,
    *,
    check_data: bool,
    calibrate: bool,
    json: bool,
) -> int:
    from pruningbench.harness.resume import assess, sentences
    from pruningbench.harness.run import RunOptions, default_folder, with_recorded_labels
    from pruningbench.harness.sources import Sources
    from pruningbench.store.attempts import attempts_of
    from pruningbench.store.mending import readable
    from pruningbench.store.mirroring import fetched
    from pruningbench.store.runfolder import RunFolder
    from pruningbench.suite.plan import make_plan

    planned = make_plan(loaded, registry, only, without)
    if isinstance(out, str):
        out = fetched(out)
    folder = RunFolder(out if out is not None else default_folder(loaded, RunOptions()))
    folder.check(loaded.digest, loaded.resolved())
    attempts, _ = readable(folder.results)
    planned = with_recorded_labels(planned, attempts)
    state = assess(planned, attempts, Sources(folder.sources, planned).contents.parts)
    estimate = bool(state.jobs) or json  # where nothing is left, no table of costs is worth importing torch
    if estimate:
        announce(planned)  # estimating the costs of such models builds them
    if calibrate and state.jobs:
        from pruningbench.harness.calibrating import calibrate as measure

        attempts = [*attempts, *attempts_of(measure(planned, registry, device))]
    outlook = _outlook(attempts, state)
    del attempts  # of a million rows: makes room for torch, which estimating costs imports
    described, refused = _described(planned, folder.path, state.task_runs, device, estimate=estimate)
    if json:
        described["cells"] = _cells(planned, {job.cell.key: job.tasks for job in state.jobs}, refused)
    described["changed"] = list(sentences(state.stale))
    described["time"] = outlook
    unusable = False
    if check_data:
        from pruningbench.harness.datacheck import check_data as open_all

        found = open_all(planned, registry)
        described["data"] = [dataclasses.asdict(check) for check in found]
        unusable = any(check.problem for check in found)
    if json:
        say_json(described)
    else:
        say(_text(planned, described, refused))
    return int(unusable)


def _outlook(attempts: Sequence[Attempt], state: State) -> dict[str, Any] | None:
    """Return what is known about the time of what is left; None if nothing is left or known."""
    from pruningbench.harness.forecast import Forecast

    if not attempts or not state.jobs:
        return None
    forecast = Forecast()
    forecast.learn(attempts)
    outlook = forecast.outlook((job.cell, [run.label for run in job.tasks]) for job in state.jobs)
    known = [attempt for attempt in attempts if attempt.some_ok]
    peaks = [attempt.peak_memory_mb for attempt in known if not math.isnan(attempt.peak_memory_mb)]
    devices = sorted({attempt.device.partition(":")[0] for attempt in known if attempt.device})
    return {**dataclasses.asdict(outlook), "peak_memory_mb": max(peaks, default=None), "devices": devices}


def describe(plan: Plan, folder: Path, pending: Mapping[str, Sequence[TaskRun]], device: str) -> dict[str, Any]:
    """Return the plan as plain values.

    Args:
        plan: what would be run.
        folder: where.
        pending: key of a cell -> the tasks that are still to run on it.
        device: whose memory is compared.
    """
    described, refused = _described(plan, folder, sum(map(len, pending.values())), device)
    return {**described, "cells": _cells(plan, pending, refused)}


def _described(
    plan: Plan, folder: Path, pending: int, device: str, *, estimate: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the plan as plain values without its cells, and why some of these are refused, by key.

    Args:
        plan: what would be run.
        folder: where.
        pending: number of task runs that are still to do.
        device: whose memory is compared.
        estimate: whether costs are estimated; otherwise there are none, and nothing is refused for them.
    """
    from pruningbench.base.machine import resolve_device
    from pruningbench.contract.precision import refusal

    precision = plan.suite.precision
    costs = plan.costs(device) if estimate else {}
    described = {
        "suite": plan.suite.name,
        "folder": str(folder),
        "precision": precision,
        "refused": "" if precision == FULL else refusal(precision, resolve_device(device)),  # which imports torch
        "runs": plan.runs(),
        "shared_work": plan.shared_work(),
        "pending_task_runs": pending,
        "missing": plan.missing(),
        "fetched_when_run": plan.fetched_when_run(),
        "costs": [dataclasses.asdict(estimate) for estimate in costs.values()],
        "tasks": [{"label": run.label, "metrics": [m.label for m in run.metrics]} for run in plan.tasks],
    }
    return described, plan.refusals(costs)


def _cells(plan: Plan, pending: Mapping[str, Sequence[TaskRun]], refused: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return all cells as plain values."""
    return [
        {
            "key": cell.key,
            "model": cell.model.label,
            "pruner": cell.pruner_label,
            "recipe": cell.recipe.label,
            "sparsity": cell.sparsity,
            "seed": cell.seed,
            "pending": [run.label for run in pending.get(cell.key, ())],
            "refused": refused.get(cell.key),
        }
        for cell in plan.cells
    ]


def _text(plan: Plan, described: dict[str, Any], refused: Mapping[str, str]) -> str:
    suite, work = plan.suite, described["shared_work"]
    dense = sum(len(cells) for cells in plan.alike if cells[0].pruner is None)
    lines = [f"suite {suite.name}" + (f": {suite.description}" if suite.description else "")]
    for name, values in _axes(plan).items():
        lines.append(f"  {name:<11} {', '.join(values)}")
    if suite.precision != FULL:
        lines.append(f"  {'precision':<11} {suite.precision} (forward passes of the tasks)")
    lines += [
        "",
        f"cells         {work['cells']} ({dense} dense, {work['cells'] - dense} pruned)",
        f"task runs     {work['task_runs']} ({_on_each(plan)}), "
        f"{described['pending_task_runs']} still to do in {described['folder']}",
        "shared work",
        f"  {work['model_loads']} model loads serve {work['cells']} cells",
        f"  {work['scoring_passes']} scoring passes serve {work['scored_once']} pruned cells",
        f"  {work['prunings']} masks serve {work['pruned_once']} cells whose dense model is pruned in one step",
        f"  {work['trainings']} trainings serve {work['trained']} cells that are trained",
    ]
    if described["refused"]:
        lines.append(f"refused       {described['refused']}")
    if described["changed"]:
        lines += ["changed since (a run measures again)", *(f"  {line}" for line in described["changed"])]
    lines += [*_time(described), *_costs(described, Counter(refused.values()))]
    lines += _data(described.get("data", ()))
    if described["missing"]:
        lines += ["missing (required before anything can run)", *(f"  {text}" for text in described["missing"])]
    elif not described["fetched_when_run"]:
        lines.append("missing       nothing: all data and weights are available")
    if described["fetched_when_run"]:
        lines += ["fetched when the suite runs", *(f"  {text}" for text in described["fetched_when_run"])]
    return "\n".join(displayable(line).rstrip() for line in lines)


def _time(described: dict[str, Any]) -> list[str]:
    """Return how long what is left will take, and how sure that is."""
    if not described["pending_task_runs"]:
        return []
    time = described.get("time")
    if time is None or not time["cells"]:
        return [
            "time left     unknown: nothing has been measured in this folder yet; --calibrate measures for a minute"
        ]
    hours = " of a GPU" if time["devices"] == ["cuda"] else ""
    lines = [
        f"time left     about {span(time['seconds'])}{hours}, one cell after another ({span(time['low'])} to "
        f"{span(time['high'])}), from {time['cells']} cells"
    ]
    total = time["measured"] + time["analogy"] + time["unknown"]
    if time["analogy"]:
        lines.append(
            f"  {time['analogy']} of {total} pieces of work are estimated from other models, pruners or recipes"
        )
    if time["unknown"]:
        lines.append(f"  {time['unknown']} of {total} pieces of work: unknown, and not in this time")
    if time["peak_memory_mb"]:
        lines.append(f"  the largest cell so far needed {time['peak_memory_mb'] / 1024:.1f} GB")
    return lines


def _costs(described: dict[str, Any], refused: Mapping[str, int]) -> list[str]:
    """Return one line for each pair of model and pruner, and one for each refusal, with its number of cells."""
    if not described["costs"]:
        return []
    rows = [(e["model"], e["pruner"], *_passes(e)) for e in described["costs"]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["one pruning   forward + backward passes x images, memory beyond the network"]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row[:3], widths, strict=True)]
        lines.append("  " + "  ".join([*cells, row[3]]).rstrip())
    if refused:
        lines.append("refused (these cells will be skipped)")
        lines += [f"  {count} {'cell' if count == 1 else 'cells'}: {reason}" for reason, count in refused.items()]
    return lines


def _data(checks: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each data set that was opened."""
    lines = ["data"] if checks else []
    for check in checks:
        if check["problem"]:
            lines.append(f"  {check['label']}: cannot be used: {check['problem']}")
            continue
        classes = f", {check['classes']} classes" if check["classes"] else ""
        holds = f", with {', '.join(check['holds'])}" if check["holds"] else ""
        lines.append(f"  {check['label']}: {check['samples']} samples{classes}{holds}")
    return lines


def _passes(estimate: dict[str, Any]) -> tuple[str, str]:
    """Return the passes and the memory of an estimate, or why they are unknown."""
    from pruningbench.contract.cost import format_bytes

    cost = estimate["cost"]
    if estimate["refusal"] or cost is None:
        return "refused" if estimate["refusal"] else f"unknown: {estimate['unknown']}", ""
    if not cost["forward"] and not cost["backward"]:
        return "none", format_bytes(cost["memory"])
    images = "all" if cost["samples"] is None else str(cost["samples"])
    return f"{cost['forward']} + {cost['backward']} x {images}", format_bytes(cost["memory"])


def _on_each(plan: Plan) -> str:
    counts = {len(plan.tasks_of(cells[0])) for cells in plan.alike}
    several = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts, default=0)}"
    return f"{several} tasks on each cell"


def _axes(plan: Plan) -> dict[str, list[str]]:
    """Return the names on each axis with their number of cells, in the order of the plan."""
    models, pruners, recipes = Counter[str](), Counter[str](), Counter[str]()
    for cells in plan.alike:
        models[cells[0].model.label] += len(cells)
        pruners[cells[0].pruner_label] += len(cells)
        if cells[0].pruner is not None:
            recipes[cells[0].recipe.label] += len(cells)
    sparsities, seeds = (Counter(map(attrgetter(name), plan.cells)) for name in ("sparsity", "seed"))
    counted = {
        "models": models,
        "pruners": pruners,
        "sparsities": _summed((f"{sparsity:g}", n) for sparsity, n in sparsities.items()),
        "recipes": recipes,
        "seeds": _summed((str(seed), n) for seed, n in seeds.items()),
    }
    axes = {name: [f"{value} ({n})" for value, n in counts.items()] for name, counts in counted.items() if counts}
    axes["tasks"] = [f"{run.label} ({', '.join(m.label for m in run.metrics)})" for run in plan.tasks]
    return axes


def _summed(counts: Iterable[tuple[str, int]]) -> Counter[str]:
    """Return counts by name, in which names that occur more than once are added up."""
    summed = Counter[str]()
    for name, count in counts:
        summed[name] += count
    return summed
