"""The alignment tasks on tiny networks, their metrics against closed forms and peers, and the harness."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.alignment import NAN, THREE, Judged, Pixels, answered, context
from kit.cases import cases
from pruningbench_alignment import odd_one_out
from pruningbench_alignment.decision_task import ModelVsHuman
from pruningbench_alignment.metrics import (
    OddOneOutAccuracy,
    TwoAlternativeAgreement,
)
from pruningbench_alignment.tasks import ClickMe, Nights, OddOneOut, RepresentationalSimilarity, SoftLabels
from pruningbench_alignment.triplets import closer_one, repeated_agreement

from pruningbench.contract import (
    NOT_SHOWN,
    ArraySamples,
    HumanDecisions,
    HumanLabelCounts,
    HumanOddOneOut,
    HumanTwoAlternatives,
)
from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard.figures import draw_figures
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry

# model-vs-human


def decisions(
    answers: list[list[int]], conditions: tuple[str, ...] = ("a", "a", "b"), **more: object
) -> HumanDecisions:
    truth = torch.tensor([0, 1, 1])
    return HumanDecisions(
        ("top", "bottom"), tuple("xyz"[: len(answers)]), torch.tensor(answers), truth, conditions, **more
    )


def test_decisions_of_a_network_beside_people():
    human = decisions([[0, 1, 1], [0, 0, 0]])
    task = ModelVsHuman(data=("toys",), conditions=True)
    found = dict(task.run(Pixels(), context(toys=answered(THREE, human))))
    assert list(found) == ["", "toys/a", "toys/b"]
    assert found[""].answers.tolist() == [0, 1, 0]
    assert found["toys/b"].answers.tolist() == [0]
    assert found["toys/a"].human.conditions == ("a", "a")


def test_conditions_that_are_left_out():
    seen = decisions([[0, 1, 0], [0, 0, 0]])  # nobody is right in b
    task = ModelVsHuman(data=("toys",))
    assert len(dict(task.run(Pixels(), context(toys=answered(THREE, seen))))[""].answers) == 2
    everything = dataclasses.replace(task, lowest=0.0)
    assert len(dict(everything.run(Pixels(), context(toys=answered(THREE, seen))))[""].answers) == 3
    controlled = decisions([[0, 1, 1]], controls=("a",))
    assert dict(task.run(Pixels(), context(toys=answered(THREE, controlled))))[""].answers.tolist() == [0]
    none = decisions([[0, 1, 0]], controls=("a",))
    with pytest.raises(PruningBenchError, match="no condition is left"):
        list(task.run(Pixels(), context(toys=answered(THREE, none))))


def test_several_data_sets_and_their_average():
    one, two = decisions([[0, 1, 1]]), decisions([[0, 0, 1], [0, 1, 1]], conditions=("a", "a", "a"))
    data = {"one": answered(THREE, one), "two": answered(THREE, two)}
    found = dict(ModelVsHuman(data=("one", "two")).run(Pixels(), context(**data)))
    assert list(found) == ["", "one", "two"]
    assert found[""].human.sets.tolist() == [0, 0, 0, 1, 1, 1]
    assert found[""].human.answers[1].tolist() == [NOT_SHOWN] * 3 + [0, 1, 1]


def test_variants_are_named_by_experiment():
    from pruningbench_alignment.decision_task import _names

    given = ({"use": "model-vs-human", "experiment": "edge"}, "mine", {"use": "other"}, "mine")
    assert _names(given) == ["edge", "mine", "other", "mine 2"]


@pytest.mark.parametrize(
    ("human", "message"),
    [
        (None, "no human answers"),
        (HumanLabelCounts(torch.ones(3, 2)), "HumanLabelCounts"),
        (decisions([[0, 1]]), r"answers of shape \(1, 2\)"),
        (decisions([[0, 1, 1]], conditions=("a",)), "conditions for 1"),
        (decisions([[NOT_SHOWN] * 3]), "was shown to anyone"),
    ],
)
def test_answers_that_do_not_fit(human, message):
    with pytest.raises(PruningBenchError, match=message):
        list(ModelVsHuman(data=("toys",)).run(Pixels(), context(toys=answered(THREE, human))))


def test_a_network_that_knows_other_classes():
    with pytest.raises(PruningBenchError, match="cannot answer with 'top'"):
        list(
            ModelVsHuman(data=("toys",)).run(
                Pixels(("cat", "dog")), context(toys=answered(THREE, decisions([[0, 1, 1]])))
            )
        )


def test_a_collapsed_network_decides_nothing():
    ((_, found),) = ModelVsHuman(data=("toys",)).run(
        Pixels(scale=NAN), context(toys=answered(THREE, decisions([[0, 1, 1]])))
    )
    assert found.answers.tolist() == [-1, -1, -1]
    assert ModelVsHuman(data=()).problem() is not None
    assert ModelVsHuman(data=("toys",), lowest=2.0).problem() is not None


# triplets


def test_odd_one_out_by_hand():
    embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [5.0, 0.0], [NAN, 1.0]])
    triplets = torch.tensor([[0, 1, 2], [0, 2, 1], [2, 0, 1], [2, 3, 2], [0, 1, 4]])
    assert odd_one_out(embeddings, triplets).tolist() == [2, 1, 0, 1, -1]
    # by dot product the longest vector is similar to everything on its side
    assert odd_one_out(embeddings, torch.tensor([[0, 3, 2]]), "dot").tolist() == [2]
    assert odd_one_out(embeddings[:1].repeat(3, 1), torch.tensor([[0, 1, 2]])).tolist() == [2]  # ties: the first pair
    for wrong, message in (([[0, 1, 9]], "image 9"), ([[0, 1, -1]], "image -1"), ([[0, 1]], r"\(T, 3\)")):
        with pytest.raises(ValueError, match=message):
            odd_one_out(embeddings, torch.tensor(wrong))


@cases(60)
@given(st.integers(0, 2**32 - 1), st.permutations(range(3)))
def test_the_odd_one_does_not_depend_on_places(seed, places):
    embeddings = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    first = int(odd_one_out(embeddings, torch.tensor([[0, 1, 2]]))[0])
    again = int(odd_one_out(embeddings, torch.tensor([places]))[0])
    assert places[again] == first


def test_odd_one_out_task():
    triplets = torch.tensor([[0, 1, 2], [1, 2, 0], [0, 1, 2]])
    human = HumanOddOneOut(triplets, torch.tensor([1, 0, 2]))
    ((variant, outputs),) = OddOneOut(data="toys").run(Pixels(), context(toys=answered(THREE, human)))
    assert variant == ""
    assert outputs.answers.tolist() == [1, 0, 1]
    assert OddOneOutAccuracy().values(outputs).tolist() == [1, 1, 0]
    # the three were judged three times: twice alike, once another: 1 of 3 pairs of judgements agrees
    assert OddOneOutAccuracy().ceiling(outputs) == pytest.approx(1 / 3)
    ((_, dead),) = OddOneOut(data="toys").run(Pixels(scale=NAN), context(toys=answered(THREE, human)))
    assert OddOneOutAccuracy().values(dead).isnan().all()
    assert repeated_agreement(triplets[:1], human.odd[:1]) is None


def test_two_alternatives_by_hand():
    embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 2.0], [NAN, 1.0]])
    triplets = torch.tensor([[0, 1, 2], [0, 2, 1], [0, 2, 3], [0, 1, 4]])
    np.testing.assert_array_equal(closer_one(embeddings, triplets).numpy(), [0, 1, 0.5, NAN])
    human = HumanTwoAlternatives(torch.tensor([[0, 1, 2], [0, 2, 1], [0, 1, 1]]), torch.tensor([0.25, 1.0, 0.9]))
    ((_, outputs),) = Nights(data="toys").run(Pixels(), context(toys=answered(THREE, human)))
    assert outputs.answers.tolist() == [1, 0, -1]  # 2 is the nearer one
    np.testing.assert_allclose(TwoAlternativeAgreement().values(outputs).numpy(), [0.25, 0.0, 0.5])
    assert TwoAlternativeAgreement().ceiling(outputs) == pytest.approx((0.75 + 1 + 0.9) / 3)
    ((_, dead),) = Nights(data="toys").run(Pixels(scale=NAN), context(toys=answered(THREE, human)))
    assert TwoAlternativeAgreement().values(dead).isnan().all()


@pytest.mark.parametrize(("triplets", "message"), [([[0, 1, 3]], "image 3"), ([], "no triplets|must be")])
def test_triplets_that_do_not_fit(triplets, message):
    human = HumanOddOneOut(
        torch.tensor(triplets, dtype=torch.int64).reshape(-1, 3), torch.zeros(len(triplets), dtype=torch.int64)
    )
    with pytest.raises(PruningBenchError, match=message):
        list(OddOneOut(data="toys").run(Pixels(), context(toys=answered(THREE, human))))


@pytest.mark.parametrize("task", [OddOneOut, Nights, SoftLabels, ClickMe, RepresentationalSimilarity])
def test_data_without_answers(task):
    with pytest.raises(PruningBenchError, match="no human answers"):
        list(task(data="toys").run(Pixels(), context(toys=ArraySamples(THREE))))


# harness


SUITE = """\
name: judged
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, 0.5, 0.9]
tasks:
  - {use: model-vs-human, data: [judged]}
  - {use: soft-labels, data: {use: judged, form: counts}}
  - {use: rsa, data: {use: judged, form: similarity}}
  - {use: odd-one-out, data: {use: judged, form: triplets}}
"""


@pytest.fixture()
def judged_registry(toy_registry: Registry) -> Registry:
    own = Registry({kind: dict(named) for kind, named in toy_registry.entries.items()}, list(toy_registry.plugins))
    own.add("dataset", "judged", Judged, own.plugins[0])
    return own


def test_through_the_harness(judged_registry, tmp_path):
    from kit.runs import run

    run(SUITE, judged_registry, tmp_path / "run")
    table = load_results(tmp_path / "run", details=True)
    assert set(table["status"]) == {"ok"}, table["error"].tolist()
    assert set(table["metric"]) == {
        "decision-accuracy", "accuracy-difference", "observed-consistency", "error-consistency",
        "human-cross-entropy", "human-kl", "rsa-correlation", "odd-one-out-accuracy",
    }  # fmt: skip
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["value"] <= table["ci_high"]).all()
    people = table[table["metric"] == "error-consistency"]["ceiling"]
    assert people.nunique() == 1
    assert 0 < people.iloc[0] < 1
    assert table[table["metric"] == "human-kl"]["ceiling"].isna().all()
    names = [path.name for path in draw_figures(tmp_path / "run")]
    assert "curves-model-vs-human.png" in names


def test_differences_to_the_dense_model_are_paired(judged_registry, tmp_path):
    from kit.runs import run

    from pruningbench.leaderboard.differences import Pairs

    run(
        SUITE.replace("  - {use: soft-labels", "metrics: []\n#").split("metrics: []")[0],
        judged_registry,
        tmp_path / "run",
    )
    table = load_results(tmp_path / "run")
    rows = table[table["metric"] == "error-consistency"].to_dict("records")
    dense, pruned = (next(row for row in rows if row["sparsity"] == s) for s in (0, 0.9))
    pairs = Pairs([tmp_path / "run"])
    found = pairs.difference(pruned, dense)
    assert found["value"] == pytest.approx(pruned["value"] - dense["value"])
    assert found["ci_low"] <= found["value"] <= found["ci_high"]
    assert found["n"] == 24
    same = pairs.difference(dense, dense)
    assert (same["ci_low"], same["ci_high"]) == (0, 0)  # each resample draws the same images of both
