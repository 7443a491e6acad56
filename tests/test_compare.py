"""`compare`: planted regressions, errors under no change, and what is not comparable."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import failure, record
from kit.compared import MADE, two, worse_by
from kit.paired import N, correct, dense, measured, store
from scipy import stats

import pruningbench as pb
from pruningbench.contract.statistics import bootstrap
from pruningbench.errors import UsageError
from pruningbench.leaderboard.comparing import judged
from pruningbench.leaderboard.inference import holm
from pruningbench.leaderboard.matching import obstacle
from pruningbench.store.runfolder import RunFolder

# what is better and worse


def test_a_planted_regression_is_found_in_runs_of_the_same_name(tmp_path: Path) -> None:
    a, b = correct(0.8), correct(0.7, 1)
    before, after = two(
        tmp_path,
        (dense(correct(0.9)), dense(correct(0.9))),
        (measured(a, pruner="a"), measured(worse_by(0.1, a), pruner="a")),
        (measured(b, pruner="b"), measured(worse_by(0.005, b), pruner="b")),
        (measured(worse_by(0.1, a), pruner="c"), measured(a, pruner="c")),
    )
    contrast = pb.compare(before, after)
    (worse,), (better,) = contrast.worse, contrast.better
    assert (worse.place.pruner, better.place.pruner) == ("a", "c")
    expected = bootstrap(worse_by(0.1, a) - a)
    assert (worse.before, worse.after) == pytest.approx((0.8, 0.7))
    entry = worse.difference
    assert (entry.value, entry.low, entry.high, entry.n) == (expected.value, expected.low, expected.high, N)
    p = stats.binomtest(0, 20).pvalue
    assert entry.p == pytest.approx(p)
    tested = [c.difference for c in contrast.changes if not c.unchanged]
    assert [entry.p_holm for entry in tested] == holm([entry.p for entry in tested]) and len(tested) == 3
    assert [c.place.pruner for c in contrast.changes if c.unchanged] == ["dense"]
    assert contrast.failure() == "1 worse" and contrast.failure("missing") == "" and contrast.failure("none") == ""
    swapped = pb.compare(after, before)
    assert [c.place for c in swapped.worse] == [better.place] and [c.place for c in swapped.better] == [worse.place]


def test_a_metric_that_should_fall_turns_the_verdict_and_one_without_direction_has_none(tmp_path: Path) -> None:
    a = correct(0.8)
    before, after = two(
        tmp_path,
        (measured(a, higher_is_better=False), measured(worse_by(0.2, a), higher_is_better=False)),
        (measured(a, pruner="b", higher_is_better=None), measured(worse_by(0.2, a), pruner="b", higher_is_better=None)),
    )
    contrast = pb.compare(before, after)
    assert [c.verdict for c in contrast.changes] == ["better", None]
    assert math.isnan(contrast.changes[1].difference.p_holm)


def test_the_same_run_twice_has_no_changes(tmp_path: Path) -> None:
    a = correct(0.8)
    store(tmp_path / "run", dense(correct(0.9), artifact="d", made_of=MADE), measured(a, artifact="k", made_of=MADE))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    contrast = pb.compare(tmp_path / "run", tmp_path / "copy")
    assert all(change.same for change in contrast.changes) and len(contrast.changes) == 2
    assert not (contrast.better or contrast.worse or contrast.new or contrast.gone or contrast.incomparable)
    assert contrast.failure("any") == "" and contrast.parts == {} and contrast.notes == ()


def test_seeds_are_paired_and_tested_together(tmp_path: Path) -> None:
    values = {seed: correct(0.8, seed) for seed in range(3)}
    before, after = two(
        tmp_path, *((measured(v, seed=s), measured(worse_by(0.1, v), seed=s)) for s, v in values.items())
    )
    (change,) = pb.compare(before, after).changes
    assert change.seeds == (0, 1, 2) and change.difference.seeds == 3
    assert change.difference.value == pytest.approx(-0.1) and change.verdict == "worse"


def test_under_no_change_few_comparisons_call_anything_different(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    runs, metrics, samples = 200, 6, 40
    ease = rng.normal(size=(runs, metrics, samples))
    for side in ("before", "after"):
        values = (ease + rng.normal(size=ease.shape) > 0).astype(float)
        values[:, ::2] += rng.normal(scale=0.1, size=values[:, ::2].shape)  # half are tested by Student's test
        store(
            tmp_path / side, *(measured(values[i, k], variant=f"{i} {k}") for i in range(runs) for k in range(metrics))
        )
    changes = pb.compare(tmp_path / "before", tmp_path / "after").changes
    assert len(changes) == runs * metrics
    comparisons = [changes[i : i + metrics] for i in range(0, len(changes), metrics)]
    assert all(len({change.place.variant.split()[0] for change in own}) == 1 for own in comparisons)
    wrong = sum(any(c.verdict for c in judged(own, {"before": set(), "after": set()})) for own in comparisons)
    assert 0 < wrong <= stats.binom.ppf(0.99, runs, 0.05)


def test_a_real_loss_is_found_with_high_probability(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    found = 0
    for i in range(20):
        a = (rng.random(N) < 0.8).astype(float)
        b = np.where(rng.random(N) < 0.15, 0.0, a)
        before, after = two(tmp_path / f"{i}", (measured(a), measured(b)))
        found += bool(pb.compare(before, after).worse)
    assert found == 20


@pytest.mark.parametrize(("low", "verdict"), [("after", None), ("before", "better"), ("", "better")])
def test_a_value_at_chance_is_never_called_better(tmp_path: Path, low: str, verdict: str | None) -> None:
    a = correct(0.6)
    chance = {side: {"chance": 0.5, "chance_p": 0.9 if side == low else 1e-9} for side in ("before", "after")}
    before, after = two(tmp_path, (measured(a, **chance["before"]), measured(correct(0.9), **chance["after"])))
    assert pb.compare(before, after).changes[0].verdict == verdict
    assert pb.compare(after, before).changes[0].verdict == ("worse" if verdict else None)


def test_conditions_choose_what_is_compared_and_corrected_for(tmp_path: Path) -> None:
    a = correct(0.8)
    before, after = two(
        tmp_path,
        (measured(a, pruner="a"), measured(worse_by(0.1, a), pruner="a")),
        (measured(a, pruner="b", seed=1, unit="ms"), measured(worse_by(0.1, a), pruner="b", seed=1, unit="ms")),
    )
    (change,) = pb.compare(before, after, where="unit != ms and sparsity<=50%").changes
    assert change.place.pruner == "a" and change.difference.p_holm == change.difference.p
    assert [c.place.pruner for c in pb.compare(before, after, where="seed=1").changes] == ["b"]
    both = pb.compare(before, after)
    assert {c.difference.p_holm for c in both.changes} == {2 * change.difference.p}
    low = {"chance": 0.5, "chance_p": 0.9}
    before, after = two(
        tmp_path / "chance",
        (measured(a, **low), measured(a, **low)),
        (measured(a, metric="gini"), measured(worse_by(0.1, a), metric="gini")),
    )
    assert pb.compare(before, after, where="metric=gini").worse == ()  # it was at chance, which accuracy tells
    for where, words in {"unit": "is not a yes-or-no column", "speed=1": "no value has a field 'speed'", "model=x": "holds for none",
                         "seed=": "value", "model ~ (": "character 9"}.items():  # fmt: skip
        with pytest.raises(UsageError, match=words):
            pb.compare(before, after, where=where)


def test_values_of_which_no_sample_differs_cost_no_correction(tmp_path: Path) -> None:
    a = correct(0.8)
    others = [(measured(a, pruner=f"p{i}"), measured(a.copy(), pruner=f"p{i}")) for i in range(30)]
    before, after = two(tmp_path, (measured(a), measured(worse_by(0.03, a))), *others)
    contrast = pb.compare(before, after)
    (worse,) = contrast.worse
    assert worse.difference.p_holm == worse.difference.p > 0.05 / 31
    assert sum(change.unchanged for change in contrast.changes) == 30
    assert not any(change.same for change in contrast.changes)
    assert "31 values compared, 30 of them unchanged" in contrast.headline()


# margins


def test_a_loss_within_the_margin_is_tolerated(tmp_path: Path) -> None:
    a = correct(0.8)
    before, after = two(tmp_path, (measured(a), measured(worse_by(0.1, a))))
    (change,) = pb.compare(before, after).worse
    low = change.difference.low
    assert pb.compare(before, after, margin=-low * 0.99).worse
    wide = pb.compare(before, after, margin=-low * 1.01)
    assert not wide.worse and [c.place for c in wide.tolerated] == [change.place] and wide.failure("any") == ""
    assert pb.compare(before, after, margin={"other": 0.5}).worse
    assert not pb.compare(before, after, margin={"accuracy": 0.5}).worse


def test_what_may_be_a_loss_beyond_the_margin_is_undecided(tmp_path: Path) -> None:
    a, b = correct(0.8), correct(0.8, 5)
    before, after = two(tmp_path, (measured(a), measured(b)))
    contrast = pb.compare(before, after, margin=0.001)
    assert len(contrast.undecided) == 1 and contrast.failure() == ""
    assert contrast.failure("any") == "1 not shown to be within the margin"
    lower = two(tmp_path / "lower", (measured(a, higher_is_better=False), measured(a, higher_is_better=False)))
    assert pb.compare(*lower, margin=0.001).changes[0].within_margin is True


@pytest.mark.parametrize("margin", [0, -1, math.nan, math.inf, True, "x", {"accuracy": -1}])
def test_margins_that_are_none_are_refused(tmp_path: Path, margin: object) -> None:
    with pytest.raises(UsageError, match="margin must be a positive number"):
        pb.compare(tmp_path, tmp_path, margin=margin)  # type: ignore[arg-type]


# what is not compared


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_fingerprint": "d2"}, "other data: d1 before, d2 after"),
        ({"limit": 20}, "other limit: all samples before, 20 samples after"),
        ({"seed": 3}, "other seeds: 0 before, 3 after"),
        ({"plan": "q"}, "requested differently"),
        ({"unit": "ms"}, "other unit of the metric"),
        ({"higher_is_better": False}, "other direction of the metric: higher is better before, lower is better after"),
        (
            {"made_of": {**MADE, "weights": "w2"}},
            r"other reference: weights of model net differ \(w1 before, w2 after\)",
        ),
    ],
)
def test_what_is_not_comparable_says_why(tmp_path: Path, change: dict[str, object], words: str) -> None:
    a = correct(0.8)
    fields = {"plan": "p", "made_of": MADE}
    before, after = two(tmp_path, (measured(a, **fields), measured(worse_by(0.2, a), **{**fields, **change})))
    contrast = pb.compare(before, after)
    (one,) = contrast.incomparable
    assert re.search(words, one.reason), one.reason
    assert not contrast.changes and contrast.failure() == "nothing could be compared"
    if "made_of" in change:
        assert pb.compare(before, after, other_weights=True).worse


def test_stale_values_and_values_without_samples_are_not_compared(tmp_path: Path) -> None:
    a = correct(0.8)
    before, after = two(
        tmp_path, (measured(a), measured(a)), (measured(a, pruner="b"), measured(worse_by(0.1, a), pruner="b"))
    )
    cell = record("a").cell
    mark = {"cell": cell, "task": "sorting", "attempt": 1, "why": "the code changed", "now": cell}
    (after / "stale.json").write_text(json.dumps([mark]))
    RunFolder(before).samples_file(record("b").cell, "sorting").unlink()
    reasons = {one.place.pruner: one.reason for one in pb.compare(before, after).incomparable}
    assert reasons["a"] == "stale after: the code changed"
    assert reasons["b"].startswith("no per-sample values before")


def test_new_gone_failed_and_undefined_values(tmp_path: Path) -> None:
    a = correct(0.8)
    nothing = np.full(N, np.nan)
    store(tmp_path / "old", measured(a, pruner="gone"), measured(a, pruner="fails"), measured(a, pruner="void"),
          measured(a, pruner="seeds", seed=0), measured(a, pruner="seeds", seed=1), measured(a, pruner="kept"))  # fmt: skip
    store(tmp_path / "later", measured(a, pruner="new"), measured(nothing, pruner="void"),
          measured(a, pruner="seeds", seed=0), measured(a, pruner="kept"))  # fmt: skip
    with (tmp_path / "later" / "results.jsonl").open("a") as file:
        error = "Traceback\nValueError: no\x1b[2J luck"
        file.write(json.dumps(failure("fails", error).to_json()) + "\n")
    contrast = pb.compare(tmp_path / "old", tmp_path / "later")
    gone = {one.place.pruner: (one.seeds, one.reason) for one in contrast.gone}
    assert gone == {
        "gone": ((0,), ""),
        "fails": ((0,), "failed: ValueError: no\\x1b[2J luck"),
        "void": ((0,), "undefined after: the metric is not defined on any sample"),
        "seeds": ((1,), ""),
    }
    assert [(one.place.pruner, one.reason) for one in contrast.new] == [("new", "")]
    assert contrast.failure() == "" and contrast.failure("missing") == "4 gone"
    assert {change.place.pruner for change in contrast.changes} == {"seeds", "kept"}


def test_what_differs_between_the_sides_is_named(tmp_path: Path) -> None:
    a = correct(0.8)
    later = {**MADE, "pruner": "mine 1.1 v2 bb", "libraries": "timm 1.1", "metric other": "x", "network": "n2"}
    before, after = two(
        tmp_path, (measured(a, made_of={**MADE, "metric other": "y"}), measured(worse_by(0.1, a), made_of=later))
    )
    packages = {"torch": "2.6.0", "numpy": "2.0"}
    for folder, changed in ((before, {}), (after, {"torch": "2.7.0"})):
        (folder / "environment.json").write_text(json.dumps({"packages": {**packages, **changed}, "device": "cpu"}))
    contrast = pb.compare(before, after)
    assert list(contrast.parts) == [
        "libraries of model net (timm 1.0 -> timm 1.1)", "code of pruner a (mine 1.0 v1 aa -> mine 1.1 v2 bb)",
    ]  # fmt: skip
    assert contrast.notes == ("torch 2.6.0 before, 2.7.0 after",)
    for damaged in (b"", b"[]", b"{", b'{"packages": 3, "plugins": "x", "device": null}', b"\xff"):
        (after / "environment.json").write_bytes(damaged)
        assert pb.compare(before, after).notes == ()


def test_networks_that_differ_without_a_reason_are_noted(tmp_path: Path) -> None:
    a = correct(0.8)
    sides = [{"artifact": "k", "made_of": {**MADE, "network": name}} for name in ("n1", "n2")]
    before, after = two(tmp_path, (measured(a, **sides[0]), measured(a, **sides[1])))
    contrast = pb.compare(before, after)
    assert [change.same for change in contrast.changes] == [False] and contrast.parts == {}
    assert contrast.notes == (
        "1 value was measured on other networks made from the same parts: the work does not repeat exactly",
    )
    assert pb.compare(before, before).notes == ()


def test_a_margin_says_nothing_about_a_value_at_chance(tmp_path: Path) -> None:
    a, b = correct(0.5), correct(0.5, 5)
    chance = {"chance": 0.5, "chance_p": 0.9}
    before, after = two(tmp_path, (measured(a, **chance), measured(b, **chance)))
    contrast = pb.compare(before, after, margin=0.001)
    assert [change.within_margin for change in contrast.changes] == [None] and not contrast.undecided


def test_repeated_values_count_once_and_marked_ones_last(tmp_path: Path) -> None:
    a = correct(0.8)
    store(tmp_path / "old", measured(a, made_of=MADE))
    store(tmp_path / "one", measured(a, made_of=MADE))
    store(tmp_path / "two", measured(worse_by(0.1, a), made_of=MADE, stale="the code changed"))
    contrast = pb.compare(tmp_path / "old", [tmp_path / "one", tmp_path / "two"])
    assert [change.difference.value for change in contrast.changes] == [0.0]
    assert pb.compare(tmp_path / "old", [tmp_path / "two"]).notes == (
        "1 compared value after: accepted: the code changed",
    )


@given(st.data())
def test_matching_is_symmetric(data: st.DataObject) -> None:
    choice = st.sampled_from
    sides = [
        {**vars(record()), "mark": data.draw(choice(["", "stale: x", "accepted: y"])), "run": "r",
         "limit": data.draw(choice([0, 5])), "data_fingerprint": data.draw(choice(["d", "e"])),
         "made_of": data.draw(choice([{}, {"weights": "v"}, {"weights": "w"}])), "plan": data.draw(choice(["", "p", "q"])),
         "value": data.draw(choice([math.nan, 0.5]))}
        for _ in range(2)
    ]  # fmt: skip
    assert bool(obstacle(*sides)) == bool(obstacle(*reversed(sides)))
    assert (obstacle(sides[0], sides[0]) == "") == (not sides[0]["mark"].startswith("stale"))
