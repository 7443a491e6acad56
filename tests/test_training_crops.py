"""Random crops of photographs: timm's transforms, the same bits for any number of worker processes."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.training import quick, toy_samples
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn

from pruningbench.base.identity import tensors_digest
from pruningbench.base.randomness import generator_for, isolated_randomness, random_state
from pruningbench.contract import DataError, EncodedSamples, Preprocessing, Samples, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.store.cache import Cache
from pruningbench.training import checkpoints, crops
from pruningbench.training.checkpoints import Checkpoints
from pruningbench.training.crops import CropLoader, make_transform, worker_processes
from pruningbench.training.fit import fit
from pruningbench.training.settings import CropSettings

SIZE = 16
PREPROCESSING = Preprocessing((0.5,) * 3, (0.25,) * 3, size=SIZE, crop=0.875)
CROPS = CropSettings(workers=0)
FULL = CropSettings(crop_area=0.3, color_jitter=0.3, auto_augment="rand-m9-mstd0.5-inc1", workers=0)


def photograph(seed: int) -> bytes:
    """A picture of 60 x 30 pixels, of smooth noise, with a white frame that no centre crop contains."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 200, (5, 10, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((60, 30), Image.Resampling.BICUBIC)).copy()
    pixels[:, :10], pixels[:, -10:] = 255, 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photographs(count: int = 20, read: Callable[[int], bytes] = photograph) -> EncodedSamples:
    labels = torch.arange(count) % 2
    return EncodedSamples(
        [str(i) for i in range(count)], read, name=lambda i: f"{i}.png", fingerprint="photographs", labels=labels,
        classes=("a", "b"),
    )  # fmt: skip


def model() -> VisionModel:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
    return VisionModel(network.eval(), PREPROCESSING, classes=("a", "b"))


def epoch(
    settings: CropSettings, number: int = 0, skip: int = 0, seed: int = 1, samples: Samples | None = None
) -> list[tuple[Tensor, Tensor]]:
    samples = photographs() if samples is None else samples
    assert samples.labels is not None
    loader = CropLoader(model(), samples, samples.labels, 8, settings, seed)
    try:
        return list(loader.epoch(number, skip))
    finally:
        loader.close()


def view(settings: CropSettings, number: int, index: int) -> Tensor:
    """Return the image at a position as an epoch shows it."""
    order = torch.randperm(20, generator=generator_for(1, "epoch", number)).tolist()
    return torch.cat([images for images, _ in epoch(settings, number)])[order.index(index)]


def equal(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("settings", [CROPS, FULL], ids=["crops", "everything"])
def test_the_number_of_workers_changes_no_bit(settings: CropSettings) -> None:
    alone = epoch(settings)
    assert equal(alone, epoch(replace(settings, workers=1)))
    assert equal(alone, epoch(replace(settings, workers=3)))
    assert equal(alone[1:], epoch(replace(settings, workers=2), skip=1))
    assert not equal(alone, epoch(settings, seed=2))
    views = [view(settings, number, 3) for number in (0, 0, 1)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])  # each epoch draws anew


@pytest.mark.parametrize("workers", [0, 2])
def test_global_generators_are_not_drawn_from(workers: int) -> None:
    samples = photographs()
    assert samples.labels is not None
    loader = CropLoader(model(), samples, samples.labels, 8, replace(FULL, workers=workers), 1)
    before = random_state()
    assert len(list(loader.epoch(0))) == 3
    loader.close()
    assert all(torch.equal(value, before[name]) for name, value in random_state().items())


def test_an_image_is_what_timms_own_transform_makes_of_the_photograph() -> None:
    transform = create_transform(
        (3, SIZE, SIZE), is_training=True, use_prefetcher=True, scale=(0.3, 1.0), color_jitter=0.3,
        auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    order = torch.randperm(20, generator=generator_for(1, "epoch", 0)).tolist()
    expected = []
    for index in order:
        with Image.open(io.BytesIO(photograph(index))) as image, isolated_randomness(1, "view", 0, index):
            expected.append(torch.as_tensor(transform(image.convert("RGB"))))
    images = torch.cat([images for images, _ in epoch(FULL)])
    assert torch.equal(images, PREPROCESSING.normalise(torch.stack(expected)))
    labels = torch.cat([labels for _, labels in epoch(FULL)])
    assert labels.tolist() == [index % 2 for index in order]


def test_crops_are_of_the_photograph_and_not_of_its_centre() -> None:
    white = PREPROCESSING.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    images = torch.cat([images for images, _ in epoch(CROPS)])
    assert ((images == white).all(1).flatten(1).sum(1) > 8).sum() >= 5  # the frame is seen in many
    samples = photographs()
    centres = torch.stack([PREPROCESSING.fit(samples[i]).image for i in range(20)])
    assert not (PREPROCESSING.normalise(centres) == white).all(1).any()


def test_grey_images_and_networks_of_any_size() -> None:
    samples = toy_samples(12)
    one = VisionModel(nn.Linear(6, 2), Preprocessing((0.5,), (0.25,)), classes=("left", "right"))
    assert samples.labels is not None
    loader = CropLoader(one, samples, samples.labels, 8, CROPS, 0)
    batches = [images for images, _ in loader.epoch(0)]
    loader.close()
    assert [tuple(images.shape) for images in batches] == [(8, 1, 6, 6), (4, 1, 6, 6)]
    transform = create_transform(
        (3, 6, 6), is_training=True, use_prefetcher=True, scale=(0.08, 1.0), color_jitter=None, interpolation="bicubic"
    )
    expected = []
    for index in torch.randperm(12, generator=generator_for(0, "epoch", 0)).tolist():
        grey = Image.fromarray(samples[index].image[0].numpy())
        with isolated_randomness(0, "view", 0, index):
            expected.append(torch.as_tensor(transform(grey.convert("RGB")))[:1])
    assert torch.equal(torch.cat(batches), one.preprocessing.normalise(torch.stack(expected)))


def train(settings: CropSettings, kept: Checkpoints | None = None, stop: int = 0) -> str:
    one, passes = model(), []

    def stopping(*_args: object) -> None:
        passes.append(1)
        if stop and len(passes) > stop:
            raise KeyboardInterrupt

    one.network.register_forward_pre_hook(stopping)
    how = quick(epochs=2, batch_size=8, mixup=0.2, checkpoint_minutes=1e-9)
    fit(one, photographs(), how, seed=3, augment=settings, checkpoints=kept)
    return tensors_digest(dict(one.network.state_dict()))


def test_an_interrupted_training_on_crops_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    whole = train(CROPS)
    for stop in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            train(replace(CROPS, workers=2), Checkpoints(Cache(), {"training": 1}), stop)
    assert train(replace(CROPS, workers=1), Checkpoints(Cache(), {"training": 1})) == whole
    assert train(replace(CROPS, crop_area=0.5)) != whole


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "original", "augmix-m5-w4-d2"])
def test_posterizing_to_no_bits_gives_black_with_every_pillow(policy: str) -> None:
    transform = make_transform(PREPROCESSING, photographs(), replace(CROPS, auto_augment=policy))
    operations = [op for part in transform.transforms
                  for op in [*getattr(part, "ops", ()), *chain.from_iterable(getattr(part, "policy", ()))]
                  if op.name.startswith("Posterize")]  # fmt: skip
    image = Image.open(io.BytesIO(photograph(0))).convert("RGB")
    assert operations
    for operation in operations:
        assert np.asarray(operation.aug_fn(image, 0)).max() == 0
        assert (np.asarray(operation.aug_fn(image, 2)) == np.asarray(image) // 64 * 64).all()
        assert operation.aug_fn(image, 8) is image


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_photograph_is_named_in_one_line(workers: int) -> None:
    samples = photographs(read=lambda i: b"" if i == 11 else photograph(i))
    with pytest.raises(
        DataError, match=r"^11\.png: the image cannot be decoded \(it is empty\); replace or remove it$"
    ):
        epoch(replace(CROPS, workers=workers), samples=samples)


def test_a_worker_that_dies_is_said_in_one_line(tmp_path: Path) -> None:
    def read(index: int) -> bytes:
        if index == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return photograph(index)

    with pytest.raises(
        PruningBenchError, match="a process that reads images has ended .* take fewer `workers`"
    ) as caught:
        epoch(replace(CROPS, workers=1), samples=photographs(read=read))
    assert "\n" not in str(caught.value)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(PruningBenchError, match="auto_augment is 'nonsense', which timm does not know"):
        epoch(replace(CROPS, auto_augment="nonsense"))


def test_processes_are_for_samples_that_have_to_be_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_processes(photographs(), -1) == torch.get_num_threads()
    assert worker_processes(toy_samples(), -1) == 0
    assert worker_processes(toy_samples(), 2) == 2
    monkeypatch.setattr(crops.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert worker_processes(photographs(), 4) == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"crop_area": 0.5}, "crop_area is for augmentation: crops, but augmentation is model"),
        ({"augmentation": "crops", "crop_area": 0.0}, "crop_area is 0.0, out of its range"),
        ({"augmentation": "crops", "workers": -2}, "workers is -2, out of its range"),
        ({"augmentation": "crops", "color_jitter": 0.4, "workers": 3}, None),
    ],
)
def test_a_recipe_checks_its_crops(fields: dict[str, object], words: str | None) -> None:
    from pruningbench_recipes.basic import Finetune

    problem = Finetune(**fields).problem()  # type: ignore[arg-type]
    assert (problem is None) if words is None else (problem is not None and words in problem)


def test_a_recipe_trains_on_crops() -> None:
    from pruningbench_recipes.basic import Finetune

    class Job:
        model = VisionModel(nn.Flatten(), PREPROCESSING)

    augment = Finetune(augmentation="crops", crop_area=0.25).augment(Job)  # type: ignore[arg-type]
    assert isinstance(augment, CropSettings) and augment.crop_area == 0.25
