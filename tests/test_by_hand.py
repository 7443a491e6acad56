"""The notebook that repeats a suite by hand with captum, timm and scikit-learn: what it compares is equal."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "by-hand.ipynb"
SMALL = {"CROPS": 1, "EXPLAINED": 1, "DIGITS": 60}
"""The part that is repeated here."""
OTHERS = """
compare("others", [1.0, 2.0], [1.0, 2.0 + 2e-5], 1e-5)
compare("equal", [1.0, 2.0], [1.0, 2.0 + 5e-6], 1e-5)
[bool(row[-1]) for row in rows[-2:]]
"""
"""A cell after the last one: a difference that is not allowed, and one that is."""


def reduced(source: str) -> str:
    """Return the source of a cell with the constants of `SMALL` in place of its own."""
    for name, value in SMALL.items():
        source, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", source, flags=re.MULTILINE)
        assert found == 1, name
    return source


def test_the_suite_gives_what_is_computed_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells), (
        "stored clean"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    by_hand = code[4:-2]
    assert "load_state_dict" in by_hand[0].source and "def lost" in by_hand[-1].source
    assert not any("pruningbench" in cell.source or "pb." in cell.source for cell in by_hand)
    code[0].source = reduced(code[0].source)
    notebook.cells.append(nbformat.v4.new_code_cell(OTHERS))  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (table,) = (output.data["text/plain"] for output in code[-2].outputs if "data" in output)
    compared = [line.split("  ")[0] for line in table.splitlines()]
    for what in ("weights kept", "accuracy", "maps: saliency", "maps: integrated-gradients", "maps: grad-cam",
                 "deletion: integrated-gradients", "accuracy: linear-probe", "accuracy: knn", "boxes", "corloc"):  # fmt: skip
        assert what in compared, what
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "[False, True]"
