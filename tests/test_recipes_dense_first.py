"""``dense_first`` of iterative pruning: train to completion, then prune in rounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.recipejobs import QUICK, Job, by_hand, equal, state
from kit.runs import run
from kit.toysuite import TOY_SUITE
from kit.training import toy_model, toy_samples
from pruningbench_recipes import trajectory
from pruningbench_recipes.basic import Finetune
from pruningbench_recipes.iterative import Iterative
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pruningbench.contract import VisionModel
from pruningbench.contract.component import Use
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import SuiteError, suite_from_text
from pruningbench.training import checkpoints
from pruningbench.training.fit import fit
from pruningbench.training.settings import FitSettings

LRR: dict[str, Any] = {"rate": 0.5, "dense_first": True, **QUICK}


def completed() -> VisionModel:
    """The toy network after the training that `finetune` gives it."""
    model = toy_model()
    fit(model, toy_samples(), FitSettings(2, "sgd", 0.05, batch_size=16), seed=7)
    return model


@pytest.fixture()
def rates() -> Iterator[list[float]]:
    """Learning rates of all steps of all optimizers."""
    seen: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    yield seen
    hook.remove()


@pytest.mark.parametrize("rewind", ["none", "pretrained"])
def test_the_dense_training_is_that_of_finetune_bit_for_bit(rewind: Any) -> None:
    first, other = Job(0.0), Job(0.0)
    Iterative(rewind=rewind, **LRR).run(first.job)
    Finetune(**QUICK).run(other.job)
    assert first.made == [["dense"]]
    assert equal(state(first.model), state(other.model))
    assert not equal(state(first.model), state(toy_model()))


def test_each_round_begins_with_the_weights_of_the_one_before() -> None:
    job, model = Job(0.75), completed()
    masks = Iterative(**LRR).run(job.job)
    assert sorted(map(str, job.made)) == ["['dense']", "['level', 0.5, 0.75]", "['level', 0.5]"]
    hand = Job(0)
    half = hand.prune(model, 0.5)
    by_hand(model, half, "round 1")
    quarter = hand.prune(model, 0.75, half)
    by_hand(model, quarter, "round 2")
    assert masks == quarter
    assert equal(state(job.model), state(model))


def test_with_pretrained_the_masks_are_of_the_trained_network_and_the_weights_as_loaded() -> None:
    job, model = Job(0.5), toy_model()
    masks = Iterative(rewind="pretrained", **LRR).run(job.job)
    expected = Job(0).prune(completed(), 0.5)
    expected.apply(model.network)
    by_hand(model, expected, "round 1")
    assert masks == expected and masks != Job(0).prune(toy_model(), 0.5)
    assert equal(state(job.model), state(model))


def test_the_reference_has_as_many_trainings_on_the_same_samples_as_the_sparsest() -> None:
    recipe, job, model = Iterative(**LRR), Job(0.0), completed()
    job.job.rounds = recipe.rounds_of(0.75)
    assert job.job.rounds == 3
    recipe.run(job.job)
    assert job.made == [["dense"], ["dense", 2], ["dense", 3]]
    by_hand(model, None, "round 1")
    by_hand(model, None, "round 2")
    assert equal(state(job.model), state(model))


def test_the_dense_training_is_done_once_for_reference_and_levels() -> None:
    recipe, store = Iterative(**LRR), {}  # type: ignore[var-annotated]
    for sparsity, made in ((0.5, [["dense"], ["level", 0.5]]), (0.0, []), (0.75, [["level", 0.5, 0.75]])):
        job = Job(sparsity, store)
        recipe.run(job.job)
        assert sorted(map(str, job.made)) == sorted(map(str, made))
    alone = Job(0.75)
    recipe.run(alone.job)
    assert equal(state(alone.model), state(job.model))  # it does not matter who walked first


def test_every_training_follows_the_whole_schedule(rates: list[float]) -> None:
    fields = {**LRR, "epochs": 6, "schedule": "step", "step_epochs": 2}
    Iterative(**fields).run(Job(0.75).job)
    steps = 96 // 16 * 2
    one = [0.05 * 0.1**k for k in range(3) for _ in range(steps)]
    assert rates == pytest.approx(one * 3)  # dense, and two rounds


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("last", "later"),
    [("dense: epoch 1/2", "dense: epoch 1/2 was done before"), ("round 2: epoch 1/2", "round 2: epoch 1/2 was done before")],
)  # fmt: skip
def test_an_interrupted_trajectory_goes_on_and_ends_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, last: str, later: str
) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    store: dict[str, Any] = {}

    def attempt(notes: list[str], fatal: str) -> Job:
        def report(text: str) -> None:
            notes.append(text)
            if fatal and text.startswith(fatal):
                raise KilledError

        job = Job(0.75, store)
        job.job.identity = {"training": "toy"}
        job.job.context = replace(job.job.context, cache=Cache(), report=report)
        Iterative(**LRR).run(job.job)
        return job

    with pytest.raises(KilledError):  # in the report of an epoch: it is lost, and so
        attempt([], last.replace("1/2", "2/2"))
    notes: list[str] = []
    again, whole = attempt(notes, ""), Job(0.75)
    Iterative(**LRR).run(whole.job)
    assert later in notes
    assert not [note for note in notes if note.startswith(last + ",")]
    assert equal(state(again.model), state(whole.model))


@pytest.mark.parametrize("rewind", ["init", "early"])
def test_recipes_that_always_train_first_refuse_the_field(rewind: Any, toy_registry: Registry) -> None:
    message = f"dense_first is for rewind: none or pretrained; {rewind} always trains the dense network first"
    assert Iterative(rewind=rewind, **LRR).problem() == message
    text = TOY_SUITE.replace("none, ", f"{{use: iterative, rewind: {rewind}, dense_first: true}}, ")
    with pytest.raises(SuiteError, match=rf"^suite:\d+:\d+: .*{message}$"):
        suite_from_text(text, toy_registry)


def test_keys_of_recipes_without_it_are_those_from_before() -> None:
    without = Use("iterative", Iterative(), plugin="pruningbench").identity()
    assert "dense_first" not in without["fields"] and without["version"] == 1
    given = Use("iterative", Iterative(dense_first=True), plugin="pruningbench").identity()
    assert given["fields"] == {**without["fields"], "dense_first": True}


def test_a_suite_trains_and_counts_the_dense_network_once_for_all_pruners(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TOY_SUITE.replace(
        "[none, {use: finetune, epochs: 1}]", "[{use: iterative, levels: [0.5, 0.9], epochs: 1, dense_first: true}]"
    )
    plan = make_plan(suite_from_text(text, toy_registry), toy_registry)
    assert plan.shared_work()["trainings"] == 1 + 2 * 2 + 2  # dense, levels of two pruners, the reference's others
    trained = []

    def count(*args: Any, **kwargs: Any) -> list[float]:
        trained.append(kwargs["masks"] is None)
        return fit(*args, **kwargs)

    monkeypatch.setattr(trajectory, "fit", count)
    summary = run(text, toy_registry, tmp_path / "run")
    assert summary.ok
    assert (len(trained), sum(trained)) == (7, 3)
    table = load_results(tmp_path / "run")
    assert set(table[table["recipe"].str.startswith("iterative")]["sparsity"]) == {0.0, 0.5, 0.9}


def test_the_network_as_loaded_is_not_what_the_first_round_prunes() -> None:
    first, second = Job(0.5), Job(0.5)
    after = Iterative(**LRR).run(first.job)
    before = Iterative(**{**LRR, "dense_first": False}).run(second.job)
    assert after != before
    assert not torch.equal(state(first.model)["0.weight"], state(second.model)["0.weight"])
