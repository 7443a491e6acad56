"""The Python of the documentation runs: each page's blocks in order, in a folder with finished runs."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from kit.docpages import PAGES, blocks
from kit.runs import run
from kit.scripts import ROOT
from kit.submissions import SUITE, finished, members
from torch import nn

import pruningbench as pb
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.publishing.submitting import submit

__all__ = ["finished", "members"]  # fixtures of the kit

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
INSTEAD = {
    '"quickstart"': '"tiny.yaml"', "hub:OWNER/NAME": "quickstart.pbsub.zip", '"smallest-pruner"': '"magnitude"',
}  # fmt: skip
"""What stands for a long run, for a hub, and for a package that is not installed."""


@pytest.fixture()
def folder(finished: Path, toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs that the pages name, all of the tiny suite."""
    for name in ("first", "second", "main", "mine", "quickstart", "my-suite"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    shutil.copy(submit(finished, toy_registry, tmp_path / "q.pbsub.zip"), tmp_path / "quickstart.pbsub.zip")
    (tmp_path / "tiny.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_of_the_page_runs(
    page: Path, folder: Path, toy_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network: nn.Module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
    )
    if page.name == "suites.md":
        run(f"{SUITE}keep: weights\n", toy_registry, folder / "runs" / "kept")
        shutil.rmtree(folder / "runs" / "my-suite")
        (folder / "runs" / "kept").rename(folder / "runs" / "my-suite")
    elif page.name == "README.md":
        shutil.rmtree(folder / "runs" / "first")  # it runs a suite into it
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    module = ModuleType("page")  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, "page", module)
    names = vars(module)
    names.update(pb=pb, pruningbench=pb, network=network, optimizer=optimizer)
    if (folder / "runs" / "my-suite").is_dir():
        names["cell"] = load_results(folder / "runs" / "my-suite").query("pruner != 'dense'").iloc[-1].cell
    for text in blocks(page, "python"):
        for shown, used in INSTEAD.items():
            text = text.replace(shown, used)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, str(page), "exec"), names)
