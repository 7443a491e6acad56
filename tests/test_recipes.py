"""The recipes, alone and through the harness: what is trained, how often, from which weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.recipejobs import QUICK, Job, by_hand, equal, state
from kit.runs import measured, run
from kit.toysuite import TOY_SUITE
from kit.training import toy_model
from pruningbench_recipes.basic import Finetune, NoTraining
from pruningbench_recipes.iterative import Iterative
from safetensors.torch import load_file
from torch import Tensor, nn

from pruningbench.contract import PruningContext, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.harness.thresholds import prune_within
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.suite.binding import bind
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text
from pruningbench.training.fit import fit


def test_levels_of_a_rate() -> None:
    path = Iterative(rate=0.2).path_to(0.7)
    assert path == pytest.approx([0.2, 0.36, 0.488, 0.5904, 0.67232, 0.7])
    assert Iterative(rate=0.2).path_to(1 - 0.8**3) == pytest.approx([0.2, 0.36, 0.488])
    assert Iterative(rate=0.2).path_to(0.1) == [0.1]
    assert Iterative(levels=[0.1, 0.5]).path_to(0.5) == [0.1, 0.5]
    assert Iterative(levels=[0.1, 0.5]).path_to(0.3) == [0.1, 0.3]


@given(rate=st.floats(0.05, 0.9), a=st.floats(0.01, 0.97), b=st.floats(0.01, 0.97))
def test_a_lower_sparsity_lies_on_the_path_of_a_higher(rate: float, a: float, b: float) -> None:
    low, high = (Iterative(rate=rate).path_to(s) for s in sorted((a, b)))
    assert high[: len(low) - 1] == low[:-1]
    assert low == sorted(low)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, "rate is 0"),
        ({"levels": [0.5, 0.4]}, "levels are"),
        ({"levels": [0.5, 1.0]}, "levels are"),
        ({"rewind": "early", "epochs": 2, "early_epochs": 2}, "early_epochs is 2"),
        ({"epochs": 0}, "epochs is 0, out of its range: passes over the training data, >= 1"),
        ({"recalibrate": 1}, "recalibrate is 1"),
        ({"recalibrate": -1}, "recalibrate is -1"),
    ],
)
def test_fields_out_of_range(fields: dict[str, Any], message: str) -> None:
    problem = Iterative(**fields).problem()
    assert problem is not None
    assert message in problem


@pytest.mark.parametrize("rewind", ["none", "pretrained", "init", "early"])
def test_one_trajectory_serves_all_sparsities(rewind: Any) -> None:
    recipe = Iterative(rate=0.5, rewind=rewind, **QUICK)
    store: dict[str, dict[str, Tensor]] = {}
    first, second = Job(0.75, store), Job(0.875, store)
    masks_a = recipe.run(first.job)
    masks_b = recipe.run(second.job)
    dense = [["dense"]] if rewind in ("init", "early") else []
    assert sorted(map(str, first.made)) == sorted(map(str, [*dense, ["level", 0.5], ["level", 0.5, 0.75]]))
    assert second.made == [["level", 0.5, 0.75, 0.875]]
    alone = Job(0.875)
    assert recipe.run(alone.job) == masks_b
    assert equal(state(alone.model), state(second.model))  # it does not matter who walked first
    assert recipe.run(Job(0.75, store).job) == masks_a
    for masks, job in ((masks_a, first), (masks_b, second)):
        assert masks.total - masks.kept == round(job.job.sparsity * masks.total)
        for name, parameter in prunable_parameters(job.model.network).items():
            assert torch.count_nonzero(parameter[~masks[name]]) == 0
    for name in masks_a:
        assert not (masks_b[name] & ~masks_a[name]).any()  # nothing returns


def test_lrr_keeps_the_weights_between_rounds() -> None:
    job, model = Job(0.75), toy_model()
    masks = Iterative(rate=0.5, **QUICK).run(job.job)
    hand = Job(0)
    first = hand.prune(model, 0.5)
    by_hand(model, first, "round 1")
    second = hand.prune(model, 0.75, first)
    by_hand(model, second, "round 2")
    assert masks == second
    assert equal(state(job.model), state(model))


@pytest.mark.parametrize("rewind", ["init", "early", "pretrained"])
def test_imp_rewinds_the_weights_that_are_left(rewind: Any) -> None:
    job, model = Job(0.5), toy_model()
    masks = Iterative(rate=0.5, rewind=rewind, early_epochs=1, **QUICK).run(job.job)
    start = state(model)
    if rewind != "pretrained":
        from pruningbench.base.identity import derive_seed

        model.reinitialise(derive_seed(7, "initial weights"))
        start = state(model)

        def keep(epoch: int) -> None:
            nonlocal start
            if rewind == "early" and epoch == 1:
                start = state(model)

        by_hand(model, None, "dense", after_epoch=keep)
    expected = Job(0).prune(model, 0.5)
    model.network.load_state_dict(start)
    expected.apply(model.network)
    by_hand(model, expected, "round 1", first_epoch=1 if rewind == "early" else 0)
    assert masks == expected
    assert equal(state(job.model), state(model))


def test_new_weights_are_new_seeded_and_complete() -> None:
    model = toy_model()
    before = state(model)
    model.reinitialise(1)
    one = state(model)
    model.reinitialise(2)
    two = state(model)
    model.reinitialise(1)
    assert equal(one, state(model))
    assert not torch.equal(one["0.weight"], before["0.weight"])
    assert not torch.equal(one["0.weight"], two["0.weight"])
    assert torch.equal(one["1.running_var"], torch.ones(4))
    other = toy_model().network
    model.fresh = lambda: other
    model.reinitialise(1)
    assert equal(state(model), dict(other.state_dict()))


def test_weights_that_nobody_draws_are_an_error() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.token = nn.Parameter(torch.ones(2))

    model = toy_model()
    model.network = Token()
    before = state(model)
    with pytest.raises(PruningBenchError, match="nothing initialises 'token'"):
        model.reinitialise(0)
    assert equal(before, state(model))


@pytest.mark.parametrize("recipe", [NoTraining, Finetune])
def test_pruning_in_rounds_scores_what_is_left(recipe: Any) -> None:
    job = Job(0.875)
    how = QUICK if recipe is Finetune else {}
    masks = recipe(rounds=3, **how).run(job.job)
    assert [level for level, _ in job.pruned] == pytest.approx([0.5, 0.75, 0.875])
    assert job.pruned[0][1] is None
    assert masks.total - masks.kept == round(0.875 * masks.total)
    assert masks == recipe(**how).run(Job(0.875).job)  # magnitudes do not change between rounds
    assert recipe(rounds=0).problem() == "rounds is 0, but must be at least 1"


def test_recalibration_changes_statistics_only_and_not_the_training() -> None:
    for recipe in (NoTraining, Finetune):
        how = QUICK if recipe is Finetune else {}
        raw, calibrated = Job(0.5), Job(0.5)
        assert recipe(**how).run(raw.job) == recipe(recalibrate=64, **how).run(calibrated.job)
        a, b = state(raw.model), state(calibrated.model)
        differ = {name for name in a if not torch.equal(a[name], b[name])}
        assert differ == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
        assert NoTraining().needs_data() is False
        assert recipe(recalibrate=64, **how).needs_data()


def test_a_frozen_head_is_left_as_it_is() -> None:
    job = Job(0.5)
    with pytest.raises(PruningBenchError, match="does not say which parameters are its head"):
        Finetune(freeze_head=True, **QUICK).run(job.job)
    job = Job(0.5)
    job.model.head = ("5.weight", "5.bias")
    head = {name: tensor.clone() for name, tensor in state(job.model).items() if name.startswith("5.")}
    masks = Finetune(freeze_head=True, **QUICK).run(job.job)
    after = state(job.model)
    assert torch.equal(after["5.bias"], head["5.bias"])
    assert torch.equal(after["5.weight"], head["5.weight"].masked_fill(~masks["5.weight"], 0))
    assert all(p.requires_grad for p in job.model.network.parameters())


def test_recipes_refuse_masks_that_move_by_themselves(toy_registry: Registry, tmp_path: Path) -> None:
    moving, fixed = (bind(toy_registry, "pruner", name).component for name in ("rigl", "magnitude"))
    assert "use recipe 'finetune'" in str(Iterative().refuses(moving))
    assert "leave out `rounds`" in str(NoTraining(rounds=2).refuses(moving))
    assert "leave out `rounds`" in str(Finetune(rounds=2).refuses(moving))
    assert [r.refuses(moving) for r in (NoTraining(), Finetune())] == [None, None]
    assert [r.refuses(fixed) for r in (Iterative(), NoTraining(rounds=2), Finetune(rounds=2))] == [None] * 3
    two_of_four = bind(toy_registry, "pruner", "n-m").component
    assert "first round is not possible: 2:4 is sparsity 0.5" in str(Iterative().refuses(two_of_four))
    assert Iterative(levels=[0.5]).refuses(two_of_four) is None
    text = ITERATIVE.replace("pruners: [magnitude]", "pruners: [rigl]")
    summary = run(text, toy_registry, tmp_path / "run")
    assert {record.status for record in summary.not_ok} == {"skipped"}
    assert all("use recipe 'finetune'" in record.error for record in summary.not_ok)
    assert len(summary.not_ok) == summary.cells - 1 - text.count("use: iterative")  # without the dense ones


def test_pruners_that_forget_what_was_pruned_are_held_to_it() -> None:
    from pruningbench_magnitude.pruners import Random

    network = toy_model().network
    parameters = prunable_parameters(network)
    before = Random().prune(PruningContext(network, parameters, seed=1), 0.5)
    after = prune_within(Random(), PruningContext(network, parameters, seed=2), 0.8, before)
    assert after.total - after.kept == round(0.8 * after.total)
    assert not any((after[name] & ~before[name]).any() for name in before)

    class Forgetful(Random):
        def score(self, context: PruningContext) -> dict[str, Tensor]:
            return super().score(context)

        def threshold(self, scores: Any, sparsity: float) -> Masks:
            return Masks({name: ~mask for name, mask in before.items()})

    with pytest.raises(PruningBenchError, match="revives"):
        prune_within(Forgetful(), PruningContext(network, parameters), 0.5, before)


ITERATIVE = TOY_SUITE.replace(
    "recipes: [none, {use: finetune, epochs: 1}]",
    "recipes: [{use: iterative, rate: 0.5, epochs: 1}, {use: iterative, rate: 0.5, epochs: 1, recalibrate: 32}]",
).replace("pruners: [toy-pruner, {use: toy-pruner, allocation: uniform}]", "pruners: [magnitude]")


def test_the_harness_trains_each_level_once_for_all_sparsities_and_recalibration(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pruningbench_recipes import trajectory

    trained = []

    def count(*args: Any, **kwargs: Any) -> list[float]:
        trained.append(kwargs["seed"])
        return fit(*args, **kwargs)

    monkeypatch.setattr(trajectory, "fit", count)
    summary = run(ITERATIVE, toy_registry, tmp_path / "run")
    assert summary.ok
    assert len(trained) == 8  # .5, .75, .875 and .9, and dense as often, whatever the recalibration
    work = make_plan(suite_from_text(ITERATIVE, toy_registry), toy_registry).shared_work()
    assert (work["trainings"], work["trained"], work["prunings"], work["pruned_once"]) == (8, 6, 0, 0)
    table = load_results(tmp_path / "run")
    rows = table[(table["sparsity"] == 0.9) & (table["metric"] == "toy-margin")]
    assert len(rows) == 2
    assert sorted("recalibrate=32" in recipe for recipe in rows["recipe"]) == [False, True]
    assert table[table["metric"] == "toy-margin"].groupby("sparsity")["value"].nunique()[0.5] == 2
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "fresh"))
    run(ITERATIVE, toy_registry, tmp_path / "alone", only=("sparsity=0.9",))
    part = measured(load_results(tmp_path / "alone"))
    whole = measured(table[table["cell"].isin(part["cell"])])
    assert len(part) > 0
    assert part["value"].tolist() == whole["value"].tolist()


IN_ROUNDS = TOY_SUITE.replace(
    "recipes: [none, {use: finetune, epochs: 1}]",
    "recipes: [{use: none, rounds: 4}, {use: finetune, epochs: 1, rounds: 4}]",
)


def test_recipes_that_prune_in_the_same_rounds_share_the_masks(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pruningbench.harness.session import ModelSession

    levels = []
    prune = ModelSession.prune

    def count(self: ModelSession, cell: Any, model: VisionModel, sparsity: float, **kwargs: Any) -> Masks:
        if cell.pruner is not None:
            levels.append((cell.pruner_label, cell.sparsity, cell.recipe.label, sparsity))
        return prune(self, cell, model, sparsity, **kwargs)

    monkeypatch.setattr(ModelSession, "prune", count)
    assert run(IN_ROUNDS, toy_registry, tmp_path / "run").ok
    pairs = {(pruner, target) for pruner, target, _, _ in levels}
    assert len(levels) == 4 * len(pairs)  # four rounds, for one of the two recipes
    table = load_results(tmp_path / "run")
    cells = table[table["pruner"] != "dense"].drop_duplicates("cell")
    assert len(cells) == 2 * len(pairs)
    folders = {recipe: rows["cell"].tolist() for recipe, rows in cells.groupby("recipe")}
    digests = [[Masks.load(tmp_path / f"run/masks/{cell}.safetensors").digest for cell in folders[r]] for r in folders]
    assert digests[0] == digests[1]
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "fresh"))
    run(IN_ROUNDS, toy_registry, tmp_path / "alone", only=("recipe=finetune(epochs=1,rounds=4)",))
    part = measured(load_results(tmp_path / "alone"))
    whole = measured(table[table["cell"].isin(part["cell"])])
    assert len(part) > 0
    assert part["value"].tolist() == whole["value"].tolist()


@pytest.mark.parametrize("recipe", ["none", "{use: finetune, epochs: 2}"])
def test_moving_pruners_run_in_the_harness(toy_registry: Registry, tmp_path: Path, recipe: str) -> None:
    text = TOY_SUITE.replace(
        "[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[gradual, movement, {use: rigl, interval: 1}]"
    ).replace("[none, {use: finetune, epochs: 1}]", f"[{recipe}]")
    summary = run(text, toy_registry, tmp_path / "run")
    assert summary.ok, summary.not_ok[0].error
    table = load_results(tmp_path / "run").drop_duplicates("cell")
    assert sorted(set(table["pruner"]) - {"dense"}) == ["gradual", "movement", "rigl(interval=1)"]
    total = 8 * 9 + 2 * 128
    for row in table.itertuples():
        assert row.sparsity_achieved == pytest.approx(round(row.sparsity * total) / total)


def test_what_decides_the_masks_is_in_the_key_and_the_batch_size_is_not(toy_registry: Registry, tmp_path: Path) -> None:
    """The suite's batch size is a knob of the tasks: it changes no pruning."""
    text = TOY_SUITE.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[{use: snip, batches: 1}, rigl]")
    files = []
    for size in (4, 64):
        out = tmp_path / str(size)
        run(text.replace("[none, {use: finetune, epochs: 1}]", "[none]") + f"batch_size: {size}\n", toy_registry, out)
        files.append({p.name: load_file(p) for p in sorted((out / "masks").iterdir())})
    assert list(files[0]) == list(files[1])
    for name, tensors in files[0].items():
        assert equal(tensors, files[1][name])
