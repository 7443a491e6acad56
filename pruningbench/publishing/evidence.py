"""What the checks of a submission look at: its content, and the plan of its suite with the installed plugins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pruningbench.base.text import displayable
from pruningbench.contract import Metric
from pruningbench.errors import PruningBenchError, SubmissionError
from pruningbench.harness.run import with_recorded_labels
from pruningbench.plugins import Registry
from pruningbench.store.attempts import attempts_of
from pruningbench.store.records import Record
from pruningbench.store.submission import Submission
from pruningbench.store.submission_format import SUITE
from pruningbench.store.trust import Outcome
from pruningbench.suite.cells import Cell, TaskRun
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import suite_from_text

LONGEST = 160
"""Most characters of a name in a report."""


class UnusableSuiteError(SubmissionError):
    """The suite of a submission is damaged, or needs plugins that are not installed: nothing can be checked."""


@dataclass(frozen=True)
class Evidence:
    """A submission and the plan of its suite.

    Attributes:
        submission: the checked file.
        plan: what its suite asks for, with the labels that its records use.
        cells: the plan's cells by key.
        runs: the plan's tasks by label.
    """

    submission: Submission
    plan: Plan
    cells: dict[str, Cell]
    runs: dict[str, TaskRun]

    @property
    def records(self) -> tuple[Record, ...]:
        """All records."""
        return self.submission.records

    def values(self) -> Iterator[Record]:
        """Yield the records that hold a value."""
        return (record for record in self.records if record.status == "ok" and record.metric)

    def metric(self, record: Record) -> Metric | None:
        """Return the metric of a record; None if the suite asks for no such metric."""
        run = self.runs.get(record.task)
        uses = run.metrics if run is not None else ()
        found = next((use.component for use in uses if use.label == record.metric), None)
        return found if isinstance(found, Metric) else None


def gather(submission: Submission, registry: Registry) -> Evidence:
    """Make the plan of a submission's suite; nothing is loaded or computed.

    Raises:
        UnusableSuiteError: if the suite is damaged, or needs plugins that are not installed.
        SubmissionError: if it is another suite than the manifest says.
    """
    try:
        text = submission.members[SUITE].decode("utf-8")
        suite = suite_from_text(text, registry, source=SUITE)
        plan = with_recorded_labels(make_plan(suite, registry), attempts_of(submission.records))
    except (UnicodeDecodeError, PruningBenchError) as error:
        raise UnusableSuiteError(
            f"its suite cannot be used here ({error}); install the plugins that it names"
        ) from None
    if suite.digest != submission.manifest.suite_digest or suite.name != submission.manifest.suite:
        raise SubmissionError(
            f"its suite has the digest {suite.digest}, not {submission.manifest.suite_digest}: the suite was edited, "
            "or the components have other fields in the installed version"
        )
    return Evidence(submission, plan, {cell.key: cell for cell in plan.cells}, {run.label: run for run in plan.tasks})


def place(record: Record) -> str:
    """Return where a record is, for a report: cell, task, variant and metric."""
    what = " ".join(filter(None, (record.task, record.variant, record.metric)))
    where = f"{record.model} {record.pruner} {record.sparsity:g} {record.recipe} seed {record.seed}, {what}"
    return displayable(where)[:LONGEST]


def outcome(name: str, problems: list[str], fine: str) -> Outcome:
    """Return a check's outcome: `fine` if there are no problems, else the first problem and how many there are."""
    if not problems:
        return Outcome(name=name, passed=True, detail=fine)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Outcome(name=name, passed=False, detail=displayable(problems[0]) + more)
