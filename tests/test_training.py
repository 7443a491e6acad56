"""The fit loop: reproducible, leaves the random state alone, learns, and keeps masks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from kit.training import quick, toy_model, toy_samples
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import ArraySamples, Preprocessing, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.training.batches import epoch_batches
from pruningbench.training.fit import TrainingError, fit
from pruningbench.training.optimizing import make_optimizer, rate


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    return images.flip(-2) if float(torch.rand((), generator=generator)) < 0.5 else images


def weights(model: VisionModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_two_fits_are_equal_bit_for_bit_and_the_seed_matters(optimizer: Any) -> None:
    settings = quick(optimizer=optimizer, label_smoothing=0.1, clip_norm=1.0, warmup=0.2)
    results = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        model = toy_model()
        with isolated_randomness("caller", global_seed):
            losses = fit(model, toy_samples(), settings, seed=seed, augment=flip)
        results.append((losses, weights(model)))
    (losses, first), (same_losses, same), (other_losses, _) = results
    assert losses == same_losses
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert losses != other_losses
    assert len(losses) == 3


def test_the_callers_random_state_is_untouched() -> None:
    with isolated_randomness("caller"):
        expected = torch.rand(3)
    with isolated_randomness("caller"):
        fit(toy_model(), toy_samples(32), quick(epochs=1), seed=0)
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_learns_a_separable_problem_and_ends_in_eval_mode(mixed_precision: bool) -> None:
    model, samples, notes = toy_model(), toy_samples(), []
    losses = fit(model, samples, quick(epochs=6, mixed_precision=mixed_precision), seed=0, report=notes.append)
    assert losses[-1] < 0.1 < losses[0]
    assert notes[-1] == f"epoch 6/6, loss {losses[-1]:.3f}"
    assert not any(module.training for module in model.network.modules())
    with torch.no_grad():
        (batch,) = model.batches(samples, len(samples))
        assert (model.logits(batch.images).argmax(1) == batch.labels).all()
    assert all(value.dtype in (torch.float32, torch.int64) for value in model.network.state_dict().values())


def test_diverging_training_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"diverged in epoch \d: loss (nan|inf); lower the lr"):
        fit(toy_model(), toy_samples(), quick(lr=1e30, epochs=4), seed=0)


@pytest.mark.parametrize(
    "samples", [ArraySamples(toy_samples().images), ArraySamples(torch.zeros(0, 1, 6, 6), torch.zeros(0))]
)
def test_training_needs_labels(samples: ArraySamples) -> None:
    with pytest.raises(TrainingError, match="needs labelled samples"):
        fit(toy_model(), samples, quick(), seed=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masked_weights_are_exactly_zero_after_training(optimizer: Any) -> None:
    model = toy_model()
    parameters = prunable_parameters(model.network)
    generator = torch.Generator().manual_seed(3)
    masks = Masks({n: torch.rand(p.shape, generator=generator) < 0.3 for n, p in parameters.items()})
    before = {name: p.detach().clone() for name, p in parameters.items()}
    fit(model, toy_samples(), quick(optimizer=optimizer, weight_decay=0.01), seed=0, masks=masks)
    for name, parameter in parameters.items():
        assert torch.count_nonzero(parameter[~masks[name]]) == 0
        assert torch.count_nonzero(parameter[masks[name]] - before[name][masks[name]]) > 0


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_their_statistics_and_train_their_scale(frozen: bool) -> None:
    model = toy_model()
    before = weights(model)
    fit(model, toy_samples(), quick(freeze_norm=frozen), seed=0)
    after = weights(model)
    assert torch.equal(before["1.running_mean"], after["1.running_mean"]) is frozen
    assert int(after["1.num_batches_tracked"]) == (0 if frozen else 18)
    assert not torch.equal(before["1.weight"], after["1.weight"])


def test_parameters_without_gradient_are_left_alone() -> None:
    model = toy_model()
    model.network[0].weight.requires_grad_(False)
    before = weights(model)
    fit(model, toy_samples(), quick(), seed=0)
    assert torch.equal(before["0.weight"], weights(model)["0.weight"])
    assert not torch.equal(before["5.weight"], weights(model)["5.weight"])


def test_weight_decay_is_for_matrices_only() -> None:
    optimizer = make_optimizer(toy_model().network, quick(weight_decay=0.3))
    shapes = {group["weight_decay"]: {p.ndim for p in group["params"]} for group in optimizer.param_groups}
    assert shapes == {0.3: {2, 4}, 0.0: {1}}
    bare = nn.Linear(2, 2, bias=False)
    make_optimizer(bare, quick()).step()  # no vector at all is fine


def factors(steps: int, **changes: Any) -> list[float]:
    return [rate(step, steps, quick(**changes)) for step in range(steps + 1)]


def test_learning_rates_follow_their_closed_forms() -> None:
    assert factors(30, schedule="constant") == [1.0] * 31
    assert factors(30, schedule="cosine") == pytest.approx([0.5 + 0.5 * math.cos(math.pi * t / 30) for t in range(31)])
    assert factors(30, schedule="step")[:30] == pytest.approx([1.0] * 10 + [0.1] * 10 + [0.01] * 10)
    warm = factors(100, schedule="cosine", warmup=0.1)
    assert warm[:10] == pytest.approx([(t + 1) / 11 for t in range(10)])
    assert warm[10] == 1.0
    assert warm[55] == pytest.approx(0.5)
    assert warm[100] == pytest.approx(0.0)
    assert all(0 <= factor <= 1 for factor in warm)


def test_the_rates_reach_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    fit(toy_model(), toy_samples(48), quick(epochs=2), seed=0)
    assert seen == pytest.approx([0.05 * (0.5 + 0.5 * math.cos(math.pi * t / 6)) for t in range(6)])


@pytest.mark.parametrize(("count", "sizes"), [(32, [16, 16]), (35, [16, 16, 3]), (33, [16, 17]), (1, [1]), (16, [16])])
def test_every_sample_is_seen_once_and_none_is_alone(count: int, sizes: list[int]) -> None:
    model, samples = toy_model(), toy_samples(count)
    batches = list(epoch_batches(model, samples, samples.labels, 16, torch.Generator().manual_seed(0)))
    assert [len(labels) for _, labels in batches] == sizes
    images = model.preprocessing.denormalise(torch.cat([images for images, _ in batches]))
    seen = sorted((images * 255).round().flatten(1).tolist())
    assert seen == sorted(samples.images.float().flatten(1).tolist())


def test_a_single_last_sample_does_not_break_batch_norm() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model = VisionModel(network, Preprocessing((0.5,), (0.25,)))
    assert all(map(math.isfinite, fit(model, toy_samples(33), quick(), seed=0)))


def test_labels_are_matched_by_class_name() -> None:
    """A data set that numbers its classes in another order trains the same classes."""
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    model = VisionModel(nn.Flatten(), Preprocessing((0.0,), (1.0,)), classes=("cat", "dog", "owl"))
    swapped = ArraySamples(images, torch.tensor([0, 1, 0, 1]), classes=("owl", "cat"))
    labels = model.labels_of(swapped)
    assert labels is not None
    assert labels.tolist() == [2, 0, 2, 0]
    strange = ArraySamples(images, torch.tensor([0, 1, 0, 1]), classes=("owl", "fox"))
    with pytest.raises(PruningBenchError, match="no class 'fox'"):
        model.labels_of(strange)
    assert model.labels_of(ArraySamples(images)) is None
