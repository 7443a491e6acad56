"""Checks of a submission that need neither models nor images: is it what its suite asks for, and is it possible?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pruningbench.contract import Dataset, Pruner, Samples, Task, Use
from pruningbench.contract.chance import LEVEL
from pruningbench.contract.statistics import SLACK, within
from pruningbench.contract.task import dimension_of
from pruningbench.errors import PruningBenchError
from pruningbench.harness.artifacts import METRIC, NETWORK, artifact_key, code_parts, key_of
from pruningbench.pruning.allocation import number_to_prune
from pruningbench.publishing.evidence import Evidence, outcome, place
from pruningbench.store.records import Record
from pruningbench.store.trust import Outcome
from pruningbench.suite.cells import TaskRun, plan_key

ZEROS = 0.02
"""Largest share of prunable weights that may be zero although no mask pruned them."""


def check_coverage(evidence: Evidence) -> Outcome:
    """Check that the submission has every task run and metric that the suite asks for, and nothing else."""
    planned = {(cell.key, run.label) for cell in evidence.plan.cells for run in evidence.plan.tasks_of(cell)}
    there = {(record.cell, record.task) for record in evidence.records}
    problems = [
        f"{evidence.cells[cell].label}, {task}: the suite asks for it, but it is missing"
        for cell, task in sorted(planned - there)
    ]
    problems += [f"cell {cell}, task {task}: the suite does not ask for it" for cell, task in sorted(there - planned)]
    problems += _missing_metrics(evidence)
    failed = len({(r.cell, r.task) for r in evidence.records if r.status != "ok"})
    fine = f"all {len(planned):,} task runs of {len(evidence.cells):,} cells"
    return outcome("coverage", problems, fine + (f"; {failed} of them failed in whole or in part" if failed else ""))


def _missing_metrics(evidence: Evidence) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in evidence.records:
        groups.setdefault((record.cell, record.task), []).append(record)
    for records in groups.values():
        run = evidence.runs.get(records[0].task)
        if run is None or any(record.status != "ok" for record in records):
            continue
        listed = {record.metric for record in records}
        excused = f", {records[0].inapplicable}, "
        for use in run.metrics:
            if use.label not in listed and f", {use.label}, " not in excused:
                yield f"{place(records[0])}: metric {use.label} is missing"


def check_requests(evidence: Evidence) -> Outcome:
    """Check that each record has the components, sparsity, seed, limit, plan key and dimension of the suite."""
    problems = []
    for record in evidence.records:
        cell, run = evidence.cells.get(record.cell), evidence.runs.get(record.task)
        if cell is None or run is None:
            continue  # check_coverage reports it
        wanted = {
            "suite": evidence.plan.suite.name, "model": cell.model.label, "pruner": cell.pruner_label,
            "recipe": cell.recipe.label, "sparsity": cell.sparsity, "seed": cell.seed, "limit": cell.limit or 0,
            "plan": plan_key(cell, run),
        }  # fmt: skip
        if record.dimension:  # versions that did not store it, and tasks that were never started, have none
            wanted["dimension"] = _dimension(run)
        for name, value in wanted.items():
            if getattr(record, name) != value:
                problems.append(f"{place(record)}: {name} is {getattr(record, name)!r}, but the suite says {value!r}")
    seeds = ", ".join(map(str, evidence.plan.suite.seeds))
    return outcome("seeds and data", problems, f"components, data and seeds ({seeds}) are those of the suite")


def _dimension(run: TaskRun) -> str:
    task = run.task.component
    return dimension_of(task, run.task.name) if isinstance(task, Task) else ""


def check_parts(evidence: Evidence) -> Outcome:
    """Check that what rows are made of is complete, agrees within the submission, and gives their artifact keys."""
    problems = []
    same: dict[tuple[str, ...], tuple[str, Record]] = {}
    for record in evidence.values():
        cell, run = evidence.cells.get(record.cell), evidence.runs.get(record.task)
        if cell is None or run is None:
            continue
        lacking = [
            name for name in ("weights", "task", NETWORK, f"{METRIC}{record.metric}") if name not in record.made_of
        ]
        if lacking:
            problems.append(f"{place(record)}: does not say what it is made of ({', '.join(lacking)})")
        elif record.artifact != artifact_key(cell, run, record.made_of, record.metric):
            problems.append(f"{place(record)}: its artifact key does not follow from what it is made of")
        shared = {
            ("network of cell", record.cell): record.made_of.get(NETWORK, ""),
            ("weights of model", key_of(cell.model)): record.made_of.get("weights", ""),
            ("fingerprint of the data of task", record.task): record.data_fingerprint,
        }
        for what, text in shared.items():
            known, _ = same.setdefault(what, (text, record))
            if known != text:
                problems.append(f"{place(record)}: the {what[0]} {what[1]} is {text!r} here and {known!r} elsewhere")
    return outcome("fingerprints", problems, "networks, weights and data agree, and give the artifact keys")


def check_data(evidence: Evidence, open_data: Callable[[Use], Samples]) -> Outcome:
    """Compare the fingerprints of data sets that come with a plugin and need no files.

    Args:
        evidence: the submission and its plan.
        open_data: opens a data set.
    """
    problems: list[str] = []
    fingerprints: dict[str, str] = {}
    for record in evidence.values():
        for name, use in _data_of(evidence, record).items():
            reported = record.made_of.get(name)
            if reported is None:
                continue
            if use.label not in fingerprints:
                fingerprints[use.label] = _fingerprint(use, open_data)
            actual = fingerprints[use.label]
            if actual != reported:
                problems.append(f"{place(record)}: data set {use.label}: its fingerprint is {actual}, not {reported}")
    compared = sorted(fingerprints)
    if not compared:
        return Outcome(name="data", passed=None, detail="not compared: no data set of the suite comes with a plugin")
    return outcome("data", problems, f"{', '.join(compared)}: the fingerprints are those of the data here")


def _data_of(evidence: Evidence, record: Record) -> dict[str, Use]:
    """Return the data sets of a record that need no files, by the name of the part that holds their fingerprint."""
    cell, run = evidence.cells.get(record.cell), evidence.runs.get(record.task)
    if cell is None or run is None:
        return {}
    uses = {f"task {name}": use for name, use in run.task.references.items()}
    if cell.data is not None:
        uses["data"] = cell.data
    return {
        name: use
        for name, use in uses.items()
        if isinstance(use.component, Dataset) and use.component.folder() is None and use.component.missing() is None
    }


def _fingerprint(use: Use, open_data: Callable[[Use], Samples]) -> str:
    try:
        return str(open_data(use).fingerprint)
    except (PruningBenchError, OSError, ValueError) as error:
        return f"unknown ({error})"


def check_code(evidence: Evidence) -> Outcome:
    """Say whether the rows were made by the code that is installed here; other code is no fault."""
    other = set()
    for record in evidence.values():
        cell, run = evidence.cells.get(record.cell), evidence.runs.get(record.task)
        if cell is None or run is None:
            continue
        now = code_parts(cell, run)
        other |= {name for name, text in record.made_of.items() if name in now and now[name] != text}
    if other:
        detail = f"made by other code than is installed here: {', '.join(sorted(other))}"
        return Outcome(name="code", passed=None, detail=detail)
    return Outcome(name="code", passed=True, detail="made by the code that is installed here")


def check_ranges(evidence: Evidence) -> Outcome:
    """Check that values lie in the ranges of their metrics, and shares and probabilities in [0, 1]."""
    problems = []
    for record in evidence.records:
        for name in ("sparsity_achieved", "sparsity_total", "ties", "chance_p"):
            number = getattr(record, name)
            if not math.isnan(number) and not 0 <= number <= 1:
                problems.append(f"{place(record)}: {name} is {number:g}, outside [0, 1]")
        counts = (record.n, record.undefined, record.degenerate, record.attempts - 1)
        if min(*counts, record.seconds, record.prepare_seconds) < 0:
            problems.append(f"{place(record)}: a count or a time is negative")
    for record in evidence.values():
        metric = evidence.metric(record)
        if metric is None:
            continue  # check_values reports it
        low, high = metric.range
        for name in ("value", "ci_low", "ci_high", "chance"):
            number = getattr(record, name)
            if not within(number, (low, high)):
                problems.append(f"{place(record)}: {name} is {number:g}, outside [{low:g}, {high:g}]")
        if (record.unit, record.higher_is_better) != (metric.unit, metric.higher_is_better):
            problems.append(f"{place(record)}: unit or direction are not those of the metric")
        if record.ci_low > record.ci_high or record.degenerate > record.n + record.undefined:
            problems.append(f"{place(record)}: its interval or its count of degenerate samples is impossible")
        problems += [f"{place(record)}: {text}" for text in _impossible_test(evidence, record)]
    return outcome("ranges", problems, "values, intervals, probabilities and counts are possible")


def _impossible_test(evidence: Evidence, record: Record) -> Iterator[str]:
    """Yield why a test against chance cannot be that of the record: it decides which rows count as collapsed."""
    known, tested = not math.isnan(record.chance), not math.isnan(record.chance_p)
    main = record.metric in _main_metrics(evidence.runs.get(record.task))
    if tested and not (known and main):
        yield "has a test against chance, but no chance level, or is not the main metric of its task"
    elif known and main and not tested:
        yield "has a chance level, but its test against chance is missing"
    sign = -1.0 if record.higher_is_better is False else 1.0
    if tested and record.chance_p < LEVEL and sign * (record.value - record.chance) <= 0:
        yield f"{record.value:.6g} is called better than chance, which is {record.chance:.6g}"


def _main_metrics(run: TaskRun | None) -> list[str]:
    """Return the labels of the metric that is tested against chance: the first one of the task."""
    task = run.task.component if run is not None else None
    return [use.label for use in run.metrics if use.name in task.metrics[:1]] if run and isinstance(task, Task) else []


def check_masks(evidence: Evidence) -> Outcome:
    """Check that pruned cells have masks that prune what the suite asks for, and that sparsities agree with them."""
    masks = evidence.submission.masks
    problems = []
    totals: dict[str, int] = {}
    problems += [
        f"cell {key}: has masks, but the suite does not ask for it" for key in masks.keys() - evidence.cells.keys()
    ]
    measured = {(r.cell, r.sparsity_achieved): r for r in evidence.records if r.status == "ok"}
    for (key, _), record in measured.items():
        cell = evidence.cells.get(key)
        if cell is None:
            continue  # check_coverage reports it
        if cell.pruner is None:
            if key in masks or record.sparsity_achieved > ZEROS:
                problems.append(f"{place(record)}: is dense, but has masks or a sparsity")
            continue
        summary = masks.get(key)
        if summary is None:
            problems.append(f"{place(record)}: the digest of its masks is missing")
            continue
        prunable = totals.setdefault(key_of(cell.model), summary.total)
        if prunable != summary.total:
            problems.append(
                f"{place(record)}: its masks cover {summary.total} weights, those of other cells {prunable}"
            )
        pruned = summary.total - summary.kept
        exact = isinstance(cell.pruner.component, Pruner) and cell.pruner.component.exact
        if summary.kept > summary.total or (exact and pruned != number_to_prune(cell.sparsity, summary.total)):
            asked = number_to_prune(cell.sparsity, summary.total)
            problems.append(f"{place(record)}: its masks prune {pruned} of {summary.total} weights, not {asked}")
        share = pruned / summary.total
        if not share - SLACK <= record.sparsity_achieved <= share + ZEROS:
            measured_share = f"sparsity_achieved is {record.sparsity_achieved:g}"
            problems.append(f"{place(record)}: {measured_share}, but its masks prune {share:g}")
    return outcome("masks", problems, f"{len(masks)} masks prune what the suite asks for")
