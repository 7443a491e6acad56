"""The pruner oba: against exact Hessians, the authors' numbers, and identities of the softmax."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.hessians import exact, make
from pruningbench_hessian.apoptosis import Oba
from pruningbench_hessian.probing import interactions
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Outline, PruningContext
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.scope import prunable_parameters

DATA = Path(__file__).parent / "data" / "hessian" / "oba.json"


def terms(context: PruningContext, samples: int = 7, *, labels: bool = True) -> dict[str, Tensor]:
    return interactions(context, samples, labels=labels, pruner="oba")


def flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()])


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_the_terms_are_those_of_the_exact_hessian_of_all_layers(name: str, labels: bool) -> None:
    context, images, targets = make(name)
    weights = flat({name: p.detach() for name, p in context.parameters.items()})
    matrix = exact(context, images, targets if labels else None)
    expected = weights * (matrix @ weights)
    torch.testing.assert_close(flat(terms(context, labels=labels)), expected)
    scores = Oba(labels="given" if labels else "model").score(context)
    torch.testing.assert_close(flat(scores), expected.abs())
    assert not any(p.grad is not None for p in context.network.parameters())
    # most of it comes from other weights than the weight itself, which is what obd leaves out
    assert float((weights.square() * matrix.diagonal() - expected).abs().sum()) > float(expected.abs().sum()) / 2


def test_the_authors_code_gives_the_same() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            steps = torch.arange(1, parameter.numel() + 1, dtype=torch.float64)
            parameter.copy_((0.7 * steps).sin().view(parameter.shape))
    images = (0.3 * torch.arange(84, dtype=torch.float64)).cos().view(7, 3, 2, 2)
    labels = torch.arange(7) % 4
    context = PruningContext(network, prunable_parameters(network), batches=lambda: iter([(images, labels)]))
    expected = json.loads(DATA.read_text("utf-8"))
    found = terms(context)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(value, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def linear(images: Tensor) -> PruningContext:
    with isolated_randomness("linear"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False)).double()
    labels = torch.arange(len(images)) % 4
    return PruningContext(network, prunable_parameters(network), batches=lambda: iter([(images, labels)]))


def test_of_a_linear_softmax_they_add_up_to_the_variance_of_the_logits() -> None:
    """Along w the logits grow linearly, and the second derivative of log-sum-exp is the variance under the softmax."""
    images = (0.3 * torch.arange(84, dtype=torch.float64)).cos().view(7, 3, 2, 2)
    context = linear(images)
    logits = context.network(images).detach()
    chances = logits.softmax(1)
    variance = (chances * logits.square()).sum(1) - (chances * logits).sum(1).square()
    assert float(flat(terms(context)).sum()) == pytest.approx(float(variance.mean()), rel=1e-12)
    # the label does not enter the curvature of a linear network
    torch.testing.assert_close(flat(terms(context)), flat(terms(context, labels=False)))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 0))
def test_batches_do_not_matter(sizes: list[int]) -> None:
    count = sum(sizes)
    images = (0.3 * torch.arange(12 * count, dtype=torch.float64)).cos().view(count, 3, 2, 2)
    context, _, _ = make("mlp")
    labels = torch.arange(count) % 3
    whole = PruningContext(context.network, context.parameters, batches=lambda: iter([(images, labels)]))
    parts = list(zip(images.split(sizes), labels.split(sizes), strict=True))
    split = PruningContext(context.network, context.parameters, batches=lambda: iter(parts))
    torch.testing.assert_close(flat(terms(split, count)), flat(terms(whole, count)))


def test_only_the_first_samples_count_and_weights_without_curvature_score_zero() -> None:
    context, images, labels = make("mlp")
    first = PruningContext(context.network, context.parameters, batches=lambda: iter([(images[:3], labels[:3])]))
    torch.testing.assert_close(flat(terms(context, 3)), flat(terms(first)))
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    with torch.no_grad():
        network[1].bias[2] = -1e6  # this unit is never active
    dead = PruningContext(network, prunable_parameters(network), batches=lambda: iter([(images, labels)]))
    found = terms(dead)
    assert not found["1.weight"][2].any()
    assert not found["3.weight"][:, 2].any()
    assert found["1.weight"][[0, 1, 3, 4]].abs().sum() > 0


@pytest.mark.parametrize("normalise", ["none", "mean", "max"])
@pytest.mark.parametrize("add_magnitude", [False, True])
def test_scores_are_normalised_and_added_as_the_fields_say(normalise: Any, add_magnitude: bool) -> None:
    context, _, _ = make("mlp")
    scores = Oba(normalise=normalise, add_magnitude=add_magnitude).score(context)
    largest = max(float(p.detach().abs().max()) for p in context.parameters.values())
    for name, term in terms(context).items():
        expected = term.abs()
        if normalise != "none":
            expected = expected / (expected.mean() if normalise == "mean" else expected.max())
        if add_magnitude:
            expected = expected + context.parameters[name].detach().abs() / largest
        torch.testing.assert_close(scores[name], expected)


def test_masks_follow_the_scores_and_wrong_data_is_said() -> None:
    context, images, _ = make("vit")
    scores = Oba().score(context)
    masks = Oba().prune(context, 0.5)
    kept = torch.cat([scores[name][mask].flatten() for name, mask in masks.items()])
    pruned = torch.cat([scores[name][~mask].flatten() for name, mask in masks.items()])
    assert float(kept.min()) >= float(pruned.max())
    assert len(pruned) == round(0.5 * (len(kept) + len(pruned)))
    unlabelled = PruningContext(context.network, context.parameters, batches=lambda: iter([(images, None)]))
    with pytest.raises(PruningBenchError, match="'oba' needs labels"):
        Oba().score(unlabelled)
    assert Oba(labels="model").score(unlabelled).keys() == scores.keys()
    assert Oba(samples=0).problem() == "samples must be at least 1"
    outline = Outline({n: tuple(p.shape) for n, p in context.parameters.items()}, samples=7)
    assert (Oba().cost(outline).forward, Oba().cost(outline).backward) == (1, 3)


def test_a_model_is_pruned_by_name() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 4)).eval()
    images = (0.3 * torch.arange(84.0)).cos().view(7, 3, 2, 2)
    masks = pb.prune(network, "oba", 0.75, [(images, torch.arange(7) % 4)])
    assert sum(int((~mask).sum()) for mask in masks.values()) == 96
