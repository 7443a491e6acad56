"""``pruningbench site``: what it writes, and its errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.boards import failure, record, write_run
from kit.smallruns import small_run

from pruningbench.cli.main import cli, guarded
from pruningbench.site.files import MARKER
from pruningbench.version import __version__


def call(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed."""
    codes = []
    runner = CliRunner()

    def work() -> int:
        codes.append(guarded(lambda: cli.main([*map(str, arguments)], prog_name="pruningbench", standalone_mode=False)))
        return codes[0]

    with runner.isolation() as streams:
        work()
        printed = b"".join(stream.getvalue() for stream in streams[:2] if stream)
    return codes[0], printed.decode()


def test_site_is_one_folder_that_says_what_it_is(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    code, printed = call("site", run, "--out", tmp_path / "site", "--title", "All about <pruning>")
    assert code == 0
    assert str(tmp_path / "site" / "index.html") in printed
    assert json.loads((tmp_path / "site" / MARKER).read_text()) == {"pruningbench": __version__}
    assert "<title>All about &lt;pruning&gt;</title>" in (tmp_path / "site" / "index.html").read_text()
    (tmp_path / "site" / "stray.html").write_text("x")
    assert call("site", run, "--out", tmp_path / "site")[0] == 0, "an own site is replaced"
    assert not (tmp_path / "site" / "stray.html").exists()


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    made = []
    for name in ("one", "two"):
        assert call("site", run, "--out", tmp_path / name)[0] == 0
        made.append(
            {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        )
    assert made[0] == made[1]


def test_links_of_the_site_lead_to_its_files(tmp_path: Path) -> None:
    assert call("site", small_run(tmp_path / "run"), "--out", tmp_path / "site")[0] == 0
    for page in (tmp_path / "site").glob("*.html"):
        for address in re.findall(r'(?:src|href)="([^"#]+)', page.read_text("utf-8")):
            assert (page.parent / address).is_file(), f"{page.name}: {address}"


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "foreign"])
def test_errors_are_one_line_and_write_nothing(tmp_path: Path, kind: str) -> None:
    run, out = tmp_path / "run", tmp_path / "site"
    if kind == "file":
        run.write_text("x")
    elif kind == "empty":
        run.mkdir()
    elif kind == "foreign":
        small_run(run)
        out.mkdir()
        (out / "thesis.tex").write_text("x")
    before = sorted(p.name for p in tmp_path.iterdir())
    code, printed = call("site", run, "--out", out)
    assert code == 2
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    if kind == "foreign":
        assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_runs_without_values_or_without_pruned_networks_still_make_a_site(tmp_path: Path) -> None:
    write_run(tmp_path / "failed", [failure("a", error="boom")])
    write_run(tmp_path / "dense", [record("dense", sparsity=0.0)])
    write_run(tmp_path / "none", [])
    (tmp_path / "none" / "results.jsonl").touch()
    for name in ("failed", "dense", "none"):
        assert call("site", tmp_path / name, "--out", tmp_path / f"site-{name}")[0] == 0
        shutil.rmtree(tmp_path / f"site-{name}")


def test_several_runs_on_other_data_are_boards_of_their_own(tmp_path: Path) -> None:
    write_run(
        tmp_path / "one", [record("a", data_fingerprint="d1"), record("dense", sparsity=0.0, data_fingerprint="d1")]
    )
    write_run(
        tmp_path / "two", [record("a", data_fingerprint="d2"), record("dense", sparsity=0.0, data_fingerprint="d2")]
    )
    assert call("site", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "site")[0] == 0
    data = (tmp_path / "site" / "data" / "boards.js").read_text()
    assert data.count('"data"') == 2
    assert (tmp_path / "site" / "data" / "board-1.js").is_file()
    assert (tmp_path / "site" / "data" / "answers-1.js").is_file()
