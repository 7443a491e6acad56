"""`pruningbench doctor RUN`: which components changed what they were lent."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from kit.runs import run, with_task

from pruningbench.cli.main import cli
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry

CULPRIT = "task 'toy-task' must leave everything unchanged, but parameters changed"


def lines(*args: str) -> tuple[int, list[str], str]:
    result = CliRunner().invoke(cli, ["doctor", *args], standalone_mode=False)
    code = result.return_value if isinstance(result.return_value, int) else 1
    return code, result.stderr.splitlines(), repr(result.exception)


def test_a_component_that_changed_what_it_was_lent_is_named_once(toy_registry: Registry, tmp_path: Path) -> None:
    run(with_task("meddle: true"), toy_registry, tmp_path / "dirty")
    code, printed, _ = lines(str(tmp_path / "dirty"))
    (found,) = [line for line in printed if "must leave everything unchanged" in line]
    assert CULPRIT in found and f"run {tmp_path / 'dirty'}" in found
    assert code == 1
    noted = load_results(tmp_path / "dirty", details=True)["notes"]
    assert sum("must leave everything unchanged" in note for note in noted.drop_duplicates()) == 1
    first = load_results(tmp_path / "dirty", details=True).iloc[0]
    assert f"first in {first['model']} {first['pruner']} {first['sparsity']:g} {first['recipe']} seed" in found


def test_a_clean_run_adds_nothing_and_a_folder_without_a_run_is_refused(toy_registry: Registry, tmp_path: Path) -> None:
    run(with_task("seconds: 0.0"), toy_registry, tmp_path / "clean")
    assert lines(str(tmp_path / "clean"))[1] == lines()[1]
    code, _, error = lines(str(tmp_path))
    assert code and "RunFolderError" in error and "is not a run folder" in error
