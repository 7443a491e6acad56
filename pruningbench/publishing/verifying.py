"""Checks a submission: one outcome per check, and a verification that says what was checked."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pruningbench.contract import Samples, Use
from pruningbench.errors import RunFolderError, SubmissionError
from pruningbench.plugins import Registry
from pruningbench.publishing.arithmetic import check_values
from pruningbench.publishing.checks import (
    check_code,
    check_coverage,
    check_data,
    check_masks,
    check_parts,
    check_ranges,
    check_requests,
)
from pruningbench.publishing.evidence import Evidence, UnusableSuiteError, gather
from pruningbench.publishing.repeating import repeat
from pruningbench.store.submission import Submission, open_submission
from pruningbench.store.trust import VALUES, Outcome, Rerun, Verification, read_verification
from pruningbench.version import __version__

NOTHING = "0" * 64
"""Stands for the digest of a file that is no submission."""


@dataclass(frozen=True)
class Again:
    """What to compute again.

    Attributes:
        count: number of randomly chosen cells; 0 for none.
        seed: seed of the choice; None for one that nobody knows in advance.
        device: where to compute.
        run_code: allow suites that run code outside any plugin.
    """

    count: int = 0
    seed: int | None = None
    device: str = "auto"
    run_code: bool = False


def verify(path: Path, registry: Registry, again: Again = Again(), observer: object | None = None) -> Verification:
    """Check a submission file. An earlier re-run of the same submission stays valid unless it is repeated now.

    Args:
        path: the file.
        registry: the installed components.
        again: what to compute again.
        observer: an object with observing hooks, for a re-run.

    Raises:
        RunFolderError: if there is no such file.
        UsageError: if the re-run cannot be made.
    """
    if not path.exists():
        raise RunFolderError(f"{path}: there is no such file")
    try:
        submission = open_submission(path)
    except SubmissionError as error:
        failed = Outcome(name="schema", passed=False, detail=str(error).removeprefix(f"{path}: "))
        return Verification(submission=NOTHING, pruningbench=__version__, checks=[failed])
    checks = list(_checks(submission, registry))
    rerun = None
    if again.count and all(check.passed is not False for check in checks):
        seed = secrets.randbelow(2**32) if again.seed is None else again.seed
        evidence = gather(submission, registry)
        done, rerun = repeat(
            evidence, registry, again.count, seed, device=again.device, run_code=again.run_code, observer=observer
        )
        checks.append(done)
    elif again.count:
        checks.append(Outcome(name="re-run", passed=None, detail="not made, because a check has failed"))
    else:
        rerun = _earlier(path, submission)
    return Verification(submission=submission.digest, pruningbench=__version__, checks=checks, rerun=rerun)


def _earlier(path: Path, submission: Submission) -> Rerun | None:
    """Return the re-run of an earlier verification of the same submission, if it agreed."""
    try:
        before = read_verification(path)
    except SubmissionError:
        return None
    if before is None or before.submission != submission.digest or not before.passed:
        return None
    return before.rerun


def _checks(submission: Submission, registry: Registry) -> Iterator[Outcome]:
    manifest = submission.manifest
    made = f"schema {manifest.schema_version}, {manifest.rows:,} rows, made by pruningbench {manifest.pruningbench}"
    yield Outcome(name="schema", passed=True, detail=made)
    yield Outcome(name="hashes", passed=True, detail=f"{len(manifest.members)} members have the hashes of the manifest")
    yield Outcome(name="duplicates", passed=True, detail="no row is listed twice")
    try:
        evidence = gather(submission, registry)
    except UnusableSuiteError as error:
        yield Outcome(name="suite", passed=None, detail=f"{error}; nothing else was checked")
        return
    except SubmissionError as error:
        yield Outcome(name="suite", passed=False, detail=str(error))
        return
    yield Outcome(name="suite", passed=True, detail=f"{manifest.suite}, digest {manifest.suite_digest}")
    yield check_coverage(evidence)
    yield check_requests(evidence)
    yield check_parts(evidence)
    yield check_data(evidence, _opener(evidence, registry))
    yield check_code(evidence)
    try:
        yield from check_values(evidence)
    except SubmissionError as error:  # the per-sample values are damaged
        yield Outcome(name=VALUES, passed=False, detail=str(error).removeprefix(f"{submission.where}: "))
    yield check_ranges(evidence)
    yield check_masks(evidence)


def _opener(evidence: Evidence, registry: Registry) -> Callable[[Use], Samples]:
    """Return a function that opens data sets as a run of the suite would."""
    import torch

    from pruningbench.harness.worker import Worker
    from pruningbench.store.cache import Cache

    suite = evidence.plan.suite
    worker = Worker(suite.name, registry, torch.device("cpu"), Cache(), lambda _note: None, limit=suite.limit or 0)
    return worker.shelf.open
