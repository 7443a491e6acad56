"""Rehearsals: a limit of samples for all data sets of a suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kit.runs import run
from kit.toysuite import TOY_SUITE, Command

from pruningbench.contract import ArraySamples
from pruningbench.contract.human import (
    HumanDecisions,
    HumanLabelCounts,
    HumanOddOneOut,
    HumanSimilarity,
    HumanTwoAlternatives,
)
from pruningbench.errors import SuiteError
from pruningbench.harness.limited import LimitedSamples, limited
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text


def samples(count: int = 20) -> ArraySamples:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return ArraySamples(images, torch.arange(count) // (count // 4), classes=("a", "b", "c", "d"))


def test_a_limited_run_sees_so_many_samples(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE + "limit: 10\n", toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run", details=True)
    assert set(table["n"]) == {10}
    assert set(table["limit"]) == {10}
    assert (table["status"] == "ok").all()
    run(TOY_SUITE, toy_registry, tmp_path / "whole")
    whole = load_results(tmp_path / "whole", details=True)
    assert set(whole["limit"]) == {0}
    assert not set(table["cell"]) & set(whole["cell"])
    assert not set(table["plan"]) & set(whole["plan"])
    assert not set(table["data_fingerprint"]) & set(whole["data_fingerprint"])
    assert {p["data"] for p in table["made_of"] if "data" in p} != {p["data"] for p in whole["made_of"] if "data" in p}


@pytest.mark.parametrize("format_", ["table", "markdown", "json"])
def test_tables_say_that_they_are_of_a_rehearsal(format_: str, toy_registry: Registry, tmp_path: Path) -> None:
    for name, text in (("part", TOY_SUITE + "limit: 10\n"), ("whole", TOY_SUITE)):
        run(text, toy_registry, tmp_path / name)
    words = "A rehearsal: limited to 10 samples of each data set."
    assert words in " ".join(render(build(load_results(tmp_path / "part")), format_).split())
    assert "rehearsal" not in render(build(load_results(tmp_path / "whole")), format_)
    assert len(build(load_results([tmp_path / "part", tmp_path / "whole"]))) == 2  # never in one table


def test_the_option_has_a_folder_of_its_own(
    pruningbench: Command, suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = suite_file()
    assert "still to do in runs/toy-limit-8" in pruningbench("plan", path, "--limit", "8", check=0).stdout
    done = pruningbench("run", path, "--limit", "8", "--only", "recipe=none", check=0)
    assert "A rehearsal: limited to 8 samples of each data set." in " ".join(done.stdout.split())
    assert {entry.name for entry in (tmp_path / "runs").iterdir()} == {"toy-limit-8"}
    pruningbench("run", path, "--only", "recipe=none", check=0)
    assert "there: null, here: 8" in pruningbench("run", path, "--limit", "8", "--out", "runs/toy", check=2).stderr
    assert "limit" in pruningbench("run", path, "--limit", "0", check=2).stderr


def test_a_suite_without_a_limit_has_the_keys_it_had(toy_registry: Registry) -> None:
    suite = suite_from_text(TOY_SUITE, toy_registry)
    assert "limit" not in suite.identity()
    assert "limit" not in make_plan(suite, toy_registry).cells[0].identity()
    assert "limit" not in suite.to_yaml()
    for wrong in ("0", "-3", "true", "many", "1.5"):
        with pytest.raises(SuiteError, match="limit must be"):
            suite_from_text(TOY_SUITE + f"limit: {wrong}\n", toy_registry)


def test_the_samples_of_a_limit_are_the_same_everywhere_and_of_all_classes() -> None:
    one, two = limited(samples(), 8), limited(samples(), 8)
    assert [s.key for s in one] == [s.key for s in two]
    assert len(one) == 8
    assert one.fingerprint == two.fingerprint != samples().fingerprint
    assert len({s.label for s in one}) > 2  # of data in the order of their classes
    assert one.labels is not None
    assert [s.label for s in one] == one.labels.tolist()
    assert [int(s.image[0, 0, 0]) for s in one] == sorted(int(s.image[0, 0, 0]) for s in one)
    whole = samples()
    assert limited(whole, 20) is whole
    with pytest.raises(IndexError):
        one[8]


def test_answers_of_people_follow_their_images() -> None:
    count, index = 6, [1, 4]
    decisions = HumanDecisions(("x",), ("s",), torch.arange(6)[None], torch.arange(6), tuple("abcdef"))
    counts, alike = HumanLabelCounts(torch.arange(6)[:, None]), HumanSimilarity(torch.arange(36).view(6, 6).float())

    def cut(human: object) -> object:
        source = samples(8)
        source.human = human  # type: ignore[assignment]
        assert count <= len(source)
        return LimitedSamples(source, index).human

    got = cut(decisions)
    assert isinstance(got, HumanDecisions)
    assert (got.answers.tolist(), got.truth.tolist(), got.conditions) == ([[1, 4]], [1, 4], ("b", "e"))
    got = cut(counts)
    assert isinstance(got, HumanLabelCounts)
    assert got.counts.tolist() == [[1], [4]]
    got = cut(alike)
    assert isinstance(got, HumanSimilarity)
    assert got.similarity.tolist() == [[7.0, 10.0], [25.0, 28.0]]


@pytest.mark.parametrize("form", [HumanOddOneOut, HumanTwoAlternatives])
def test_trials_stay_whole(form: type) -> None:
    triplets = torch.tensor([[0, 5, 9], [1, 2, 3], [10, 11, 12], [4, 6, 7], [13, 14, 15]])
    source = samples()
    source.human = form(triplets, torch.arange(5))
    part = limited(source, 7)
    human = part.human
    assert isinstance(human, form)
    assert len(part) == 6
    assert len(human.triplets) == 2  # type: ignore[attr-defined]
    for trial in human.triplets.tolist():  # type: ignore[attr-defined]
        assert [int(part[i].key) for i in trial] in triplets.tolist()
    assert len(limited(source, 1)) == 3  # one trial at least
