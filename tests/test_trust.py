"""The word that rows of a submission carry: computed from a verification of exactly that file, and shown on boards."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from kit.submissions import CHECKS, digest_of, edited, finished, forge, members, submitted

from pruningbench.cli.main import cli, guarded
from pruningbench.errors import SubmissionError
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.publishing.verifying import Again, verify
from pruningbench.store.submission import open_submission
from pruningbench.store.trust import Verification, read_verification, verification_file, write_verification

__all__ = ["finished", "members", "submitted"]  # fixtures of the kit

Members = Mapping[str, bytes]


def test_the_word_comes_from_a_verification_of_this_very_file(
    submitted: Path, members: Members, tmp_path: Path, toy_registry: Registry
) -> None:
    """A submission cannot call itself checked, and borrows no verification from another one."""
    outcome = verify(submitted, toy_registry)
    write_verification(submitted, outcome)
    assert set(load_results(submitted)["trust"]) == {"checked"}
    forged = edited(members, lambda row: row.update(value=1.0))
    forge(submitted, members, forged)
    assert set(load_results(submitted)["trust"]) == {"self-reported"}, "other content, so another digest"
    write_verification(submitted, verify(submitted, toy_registry))
    assert set(load_results(submitted)["trust"]) == {"failed verification"}
    inside = edited(members, lambda row: row.update(trust="re-run (4 of 4 cells)"))
    path = forge(tmp_path / "inside.zip", members, inside)
    assert set(load_results(path)["trust"]) == {"self-reported"}
    assert "trust" not in {field for record in open_submission(path).records for field in vars(record)}


def test_boards_say_what_was_checked(submitted: Path, finished: Path, toy_registry: Registry) -> None:
    write_verification(submitted, verify(submitted, toy_registry))
    (board,) = build(load_results(submitted), [submitted], registry=toy_registry)
    assert {row.trust for row in board.rows} == {"checked"}
    run = f"tiny-{digest_of(submitted)[:8]}"
    for kind in ("table", "markdown", "latex"):
        assert f"Submissions: {run} checked" in " ".join(render([board], kind).replace("{}", "").split()), kind
    lines = list(csv.DictReader(io.StringIO(render([board], "csv"))))
    assert {line["trust"] for line in lines} == {"checked"}
    assert {row["trust"] for row in json.loads(render([board], "json"))[0]["rows"]} == {"checked"}
    (own,) = build(load_results(finished), [finished], registry=toy_registry)
    assert {row.trust for row in own.rows} == {""}
    assert "Submissions" not in render([own], "table")
    (both,) = build(load_results([finished, submitted]), [finished, submitted], registry=toy_registry)
    assert {row.trust for row in both.rows} == {"checked"}, "of the same measurement, the one given last counts"


def test_an_earlier_rerun_stays_valid(submitted: Path, toy_registry: Registry) -> None:
    write_verification(submitted, verify(submitted, toy_registry, Again(1, seed=1, device="cpu")))
    again = verify(submitted, toy_registry)
    assert again.word == "re-run (1 of 4 cells)"
    assert [check.name for check in again.checks] == CHECKS


def test_damaged_verifications_are_refused(submitted: Path, toy_registry: Registry) -> None:
    path = verification_file(submitted)
    good = verify(submitted, toy_registry).model_dump()
    for content, words in (
        ("{", "is not JSON"),
        ("[]", "run `pruningbench verify` again"),
        (json.dumps({**good, "schema_version": 2}), "newer version"),
        (json.dumps({**good, "word": "checked"}), "word: Extra inputs"),
        (json.dumps({**good, "checks": "all"}), "checks: Input should be a valid list"),
    ):
        path.write_text(content)
        with pytest.raises(SubmissionError, match=words):
            load_results(submitted)
    path.write_text(json.dumps({**good, "checks": []}))
    assert set(load_results(submitted)["trust"]) == {"self-reported"}, "no check was made"
    assert isinstance(read_verification(submitted), Verification)


def command(*arguments: str | Path) -> int:
    return guarded(lambda: cli.main(list(map(str, arguments)), prog_name="pruningbench", standalone_mode=False))


def test_command_line(submitted: Path, members: Members, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", submitted, "--rerun", "1", "--seed", "3", "--progress", "none") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(CHECKS) + 1]] == ["ok"] * (len(CHECKS) + 1)
    assert lines[-2].endswith("tiny.pbsub.zip: re-run (1 of 4 cells)")
    assert verification_file(submitted).is_file()
    path = forge(tmp_path / "x.zip", members, edited(members, lambda row: row.update(value=1.0)))
    assert command("verify", path, "--json", "--no-record") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["passed"], report["trust"]) == (False, "failed verification")
    assert not verification_file(path).exists()
    path.write_bytes(b"PK but no zip")
    assert command("verify", path) == 1
    assert capsys.readouterr().out.startswith("FAILED  schema")
    assert command("verify", tmp_path / "absent.zip") == 2
    assert "there is no such file" in capsys.readouterr().err
