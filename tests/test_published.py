"""The published leaderboard: tables follow from the results, results from the suites; and the scripts that see to it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.scripts import ROOT, script
from kit.submissions import SUITE, edited, finished, forge, members, write

from pruningbench.plugins import Registry, load_registry
from pruningbench.store.submission import open_submission
from pruningbench.store.trust import verification_file

__all__ = ["finished", "members"]  # fixtures of the kit

leaderboard, submissions = script("leaderboard"), script("submissions")
Edit = Callable[[Path], None]
PAGE = f"# Results\n\n{leaderboard.BEGIN}\n{leaderboard.END}\n\nMore.\n"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, toy_registry: Registry) -> Any:
    """A leaderboard of one tiny suite, made once; nobody may change it."""
    place = tmp_path_factory.mktemp("published")
    (place / "tiny.yaml").write_text(SUITE)
    (place / "board").mkdir()
    (place / "board" / "README.md").write_text(PAGE)
    files = {"tiny": str(place / "tiny.yaml")}
    board = leaderboard.Board(place / "board", place / "runs", ("tiny",), (), files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNINGBENCH_CACHE", str(place / "cache"))
        leaderboard.make(board, toy_registry, device="cpu")
    return board


@pytest.fixture()
def board(published: Any, tmp_path: Path) -> Any:
    """A copy of the tiny leaderboard that a test may change."""
    import shutil

    folder = Path(shutil.copytree(published.folder, tmp_path / "board"))
    suite = Path(shutil.copy(published.files["tiny"], tmp_path / "tiny.yaml"))
    return replace(published, folder=folder, runs=tmp_path / "runs", files={"tiny": str(suite)})


def test_this_repository_is_up_to_date() -> None:
    """Otherwise: make leaderboard."""
    assert list(leaderboard.problems(leaderboard.Board(), load_registry())) == []


def test_nothing_is_computed_again(board: Any, toy_registry: Registry, toy_log: Callable[[], list[str]]) -> None:
    """The run folder is gone; the submission takes its place, and every file stays as it is."""
    before = {path: path.read_bytes() for path in board.folder.rglob("*") if path.is_file()}
    assert not board.runs.exists()
    leaderboard.make(board, toy_registry, device="cpu")
    assert [line for line in toy_log() if line.startswith("task")] == []
    assert {path: path.read_bytes() for path in board.folder.rglob("*") if path.is_file()} == before
    assert list(leaderboard.problems(board, toy_registry)) == []


def test_only_what_is_new_is_run(board: Any, toy_registry: Registry, toy_log: Callable[[], list[str]]) -> None:
    Path(board.files["tiny"]).write_text(SUITE.replace("[0, 0.5]", "[0, 0.5, 0.9]"))
    assert list(leaderboard.problems(board, toy_registry)) == [
        "results/tiny.pbsub.zip: the suite asks for 2 task runs that it does not have"
    ]
    leaderboard.make(board, toy_registry, device="cpu")
    assert len([line for line in toy_log() if line.startswith("task")]) == 2
    assert list(leaderboard.problems(board, toy_registry)) == []
    assert open_submission(board.result("tiny")).manifest.cells == 6


def test_a_suite_that_asks_for_something_else_is_run_again(board: Any, toy_registry: Registry) -> None:
    leaderboard.make(board, toy_registry, device="cpu")
    Path(board.files["tiny"]).write_text(SUITE.replace("[0, 0.5]", "[0, 0.6]"))
    assert len(list(leaderboard.problems(board, toy_registry))) == 2
    leaderboard.make(board, toy_registry, device="cpu")
    assert (board.runs / "tiny.before-1").is_dir()
    assert list(leaderboard.problems(board, toy_registry)) == []


def append(path: Path) -> None:
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize(
    ("file", "edit", "problem"),
    [
        ("tables/tiny.md", append, "tables/tiny.md: does not follow from the results"),
        ("tables/tiny.md", Path.unlink, "tables/tiny.md: does not follow from the results"),
        ("tables/other.md", Path.touch, "tables/other.md: belongs to no result"),
        ("results/tiny.verified.json", Path.unlink, "results/tiny.pbsub.zip: no verification of it has passed"),
        ("results/tiny.pbsub.zip", Path.unlink, "results/tiny.pbsub.zip: is missing"),
        ("README.md", lambda path: path.write_text(path.read_text().replace("checked", "audited")), "README.md: does not"),
        ("big.bin", lambda path: path.write_bytes(b"0" * (11 << 20)), "the folder has 11,"),
    ],
)  # fmt: skip
def test_what_does_not_follow_is_named(board: Any, toy_registry: Registry, file: str, edit: Edit, problem: str) -> None:
    edit(board.folder / file)
    assert any(line.startswith(problem) for line in leaderboard.problems(board, toy_registry))


def test_an_edited_result_is_named(board: Any, members: Mapping[str, bytes], toy_registry: Registry) -> None:
    forge(board.result("tiny"), members, edited(members, lambda row: row.update(value=0.9)))
    found = list(leaderboard.problems(board, toy_registry))
    assert "results/tiny.pbsub.zip: no verification of it has passed" in found
    assert "tables/tiny.md: does not follow from the results" in found


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture()
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit."""
    place = tmp_path / "repository"
    (place / "leaderboard" / "results").mkdir(parents=True)
    (place / "README.md").write_text("x")
    git(place, "init", "--quiet")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "first")
    monkeypatch.chdir(place)
    return place


def test_pull_requests(
    repository: Path, members: Mapping[str, bytes], toy_registry: Registry, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(submissions, "load_registry", lambda: toy_registry)
    results = repository / "leaderboard" / "results"
    base = git(repository, "rev-parse", "HEAD")

    def check(*options: str) -> tuple[int, str]:
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "--allow-empty", "-m", "more")
        code = submissions.main([base, git(repository, "rev-parse", "HEAD"), *options])
        return code, capsys.readouterr().out

    write(results / "mine.pbsub.zip", members)
    assert check() == (0, "1 of 1 submissions pass\n")
    forge(results / "false.pbsub.zip", members, edited(members, lambda row: row.update(value=0.9)))
    code, said = check()
    assert code == 1
    assert "leaderboard/results/false.pbsub.zip: values: " in said
    assert said.endswith("1 of 2 submissions pass\n")
    (results / "false.pbsub.zip").unlink()
    verification_file(results / "mine.pbsub.zip").write_text("{}")
    (repository / "README.md").write_text("y")
    code, said = check()
    assert code == 1
    assert "mine.verified.json: results come alone" in said
    assert "README.md: results come alone" in said
    code, said = check("--association", "MEMBER")
    assert (code, said) == (0, "1 of 1 submissions pass\n")
    rehearsal = edited(members, lambda row: row.update(limit=5))
    forge(results / "mine.pbsub.zip", members, rehearsal)
    assert check("--association", "MEMBER")[0] == 1


def test_the_workflow_pins_its_actions_and_runs_nothing_of_the_pull_request() -> None:
    text = (ROOT / ".github" / "workflows" / "leaderboard.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    steps = workflow["jobs"]["verify"]["steps"]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert all(len(name.partition("@")[2]) == 40 for name in used), "actions are pinned to commits"
    assert steps[0]["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert not [step["run"] for step in steps if "${{" in step.get("run", "")], "expressions in scripts are injections"
