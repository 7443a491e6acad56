"""Make the published leaderboard: runs what is stale, and writes submissions, verifications, tables and the summary.

``make leaderboard`` runs it. ``python .ci/leaderboard.py --check`` computes nothing: it says whether the tables follow
from the results, and whether the results belong to the suites as they are now. ``--tables`` writes them anew from the
published results, after a change of the statistics or of the layout.

What is finished is decided by the artifact keys of the records. The run folders are kept in ``runs/leaderboard``; if
one is missing, it is made from the published submission, so that only what is stale is run.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pruningbench.base.text import last_line
from pruningbench.cli.progress import make_observer
from pruningbench.errors import PruningBenchError, RunFolderError
from pruningbench.harness.driver import not_ok
from pruningbench.harness.run import Prepared, RunOptions, execute, prepare
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.rows import Board as Results
from pruningbench.leaderboard.summary import summary_lines
from pruningbench.plugins import Registry, load_registry
from pruningbench.publishing.submitting import submission_members
from pruningbench.publishing.verifying import Again, verify
from pruningbench.store.attempts import read_attempts
from pruningbench.store.origins import origin
from pruningbench.store.records import Record
from pruningbench.store.submission import Submission, open_submission
from pruningbench.store.submission_format import SUFFIX, archive_bytes
from pruningbench.store.trust import read_verification, write_verification
from pruningbench.suite.cells import plan_key
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import Suite, load_suite

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("quickstart", "cassano2025-small", "iurada2025-small", "suwal2025-small")
LARGE = (
    "cifar", "cifar-transfer", "imagenet-boxes", "imagenet-sample", "imagenet-sizes", "vit-sample", "vit-structured",
)  # fmt: skip
"""Suites that take hours, and data that a fresh clone lacks: run only if they are named with ``--only``."""
SETTINGS = ("seeds=[0, 1, 2]",)
MOST_BYTES = 10 << 20
"""Largest size of the folder, in bytes: everyone who clones the repository downloads it."""
WIDTH = 118
MOST_LINES = 60
"""Largest number of lines per suite in the page."""
BEGIN, END = "<!-- made by `make leaderboard`: begin -->", "<!-- made by `make leaderboard`: end -->"


@dataclass(frozen=True)
class Board:
    """Where the published leaderboard and its run folders are, and which suites it has.

    Attributes:
        folder: the leaderboard.
        runs: the run folders.
        suites: names of the suites that are run.
        settings: changes to each suite.
        files: files of suites that are not shipped, by name.
    """

    folder: Path = ROOT / "leaderboard"
    runs: Path = ROOT / "runs" / "leaderboard"
    suites: tuple[str, ...] = SUITES
    settings: tuple[str, ...] = SETTINGS
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the suites whose results are checked and shown."""
        return (*self.suites, *LARGE) if self.suites == SUITES else self.suites

    def suite(self, name: str, registry: Registry) -> Suite:
        """Return a suite as it is published; a large one states its own seeds."""
        settings = [setting for setting in self.settings if name not in LARGE or setting not in SETTINGS]
        return load_suite(self.files.get(name, name), registry, settings)

    def result(self, name: str) -> Path:
        """Return the submission of a suite."""
        return self.folder / "results" / f"{name}{SUFFIX}"

    def table(self, name: str) -> Path:
        """Return the file of a table, in Markdown; other forms follow from the submission by one command."""
        return self.folder / "tables" / f"{name}.md"

    @property
    def readme(self) -> Path:
        """The page with the summary."""
        return self.folder / "README.md"

    def results(self) -> dict[str, Path]:
        """Return the published submissions by the name of their suite."""
        files = sorted((self.folder / "results").glob(f"*{SUFFIX}"))
        return {file.name.removesuffix(SUFFIX): file for file in files}


def say(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def make(board: Board, registry: Registry, rerun: int = 0, device: str = "auto") -> None:
    """Bring runs, submissions, verifications, tables and the summary up to date.

    Args:
        board: the leaderboard.
        registry: the installed components.
        rerun: number of random cells of each submission to compute again; an earlier re-run stays valid.
        device: where to compute.
    """
    for name in board.suites:
        folder = _run(board, registry, name, device)
        file = board.result(name)
        content = archive_bytes(submission_members(folder, registry, name)[0])
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            say(f"{name}: {file.name} is new, {len(content):,} bytes")
        _verify(file, registry, rerun, device)
    write_pages(board, registry)
    say(f"{board.folder}: {size(board.folder):,} bytes")


def write_pages(board: Board, registry: Registry) -> None:
    """Write the tables and the summary that follow from the published results, and run nothing."""
    for path, text in pages(board, registry):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            say(f"written: {path.name}")


def _run(board: Board, registry: Registry, name: str, device: str) -> Path:
    """Run what is stale or missing of a suite and return its run folder."""
    suite = board.suite(name, registry)
    folder = board.runs / name
    if not folder.exists() and board.result(name).exists():
        open_submission(board.result(name)).write_folder(folder)
    try:
        prepared = _prepared(suite, registry, folder, device)
    except RunFolderError as error:
        if "another suite" not in str(error):
            raise
        kept = next(path for i in range(1, 10_000) if not (path := folder.with_name(f"{name}.before-{i}")).exists())
        folder.rename(kept)
        say(f"{name}: the suite has changed, so all of it is run again; the old run folder is {kept}")
        prepared = _prepared(suite, registry, folder, device)
    say(f"{name}: {prepared.pending} task runs to do in {len(prepared.plan.cells)} cells")
    summary = execute(prepared, registry, make_observer("plain"))
    if summary.pending:
        raise PruningBenchError(f"{name}: {summary.pending} task runs are still to do; run this again")
    for record in _failed(summary.not_ok):
        cell = f"{record.model} {record.pruner} {record.sparsity:g} {record.recipe} seed {record.seed}"
        raise PruningBenchError(f"{name}: {cell}, {record.task}: {record.status}: {last_line(record.error)}")
    return folder


def _prepared(suite: Suite, registry: Registry, folder: Path, device: str) -> Prepared:
    """Return the checked run of a suite, in which task runs that failed are tried again."""
    prepared = prepare(suite, registry, folder, RunOptions(device=device))
    failed = _failed(not_ok(prepared.plan, read_attempts(prepared.folder.results)[0]))
    return prepare(suite, registry, folder, RunOptions(device=device, retry_failed=True)) if failed else prepared


def _failed(records: Iterable[Record]) -> list[Record]:
    """Return the records of failures; that a pruner cannot work on a model is a result, which stays as it is."""
    return [record for record in records if record.status != "skipped"]


def _verify(file: Path, registry: Registry, rerun: int, device: str) -> None:
    """Verify a submission unless that has been done, and write the outcome beside it."""
    digest = open_submission(file).digest
    before = read_verification(file)
    if not rerun and before is not None and before.submission == digest and before.passed:
        return
    outcome = verify(file, registry, Again(rerun, None, device), make_observer("plain") if rerun else None)
    for check in outcome.checks:
        if check.passed is not True:
            say(f"{file.name}: {check.name}: {check.detail}")
    if not outcome.passed:
        raise PruningBenchError(f"{file}: {outcome.word}")
    write_verification(file, outcome)
    say(f"{file.name}: {outcome.word}")


def pages(board: Board, registry: Registry) -> Iterator[tuple[Path, str]]:
    """Yield every file that follows from the results, with its content."""
    rows, findings = [], []
    for name, file in board.results().items():
        boards = build(load_results([file], details=True), [file], registry=registry)
        yield board.table(name), render(boards, "markdown").rstrip("\n") + "\n"
        rows.append(_summary(name, file))
        said = [line for line in map(_sentences, boards) if line and name in board.published]
        findings += [f"\n**{name}**\n\n{line}\n" for line in said]
    head = "| suite | cells | rows | seeds | state | table |\n|---|---:|---:|---|---|---|\n"
    yield board.readme, _between(board.readme.read_text("utf-8"), head + "".join([*rows, *findings]))


def _summary(name: str, file: Path) -> str:
    manifest = open_submission(file).manifest
    seeds = sorted({int(seed) for seed in load_results(file)["seed"]})
    cells = [
        f"[{name}](results/{file.name})", f"{manifest.cells:,}", f"{manifest.rows:,}", ", ".join(map(str, seeds)),
        origin(file).trust, f"[table](tables/{name}.md)",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _sentences(board: Results) -> str:
    """Return the sweet spots and ranks of a board as a list in Markdown."""
    lines = summary_lines(board, WIDTH, lines=MOST_LINES)
    return "\n".join(re.sub(r"([\\`_\[\]<>|])", r"\\\1", line) for line in lines)


def _between(page: str, text: str) -> str:
    """Return a page with the text between its two marks replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PruningBenchError(f"the page lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def problems(board: Board, registry: Registry) -> Iterator[str]:
    """Yield a line for everything that does not follow from the results, and for results that suites no longer ask for.

    Nothing is computed but tables.
    """
    results = board.results()
    for name in sorted(set(board.published) - results.keys()):
        yield f"results/{name}{SUFFIX}: is missing"
    for name, file in results.items():
        submission = open_submission(file)
        if submission.manifest.suite in board.published:
            suite = board.suite(submission.manifest.suite, registry)
            yield from _other_suite(name, submission, suite, registry)
        else:
            yield f"results/{file.name}: is of the suite {submission.manifest.suite!r}, which is not published here"
        verification = read_verification(file)
        if verification is None or verification.submission != submission.digest or not verification.passed:
            yield f"results/{file.name}: no verification of it has passed"
    expected = dict(pages(board, registry))
    for path, text in expected.items():
        if not path.exists() or path.read_text("utf-8") != text:
            yield f"{path.relative_to(board.folder)}: does not follow from the results"
    for path in sorted((board.folder / "tables").glob("*")):
        if path not in expected:
            yield f"{path.relative_to(board.folder)}: belongs to no result"
    if size(board.folder) > MOST_BYTES:
        yield f"the folder has {size(board.folder):,} bytes, more than {MOST_BYTES:,}"


def _other_suite(name: str, submission: Submission, suite: Suite, registry: Registry) -> Iterator[str]:
    """Yield what the suite asks for and the result lacks, or the other way round, by plan key."""
    plan = make_plan(suite, registry)
    wanted = {plan_key(cell, run) for cell in plan.cells for run in plan.tasks_of(cell)}
    there = {record.plan for record in submission.records}
    if wanted - there:
        yield f"results/{name}{SUFFIX}: the suite asks for {len(wanted - there)} task runs that it does not have"
    if there - wanted:
        yield f"results/{name}{SUFFIX}: has {len(there - wanted)} task runs that the suite no longer asks for"


def size(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the leaderboard, or check it; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=re.sub(r"\s+", " ", (__doc__ or "").partition("\n\n")[0]))
    parser.add_argument("--check", action="store_true", help="compute nothing; say what is not up to date")
    parser.add_argument("--tables", action="store_true", help="write the tables of published results; run nothing")
    parser.add_argument("--only", action="append", metavar="SUITE", help="only this suite; repeatable")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", dest="settings", help="change each suite")
    parser.add_argument("--rerun", type=int, default=0, metavar="N", help="compute N random cells of each suite again")
    parser.add_argument("--device", default="auto", help="where to compute")
    parser.add_argument("--folder", type=Path, default=Board.folder, help="the leaderboard")
    parser.add_argument("--runs", type=Path, default=Board.runs, help="the run folders")
    given = parser.parse_args(arguments)
    board = Board(given.folder, given.runs, tuple(given.only or SUITES), (*SETTINGS, *(given.settings or ())))
    registry = load_registry()
    try:
        if given.tables:
            write_pages(board, registry)
            return 0
        if not given.check:
            make(board, registry, given.rerun, given.device)
            return 0
        found = list(problems(board, registry))
    except PruningBenchError as error:
        found = [str(error)]
    say("\n".join(found) if found else "the tables follow from the results, and the results from the suites")
    if found:
        say("run: make leaderboard")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
