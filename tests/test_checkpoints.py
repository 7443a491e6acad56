"""Interrupted trainings: they continue after the last stored epoch and end with the same bits."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from kit.runs import run
from kit.toysuite import TOY_SUITE
from torch import Tensor, nn

from pruningbench.base.identity import tensors_digest
from pruningbench.base.randomness import random_state, set_random_state
from pruningbench.contract import ArraySamples, Context, Preprocessing, VisionModel
from pruningbench.harness.shelves import DataShelf, load_model
from pruningbench.plugins import Registry, load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind
from pruningbench.training import checkpoints
from pruningbench.training import fit as fitting
from pruningbench.training.checkpoints import ROOM, Checkpoints
from pruningbench.training.fit import fit
from pruningbench.training.settings import FitSettings, OptimizerName

EPOCHS = 5


@pytest.fixture(autouse=True)
def _store_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)


class Noisy(nn.Module):
    """Draws from all three global generators while training, as third-party networks may."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0.1 * random.random() + 0.1 * float(np.random.normal())) if self.training else x


def model() -> VisionModel:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Noisy(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 2)
    )
    return VisionModel(network, Preprocessing((0.5,), (0.5,)), classes=("a", "b"), head=("5.weight", "5.bias"))


def samples() -> ArraySamples:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 2
    images = torch.randint(0, 120, (40, 1, 6, 6), generator=generator) + 60 * labels.view(-1, 1, 1, 1)
    return ArraySamples(images.to(torch.uint8), labels, classes=("a", "b"))


def masks_of(one: VisionModel) -> Masks:
    generator = torch.Generator().manual_seed(2)
    return Masks({"5.weight": torch.rand(2, 64, generator=generator) > 0.5})


class KilledError(Exception):
    pass


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    return images.roll(int(torch.randint(6, (), generator=generator)), -1)


def train(
    kept: Checkpoints | None, settings: FitSettings, *, masked: bool, stop: int = 0, steps: int = 0
) -> tuple[str, list[float], list[str]]:
    """Train; raise after epoch `stop`, or when `steps` steps are taken and the next is computed."""
    one, said = model(), []
    if steps:
        taken: list[int] = []

        def stopping(*_args: object) -> None:
            taken.append(1)
            if one.network.training and len(taken) > steps:
                raise KilledError

        one.network.register_forward_pre_hook(stopping)

    def report(text: str) -> None:
        said.append(text)
        if stop and text.startswith(f"epoch {stop}/"):
            raise KilledError

    masks = masks_of(one) if masked else None
    if masks is not None:
        masks.apply(one.network)
    losses = fit(one, samples(), settings, seed=3, masks=masks, augment=shift, checkpoints=kept, report=report)
    return tensors_digest(dict(one.network.state_dict())), losses, said


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fields", [
    {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "sgd", "momentum": 0.0}, {"optimizer": "adamw", "lr": 0.003},
    {"schedule": "step", "warmup": 0.3}, {"freeze_head": True},
])  # fmt: skip
def test_an_interrupted_training_ends_with_the_same_bits(fields: dict[str, Any], masked: bool) -> None:
    settings = FitSettings(epochs=EPOCHS, batch_size=16, **fields)
    digest, losses, _ = train(None, settings, masked=masked)
    for stop in (2, 4):  # killed in the midst: what epoch `stop` did is lost, the epochs before are not
        with pytest.raises(KilledError):
            train(Checkpoints(Cache(), {"training": 1}), settings, masked=masked, stop=stop)
        torch.manual_seed(stop)  # a new process has other random states
    kept = Checkpoints(Cache(), {"training": 1})
    again, their_losses, said = train(kept, settings, masked=masked)
    assert (again, their_losses) == (digest, losses)
    assert said[0] == "epoch 3/5 was done before" and len(said) == 1 + 2
    assert len(list(Cache().folder.glob(f"{ROOM}/*/*"))) == 1  # only the latest state is kept
    kept.clear()
    assert list(Cache().folder.glob(f"{ROOM}/*/*")) == []


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_a_training_interrupted_in_an_epoch_ends_with_the_same_bits(optimizer: OptimizerName) -> None:
    settings = FitSettings(
        epochs=3, batch_size=16, optimizer=optimizer, lr=0.003, ema=0.9, schedule="poly", warmup=0.2, accumulate=2,
        mixup=0.3, cutmix=0.5, erasing=0.5, label_smoothing=0.1, checkpoint_minutes=1e-9,
    )  # fmt: skip
    digest, losses, _ = train(None, settings, masked=True)
    for done in (4, 6):  # passes, two a step and six an epoch: in the first epoch, and then in the second
        with pytest.raises(KilledError):
            train(Checkpoints(Cache(), {"training": 1}), settings, masked=True, steps=done)
        torch.manual_seed(done)
    again, their_losses, said = train(Checkpoints(Cache(), {"training": 1}), settings, masked=True)
    assert (again, their_losses) == (digest, losses)
    assert said[0] == "epoch 1/3 and 2 steps of the next were done before" and len(said) == 3
    assert len(list(Cache().folder.glob(f"{ROOM}/*/*"))) == 1


def test_a_state_in_an_epoch_is_stored_when_the_minutes_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    kept = Checkpoints(Cache(), {"training": 1})
    assert kept.due() and not kept.due(5)
    now[0] = 299.0
    assert kept.due() and not kept.due(5)
    now[0] = 300.0
    assert kept.due(5)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "other"])
def test_a_damaged_or_foreign_state_is_ignored_with_a_note(damage: str, recwarn: pytest.WarningsRecorder) -> None:
    settings = FitSettings(epochs=3, batch_size=16)
    digest, _, _ = train(None, settings, masked=False)
    kept = Checkpoints(Cache(), {"training": 1})
    with pytest.raises(KilledError):
        train(kept, settings, masked=False, stop=2)
    (file,) = Cache().folder.glob(f"{ROOM}/*/*")
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 255]) + content[-8:])
    elif damage == "foreign":
        file.write_bytes(b"PK\x03\x04 not ours")
    else:
        state = kept.latest()
        assert state is not None
        kept.keep({**state, "network/5.weight": torch.zeros(7)})
    again, losses, said = train(Checkpoints(Cache(), {"training": 1}), settings, masked=False)
    assert again == digest and len(losses) == 3
    notes = [str(warning.message) for warning in recwarn] + said
    expected = "of another network and is ignored" if damage == "other" else "damaged cache file is made again"
    assert any(expected in note for note in notes), notes


def test_trainings_of_other_settings_share_nothing() -> None:
    settings = FitSettings(epochs=EPOCHS, batch_size=16)
    train(Checkpoints(Cache(), {"training": 1}), settings, masked=False)
    _, _, said = train(Checkpoints(Cache(), {"training": 2}), settings, masked=False)
    assert len(said) == EPOCHS


def test_short_trainings_store_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 60.0)
    train(Checkpoints(Cache(), {"training": 1}), FitSettings(epochs=2, batch_size=16), masked=False)
    assert not (Cache().folder / ROOM).exists()


def test_all_global_generators_are_restored() -> None:
    random.gauss(0, 1)  # leaves the second of two draws for the next call
    np.random.normal()
    state = random_state()

    def draws() -> list[float]:
        return [
            random.gauss(0, 1),
            random.random(),
            float(np.random.normal()),
            float(np.random.rand()),
            float(torch.rand(())),
        ]

    first = draws()
    assert draws() != first
    set_random_state(state)
    assert draws() == first


@pytest.mark.parametrize("recipe", ["{use: finetune, epochs: 4}", "{use: iterative, levels: [0.3, 0.5], epochs: 4}"])
def test_recipes_continue_a_training(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    text = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", f"[{recipe}]").replace("0.5, 0.9", "0.5")
    text = text.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[toy-pruner]")
    run(text, toy_registry, tmp_path / "whole")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "fresh"))
    epochs: list[int] = []
    own = fitting.train_epoch

    def counting(*args: Any) -> float:
        epochs.append(1)
        if len(epochs) == 7:  # in the second training of four epochs
            raise KeyboardInterrupt
        return own(*args)

    monkeypatch.setattr(fitting, "train_epoch", counting)
    with pytest.raises(KeyboardInterrupt):
        run(text, toy_registry, tmp_path / "killed")
    before = len(epochs)
    run(text, toy_registry, tmp_path / "killed")
    trainings = 2 if "finetune" in recipe else 4
    assert len(epochs) - before == 4 * trainings - 6  # six epochs were done
    one, other = ((tmp_path / name / "results.jsonl").read_text().splitlines() for name in ("whole", "killed"))
    assert networks(one) == networks(other)
    assert list((tmp_path / "fresh").glob(f"{ROOM}/*/*")) == []


def networks(lines: list[str]) -> list[str]:
    import json

    return [json.loads(line)["made_of"]["network"] for line in lines]


MODEL = {
    "use": "digits-resnet", "plain_epochs": 2, "epochs": 3, "channels": [4, 4, 4, 4], "stem_width": 2,
    "data": {"use": "digits", "split": "train", "classes": [0, 1]},
}  # fmt: skip


def load(cache: Path, report: Callable[[str], None]) -> str:
    """Train the model, or take it from the cache; return the hash of its weights."""
    registry = load_registry()
    shelf = DataShelf(registry, lambda: context(0))

    def context(seed: int) -> Context:
        return Context(torch.device("cpu"), seed, Cache(cache), shelf, report=report)

    return load_model(bind(registry, "model", MODEL), context).fingerprint


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """A forked child has no threads of its own, and equal bits need equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_kill_9_in_the_midst_of_training_a_model_gives_the_same_weights(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        load(tmp_path / "killed", lambda text: os.write(writing, f"{text}\n".encode()) and None)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        for line in lines:
            if line.startswith("epoch 2/3"):  # of the second stage
                break
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list((tmp_path / "killed" / ROOM).glob("*/*.safetensors"))) >= 2
    again: list[str] = []
    weights = load(tmp_path / "killed", again.append)
    assert weights == load(tmp_path / "whole", lambda _: None)
    assert again[0] == "epoch 2/2 was done before" and again[1].endswith("/3 was done before")
    assert not list((tmp_path / "killed" / ROOM).glob("*/*.safetensors"))
