"""Ties at the threshold: counted, carried through rounds, explained, and marked in tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.paired import correct, dense, measured, write
from kit.runs import run
from kit.toysuite import TOY_SUITE
from torch import nn

from pruningbench.contract import ComponentRef, Context, PruningContext, Samples
from pruningbench.leaderboard import render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.pruning.allocation import allocate
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.pruning.ties import ties, zero_norms
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind


def no_data(reference: ComponentRef) -> Samples:
    raise AssertionError(f"{reference} is not asked for")


# counting


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.floats(0.01, 0.99), st.booleans())
def test_ties_are_those_of_a_count_by_hand(values: list[int], sparsity: float, jointly: bool) -> None:
    half = len(values) // 2
    scores = {"a": torch.tensor(values[:half], dtype=torch.float32), "b": torch.tensor(values[half:]).float()}
    masks = allocate(scores, sparsity, "global" if jointly else "uniform")
    found = ties(scores, masks, jointly=jointly)
    groups = [["a", "b"]] if jointly else [["a"], ["b"]]
    tied = kept_all = pruned_all = 0
    for names in groups:
        kept = [int(s) for n in names for s, k in zip(scores[n], masks[n], strict=True) if k]
        pruned = [int(s) for n in names for s, k in zip(scores[n], masks[n], strict=True) if not k]
        kept_all, pruned_all = kept_all + len(kept), pruned_all + len(pruned)
        both = set(kept) & set(pruned)  # only the score of the threshold can be on both sides
        assert len(both) <= 1
        tied += sum(min(kept.count(s), pruned.count(s)) for s in both)
    smaller = min(kept_all, pruned_all)
    assert found.share == (pytest.approx(tied / smaller) if smaller else 0)
    assert found.zeros == pytest.approx(values.count(0) / len(values))


def test_what_an_earlier_round_pruned_is_not_decided_again() -> None:
    scores = {"a": torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 1.0])}
    masks = {"a": torch.tensor([False, False, True, False, False, True])}
    within = {"a": torch.tensor([False, False, True, True, True, True])}
    assert ties(scores, masks, within=within).share == 0.5  # one of two kept, one of two pruned
    assert ties(scores, {"a": torch.tensor([False, False, True, True, True, True])}).share == 0


# zero norms


def network_of(norm_init: str) -> nn.Module:
    reference = {"use": "timm", "name": "resnet18", "pretrained": False, "norm_init": norm_init,
                 "args": {"num_classes": 10}}  # fmt: skip
    component = bind(load_registry(), "model", reference).component
    context = Context(torch.device("cpu"), 0, Cache(), no_data)
    return component.load(context).network  # type: ignore[attr-defined, no-any-return]


def snip_masks(network: nn.Module, sparsity: float) -> dict[str, torch.Tensor]:
    images = torch.randn(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield images, torch.arange(8)

    pruner = bind(load_registry(), "pruner", "snip").component
    scores = pruner.score(PruningContext(network.eval(), prunable_parameters(network), 0, batches))  # type: ignore[attr-defined]
    found = ties(scores, allocate(scores, sparsity))
    return {"share": torch.tensor(found.share), "zeros": torch.tensor(found.zeros)}


def test_zero_initialised_norms_undecide_snip_and_the_model_field_helps() -> None:
    """The ResNet-18 of timm starts eight norms at zero: SNIP scores 0 for more than 90 % of it."""
    own, one = network_of("own"), network_of("one")
    assert zero_norms(own) == tuple(f"layer{i}.{j}.bn2" for i in range(1, 5) for j in range(2))
    assert zero_norms(one) == ()
    before, after = snip_masks(own, 0.9141), snip_masks(one, 0.9141)
    assert float(before["zeros"]) > 0.9 and float(before["share"]) > 0.3
    assert float(after["zeros"]) < 0.25 and float(after["share"]) == 0  # units that no image activates


def test_the_field_changes_no_key_at_its_default() -> None:
    registry = load_registry()
    plain = bind(registry, "model", {"use": "timm", "name": "resnet18"})
    assert "norm_init" not in plain.identity()["fields"] and "norm_init" in plain.fields()
    other = bind(registry, "model", {"use": "timm", "name": "resnet18", "norm_init": "one"})
    assert other.identity()["fields"]["norm_init"] == "one" and other.label == "timm(resnet18,norm_init=one)"


# through the harness

SUITE = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", "RECIPES").replace(
    "[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[PRUNER]"
)


@pytest.mark.parametrize("recipe", ["none", "{use: none, rounds: 2}", "{use: finetune, epochs: 1}",
                                    "{use: iterative, levels: [0.5, 0.9], epochs: 1}"])  # fmt: skip
def test_undecided_cells_say_so(toy_registry: Registry, tmp_path: Path, recipe: str) -> None:
    """A shift of 1e30 swallows every weight in float32: all scores are equal."""
    text = SUITE.replace("RECIPES", f"[{recipe}]").replace("PRUNER", "{use: toy-pruner, shift: 1.0e+30}, toy-pruner")
    run(text, toy_registry, tmp_path / "run")
    frame = load_results(tmp_path / "run", details=True)
    pruned = frame[frame["sparsity"] > 0]
    shifted = pruned[pruned["pruner"] != "toy-pruner"]
    assert (shifted["ties"] == 1).all() and all("undecided scores: 100%" in text for text in shifted["remarks"])
    clean = pruned[pruned["pruner"] == "toy-pruner"]
    assert (clean["ties"] <= 0.01).all() and not any("undecided" in text for text in clean["remarks"])
    assert frame[frame["sparsity"] == 0]["ties"].isna().all()


# boards


def test_boards_mark_undecided_rows(tmp_path: Path) -> None:
    (board,) = write(
        tmp_path / "run", dense(correct(0.9)), measured(correct(0.6), pruner="a", ties=0.42),
        measured(correct(0.5), pruner="b", ties=0.001),
    )  # fmt: skip
    assert [row.undecided for row in board.rows] == [False, True, False]
    table = render([board], "table")
    assert "a ≈" in table and "b ≈" not in table and "up to 42%" in " ".join(table.split())
    assert "| a ≈ |" in render([board], "markdown")
    rows = list(csv.DictReader(io.StringIO(render([board], "csv"))))
    assert [row["ties"] for row in rows] == ["", "0.42", "0.001"]
    (plain,) = json.loads(render([board], "json"))
    assert [row["ties"] for row in plain["rows"]] == [None, 0.42, 0.001]
    assert math.isnan(board.rows[0].ties)
