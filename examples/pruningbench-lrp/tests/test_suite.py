"""The example suite runs, beside components of pruningbench."""

from pathlib import Path

import pruningbench as pb
import pytest

SUITE = Path(__file__).parents[1] / "suite.yaml"


def test_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of the suite is ok, and every value is a number."""
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "cache"))
    run = pb.run(SUITE, out=tmp_path / "run")
    results = pb.load_results(run.folder)
    assert set(results["status"]) == {"ok"}
    assert results["value"].notna().all()
