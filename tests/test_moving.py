"""Masks that move while training: the schedule, each motion against its definition, and exactness."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.training import quick, toy_model, toy_samples
from pruningbench_magnitude.motions import GradualMotion, MovementMotion, RiglMotion
from pruningbench_magnitude.moving import Gradual, Rigl
from pruningbench_magnitude.schedule import CubicSchedule
from torch import nn

import pruningbench as pb
from pruningbench.contract import PruningContext
from pruningbench.errors import UsageError
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.training.fit import fit, number_of_steps

NAMES = ["gradual", "movement", "rigl"]


def pairs(count: int = 3, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 1, 6, 6, generator=generator), torch.randint(0, 2, (size,), generator=generator))
        for _ in range(count)
    ]


def test_the_cubic_schedule_is_the_papers() -> None:
    schedule = CubicSchedule.over(100, 0.1, 0.9, 0.2, 0.8, 10)
    seen = {done: schedule.sparsity_after(done) for done in range(101) if schedule.sparsity_after(done) is not None}
    assert list(seen) == [30, 40, 50, 60, 70, 80]
    assert seen == pytest.approx({t: 0.9 - 0.8 * (1 - (t - 20) / 60) ** 3 for t in seen})
    assert seen[80] == 0.9


@given(
    steps=st.integers(1, 500),
    span=st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda s: s[0] < s[1]),
    interval=st.integers(1, 60),
    initial=st.floats(0, 0.99),
    final=st.floats(0, 0.99),
)
def test_every_schedule_rises_and_ends_at_the_final_sparsity(
    steps: int, span: tuple[float, float], interval: int, initial: float, final: float
) -> None:
    schedule = CubicSchedule.over(steps, initial, final, *span, interval)
    values = [s for s in map(schedule.sparsity_after, range(1, steps + 1)) if s is not None]
    assert values[-1] == final
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9])
def test_prune_trains_a_copy_prunes_exactly_and_leaves_the_network(name: str, sparsity: float) -> None:
    network = toy_model().network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fields: dict[str, Any] = {"epochs": 4, "interval": 2}
    masks = pb.prune(network, name, sparsity, pairs(), **fields)
    assert masks.total - masks.kept == round(sparsity * masks.total)
    assert masks == pb.prune(network, name, sparsity, pairs(), **fields)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_data_and_labels_are_needed(name: str) -> None:
    network = toy_model().network
    with pytest.raises(UsageError, match=f"{name}' needs data"):
        pb.prune(network, name, 0.5)
    with pytest.raises(UsageError, match=f"{name}' needs labels"):
        pb.prune(network, name, 0.5, [(pairs()[0][0], None)])


@pytest.mark.parametrize("name", NAMES)
def test_frozen_networks_are_named(name: str) -> None:
    network = toy_model().network
    network.requires_grad_(False)
    with pytest.raises(UsageError, match=f"{name}' trains, but all parameters of the network are frozen"):
        pb.prune(network, name, 0.5, pairs())


class Twice(nn.Linear):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_are_no_logits_are_named(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), Twice(36, 2))
    with pytest.raises(UsageError, match=rf"{name}' needs a network with outputs \(B, C\)"):
        pb.prune(network, name, 0.5, pairs())


def test_movement_cannot_rank_what_is_frozen() -> None:
    network = toy_model().network
    frozen = next(iter(prunable_parameters(network)))
    network.get_parameter(frozen).requires_grad_(False)
    with pytest.raises(UsageError, match=f"'{frozen}' is frozen: exclude it in the scope"):
        pb.prune(network, "movement", 0.5, pairs(), epochs=1)
    pb.prune(network, "movement", 0.5, pairs(), epochs=1, scope=pb.Scope(exclude=(frozen,)))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("gradual", {"end": 0.0}, "begin < end"),
        ("gradual", {"initial": 1.0}, "initial is 1"),
        ("movement", {"interval": 0}, "interval is 0"),
        ("rigl", {"fraction": 0.0}, "fraction is 0"),
        ("rigl", {"epochs": 0}, "epochs is 0"),
        ("rigl", {"lr": 0.0}, "lr is 0"),
    ],
)
def test_fields_out_of_range(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pb.prune(toy_model().network, name, 0.5, pairs(), **fields)


def context_of(network: nn.Module) -> PruningContext:
    return PruningContext(network, prunable_parameters(network))


def test_gradual_masks_only_shrink_and_follow_the_magnitudes() -> None:
    weight = nn.Parameter(torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]]))
    motion = GradualMotion({"w": weight}, CubicSchedule(0.0, 0.8, 0, 4, 1), "global")
    kept = []
    for step in range(4):
        with torch.no_grad():
            weight.masked_fill_(~motion.masks["w"], 0)
            if step == 1:
                weight[0, 4] = 9.0  # whatever an optimizer does to a pruned weight, it stays pruned
        assert motion.after_step(step)
        kept.append(motion.masks["w"][0].int().tolist())
    # 0.8 (1 - (1 - tau)^3) of five weights: 2.31, 3.5, 3.94 and 4 are pruned
    assert kept == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert not motion.after_step(4)


def test_movement_scores_are_the_running_sum_and_pruned_weights_return_with_their_value() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0, 0.5]]))
    motion = MovementMotion({"w": weight}, CubicSchedule(0.0, 0.5, 0, 3, 1), "global")
    gradients = [[1.0, 1.0, -1.0, 0.0], [-9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    held, expected = [1.0, -2.0, 3.0, 0.5], torch.zeros(4)
    for step, gradient in enumerate(gradients):
        weight.grad = torch.tensor([gradient])
        assert motion.before_step(step)
        expected -= torch.tensor(held) * torch.tensor(gradient)
        assert torch.equal(motion.scores["w"][0], expected)
        if step == 0:  # scores -1, 2, 3, 0: a sparsity of .352 prunes the first
            assert motion.after_step(step)
            assert weight.tolist() == [[0.0, -2.0, 3.0, 0.5]]
        else:  # scores 8, 2, 3, 0: the first is back with its old value, the last and the second go
            assert motion.after_step(step)
            assert weight.tolist() == [[1.0, 0.0, 3.0, 0.0]]
    assert motion.masks["w"].int().tolist() == [[1, 0, 1, 0]]


def test_rigl_drops_the_smallest_and_grows_the_steepest_of_each_layer() -> None:
    a = nn.Parameter(torch.tensor([[5.0, -4.0, 0.3, 0.2, 0.0, 0.0]]))
    masks = Masks({"a": torch.tensor([[True, True, True, True, False, False]])})
    motion = RiglMotion({"a": a}, masks, fraction=0.5, end=100, interval=10)
    a.grad = torch.tensor([[9.0, 9.0, 0.1, 0.2, 0.3, -0.4]])
    assert motion.before_step(9)
    assert not motion.after_step(9)
    assert not motion.before_step(10)  # the optimizer rests
    share = 0.25 * (1 + math.cos(math.pi * 0.1))
    assert int(share * 4) == 1  # one weight moves: the fourth is dropped, the last is grown
    assert motion.after_step(10)
    assert motion.masks["a"].int().tolist() == [[1, 1, 1, 0, 0, 1]]
    assert a.tolist() == [[5.0, -4.0, pytest.approx(0.3), pytest.approx(0.2), 0.0, 0.0]]
    assert motion.before_step(100)
    assert not motion.after_step(100)


@cases(40)
@given(
    weights=st.lists(st.sampled_from([0.0, 1.0, -1.0, 2.0]), min_size=4, max_size=30),
    kept=st.integers(1, 29),
    fraction=st.floats(0.05, 0.95),
)
def test_rigl_keeps_the_number_of_weights_whatever_ties_there_are(
    weights: list[float], kept: int, fraction: float
) -> None:
    parameter = nn.Parameter(torch.tensor([weights]))
    mask = torch.arange(len(weights))[None] < kept
    parameter.grad = parameter.detach().clone()
    motion = RiglMotion({"w": parameter}, Masks({"w": mask}), fraction, end=50, interval=5)
    for step in range(60):
        motion.before_step(step)
        assert int(motion.masks["w"].sum()) == int(mask.sum())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", NAMES)
def test_fit_keeps_moving_masks_in_force(name: str, optimizer: str) -> None:
    """After every step the weights that the masks prune are zero, and so are their moments."""
    model, samples, how = toy_model(), toy_samples(), quick(optimizer=optimizer, weight_decay=0.01, clip_norm=1.0)
    from pruningbench.plugins import load_registry
    from pruningbench.suite.binding import bind

    component: Any = bind(load_registry(), "pruner", {"use": name, "interval": 3}).component
    motion = component.motion(context_of(model.network), 0.8, number_of_steps(samples, how))
    parameters = prunable_parameters(model.network)
    changes, seen = set(), []
    before = motion.before_step

    def spy(step: int) -> bool:
        seen.append(step)
        changes.add(motion.masks.digest)
        for key, parameter in parameters.items():
            assert torch.count_nonzero(parameter[~motion.masks[key]]) == 0
        return bool(before(step))

    motion.before_step = spy
    fit(model, samples, how, seed=0, motion=motion)
    assert seen == list(range(18))
    assert len(changes) > 2
    assert motion.masks.total - motion.masks.kept == round(0.8 * motion.masks.total)
    for key, parameter in parameters.items():
        assert torch.count_nonzero(parameter[~motion.masks[key]]) == 0


def test_rigl_starts_as_it_says() -> None:
    network = toy_model().network
    by_size = Rigl(start="magnitude", allocation="global").motion(context_of(network), 0.5, 10).masks
    assert by_size == pb.prune(network, "magnitude", 0.5)
    first, same, other = (
        Rigl(start="random").motion(PruningContext(network, prunable_parameters(network), seed), 0.5, 10).masks
        for seed in (1, 1, 2)
    )
    assert first == same != other


def test_gradual_starts_from_its_initial_sparsity() -> None:
    network = toy_model().network
    assert Gradual(initial=0.5).motion(context_of(network), 0.9, 10).masks == pb.prune(network, "magnitude", 0.5)
    assert Gradual(initial=0.95).motion(context_of(network), 0.9, 10).masks.sparsity == pytest.approx(0.9, abs=0.01)
