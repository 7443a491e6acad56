"""A training on several processes: the same steps as in one, masks in force everywhere, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.parallel import WATCHED, Drawing, furthest, left_behind, masks_of, net, state
from kit.runs import run
from kit.toysuite import TOY_SUITE
from kit.training import quick, toy_samples
from pruningbench_magnitude.moving import Rigl
from torch import Tensor, nn

from pruningbench.base.identity import tensors_digest
from pruningbench.contract import PruningContext, Use
from pruningbench.plugins import Registry, load_registry
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.suite.binding import bind
from pruningbench.training.fit import fit, number_of_steps
from pruningbench.training.settings import CropSettings, FitSettings
from pruningbench.training.sharing import LEAST, share_out


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert left_behind() == [] and torch.get_num_threads() == threads


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    return images.roll(int(torch.randint(6, (), generator=generator)), -1)


@given(count=st.integers(1, 70), parts=st.integers(1, 9), processes=st.integers(1, 5))
def test_each_sample_is_computed_once_in_the_part_of_one_process(count: int, parts: int, processes: int) -> None:
    shares = share_out(count, parts, processes)
    assert len(shares) == processes
    pieces = sorted((piece for share in shares for piece in share), key=lambda piece: piece.start)
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == list(range(count))
    for part in torch.arange(count).chunk(parts):
        inside = [piece for piece in pieces if int(part[0]) <= piece.start <= int(part[-1])]
        sizes = [len(piece) for piece in inside]
        assert sum(sizes) == len(part)
        if len(part) < LEAST * processes:
            assert [piece in shares[0] and not piece.shared for piece in inside] == [True]
        else:
            assert len(sizes) == processes and max(sizes) - min(sizes) <= 1 and min(sizes) >= LEAST
            assert all(piece.shared and piece in shares[rank] for rank, piece in enumerate(inside))


@pytest.mark.parametrize(
    ("norm", "processes", "fields"),
    [
        ("none", 2, {"weight_decay": 0.1}),
        ("layer", 2, {"optimizer": "adamw", "lr": 0.003, "clip_norm": 0.1, "schedule": "step", "warmup": 0.2}),
        (
            "batch",
            2,
            {"accumulate": 2, "ema": 0.8, "mixup": 0.5, "cutmix": 0.5, "erasing": 0.3, "label_smoothing": 0.1},
        ),
        ("batch", 3, {"channels_last": True, "freeze_head": True}),
    ],
    ids=["no norm", "layer norm", "batch norm", "three processes"],
)
def test_several_processes_take_the_steps_of_one(norm: str, processes: int, fields: dict[str, Any]) -> None:
    """37 samples: the last batch has five, which three processes do not share."""
    models = [net(norm), net(norm)]
    before = state(models[0])
    losses = []
    for model, number in zip(models, (1, processes), strict=True):
        how = quick(epochs=2, processes=number, **fields)
        losses.append(fit(model, toy_samples(37), how, seed=3, masks=masks_of(model), augment=shift))
        assert not torch.count_nonzero(
            model.network.get_parameter(f"{WATCHED}.weight")[~masks_of(model)[f"{WATCHED}.weight"]]
        )
    one, several = map(state, models)
    assert furthest(one, several) < 1e-6
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert furthest(before, one) > 0.01
    assert torch.equal(several["unused"], before["unused"]), "no sample uses it: it has no gradient, and does not decay"


def test_unsynchronised_batch_norm_sees_a_share_of_the_batch() -> None:
    """Two shares are then two parts of a batch, but the statistics that are kept are those of the first process."""
    parts, shares = net(), net()
    fit(parts, toy_samples(32), quick(epochs=2, accumulate=2), seed=0)
    fit(shares, toy_samples(32), quick(epochs=2, processes=2, sync_norm=False), seed=0)
    of_parts, of_shares = state(parts), state(shares)
    statistics = [name for name in of_parts if "running" in name or "batches" in name]
    assert len(statistics) == 3
    kept = {name: (of_parts.pop(name), of_shares.pop(name)) for name in statistics}
    assert furthest(of_parts, of_shares) < 1e-6
    assert int(kept["layers.norm.num_batches_tracked"][1]) == 4
    assert float((kept["layers.norm.running_var"][0] - kept["layers.norm.running_var"][1]).abs().max()) > 1e-3


def test_masks_move_as_in_one_process() -> None:
    """RigL lets weights grow by their gradients, which have to be those of the whole batch.

    (In a longer training, two gradients whose last bits decide may change places.)
    """
    found = []
    for processes in (1, 2):
        model = net()
        how = quick(processes=processes)
        context = PruningContext(model.network, prunable_parameters(model.network), 0)
        motion = Rigl(interval=2).motion(context, 0.5, number_of_steps(toy_samples(32), how))
        start = motion.masks
        fit(model, toy_samples(32), how, seed=0, motion=motion)
        assert motion.masks != start
        for name, mask in motion.masks.items():
            assert not torch.count_nonzero(model.network.get_parameter(name)[~mask])
        found.append((motion.masks.digest, state(model)))
    assert found[0][0] == found[1][0] and furthest(found[0][1], found[1][1]) < 1e-6


def test_what_a_network_draws_depends_on_the_seed_only() -> None:
    digests = []
    for state_before in range(2):
        model = net("batch", Drawing())
        torch.manual_seed(state_before)  # as in another process
        fit(model, toy_samples(32), quick(epochs=2, processes=2), seed=0)
        digests.append(tensors_digest(state(model)))
    assert digests[0] == digests[1]


def test_crops_are_made_by_the_first_process_and_its_workers() -> None:
    one, several = net("none"), net("none")
    fit(one, toy_samples(32), quick(epochs=1), seed=0, augment=CropSettings(workers=0))
    fit(several, toy_samples(32), quick(epochs=1, processes=2), seed=0, augment=CropSettings(workers=1))
    assert furthest(state(one), state(several)) < 1e-6


def finetune(**fields: Any) -> Use:
    return bind(load_registry(), "recipe", {"use": "finetune", **fields})


def test_keys_of_earlier_trainings_stay_and_those_of_others_differ() -> None:
    usual = finetune()
    assert not {"processes", "sync_norm", "compile"} & set(str(usual.identity()).replace("'", " ").split())
    assert finetune(processes=1, sync_norm=True, compile=False).identity() == usual.identity()
    others = [{"processes": 2}, {"processes": 2, "sync_norm": False}, {"processes": 3}, {"compile": True}]
    found = [str(usual.identity()), *(str(finetune(**fields).identity()) for fields in others)]
    assert len(set(found)) == len(found)


def test_a_recipe_trains_on_the_same_samples_in_the_same_order(toy_registry: Registry, tmp_path: Path) -> None:
    """The number of processes belongs to the key, but the seed of the training does not depend on it."""
    recipes = (
        "[{use: finetune, lr: 0.1}, {use: finetune, lr: 0.1, processes: 2}, {use: finetune, lr: 0.1, clip_norm: 9}]"
    )
    text = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", recipes).replace("[0, 0.5, 0.9]", "[0.5]")
    run(text.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[toy-pruner]"), toy_registry, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len({row["made_of"]["network"] for row in rows}) == 3
    values = {row["recipe"]: row["value"] for row in rows}
    one, two, other = (
        values[f"finetune({fields})"] for fields in ("lr=0.1", "lr=0.1,processes=2", "lr=0.1,clip_norm=9")
    )
    assert two == pytest.approx(one, abs=1e-5)
    assert abs(other - one) > 1e-4, "another order of the samples"


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"processes": 0}, "processes is 0"), ({"sync_norm": False}, "sync_norm: false is for several processes")],
)
def test_settings_without_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    problem = FitSettings(**fields).out_of_range()
    assert problem is not None and words in problem
    assert FitSettings(processes=2, sync_norm=False).out_of_range() is None


def test_other_norms_are_not_touched() -> None:
    """Frozen statistics are used as they are, and norms that know nothing of batches compute as they do."""
    one, several = net(), net()
    for model in (one, several):
        model.network.get_submodule("layers").add_module("act", nn.InstanceNorm2d(4))
    fit(one, toy_samples(32), quick(epochs=1, freeze_norm=True), seed=0)
    fit(several, toy_samples(32), quick(epochs=1, freeze_norm=True, processes=2), seed=0)
    assert furthest(state(one), state(several)) < 1e-6
    assert int(state(several)["layers.norm.num_batches_tracked"]) == 0
