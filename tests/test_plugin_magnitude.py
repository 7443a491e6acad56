"""The pruners random and magnitude."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pruningbench_magnitude
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.cases import cases
from pruningbench_magnitude import lamp_scores
from pruningbench_magnitude.pruners import Magnitude, Random
from torch import nn
from torch.nn.utils import prune as torch_prune

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import PruningContext
from pruningbench.plugins import Plugin, Registry
from pruningbench.plugins.loading import _register
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.suite.binding import BindingError, bind

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "data/pruners/resnet20-allocations.json").read_text())
MAGNITUDE_ALLOCATIONS = ["global", "uniform", "uniform-plus", "erk", "lamp"]
SPARSITIES = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98]


def network() -> nn.Sequential:
    with isolated_randomness("network"):
        return nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3, groups=4), nn.Flatten(), nn.Linear(512, 64), nn.Linear(64, 10)
        )


def context(net: nn.Module | None = None, seed: int = 0) -> PruningContext:
    net = net or network()
    return PruningContext(net, prunable_parameters(net), seed)


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_global_masks_are_those_of_torch(sparsity: float) -> None:
    masks = Magnitude().prune(context(), sparsity)
    peer = network()
    modules = {name: module for name, module in peer.named_modules() if hasattr(module, "weight")}
    torch_prune.global_unstructured(
        [(module, "weight") for module in modules.values()],
        pruning_method=torch_prune.L1Unstructured,
        amount=round(sparsity * masks.total),
    )
    for name, module in modules.items():
        assert torch.equal(masks[f"{name}.weight"], module.weight_mask.bool())


@pytest.mark.parametrize("sparsity", ["0.90", "0.95"])
def test_erk_keeps_the_reference_number_of_weights_a_layer(sparsity: str) -> None:
    shapes = dict(GOLDEN["layers"])
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    for pruner in (Magnitude(allocation="erk"), Random(allocation="erk")):
        kept = [layer.kept for layer in pruner.threshold(scores, float(sparsity)).layers()]
        assert np.abs(np.array(kept) - GOLDEN["erk"][sparsity]["keep"]).max() <= 1
        assert sum(kept) == 268_336 - round(float(sparsity) * 268_336)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("allocation", MAGNITUDE_ALLOCATIONS)
def test_magnitude_prunes_exactly_k_and_the_smallest_of_each_layer(allocation: Any, sparsity: float) -> None:
    job = context()
    masks = Magnitude(allocation=allocation).prune(job, sparsity)
    assert masks.total - masks.kept == round(sparsity * masks.total)
    assert masks.provenance["sparsity"] == sparsity
    for name, mask in masks.items():
        size = job.parameters[name].detach().abs()
        if mask.any() and not mask.all():
            assert size[mask].min() >= size[~mask].max()


@pytest.mark.parametrize("allocation", MAGNITUDE_ALLOCATIONS)
def test_exactly_k_when_all_weights_are_equal(allocation: Any) -> None:
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, -0.1)
    masks = Magnitude(allocation=allocation).prune(context(net), 0.9)
    assert masks.total - masks.kept == round(0.9 * masks.total)


def test_pruning_reads_the_network_and_leaves_it_alone() -> None:
    job = context()
    before = {name: p.detach().clone() for name, p in job.network.named_parameters()}
    Magnitude().prune(job, 0.5)
    Random().prune(job, 0.5)
    assert all(torch.equal(p, before[name]) for name, p in job.network.named_parameters())


def naive_lamp(weights: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    squares = (weights / max(np.abs(weights).max(), 1e-300)) ** 2
    return [s / math.fsum(v for v in squares if v >= s) if s else 0.0 for s in squares]


@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 30),
        elements=st.floats(np.float32(1e-3), 1e3, width=32) | st.sampled_from([0.0, 0.5, -0.5, 2.0, -2.0]),
    )
)
@cases(200)
def test_lamp_is_its_definition(weights: Any) -> None:
    scores = lamp_scores(torch.from_numpy(weights)[None])
    assert scores.shape == (1, len(weights))
    assert scores.dtype == torch.float64
    assert scores[0].tolist() == pytest.approx(naive_lamp(weights.astype(np.float64)), rel=1e-9)


def test_lamp_by_hand() -> None:
    assert lamp_scores(torch.tensor([3.0, -1.0, 2.0, 0.0])).tolist() == pytest.approx([1, 1 / 14, 4 / 13, 0])
    assert lamp_scores(torch.tensor([2.0, 2.0, -1.0])).tolist() == pytest.approx([0.5, 0.5, 1 / 9])
    assert lamp_scores(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert lamp_scores(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100, 2.0**600])
def test_lamp_does_not_change_with_the_scale_of_a_layer(factor: float) -> None:
    weights = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(lamp_scores(weights * factor), lamp_scores(weights))


def test_lamp_empties_no_layer_that_global_magnitude_empties() -> None:
    net = network()
    with torch.no_grad():
        net[4].weight.mul_(1e-4)
    assert Magnitude().prune(context(net), 0.9)["4.weight"].sum() == 0
    assert Magnitude(allocation="lamp").prune(context(net), 0.9)["4.weight"].sum() > 0


def test_random_depends_on_the_seed_and_the_name_only() -> None:
    scores = Random().score(context())
    assert all(torch.equal(scores[n], s) for n, s in Random(allocation="erk").score(context()).items())
    assert not torch.equal(scores["3.weight"], Random().score(context(seed=1))["3.weight"])
    part = PruningContext(network(), {"3.weight": context().parameters["3.weight"]})
    assert torch.equal(Random().score(part)["3.weight"], scores["3.weight"])
    assert Random().prune(context(), 0.5) == Random().prune(context(), 0.5)
    flat = torch.cat([s.flatten() for s in scores.values()])
    assert 0 <= flat.min() < flat.max() < 1
    assert float(flat.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(flat.var()) == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("allocation", ["global", "uniform", "erk"])
def test_random_prunes_exactly_k(allocation: Any, sparsity: float) -> None:
    masks = Random(allocation=allocation).prune(context(), sparsity)
    assert masks.total - masks.kept == round(sparsity * masks.total)


def test_masks_of_higher_sparsity_lie_inside_those_of_lower() -> None:
    for pruner in (Magnitude(), Magnitude(allocation="lamp"), Random()):
        low, high = pruner.prune(context(), 0.5), pruner.prune(context(), 0.9)
        assert low.intersect(high) == high


def registry() -> Registry:
    found = Registry()

    class Point:
        @staticmethod
        def load() -> Any:
            return pruningbench_magnitude

    _register(found, Plugin("magnitude", "pruningbench", "0"), Point())  # type: ignore[arg-type]
    return found


def test_registered_with_their_contract() -> None:
    found = registry()
    assert not found.broken
    assert {"magnitude", "n-m", "random"} <= set(found.names("pruner"))
    assert found.entry("pruner", "random").load() is Random
    assert found.entry("pruner", "magnitude").load() is Magnitude
    assert (Random.seeded, Magnitude.seeded) == (True, False)
    assert not (Random.cache_scores or Magnitude.cache_scores or Random.needs_data or Magnitude.needs_data)


def test_allocations_share_scores() -> None:
    found = registry()
    uses = [bind(found, "pruner", {"use": "magnitude", "allocation": a}) for a in MAGNITUDE_ALLOCATIONS]
    assert len({str(use.identity()) for use in uses}) == 5
    assert len({str(use.identity(without="scores")) for use in uses}) == 1
    assert [f.metadata["scores"] for f in dataclasses.fields(Random)] == [False]
    with pytest.raises(BindingError, match="must be 'global', 'uniform' or 'erk', got 'lamp'"):
        bind(found, "pruner", {"use": "random", "allocation": "lamp"})
    with pytest.raises(BindingError, match="did you mean 'uniform-plus'"):
        bind(found, "pruner", {"use": "magnitude", "allocation": "uniform_plus"})


def test_unknown_names_of_the_module() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lamb_scores'"):
        _ = pruningbench_magnitude.lamb_scores
