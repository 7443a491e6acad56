"""Error consistency, decisions, shape bias and their averages: golden numbers and closed forms."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_alignment import decisions_16, error_consistency, shape_bias
from pruningbench_alignment.categories import SIXTEEN_CATEGORIES, class_columns, decide, imagenet_indices
from pruningbench_alignment.consistency import (
    accuracy,
    agreement,
    kappa,
    model_to_people,
    people_accuracy,
    people_to_people,
    squared_gap,
)
from pruningbench_alignment.decision_metrics import (
    AccuracyDifference,
    DecisionAccuracy,
    ErrorConsistency,
    ObservedConsistency,
    ShapeBias,
)
from pruningbench_alignment.decisions import compared_conditions, pool, select
from sklearn.metrics import cohen_kappa_score

from pruningbench.contract import NO_ANSWER, NOT_SHOWN, HumanDecisions, Responses
from pruningbench.contract.labels import imagenet_classes
from pruningbench.contract.statistics import bootstrap
from pruningbench.errors import PruningBenchError

DATA = Path(__file__).parent / "data" / "alignment"
PEOPLE, NETWORK = np.load(DATA / "people.npz"), np.load(DATA / "network.npz")
NAN = float("nan")


def people_of(name: str) -> HumanDecisions:
    """What people answered in an experiment: category 0 is right, 1 is wrong."""
    counts, conditions = PEOPLE[f"{name}_counts"], PEOPLE[f"{name}_conditions"]
    images = int(counts.sum())
    right = np.unpackbits(PEOPLE[f"{name}_right"], axis=1)[:, :images]
    excluded = str(PEOPLE["excluded"][list(PEOPLE["names"]).index(name)]).split()
    return HumanDecisions(
        ("right", "wrong"),
        tuple(map(str, range(len(right)))),
        torch.from_numpy(1 - right.astype(np.int64)),
        torch.zeros(images, dtype=torch.int64),
        tuple(itertools.chain.from_iterable([str(c)] * n for c, n in zip(conditions, counts, strict=True))),
        controls=tuple(excluded[:1]),
    )


def kept(human: HumanDecisions, answers: torch.Tensor | None = None) -> Responses:
    answered = torch.zeros(len(human.truth), dtype=torch.int64) if answers is None else answers
    return select(Responses(answered, human), compared_conditions(human, 0.2))


# error consistency


@cases(100)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_error_consistency_is_cohens_kappa(trials):
    a, b = (torch.tensor(column) for column in zip(*trials, strict=True))
    got = error_consistency(a, b)
    if len(set(a.tolist() + b.tolist())) == 1:
        assert got == 1.0  # both always right, or both always wrong
    else:
        assert got == pytest.approx(cohen_kappa_score(a.numpy(), b.numpy()), abs=1e-12)
    assert got == error_consistency(b, a)
    assert error_consistency(~a, ~b) == pytest.approx(got, abs=1e-12)


def test_error_consistency_by_hand():
    right, wrong = torch.tensor([True, False]), torch.tensor([False, True])
    assert error_consistency(right, right) == 1.0
    assert error_consistency(right, wrong) == -1.0  # negative values stay
    # p = 3/4 and 1/2: e = 1/2, o = 3/4
    a, b = torch.tensor([True, True, True, False]), torch.tensor([True, True, False, False])
    assert error_consistency(a, b) == 0.5
    assert np.isnan(error_consistency(a[:0], b[:0]))
    with pytest.raises(ValueError, match="both arrays of trials"):
        error_consistency(a, b[:2])


# people with each other


@pytest.mark.parametrize("name", PEOPLE["names"].tolist())
def test_people_agree_with_each_other_as_published(name):
    index = PEOPLE["names"].tolist().index(name)
    human = people_of(name)
    comparable = compared_conditions(human, 0.2).tolist()
    left_out = {c for c, keep in zip(human.conditions, comparable, strict=True) if not keep}
    assert left_out == set(str(PEOPLE["excluded"][index]).split())
    outputs = kept(human)
    assert ErrorConsistency().ceiling(outputs) == pytest.approx(PEOPLE["ceilings"][index], abs=5.1e-6)


def test_mean_ceiling_of_all_seventeen():
    pooled = pool([kept(people_of(name)) for name in PEOPLE["names"].tolist()])
    assert ErrorConsistency().ceiling(pooled) == pytest.approx(PEOPLE["ceilings"].mean(), abs=1e-5)
    assert ErrorConsistency().ceiling(pooled) == pytest.approx(0.43122, abs=1e-4)  # brain-score's mean


@pytest.mark.parametrize("name", ["edge", "silhouette"])
def test_network_and_people_as_the_toolbox_says(name):
    categories = tuple(NETWORK["categories"].tolist())
    answers = torch.from_numpy(NETWORK[f"{name}_answers"].astype(np.int64))
    truth = torch.from_numpy(NETWORK[f"{name}_truth"].astype(np.int64))
    decided = torch.from_numpy(NETWORK[f"{name}_decision"].astype(np.int64))
    subjects = tuple(map(str, range(len(answers))))
    outputs = Responses(decided, HumanDecisions(categories, subjects, answers, truth, ("0",) * len(truth)))
    share, observed, error = NETWORK[f"{name}_means"]

    def value(metric):
        return metric.aggregate(metric.values(outputs).numpy())

    assert value(DecisionAccuracy()) == share
    assert value(ObservedConsistency()) == pytest.approx(observed, abs=1e-12)
    assert value(ErrorConsistency()) == pytest.approx(error, abs=1e-12)
    for person, expected in zip(answers, NETWORK[f"{name}_consistency"], strict=True):
        assert error_consistency(decided == truth, person == truth) == pytest.approx(expected[1], abs=1e-12)
    gaps = [(share - float((person == truth).double().mean())) ** 2 for person in answers]
    assert value(AccuracyDifference()) == pytest.approx(np.mean(gaps), abs=1e-12)
    people = [float((person == truth).double().mean()) for person in answers]
    assert DecisionAccuracy().ceiling(outputs) == pytest.approx(np.mean(people), abs=1e-12)
    estimate = bootstrap(ErrorConsistency().values(outputs).numpy(), ErrorConsistency().aggregate, resamples=200)
    assert estimate.n == 160
    assert estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low < 0.4


# averages


@st.composite
def tables(draw):
    """Trials of up to three data sets of up to three conditions, with people who were not shown everything."""
    rows = draw(st.integers(2, 25))
    columns = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sets = rng.integers(0, 3, rows)
    groups = 3 * sets + rng.integers(0, 3, rows)
    people = rng.choice([-1, 0, 1, 1], (rows, columns))
    return np.column_stack([sets, groups, rng.integers(0, 2, rows), people]).astype(float)


def naive(table, compare, *, people):
    """The published averages by loops: conditions, then people or pairs of people, then data sets."""
    sets = []
    for number in np.unique(table[:, 0]):
        rows = table[table[:, 0] == number]
        humans = range(3, table.shape[1])
        pairs = list(itertools.combinations(humans, 2)) if people else [(2, human) for human in humans]
        of_pairs = []
        for one, other in pairs:
            of_conditions = []
            for group in np.unique(rows[:, 1]):
                trials = rows[rows[:, 1] == group]
                both = trials[(trials[:, one] >= 0) & (trials[:, other] >= 0)]
                if len(both):
                    a, b = both[:, one] > 0, both[:, other] > 0
                    of_conditions.append(compare(a, b))
            if of_conditions:
                of_pairs.append(np.mean(of_conditions))
        if of_pairs:
            sets.append(np.mean(of_pairs))
    return np.mean(sets) if sets else NAN


COMPARISONS = [
    (agreement, lambda a, b: np.mean(a == b)),
    (squared_gap, lambda a, b: (a.mean() - b.mean()) ** 2),
    (kappa, lambda a, b: error_consistency(torch.from_numpy(a), torch.from_numpy(b))),
]


@cases(60)
@given(tables(), st.sampled_from(COMPARISONS))
def test_averages_equal_loops(table, comparison):
    ours, theirs = comparison
    np.testing.assert_allclose(model_to_people(table, ours), naive(table, theirs, people=False), atol=1e-12)
    np.testing.assert_allclose(people_to_people(table, ours), naive(table, theirs, people=True), atol=1e-12)


def test_means_are_over_conditions_before_data_sets():
    # data set 0: conditions of 1 and 3 images, right in 1 and 1/3; data set 1: one image, wrong
    table = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, -1], [1, 2, 0, 1]], dtype=float)
    assert accuracy(table) == pytest.approx(((1 + 1 / 3) / 2 + 0) / 2)
    assert people_accuracy(table) == pytest.approx(((1 + 1 / 2) / 2 + 1) / 2)
    assert accuracy(table[[0]]) == 1.0  # groups that a resample lost do not count


# decisions


def test_categories_are_the_published_ones():
    ends = np.cumsum(NETWORK["indices_counts"])
    published = np.split(NETWORK["indices"], ends[:-1])
    assert tuple(NETWORK["categories"].tolist()) == SIXTEEN_CATEGORIES
    for category, indices in zip(SIXTEEN_CATEGORIES, published, strict=True):
        assert list(imagenet_indices(category)) == indices.tolist()


def test_decisions_equal_the_toolbox():
    probabilities = torch.from_numpy(NETWORK["softmax"]).float()
    assert decisions_16(probabilities) == NETWORK["softmax_decision"].tolist()


def test_the_mean_counts_and_not_the_sum():
    probabilities = torch.zeros(2, 1000)
    probabilities[0, list(imagenet_indices("dog"))] = 0.5 / len(imagenet_indices("dog"))  # more in sum
    probabilities[0, imagenet_indices("knife")[0]] = 0.4
    probabilities[1] = NAN
    assert decisions_16(probabilities) == ["knife", ""]
    with pytest.raises(ValueError, match="1000"):
        decisions_16(torch.ones(2, 10))


def test_classes_are_matched_by_name_in_any_order():
    shuffled = list(imagenet_classes())[::-1]
    columns = class_columns(shuffled, SIXTEEN_CATEGORIES)
    for category, column in zip(SIXTEEN_CATEGORIES, columns, strict=True):
        assert column.tolist() == [999 - i for i in imagenet_indices(category)]
    own = class_columns(["cat", "dog", "sky"], ("dog", "cat"))
    assert [column.tolist() for column in own] == [[1], [0]]
    chosen, means = decide(torch.tensor([[0.3, 0.1, 0.6]]), own)
    assert chosen.tolist() == [1]  # sky is no choice
    torch.testing.assert_close(means, torch.tensor([[0.1, 0.3]], dtype=torch.float64), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("classes", "message"),
    [((), "names no classes"), (("0", "1"), "cannot answer with 'airplane'"), (imagenet_classes()[:500], "no class")],
)
def test_other_classes_are_refused(classes, message):
    with pytest.raises(PruningBenchError, match=message):
        class_columns(classes, SIXTEEN_CATEGORIES)


# shape bias


def test_shape_bias_by_hand():
    decisions = ["cat", "cat", "dog", "car", "dog", "bird"]
    shapes = ["cat", "cat", "cat", "cat", "dog", "cat"]
    textures = ["dog", "dog", "dog", "dog", "dog", "dog"]  # the fifth has no conflict
    assert shape_bias(decisions, shapes, textures) == pytest.approx(2 / 3)
    assert np.isnan(shape_bias(["car"], ["cat"], ["dog"]))
    with pytest.raises(ValueError, match="zip"):
        shape_bias(decisions, shapes, textures[:2])


def test_shape_bias_metric_and_its_ceiling():
    names = ("bird", "car", "cat", "dog")
    answers = torch.tensor([2, 2, 3, 1, 3, 0])
    truth, texture = torch.tensor([2, 2, 2, 2, 3, 2]), torch.tensor([3, 3, 3, 3, 3, 3])
    people = torch.stack([truth, torch.full_like(truth, 3), torch.tensor([2, 3, 3, 3, 0, NO_ANSWER])])
    outputs = Responses(answers, HumanDecisions(names, ("a", "b", "c"), people, truth, ("0",) * 6, texture))
    values = ShapeBias().values(outputs).numpy()
    assert np.isnan(values[4]).all()
    assert bootstrap(values, ShapeBias().aggregate, resamples=10).value == pytest.approx(2 / 3)
    assert ShapeBias().ceiling(outputs) == pytest.approx((1 + 0 + 1 / 4) / 3)
    assert not ShapeBias().applies(kept(people_of("edge")))


# tables of trials


def test_what_nobody_answered():
    human = HumanDecisions(
        ("a", "b"),
        ("one", "two"),
        torch.tensor([[0, NO_ANSWER, NOT_SHOWN], [0, NOT_SHOWN, NOT_SHOWN]]),
        torch.tensor([0, 0, 0]),
        ("x", "x", "x"),
    )
    outputs = Responses(torch.tensor([0, -1, 0]), human)
    values = ErrorConsistency().values(outputs).numpy()
    assert np.isnan(values[2]).all()  # counted as undefined
    np.testing.assert_array_equal(values[:2, 2:], [[1, 1, 1], [0, 0, -1]])  # no answer is wrong
    assert bootstrap(values, ErrorConsistency().aggregate, resamples=10).undefined == 1
    assert DecisionAccuracy().values(outputs)[:, 2].tolist() == [1, 0, 1]  # accuracy needs nobody


def test_pooled_sets_keep_their_own_people():
    edge, sketch = kept(people_of("edge")), kept(people_of("sketch"))
    pooled = pool([edge, sketch])
    assert pooled.human.answers.shape == (10, 960)
    assert (pooled.human.answers[7:, 160:] == NOT_SHOWN).all()
    for metric in (ErrorConsistency(), AccuracyDifference(), ObservedConsistency(), DecisionAccuracy()):
        apart = [metric.aggregate(metric.values(part).numpy()) for part in (edge, sketch)]
        assert metric.aggregate(metric.values(pooled).numpy()) == pytest.approx(np.mean(apart), abs=1e-12)
        assert metric.ceiling(pooled) == pytest.approx(np.mean([metric.ceiling(p) for p in (edge, sketch)]), abs=1e-12)
    other = Responses(
        torch.zeros(1, dtype=torch.int64),
        HumanDecisions(("z",), ("a",), *[torch.zeros(1, 1).long()], torch.zeros(1).long(), ("0",)),
    )
    with pytest.raises(PruningBenchError, match="different categories"):
        pool([edge, other])
