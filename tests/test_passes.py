"""The memory format and batch size of forward passes: chosen once, recorded, and taken from the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kit.runs import run
from torch import nn

from pruningbench.contract import Preprocessing, VisionModel
from pruningbench.harness import passes as passes_module
from pruningbench.harness.passes import Choices, Passes, calibrate, passes_of, recorded_passes
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.publishing.submitting import submit
from pruningbench.publishing.verifying import Again, verify
from pruningbench.store.cache import Cache
from pruningbench.store.journal import read_journal

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))
"""
SUITE = """\
name: large-images
models: [{{use: python, network: '{file}:build', size: 96, mean: [0.5], std: [0.25], as: net}}]
pruners: [magnitude]
sparsities: [0, 0.5]
tasks: [{{use: classification, data: {{use: digits, limit: 40}}}}]
"""


def model(side: int | None, *layers: nn.Module) -> VisionModel:
    return VisionModel(nn.Sequential(*layers).eval(), Preprocessing((0.5,), (0.25,), side))


@pytest.fixture()
def suite(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NETWORK)
    return SUITE.format(file=tmp_path / "net.py")


@pytest.fixture()
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Passes], list[Passes]]:
    """Replace the calibration by a given choice; the list grows with each calibration."""

    def replaced(choice: Passes) -> list[Passes]:
        made: list[Passes] = []

        def calibrated(*_arguments: object) -> Passes:
            made.append(choice)
            return choice

        monkeypatch.setattr(passes_module, "calibrate", calibrated)
        return made

    return replaced


@pytest.mark.parametrize("choice", [Passes(8), Passes(128, channels_last=True)])
def test_records_hold_what_is_read_again(choice: Passes) -> None:
    assert Passes.parse(str(choice)) == choice
    assert Passes.parse(f"{choice}!") is None


def test_small_images_and_images_of_their_own_size_are_not_calibrated(tmp_path: Path) -> None:
    for side in (None, 95):
        assert passes_of(model(side, nn.Conv2d(1, 2, 3)), 128, Cache(tmp_path)) is None


def test_the_fastest_candidate_wins_and_slow_ones_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[bool, int]] = []

    def seconds(candidate: VisionModel, shape: tuple[int, ...]) -> float:
        weight = candidate.network[0].weight  # type: ignore[index]
        last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
        tried.append((last, shape[0]))
        per_image = {4: 1.0, 8: 0.5, 16: 0.6}[shape[0]] if last else {4: 2.0, 8: 3.0}[shape[0]]
        return per_image * shape[0] / 100

    monkeypatch.setattr(passes_module, "seconds_of", seconds)
    found = calibrate(model(96, nn.Conv2d(2, 4, 3)), (2, 96, 96), 128)
    assert found == Passes(8, channels_last=True)
    assert tried == [(False, 4), (False, 8), (True, 4), (True, 8), (True, 16)]


def test_no_pass_is_longer_than_the_limit_and_no_batch_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def seconds(_model: VisionModel, shape: tuple[int, ...]) -> float:
        tried.append(shape[0])
        return shape[0] ** 0.5

    monkeypatch.setattr(passes_module, "seconds_of", seconds)
    assert calibrate(model(96, nn.Linear(2, 2)), (1, 96, 96), 3) == Passes(3)
    assert tried == [3]
    tried.clear()
    calibrate(model(96, nn.Linear(2, 2)), (1, 96, 96), 128)
    assert tried == [4]  # a batch of 8 would take up to 4 seconds


def test_memory_that_is_too_small_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(_model: VisionModel, shape: tuple[int, ...]) -> float:
        if shape[0] > 8:
            raise torch.OutOfMemoryError("out of memory")
        return 0.001 * shape[0] / shape[0] ** 0.5

    monkeypatch.setattr(passes_module, "seconds_of", seconds)
    assert calibrate(model(96, nn.Linear(2, 2)), (1, 96, 96), 128) == Passes(8)


def test_formats_agree_within_rounding() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3, groups=8)).eval()
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = network(images)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        Passes(4, channels_last=True).prepare(network)
        last = network(images)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(last, first, rtol=1e-5, atol=1e-5 * float(first.abs().max()))


def test_a_choice_is_made_once_for_a_machine_and_recorded(
    suite: str, toy_registry: Registry, tmp_path: Path, choose: Callable[[Passes], list[Passes]]
) -> None:
    made = choose(Passes(16, channels_last=True))
    for folder in ("one", "two"):
        run(suite, toy_registry, tmp_path / folder)
    assert len(made) == 1
    records, _ = read_journal(tmp_path / "one" / "results.jsonl")
    assert {record.batch_size for record in records} == {16}
    assert recorded_passes(records) == {"net": Passes(16, channels_last=True)}
    one, two = (load_results(tmp_path / folder)["value"].tolist() for folder in ("one", "two"))
    assert one == two and len(one) >= 2


def test_a_resumed_run_takes_the_choice_from_its_records(
    suite: str, toy_registry: Registry, tmp_path: Path, choose: Callable[[Passes], list[Passes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    choose(Passes(16, channels_last=True))
    run(suite, toy_registry, tmp_path / "run")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "another machine"))
    made = choose(Passes(4))
    run(suite.replace("[0, 0.5]", "[0, 0.5, 0.9]"), toy_registry, tmp_path / "run")
    assert made == []
    records, _ = read_journal(tmp_path / "run" / "results.jsonl")
    assert {(r.sparsity, r.batch_size) for r in records} == {(0.0, 16), (0.5, 16), (0.9, 16)}


def test_a_submission_is_computed_again_as_it_was_made(
    toy_registry: Registry, tmp_path: Path, choose: Callable[[Passes], list[Passes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a submission names no folder of this machine
    (tmp_path / "net.py").write_text(NETWORK)
    choose(Passes(16, channels_last=True))
    run(SUITE.format(file="net.py"), toy_registry, tmp_path / "run")
    submitted = submit(tmp_path / "run", toy_registry, tmp_path / "run.pbsub.zip")
    made = choose(Passes(4))
    verification = verify(submitted, toy_registry, again=Again(count=2, device="cpu", run_code=True))
    assert made == []
    assert verification.rerun is not None and len(verification.rerun.agreed) == 2 and verification.rerun.largest == 0


def test_a_batch_that_did_not_fit_is_not_tried_again_for_the_task() -> None:
    choices = Choices({"net": Passes(32), "other": None})
    assert choices.largest("net", "task", 128) == 32 and choices.largest("other", "task", 128) == 128
    choices.fitted("net", "task", 8)
    assert choices.largest("net", "task", 128) == 8
    assert choices.largest("net", "another task", 128) == 32
    assert choices.settings("net") == {"passes": "channels-first, batches of 32"}
    assert choices.settings("other") == choices.settings("unknown") == {}
