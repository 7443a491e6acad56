"""Training on an NVIDIA GPU against the CPU; `make test` leaves them out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit.gpu import only_on_a_gpu, rehearsing
from kit.parallel import furthest, masks_of, net, state
from kit.training import quick, toy_model, toy_samples

from pruningbench.contract import VisionModel
from pruningbench.store.cache import Cache
from pruningbench.training import checkpoints
from pruningbench.training.checkpoints import Checkpoints
from pruningbench.training.errors import TrainingError
from pruningbench.training.fit import fit

pytestmark = pytest.mark.gpu


class KilledError(Exception):
    """Ends a training where a person would."""


def there(model: VisionModel, device: torch.device) -> VisionModel:
    model.network.to(device)
    return model


def on_cpu(model: VisionModel) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in state(model).items()}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "adamw", "lr": 0.003, "ema": 0.8, "accumulate": 2, "clip_norm": 1.0},
        {"mixup": 0.5, "cutmix": 0.5, "erasing": 0.5, "label_smoothing": 0.1},
        {"channels_last": True},
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_a_training_takes_the_steps_of_the_cpu(fields: dict[str, Any], masked: bool, gpu: torch.device) -> None:
    models = [net(), there(net(), gpu), there(net(), gpu)]
    losses = [
        fit(model, toy_samples(37), quick(epochs=2, **fields), seed=3, masks=masks_of(model) if masked else None)
        for model in models
    ]
    here, one, again = map(on_cpu, models)
    assert models[1].device.type == gpu.type
    assert furthest(here, one) < 1e-4
    assert furthest(one, again) == 0
    assert losses[1] == losses[2]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_precisions_differ_and_learn(gpu: torch.device) -> None:
    losses = {}
    for precision in ("float32", "bf16", "tf32"):
        model = there(toy_model(), gpu)
        losses[precision] = fit(model, toy_samples(), quick(precision=precision), seed=0)
        assert all(value.dtype != torch.bfloat16 for value in model.network.state_dict().values())
        assert losses[precision][-1] < losses[precision][0]
    assert only_on_a_gpu(losses["bf16"] != losses["float32"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_with_the_same_bits(
    optimizer: str, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    how = quick(epochs=4, optimizer=optimizer, lr=0.003, ema=0.9)

    def report(message: str) -> None:
        if "3/4" in message:
            raise KilledError

    whole, stopped, resumed = (there(toy_model(), gpu) for _ in range(3))
    losses = fit(whole, toy_samples(), how, seed=1)
    with pytest.raises(KilledError):
        fit(stopped, toy_samples(), how, seed=1, checkpoints=Checkpoints(Cache(), {"of": optimizer}), report=report)
    torch.rand(3, device=gpu)  # a new process has other random states
    kept = Checkpoints(Cache(), {"of": optimizer})
    assert kept.latest() is not None
    assert fit(resumed, toy_samples(), how, seed=1, checkpoints=kept) == losses
    assert furthest(on_cpu(whole), on_cpu(resumed)) == 0


def test_more_processes_than_gpus_are_refused(gpu: torch.device) -> None:
    count = torch.cuda.device_count()
    with pytest.raises(TrainingError, match=f"processes is {count + 1}, each on its own GPU"):
        fit(there(net(), gpu), toy_samples(), quick(processes=count + 1), seed=0)


@pytest.mark.timeout(600)
def test_a_compiled_training_takes_the_same_steps(gpu: torch.device) -> None:
    device = torch.device("cpu") if rehearsing() else gpu  # a compiler sees through the stand-in
    models = [there(net(), device), there(net(), device)]
    for model, compiled in zip(models, (False, True), strict=True):
        fit(model, toy_samples(37), quick(epochs=1, compile=compiled), seed=3)
    assert furthest(*map(on_cpu, models)) < 1e-4
