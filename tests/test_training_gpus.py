"""Trainings on two NVIDIA GPUs; `make test` leaves them out, and without the GPUs they fail."""

from __future__ import annotations

import pytest
import torch
from kit.parallel import Ending, furthest, left_behind, masks_of, net, state
from kit.training import quick, toy_samples
from torch import nn

from pruningbench.contract import VisionModel
from pruningbench.training.errors import TrainingError
from pruningbench.training.fit import fit

pytestmark = pytest.mark.gpus


@pytest.fixture(autouse=True)
def _two_gpus() -> None:
    """A test of GPUs that did not run on them has not passed."""
    found = torch.cuda.device_count()
    assert found >= 2, f"these tests need two NVIDIA GPUs, and torch sees {found}"
    assert torch.distributed.is_nccl_available(), "this torch has no NCCL"


def on_gpu(norm: str = "batch", *more: nn.Module) -> VisionModel:
    model = net(norm, *more)
    model.network.to("cuda:0")
    return model


def test_nccl_takes_the_steps_of_one_gpu() -> None:
    for norm, fields in (("layer", {}), ("batch", {"accumulate": 2, "ema": 0.8, "mixup": 0.5})):
        models = [on_gpu(norm), on_gpu(norm)]
        for model, processes in zip(models, (1, 2), strict=True):
            how = quick(epochs=2, processes=processes, **fields)  # type: ignore[arg-type]
            fit(model, toy_samples(37), how, seed=3, masks=masks_of(model))
        assert furthest(*map(state, models)) < 1e-5
        assert models[1].device == torch.device("cuda:0") and left_behind() == []


@pytest.mark.parametrize("sync_norm", [True, False])
@pytest.mark.timeout(120)
def test_a_killed_process_ends_a_training_that_waits_for_it_in_nccl(sync_norm: bool) -> None:
    with pytest.raises(TrainingError, match="process 2 of 2 of this training was killed by SIGKILL"):
        fit(on_gpu("batch", Ending(4, "killed")), toy_samples(40), quick(processes=2, sync_norm=sync_norm), seed=0)
    assert left_behind() == []


def test_a_compiled_training_on_two_gpus_takes_the_same_steps() -> None:
    models = [on_gpu(), on_gpu()]
    for model, compiled in zip(models, (False, True), strict=True):
        fit(model, toy_samples(37), quick(epochs=2, processes=2, compile=compiled), seed=3)
    assert furthest(*map(state, models)) < 1e-5


def test_equal_seeds_give_equal_bits_in_bf16() -> None:
    models = [on_gpu(), on_gpu()]
    for model in models:
        fit(model, toy_samples(32), quick(epochs=2, processes=2, precision="bf16"), seed=3)
    assert furthest(*map(state, models)) == 0
