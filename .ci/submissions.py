"""Check the submissions that a pull request adds or changes: ``python .ci/submissions.py BASE HEAD``.

The files are taken out of git and verified by the code that is installed here; nothing of the pull request is
executed. A pull request of anyone but a maintainer may add submissions and nothing else, because a verification is only
worth something if maintainers alone write it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pruningbench.base.text import displayable
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registry, load_registry
from pruningbench.publishing.verifying import verify
from pruningbench.store.submission import open_submission

RESULT = re.compile(r"leaderboard/results/[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.pbsub\.zip")
MAINTAINERS = ("OWNER", "MEMBER", "COLLABORATOR")
MOST_BYTES = 5 << 20
"""Largest submission in the repository, in bytes."""


def git(*arguments: str) -> bytes:
    """Return what git prints."""
    return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout  # noqa: S603, S607


def changes(base: str, head: str) -> list[tuple[str, str]]:
    """Return (status, path) of each file that a branch changes, with renames as a removal and an addition."""
    fields = (
        git("diff", "--name-status", "--no-renames", "-z", f"{base}...{head}").decode("utf-8", "replace").split("\0")
    )
    return list(zip(fields[::2], fields[1::2], strict=False))


def refusals(changed: Sequence[tuple[str, str]]) -> list[str]:
    """Return what a pull request with results may not contain, one line each."""
    return [
        f"{path}: results come alone; remove this from the pull request"
        for status, path in changed
        if status != "A" or not RESULT.fullmatch(path)
    ]


def check(path: str, head: str, registry: Registry) -> list[str]:
    """Return the report on a submission of a branch: one line for each check that has not passed, and the word."""
    content = git("show", f"{head}:{path}")
    if len(content) > MOST_BYTES:
        return [f"{path}: {len(content):,} bytes, at most {MOST_BYTES:,} can be merged"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(path).name
        file.write_bytes(content)
        outcome = verify(file, registry)
        lines = [f"{path}: {c.name}: {c.detail}" for c in outcome.checks if c.passed is not True]
        if outcome.passed and any(record.limit for record in open_submission(file).records):
            return [*lines, f"{path}: is a rehearsal (--limit): run the whole suite"]
    return lines if outcome.passed else [*lines, f"{path}: {outcome.word}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong with the submissions of a branch; return 1 if anything is."""
    parser = argparse.ArgumentParser(description="Check the submissions that a pull request adds or changes.")
    parser.add_argument("base")
    parser.add_argument("head")
    parser.add_argument("--association", default="NONE", help="what the author is to the repository")
    given = parser.parse_args(arguments)
    changed = changes(given.base, given.head)
    submissions = [path for status, path in changed if status != "D" and RESULT.fullmatch(path)]
    problems = [] if given.association in MAINTAINERS else refusals(changed)
    passed = 0
    registry = load_registry()
    for path in submissions:
        try:
            lines = check(path, given.head, registry)
        except PruningBenchError as error:
            lines = [f"{path}: {error}"]
        failed = [line for line in lines if not line.startswith(f"{path}: code: ")]
        passed += not failed
        problems += failed
        sys.stdout.write("".join(f"{displayable(line)}\n" for line in lines if line not in failed))
    sys.stdout.write("".join(f"{displayable(line)}\n" for line in problems))
    sys.stdout.write(f"{passed} of {len(submissions)} submissions pass\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
