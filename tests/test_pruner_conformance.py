"""What every registered pruner owes, on networks of every make: exact, repeatable, without a trace, clear in error."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toybench_parts as toy
from kit.conformance import FAST, NETWORKS, check_line, component, data, grouped, prune, seeded
from kit.runs import run
from kit.toysuite import TOY_SUITE
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.contract import ArraySamples, Context, ScorePruner
from pruningbench.errors import CollapseWarning, MaskError, PruningBenchError, ScoreError, UsageError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry

REFUSED = {
    "fused-qkv": ("synflow", "px", "structured", "blocks", "snapvit"),
    "attention": ("synflow", "px", "structured", "blocks", "snapvit"),
    "tied": ("structured", "blocks", "snapvit"), "linear": ("blocks", "snapvit"), "grouped": ("snapvit",),
}  # fmt: skip
"""Architectures that a pruner is wrong for, or with too few whole channels or blocks; all else it has to prune."""
UNLABELLED = ("blocks", "layer-obs", "px", "sparse-swaps", "structured", "wanda")
"""Of the pruners that need data, those that need no labels."""
REGISTERED = load_registry().names("pruner")
NAMES = [name for name in REGISTERED if name != "snapvit"]  # it needs a transformer: tests/test_plugin_snapvit.py
IN_THE_HARNESS = [name for name in NAMES if name != "blocks"]  # the toy network has no residual blocks


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize("make", NETWORKS)
def test_every_kind_of_weight(name: str, make: str) -> None:
    network = seeded(NETWORKS[make])
    if name in REFUSED.get(make, ()):
        with pytest.raises(PruningBenchError, match=f"pruner {name!r} (cannot|reaches)") as caught:
            prune(network, name)
        check_line(caught.value)
        return
    masks = prune(network, name)
    shapes = {n: p.shape for n, p in network.named_parameters() if n.endswith("weight") and p.ndim > 1}
    assert {n: m.shape for n, m in masks.items()} == shapes
    if component(name).exact:
        assert masks.total - masks.kept == round(0.5 * masks.total)
    masks.apply(network)
    assert torch.isfinite(network(data()[0][0])).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_calls_give_equal_masks_whatever_the_random_state(name: str) -> None:
    network, found = seeded(grouped), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        found.append(prune(network, name).digest)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sparsity", [0.13, 0.5, 0.9])
def test_exact_when_all_scores_tie(name: str, sparsity: float) -> None:
    pruner, network = component(name), seeded(grouped)
    if pruner.unreachable(sparsity):
        with pytest.raises(PruningBenchError, match=f"{sparsity:g}"):
            prune(network, name, sparsity)
        return
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    if name in ("structured", "blocks") and sparsity == 0.9:  # one channel a group stays, and what is in no block
        with pytest.raises(PruningBenchError, match="reaches at most sparsity"):
            prune(network, name, sparsity)
        return
    masks = prune(network, name, sparsity)
    if pruner.exact:
        assert masks.total - masks.kept == round(sparsity * masks.total)


class Tripwire(nn.Module):
    """Raises in the pass that its countdown names."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError("tripped")
        return x


def trace(network: nn.Module) -> Iterator[object]:
    """Everything about a network, and the random states, that a pruner could leave changed."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        yield name, id(tensor), tensor.data_ptr(), tensor.dtype, tensor.detach().numpy().tobytes()
    for name, p in network.named_parameters():
        yield name, p.requires_grad, id(p.grad), None if p.grad is None else p.grad.numpy().tobytes()
    for name, module in network.named_modules():
        yield name, type(module), module.training, sorted(vars(module))
        hooks = {key: value for key, value in vars(module).items() if key.endswith("_hooks")}
        yield [(key, list(value)) for key, value in hooks.items()]
    yield torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())
    yield torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_dtype()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trip", [-1, 1, 2, 4])
def test_the_network_is_left_as_it_was(name: str, trip: int) -> None:
    """Also one that is half in training mode, half frozen, with gradients and hooks, and when a pass raises."""
    network = seeded(lambda: nn.Sequential(*grouped(), Tripwire()))
    network(data()[0][0]).sum().backward()
    network.train()
    network[4].eval()
    (network[3].bias if name == "movement" else network[3].weight).requires_grad_(False)  # it ranks what trains
    network[0].register_forward_hook(lambda *_: None)
    network[8].left = trip
    before = list(trace(network))
    try:
        prune(network, name)
    except (ZeroDivisionError, PruningBenchError) as error:
        assert trip > 0
        assert "tripped" in str(error)
    assert list(trace(network)) == before


def without_labels() -> list[tuple[Tensor, None]]:
    return [(images, None) for images, _ in data()]


def needs_labels(name: str) -> bool:
    return component(name).needs_data and name not in UNLABELLED


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_and_labels_are_named(name: str) -> None:
    network, pruner = seeded(grouped), component(name)
    empty = [(torch.zeros(0, 4, 6, 6), torch.zeros(0, dtype=torch.int64))]
    for batches in ([], empty):
        if pruner.needs_data:
            with pytest.raises(UsageError, match=f"pruner {name!r} needs data") as caught:
                prune(network, name, batches=batches)
            check_line(caught.value)
    if not needs_labels(name):
        assert prune(network, name, batches=without_labels()) == prune(network, name)
        return
    for batches in (without_labels(), [(images, labels + 5) for images, labels in data()]):
        with pytest.raises(PruningBenchError, match=f"pruner {name!r}.*labels") as caught:
            prune(network, name, batches=batches)
        check_line(caught.value)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([torch.zeros(2, 4, 6, 6)], "batch 1 is not an (images, labels) pair"),
        ([*data(), (torch.zeros(2, 4, 6, 6), torch.zeros(3, dtype=torch.int64))], "batch 3 has 2 images but 3 labels"),
        ([(torch.zeros(2, 4, 6, 6), torch.zeros(2))], "class numbers"),
        ([(torch.zeros(2, 4, 6, 6), torch.zeros(2, 4, dtype=torch.int64))], "class numbers"),
        ([(torch.full((2, 4, 6, 6), torch.inf), torch.zeros(2, dtype=torch.int64))], "NaN or infinite"),
    ],
)
def test_batches_that_are_none(batches: Any, words: str) -> None:
    for name in NAMES:
        with pytest.raises(UsageError) as caught:
            prune(seeded(grouped), name, batches=batches)
        assert words in str(caught.value)
        check_line(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_cannot_be_ranked_are_named(name: str, value: float) -> None:
    for place in ("3.weight", "7.bias", "1.running_var"):
        network = seeded(grouped)
        network.state_dict()[place].view(-1)[0] = value
        with pytest.raises(ScoreError, match=f"weights of '{place}': 1 of") as caught:
            prune(network, name)
        check_line(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_scores_that_overflow_are_an_error_or_do_not_matter(name: str) -> None:
    network = seeded(grouped)
    with torch.no_grad():
        network[3].weight.mul_(1e30)
        network[7].weight.mul_(1e30)
    try:
        masks = prune(network, name)
    except PruningBenchError as error:
        check_line(error)
        assert any(word in str(error) for word in ("weight", "pruner", "diverged", name))
    else:
        assert masks.total - masks.kept == round(0.5 * masks.total) or not component(name).exact


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_prunable_weights_are_named(name: str) -> None:
    for network in (nn.Sequential(nn.BatchNorm2d(4), nn.Flatten()), nn.Flatten()):
        with pytest.raises(MaskError, match="no prunable weights") as caught:
            prune(network, name)
        check_line(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_is_emptied_is_warned_of(name: str) -> None:
    """The warning comes exactly where the masks leave nothing, and names parameter and sparsity."""
    sparsity = 0.5 if component(name).unreachable(0.99) or name in ("structured", "blocks") else 0.99
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        masks = pb.prune(seeded(grouped), name, sparsity, data(), **FAST.get(name, {}))
    told = [str(w.message) for w in caught if w.category is CollapseWarning]
    empty = [n for n, mask in masks.items() if not mask.any()]
    assert len(told) == bool(empty)
    if empty:
        assert f"sparsity {sparsity:g}" in told[0]
        assert repr(empty[0]) in told[0]
        assert f"{len(empty)} of 4" in told[0]
        assert Path(next(w for w in caught if w.category is CollapseWarning).filename) == Path(__file__)


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(component(n), ScorePruner)])
def test_scores_alone_fail_and_keep_as_pruning_does(name: str) -> None:
    network = seeded(grouped)
    fields = FAST.get(name, {})
    before = list(trace(network))
    scores = pb.score(network, name, data(), **fields)
    assert list(trace(network)) == before
    assert {n: s.shape for n, s in scores.items()} == {n: network.get_parameter(n).shape for n in scores}
    assert all(torch.equal(pb.score(network, name, data(), **fields)[n], s) for n, s in scores.items())
    if component(name).needs_data:
        with pytest.raises(UsageError, match="needs data"):
            pb.score(network, name, **fields)
    network[3].weight.data[0] = torch.nan
    with pytest.raises(ScoreError, match="'3.weight'"):
        pb.score(network, name, data(), **fields)


# the same through the harness: all pruners in one suite on the toy network


def suite() -> str:
    sized = {name: {"image_size": 6} for name in ("ntk-sap", "synflow")}  # the toy network does not say its size
    named = [{"use": n, **FAST.get(n, {}), **sized.get(n, {})} for n in IN_THE_HARNESS]
    pruners = ", ".join("{" + ", ".join(f"{k}: {v}" for k, v in fields.items()) + "}" for fields in named)
    text = TOY_SUITE.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", f"[{pruners}]")
    return text.replace("[0, 0.5, 0.9]", "[0.5]").replace("recipes: [none, {use: finetune, epochs: 1}]\n", "")


def outcomes(text: str, registry: Registry, out: Path) -> dict[str, tuple[str, str]]:
    """Return how each pruner's cell ended, and the last line of its error."""
    run(text, registry, out)
    table = load_results(out).drop_duplicates("pruner")
    last = [error.strip().splitlines()[-1] if error else "" for error in table["error"].fillna("")]
    names = [label.partition("(")[0] for label in table["pruner"]]
    return dict(zip(names, zip(table["status"], last, strict=True), strict=True))


def test_every_pruner_runs_in_the_harness(toy_registry: Registry, tmp_path: Path) -> None:
    found = outcomes(suite(), toy_registry, tmp_path / "run")
    assert set(found) == set(IN_THE_HARNESS)
    assert {name: outcome for name, outcome in found.items() if outcome[0] != "ok"} == {}


def test_data_without_labels_in_the_harness(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy.ToyData.load

    def load(self: toy.ToyData, context: Context) -> ArraySamples:
        samples = whole(self, context)
        return samples if self.split == "test" else ArraySamples(samples.images)

    monkeypatch.setattr(toy.ToyData, "load", load)
    for name, (status, error) in outcomes(suite(), toy_registry, tmp_path / "run").items():
        if needs_labels(name):
            assert status == "failed"
            assert f"pruner {name!r} needs labels" in error
        else:
            assert status == "ok", error


def test_empty_data_in_the_harness(toy_registry: Registry, tmp_path: Path) -> None:
    found = outcomes(suite() + "data: {use: toy-data, count: 0}\n", toy_registry, tmp_path / "run")
    for name, (status, error) in found.items():
        if component(name).needs_data:
            assert status == "failed"
            assert f"pruner {name!r} needs data" in error
        else:
            assert status == "ok", error


def test_weights_that_cannot_be_ranked_in_the_harness(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy.ToyModel.load

    def load(self: toy.ToyModel, context: Context) -> toy.ToyVision:
        model = whole(self, context)
        model.network[4].weight.data[0, 0] = torch.nan
        return model

    monkeypatch.setattr(toy.ToyModel, "load", load)
    for status, error in outcomes(suite(), toy_registry, tmp_path / "run").values():
        assert status == "failed"
        assert "weights of '4.weight': 1 of 256 are NaN or infinite" in error
