"""Errors name the page that explains them, and every page named exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruningbench import errors
from pruningbench.cli.main import guarded
from pruningbench.errors import PruningBenchError, UsageError

ROOT = Path(__file__).parents[1]
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PruningBenchError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_page_that_an_error_names_is_in_the_documentation(kind: type[PruningBenchError]) -> None:
    if kind in (PruningBenchError, UsageError):
        assert kind.page == ""  # of many subjects
        return
    assert "page" in vars(kind), "a new kind of error states the page that explains it"
    assert (ROOT / "docs" / f"{kind.page}.md").is_file()
    assert f": {kind.page}.md" in (ROOT / "mkdocs.yml").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_command_line_ends_an_error_with_its_page(
    kind: type[PruningBenchError], capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise kind("it went\nwrong")

    assert guarded(work) == kind.exit_code
    reference = f" (see docs: {kind.page})" if kind.page else ""
    assert capsys.readouterr().err == f"error: it went wrong{reference}\n"
    assert str(kind("it went wrong")) == "it went wrong"  # in Python and in journals, the message alone


def test_a_suites_error_leads_to_the_page_of_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pruningbench.cli.main import cli

    (tmp_path / "wrong.yaml").write_text("name: x\nmodles: []\n")
    wrong = str(tmp_path / "wrong.yaml")
    assert guarded(lambda: cli.main(["plan", wrong], prog_name="pruningbench", standalone_mode=False)) == 2
    assert capsys.readouterr().err.endswith("did you mean 'models'? (see docs: suites)\n")
