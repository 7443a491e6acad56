"""The example suite runs, beside components of pruningbench, on random images in the layout of CIFAR-10."""

from pathlib import Path

import pruningbench as pb
import pytest
import torch

SUITE = Path(__file__).parents[1] / "suite.yaml"


def test_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of the suite is ok, and every value is a number."""
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    rows = torch.randint(0, 256, (40, 3073), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    rows[:, 0] = torch.arange(40) % 10  # the label of each image
    folder = tmp_path / "data/cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(rows.numpy().tobytes())
    run = pb.run(SUITE, out=tmp_path / "run")
    results = pb.load_results(run.folder)
    assert set(results["status"]) == {"ok"}
    assert len(set(results["model"])) == 2
    assert results["value"].notna().all()
