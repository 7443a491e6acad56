"""Settings of a training: optimizers, schedules, precision, parts of batches, moving averages, mixed images."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.training import quick, toy_model, toy_samples
from torch import Tensor, nn

from pruningbench.contract import Preprocessing, VisionModel
from pruningbench.contract.precision import kernels
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.training.fit import fit
from pruningbench.training.mixing import mixing_of
from pruningbench.training.optimizing import make_optimizer, make_schedule, rate
from pruningbench.training.settings import FitSettings, OptimizerName, ScheduleName


def weights(model: VisionModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def plain_model() -> VisionModel:
    """A network without batch norm and dropout, whose loss is a mean over its samples."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    return VisionModel(network.eval(), Preprocessing((0.5,), (0.25,)), classes=("left", "right"))


def random_masks(model: VisionModel, seed: int) -> Masks:
    generator = torch.Generator().manual_seed(seed)
    parameters = prunable_parameters(model.network)
    return Masks({name: torch.rand(p.shape, generator=generator) < 0.4 for name, p in parameters.items()})


@settings(max_examples=40, deadline=None)
@given(
    optimizer=st.sampled_from(get_args(OptimizerName)),
    schedule=st.sampled_from(get_args(ScheduleName)),
    precision=st.sampled_from(["float32", "tf32", "bf16"]),
    fields=st.fixed_dictionaries({
        "channels_last": st.booleans(), "accumulate": st.integers(1, 5), "ema": st.sampled_from([0.0, 0.5, 0.99]),
        "decay_all": st.booleans(), "weight_decay": st.sampled_from([0.0, 0.1]), "mixup": st.sampled_from([0.0, 0.8]),
        "cutmix": st.sampled_from([0.0, 1.0]), "erasing": st.sampled_from([0.0, 0.5]),
        "clip_norm": st.sampled_from([0.0, 1.0]), "warmup": st.sampled_from([0.0, 0.3]),
        "label_smoothing": st.sampled_from([0.0, 0.1]), "freeze_norm": st.booleans(),
    }),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_masks_are_exact_after_each_step_under_all_settings(
    optimizer: OptimizerName, schedule: ScheduleName, precision: Any, fields: dict[str, Any], seed: int
) -> None:
    model = toy_model()
    masks = random_masks(model, seed)
    parameters = prunable_parameters(model.network)
    checked = []

    def check(*_args: object) -> None:
        checked.append(all(torch.count_nonzero(parameters[name][~masks[name]]) == 0 for name in masks))

    before = weights(model)
    handle = model.network.register_forward_pre_hook(check)
    how = quick(epochs=2, lr=0.003, optimizer=optimizer, schedule=schedule, precision=precision, **fields)
    assert how.out_of_range() is None
    fit(model, toy_samples(33), how, seed=seed, masks=masks)
    handle.remove()
    check()
    assert all(checked) and len(checked) >= 5
    after = weights(model)
    assert any(not torch.equal(before[name][masks[name]], after[name][masks[name]]) for name in masks)
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in model.network.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "lamb"])
@pytest.mark.parametrize("parts", [2, 3, 16])
def test_parts_of_a_batch_give_the_step_of_the_whole(parts: int, optimizer: OptimizerName) -> None:
    whole, cut = plain_model(), plain_model()
    passes = []
    cut.network.register_forward_pre_hook(lambda _module, args: passes.append(len(args[0])))
    losses = fit(whole, toy_samples(40), quick(optimizer=optimizer, clip_norm=1.0), seed=0)
    their = fit(cut, toy_samples(40), quick(optimizer=optimizer, clip_norm=1.0, accumulate=parts), seed=0)
    assert their == pytest.approx(losses, abs=1e-6)
    assert max(passes) == math.ceil(16 / parts) and sum(passes) == 3 * 40
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(cut)[name], tensor, atol=1e-6, rtol=0)


def test_bf16_is_what_mixed_precision_was() -> None:
    one, other, exact = toy_model(), toy_model(), toy_model()
    fit(one, toy_samples(), quick(precision="bf16"), seed=0)
    fit(other, toy_samples(), quick(mixed_precision=True), seed=0)
    fit(exact, toy_samples(), quick(), seed=0)
    assert all(torch.equal(weights(one)[name], weights(other)[name]) for name in weights(one))
    assert not torch.equal(weights(one)["0.weight"], weights(exact)["0.weight"])


def test_only_tf32_allows_tf32_and_the_switches_are_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    backends: Any = torch.backends

    def allowed() -> tuple[bool, bool]:
        return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32

    before = allowed()
    for precision, expected in (("float32", False), ("tf32", True), ("bf16", False)):
        with kernels(precision):
            assert allowed() == (expected, expected)
        assert allowed() == before


def test_channels_last_holds_during_training_only_and_changes_little() -> None:
    model, usual = plain_model(), plain_model()  # without dropout, whose masks follow the order in memory
    model.network[0], usual.network[0] = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
    usual.network[0].load_state_dict(model.network[0].state_dict())
    seen = []

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        parts = (args[0], next(module.parameters()))
        seen.append(all(one.is_contiguous(memory_format=torch.channels_last) for one in parts))

    model.preprocessing = usual.preprocessing = Preprocessing((0.5,) * 3, (0.25,) * 3)
    handle = model.network.register_forward_pre_hook(look)
    fit(model, toy_samples(), quick(channels_last=True), seed=0)
    fit(usual, toy_samples(), quick(), seed=0)
    handle.remove()
    assert seen and all(seen)
    assert all(p.is_contiguous() for p in model.network.parameters())
    for name, tensor in weights(usual).items():
        torch.testing.assert_close(weights(model)[name], tensor, atol=1e-5, rtol=1e-4)


def test_training_ends_with_the_moving_average() -> None:
    model, plain = toy_model(), toy_model()
    averaged = {name: value.clone() for name, value in plain.network.named_parameters()}
    step = torch.optim.SGD.step

    def following(self: torch.optim.SGD, *args: Any) -> Any:
        result = step(self, *args)
        for name, value in plain.network.named_parameters():
            averaged[name] = 0.8 * averaged[name] + 0.2 * value.detach()
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim.SGD, "step", following)
        fit(plain, toy_samples(), quick(), seed=0)
    fit(model, toy_samples(), quick(ema=0.8), seed=0)
    for name, value in model.network.named_parameters():
        torch.testing.assert_close(value.detach(), averaged[name].detach(), atol=1e-6, rtol=1e-5)
    assert not torch.equal(weights(model)["5.weight"], weights(plain)["5.weight"])


@pytest.mark.parametrize(("decay_all", "expected"), [(False, {0.3: {2, 4}, 0.0: {1}}), (True, {0.3: {1, 2, 4}})])
def test_decay_all_also_decays_norms_and_biases(decay_all: bool, expected: dict[float, set[int]]) -> None:
    for optimizer in ("sgd", "adamw", "lamb"):
        made = make_optimizer(toy_model().network, quick(weight_decay=0.3, decay_all=decay_all, optimizer=optimizer))
        shapes: dict[float, set[int]] = {}
        for group in made.param_groups:
            shapes.setdefault(group["weight_decay"], set()).update(p.ndim for p in group["params"])
        assert shapes == expected


def test_step_epochs_divides_by_ten_every_so_many_epochs() -> None:
    """The 90 epochs of the common recipe for ImageNet: 1, .1 and .01, and every 30 epochs of longer ones as well."""
    for epochs, expected in ((90, [0, 1, 2]), (300, list(range(10)))):
        how = quick(epochs=epochs, schedule="step", step_epochs=30)
        steps = 7 * epochs
        by_epoch = [{rate(epoch * 7 + i, steps, how) for i in range(7)} for epoch in range(epochs)]
        assert all(len(rates) == 1 for rates in by_epoch)
        assert [math.log10(by_epoch[epoch].pop()) for epoch in range(0, epochs, 30)] == pytest.approx(
            [-k for k in expected]
        )
    assert [rate(i, 21 * 7, quick(epochs=21, schedule="step")) for i in (0, 48, 49, 98)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )


def rates(done: int = 0, **fields: Any) -> list[float]:
    """Return the rates of 100 steps, beginning with number `done`."""
    how = quick(lr=0.5, **fields)
    optimizer = make_optimizer(plain_model().network, how)
    schedule, seen = make_schedule(optimizer, how, 100, done), []
    for _ in range(done, 100):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_a_schedule_continues_where_it_was(schedule: str) -> None:
    assert rates(37, schedule=schedule, warmup=0.4) == pytest.approx(rates(schedule=schedule, warmup=0.4)[37:])


def test_schedules_of_timm_follow_their_closed_forms() -> None:
    assert rates(schedule="poly") == pytest.approx([0.5 * math.sqrt(1 - t / 100) for t in range(100)])
    assert rates(schedule="tanh") == pytest.approx(
        [0.25 * (1 - math.tanh(-7 * (1 - t / 100) + 3 * t / 100)) for t in range(100)]
    )
    assert rates(schedule="cosine", min_lr=0.1) == pytest.approx(
        [0.1 + 0.2 * (1 + math.cos(math.pi * t / 100)) for t in range(100)]
    )
    for schedule in ("poly", "tanh", "cosine"):
        warm = rates(schedule=schedule, warmup=0.2, min_lr=0.1)
        assert warm[:20] == sorted(warm[:20]) and warm[0] == pytest.approx(0.5 / 21) and max(warm) <= 0.5
        assert warm[20] == pytest.approx(0.5, rel=1e-3) and 0.1 <= warm[99] < 0.17


@pytest.mark.parametrize("count", [1, 8, 9])
def test_mixed_images_have_mixed_labels(count: int) -> None:
    model = toy_model()
    mixing = mixing_of(model, quick(mixup=0.8, cutmix=1.0, label_smoothing=0.1), 3)
    assert mixing is not None
    labels = torch.arange(count) % 2
    fresh = labels.view(-1, 1, 1, 1) * torch.ones(1, 1, 6, 6)  # each image is its label
    images, targets = mixing.batch(fresh.clone(), labels, 0, 0)
    same, equal = mixing.batch(fresh.clone(), labels, 0, 0)
    assert torch.equal(images, same) and torch.equal(targets, equal)
    assert targets.shape == (count, 2) and targets.sum(1) == pytest.approx(torch.ones(count))
    share = (targets[:, 1] - 0.05) / 0.9  # without smoothing
    assert images.mean((1, 2, 3)) == pytest.approx(share, abs=1e-5)
    if count % 2:
        assert torch.equal(images[-1], fresh[-1])
    else:
        other, _ = mixing.batch(fresh.clone(), labels, 0, 1)
        assert not torch.equal(images, other)


def test_erased_rectangles_are_noise_of_the_seed() -> None:
    mixing = mixing_of(toy_model(), quick(erasing=0.5), 3)
    assert mixing is not None
    images, labels = torch.full((64, 1, 12, 12), 9.0), torch.zeros(64, dtype=torch.int64)
    erased, targets = mixing.batch(images.clone(), labels, 0, 0)
    again, _ = mixing.batch(images.clone(), labels, 0, 0)
    assert torch.equal(erased, again) and torch.equal(targets, labels)
    touched = (erased != 9).flatten(1).any(1).float().mean()
    assert 0.25 < float(touched) < 0.75
    assert float((erased == 9).float().mean()) > 0.6


def test_labels_are_mixed_only_if_the_classes_are_known() -> None:
    model = toy_model()
    model.classes = ()
    with pytest.raises(PruningBenchError, match="names its classes; set both to 0"):
        mixing_of(model, quick(mixup=0.2), 0)
    assert mixing_of(model, quick(), 0) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"accumulate": 0}, "accumulate is 0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"min_lr": 0.05}, "min_lr is 0.05"),
        ({"mixup": -1.0}, "mixup is -1.0"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes is 0.0"),
        ({"mixed_precision": True, "precision": "tf32"}, "precision is tf32; leave one of them out"),
        ({"step_epochs": 3}, "step_epochs is for schedule: step, but schedule is cosine"),
        ({"min_lr": 0.001, "schedule": "constant"}, "min_lr is for schedule: cosine, tanh, poly"),
    ],
)
def test_settings_without_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    problem = quick(**fields).out_of_range()
    assert problem is not None and words in problem
    assert FitSettings().out_of_range() is None
