"""Runs of suites on an NVIDIA GPU against the CPU; `make test` leaves them out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from kit.gpu import little_memory, only_on_a_gpu, rehearsing
from kit.runs import measured
from kit.toysuite import TOY_SUITE
from torch import nn

from pruningbench.contract import Preprocessing, PruningContext, VisionModel
from pruningbench.harness.calibrating import calibrate as calibrate_plan
from pruningbench.harness.driver import Summary
from pruningbench.harness.measure import is_out_of_memory, with_smaller_batches
from pruningbench.harness.passes import calibrate
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.pruning.masks import Masks
from pruningbench.store.journal import read_journal
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

pytestmark = pytest.mark.gpu
SMALL = """\
name: small
models: [digits-resnet]
pruners: [magnitude, snip, {use: wanda, samples: 8}]
sparsities: [0, 0.5]
data: {use: digits, classes: [0, 1, 2]}
recipes: [none, {use: finetune, epochs: 1}]
limit: 24
tasks:
  - {use: classification, data: {use: digits, split: test, classes: [0, 1, 2]}}
"""
CLOSE = 2e-2
"""Largest difference of a metric: one sample of 24 may be decided otherwise in none of its metrics but a margin."""


def run(text: str, registry: Registry, out: Path, device: str, **options: object) -> Summary:
    chosen = RunOptions(device=device, **options)  # type: ignore[arg-type]
    return execute(prepare(suite_from_text(text, registry), registry, out, chosen), registry)


def close(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two runs have the same cells, and values that rounding explains."""
    keys = ["cell", "task", "variant", "metric"]
    assert one[keys].equals(other[keys])
    return bool(((one["value"] - other["value"]).abs() <= CLOSE * one["value"].abs().clip(lower=1)).all())


def test_a_suite_has_the_values_of_the_cpu_and_repeats(
    gpu: torch.device, toy_registry: Registry, tmp_path: Path
) -> None:
    for name, device in (("cpu", "cpu"), ("gpu", "auto"), ("again", "cuda:0")):
        assert run(TOY_SUITE, toy_registry, tmp_path / name, device).ok
    here, there, again = (measured(load_results(tmp_path / name)) for name in ("cpu", "gpu", "again"))
    assert close(here, there)
    assert there["value"].equals(again["value"])
    records = read_journal(tmp_path / "gpu" / "results.jsonl")[0]
    assert {record.device for record in records} == {"cuda"}
    environment = json.loads((tmp_path / "gpu" / "environment.json").read_text())
    assert torch.cuda.get_device_name(0) in environment["device_name"]


def test_scores_are_computed_without_tf32(
    gpu: torch.device, toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toybench_parts import ToyPruner

    seen, score = set(), ToyPruner.score

    def watched(pruner: ToyPruner, context: PruningContext) -> dict[str, torch.Tensor]:
        seen.add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return score(pruner, context)

    monkeypatch.setattr(ToyPruner, "score", watched)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    run(TOY_SUITE, toy_registry, tmp_path / "run", "cuda")
    assert seen == {(False, False)}
    assert torch.backends.cudnn.allow_tf32


def test_scores_are_thresholded_where_the_network_is(
    gpu: torch.device, toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those from the cache, too, which is on the CPU; the masks are those of a CPU."""
    from toybench_parts import ToyPruner

    seen, threshold = set(), ToyPruner.threshold

    def watched(pruner: ToyPruner, scores: dict[str, torch.Tensor], sparsity: float) -> Masks:
        seen.update(one.device.type for one in scores.values())
        return threshold(pruner, scores, sparsity)

    monkeypatch.setattr(ToyPruner, "threshold", watched)
    for name, text in (("computed", TOY_SUITE), ("cached", TOY_SUITE.replace("0.5", "0.4"))):
        assert run(text, toy_registry, tmp_path / name, "cuda").ok
        assert seen == {gpu.type}
        seen.clear()
    monkeypatch.undo()
    run(TOY_SUITE, toy_registry, tmp_path / "cpu", "cpu", no_cache=True)
    masks = [sorted(one.name for one in (tmp_path / name / "masks").iterdir()) for name in ("computed", "cpu")]
    assert masks[0] == masks[1]


def test_bf16_is_recorded(gpu: torch.device, toy_registry: Registry, tmp_path: Path) -> None:
    assert run(TOY_SUITE + "precision: bf16\n", toy_registry, tmp_path / "run", "cuda").ok
    records = read_journal(tmp_path / "run" / "results.jsonl")[0]
    assert {record.made_of["precision"] for record in records} == {"bf16"}


@pytest.mark.timeout(300)
def test_two_workers_on_one_gpu_have_the_values_of_one(
    gpu: torch.device, toy_registry: Registry, tmp_path: Path
) -> None:
    device = "cpu" if rehearsing() else "cuda:0"  # other processes do not see the stand-in
    assert run(TOY_SUITE, toy_registry, tmp_path / "one", device).ok
    assert run(TOY_SUITE, toy_registry, tmp_path / "two", device, executor="processes", workers=2).ok
    one, two = (measured(load_results(tmp_path / name)) for name in ("one", "two"))
    assert close(one, two)
    assert only_on_a_gpu({record.device for record in read_journal(tmp_path / "two" / "results.jsonl")[0]} == {device})


def test_memory_that_runs_out_halves_the_batch_and_is_given_back(gpu: torch.device) -> None:
    said: list[str] = []

    def work(batch_size: int) -> int:
        if rehearsing() and batch_size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.empty(batch_size, 2**22, dtype=torch.uint8, device=gpu).numel()

    with little_memory(100 * 2**20):
        found, fitted = with_smaller_batches(work, 128, said.append)
    assert fitted == 16 and found == 16 * 2**22
    assert said == [f"out of memory: trying again with batches of {size}" for size in (64, 32, 16)]


def test_memory_that_cublas_does_not_get_counts_as_run_out() -> None:
    for text in (
        "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ):
        assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))


def test_the_choice_of_passes_fits_the_memory(gpu: torch.device) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    model = VisionModel(network.eval().to(gpu), Preprocessing((0.5,) * 3, (0.25,) * 3, 96))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with little_memory(128 * 2**20):  # an image takes 0.4 MB, and 8 channels 0.3 MB each
        found = calibrate(model, (3, 96, 96), 512)
    assert 4 <= found.batch_size <= 512
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_plan_is_measured(gpu: torch.device, toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry)
    records = calibrate_plan(plan, toy_registry, "cuda", seconds=120)
    assert records
    assert {record.device for record in records} == {"cuda"}
    assert all(record.seconds >= 0 for record in records)


@pytest.mark.timeout(300)
def test_scores_masks_and_trainings_of_a_real_suite_are_cached_alike(
    gpu: torch.device, toy_registry: Registry, tmp_path: Path
) -> None:
    assert run(SMALL, toy_registry, tmp_path / "first", "cuda").ok
    assert run(SMALL, toy_registry, tmp_path / "cached", "cuda").ok  # scores, masks and networks from the cache
    first, cached = (load_results(tmp_path / name) for name in ("first", "cached"))
    assert measured(first)["value"].equals(measured(cached)["value"])
