"""Trust: who has checked a submission, as a word that rows carry.

``pruningbench verify`` writes a *verification* beside the submission that it checked. The verification names the
submission by its digest. The word of a row is computed from the verification and the digest of the file that was
really read, so a submission cannot call itself checked, and a verification is worth nothing for another submission. A
verification is as trustworthy as the place that it comes from: in a repository, only maintainers write it.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pruningbench.base.files import write_whole
from pruningbench.base.reading import parse_json, printable, read_file
from pruningbench.errors import DataError, SubmissionError
from pruningbench.store.submission_format import SUFFIX, first_problem

FORMAT, SCHEMA = "pruningbench-verification", 1
LARGEST = 1 << 22
VALUES = "values"
"""Name of the check that compares values with their samples."""
SELF_REPORTED, CHECKED, FAILED = "self-reported", "checked", "failed verification"


class Outcome(BaseModel):
    """One check: its name, whether it passed (None: it could not be made), and what was seen, in one line."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    passed: bool | None
    detail: str


class Rerun(BaseModel):
    """Cells that were computed again.

    Attributes:
        seed: seed of the random choice of cells.
        cells: keys of the cells that were chosen.
        agreed: keys of those cells whose values all agree within the tolerances of their metrics.
        of: number of cells in the submission.
        largest: largest deviation, as a multiple of what is allowed; None if it is not finite.
        where: cell, task, variant and metric of the largest deviation; "" if all values are equal.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    seed: int
    cells: list[str]
    agreed: list[str]
    of: int = Field(ge=1)
    largest: float | None = 0.0
    where: str = ""


class Verification(BaseModel):
    """The outcome of ``pruningbench verify`` for one submission.

    Attributes:
        format, schema_version: of the file.
        submission: digest of the submission that was checked.
        pruningbench: version that checked it.
        checks: one outcome per check.
        rerun: which cells were computed again; None if none was.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    format: str = FORMAT
    schema_version: int = SCHEMA
    submission: str = Field(pattern=r"^[0-9a-f]{64}$")
    pruningbench: str
    checks: list[Outcome]
    rerun: Rerun | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed, and values were compared with their samples."""
        return not self.failed and any(check.name == VALUES and check.passed for check in self.checks)

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(check.passed is False for check in self.checks)

    @property
    def word(self) -> str:
        """The word for rows of this submission."""
        if self.failed:
            return FAILED
        if not self.passed:
            return SELF_REPORTED
        if self.rerun is None or not self.rerun.cells:
            return CHECKED
        return f"re-run ({len(set(self.rerun.agreed))} of {self.rerun.of} cells)"


def verification_file(submission: Path) -> Path:
    """Return the file beside a submission that holds its verification."""
    name = submission.name.removesuffix(SUFFIX).removesuffix(".zip")
    return submission.with_name(f"{name}.verified.json")


def write_verification(submission: Path, verification: Verification) -> Path:
    """Write a verification beside its submission and return the file.

    Raises:
        OSError: if it cannot be written.
    """
    path = verification_file(submission)
    content = json.dumps(verification.model_dump(), indent=1, sort_keys=True) + "\n"
    write_whole(path, content.encode())
    return path


def read_verification(submission: Path) -> Verification | None:
    """Return the verification beside a submission; None if there is none.

    Raises:
        SubmissionError: if the file is damaged, or of a later version.
    """
    path = verification_file(submission)
    where = printable(path)
    try:
        values = parse_json(read_file(path, LARGEST), where)
    except FileNotFoundError:
        return None
    except DataError as error:
        raise SubmissionError(f"{error}; run `pruningbench verify` again") from None
    schema = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise SubmissionError(f"{where}: was made by a newer version of pruningbench: update pruningbench")
    try:
        return Verification.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error)
        raise SubmissionError(f"{where}: {problem}; run `pruningbench verify` again") from None


def trust_of(submission: Path, digest: str) -> str:
    """Return the word for rows of a submission with this digest: self-reported, checked, re-run or failed.

    Raises:
        SubmissionError: if there is a verification that cannot be read.
    """
    verification = read_verification(submission)
    if verification is None or verification.submission != digest or verification.format != FORMAT:
        return SELF_REPORTED
    return verification.word
