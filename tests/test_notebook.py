"""The notebook of the docs runs, and shows what it says; objects show themselves as tables."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

import pruningbench as pb
from pruningbench.base.html import MOST_ROWS, html_table
from pruningbench.errors import UsageError
from pruningbench.harness.notebook import NotebookProgress, in_notebook
from pruningbench.hookspecs import CellInfo, RunInfo

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells), (
        "stored clean"
    )
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [data["text/html"] for data in outputs if "text/html" in data]
    assert sum("<pre>" in page for page in pages) == 2, "the run and the evaluation"
    bars = [page for page in pages if "<progress" in page]
    assert len(bars) == 2 and "7/7 cells finished" in bars[0] and "2/2 cells finished" in bars[1]
    assert "dense-similarity" in next(page for page in pages if "<pre>" in page)
    assert sum("<caption>" in page for page in pages) == 2, "masks and diagnosis"
    assert sum("image/png" in data for data in outputs) == 1, "the curve"
    assert (tmp_path / "runs" / "notebook" / "results.jsonl").is_file()


def test_the_bar_counts_and_escapes() -> None:
    bar = NotebookProgress()
    bar._show = lambda: None  # type: ignore[method-assign]
    cell = CellInfo("k", "<net> dense", "<net>", "dense", "none", 0.0, 0)
    bar.pruningbench_run_started(RunInfo("s", Path(), 4, 1, 6))
    bar.pruningbench_cell_started(cell)
    assert 'value="1" max="4"></progress> 1/4 cells &lt;net&gt; dense' in bar.html()
    bar.pruningbench_task_done(cell, "look", [{"status": "failed", "error": "Traceback\nValueError: <b>no"}])
    bar.pruningbench_cell_done(cell, ok=False)
    assert "2/4 cells, 1 failed" in bar.html()
    assert "<p>failed: &lt;net&gt; dense, task look: ValueError: &lt;b&gt;no</p>" in bar.html()
    assert not in_notebook(), "in tests, nothing is shown"


def test_a_curve_is_named_by_metric_or_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kit.boards import record, write_run

    write_run(tmp_path, [record("dense", sparsity=0.0), record("a", sparsity=0.5), record("b", sparsity=0.5)])
    run = pb.Run(3, 3, 0, (), folder=tmp_path)
    task = pb.load_results(tmp_path)["task"].iloc[0]
    for name in ("accuracy", f"{task}.accuracy"):
        (axes,) = run.plot(name).axes
        assert axes.get_ylabel().startswith("accuracy") and len(axes.collections) >= 2
    with pytest.raises(UsageError, match="^no metric 'acuracy'; did you mean 'accuracy'"):
        run.plot("acuracy")


def test_masks_and_diagnoses_show_themselves_as_tables() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    masks = pb.Masks({"0.weight": torch.eye(3, 4, dtype=torch.bool), "2.weight": torch.zeros(2, 3, dtype=torch.bool)})
    page = masks._repr_html_()
    assert '<td style="text-align:left">0.weight</td>' in page and "3×4" in page and ">0.25<" in page
    page = pb.diagnose(network, masks)._repr_html_()
    assert "2.weight" in page and "sparsity 0.8333" in page
    assert page.count("<tr>") == 3


def test_tables_escape_and_end() -> None:
    page = html_table("<b>", ("a", "<i>"), [("<script>", 1_000_000), (None, 0.123456), (True, 1e-9)])
    assert "<script>" not in page and "&lt;script&gt;" in page and "&lt;b&gt;" in page and "&lt;i&gt;" in page
    assert "1,000,000" in page and "0.1235" in page and "True" in page and "–" in page
    assert "and 3 more" in html_table("", ("a",), [(i,) for i in range(MOST_ROWS + 3)])
