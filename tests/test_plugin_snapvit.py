"""The pruner snapvit: scores, search and order against the public code, and what an elastic order promises."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import toybench_parts as toy
from kit.conformance import check_line
from kit.runs import run
from kit.toysuite import TOY_SUITE
from pruningbench_structured import shrink
from pruningbench_structured.elastic import Units, find_units, masks_at, raw_scores, removal_order, removed_at, weighted
from pruningbench_structured.fidelity import Fidelity
from pruningbench_structured.snapvit import SnapVit, _start
from pruningbench_structured.views import view_gradients
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.base.randomness import generator_for, isolated_randomness
from pruningbench.contract import Context, Outline, Preprocessing, PruningContext
from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.pruning.scope import prunable_parameters

STORED = dict(np.load(Path(__file__).parent / "data" / "pruners" / "snapvit.npz"))
RATIOS = (0.15, 0.35, 0.55, 0.65)


def vit(**given: Any) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 8, "patch_size": 4, "embed_dim": 20, "depth": 3, "num_heads": 5}
    return VisionTransformer(**{**sizes, "num_classes": 4, **given}).eval()


def stored(name: str) -> Tensor:
    tensor = torch.from_numpy(STORED[name])
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def stored_network(num_classes: int = 4) -> nn.Module:
    network = vit(num_classes=num_classes)
    names = {name.removeprefix("network/") for name in STORED if name.startswith("network/")}
    network.load_state_dict({n: stored(f"network/{n}") for n in names if num_classes or not n.startswith("head.")})
    return network


def drawn(seed: object = 0, **given: Any) -> tuple[nn.Module, list[tuple[Tensor, None]]]:
    """Return a network whose parameters are all of their own, and two batches of images."""
    with isolated_randomness("snapvit", seed):
        network = vit(**given)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data *= torch.empty(len(parameter), *[1] * (parameter.ndim - 1)).uniform_(1, 4)
            else:
                parameter.data += 0.3 * torch.randn(parameter.shape)
        return network, [(torch.randn(6, 3, 8, 8) + 2 * torch.randn(6, 3, 1, 1), None) for _ in range(2)]


def prune(network: nn.Module, sparsity: float, batches: Any, **given: Any) -> pb.Masks:
    return pb.prune(network, "snapvit", sparsity, batches, **{"samples": 12, "evaluations": 3, **given})


def units_of(network: nn.Module, images: Tensor) -> Units:
    return find_units(network, images, prunable_parameters(network))


def gradients_of(network: nn.Module, batches: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return the gradients for the stored crops, whatever crops are drawn."""
    names = [f"blocks.{i}.{layer}.weight" for i in range(3) for layer in ("mlp.fc1", "attn.qkv")]
    crops, own = iter(batches), dict(network.named_parameters())
    monkeypatch.setattr("pruningbench_structured.views.views", lambda *_: next(crops))
    found = view_gradients(network, [own[n] for n in names], [batch[:, 0] for batch in batches], 1, generator_for)
    return dict(zip(names, found, strict=True))


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    network = stored_network()
    network.reset_classifier(0)
    units = units_of(network, stored("images"))
    return raw_scores(units, gradients_of(network, list(stored("crops").split(3)), monkeypatch))


def test_scores_are_those_of_the_public_code(scores: list[Tensor]) -> None:
    found = torch.stack(scores[:3]), torch.stack(scores[3:])
    for mine, name in zip(found, ("mlp_scores", "head_scores"), strict=True):
        expected = stored(name).double() / 2**2  # the public code adds the gradients of two batches' means
        torch.testing.assert_close(mine, expected, rtol=2e-5, atol=0)


@pytest.mark.parametrize(("row", "components"), [(0, 8), (1, 32)])
def test_distances_are_those_of_the_public_code(scores: list[Tensor], row: int, components: int) -> None:
    network = stored_network(num_classes=0)
    units = units_of(network, stored("images"))
    fidelity = Fidelity(network, units, list(stored("images").split(20)), components)
    for weights, expected in zip(stored("weights").double(), stored("distances")[row].tolist(), strict=True):
        order = removal_order(units, weighted(units, scores, weights), 0.05, 0.2)
        found = fidelity.distance([removed_at(units, order, ratio, 0.15) for ratio in RATIOS])
        assert found == pytest.approx(expected, rel=2e-6)


def test_removed_units_and_heads_are_those_of_the_public_code(scores: list[Tensor]) -> None:
    units = units_of(stored_network(), stored("images"))
    torch.testing.assert_close(_start(units).float(), stored("weights")[0])
    for number, weights in enumerate(stored("weights").double()):
        order = removal_order(units, weighted(units, scores, weights), 0.05, 0.2)
        for place, ratio in enumerate(RATIOS):
            removed = removed_at(units, order, ratio, 0.15)
            assert torch.equal(torch.stack(list(removed[:3])), stored("mlp_removed")[number, place])
            assert torch.equal(torch.stack(list(removed[3:])), stored("head_removed")[number, place])


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_one_order_meets_the_pairs_of_ratios(ratio: float) -> None:
    network, batches = drawn()
    units = units_of(network, batches[0][0])
    ranks = pb.score(network, "snapvit", batches, samples=12, evaluations=0)
    weights = torch.cat([ranks[f"blocks.{i}.mlp.fc1.weight"][:, 0] for i in range(3)])
    heads = torch.cat([ranks[f"blocks.{i}.attn.proj.weight"][0].view(5, 4)[:, 0] for i in range(3)])
    last = weights.sort().values[int(240 * ratio) - 1]
    assert int((weights <= last).sum()) == int(240 * ratio)
    assert int((heads <= last + 1).sum()) >= int(round(15 * max(ratio - 0.15, 0), 9))  # at a tie the unit goes first
    assert int((heads < last).sum()) <= int(round(15 * max(ratio - 0.15, 0), 9))
    assert units.skipped.keys() >= {"head"}


def test_sparsities_are_nested_and_met() -> None:
    network, batches = drawn()
    before = copy.deepcopy(network.state_dict())
    scores = pb.score(network, "snapvit", batches, samples=12, evaluations=3)
    largest = max(int(score.numel()) for score in scores.values())
    previous: dict[str, Tensor] | None = None
    for sparsity in (0.05, 0.2, 0.35, 0.5, 0.7):
        masks, removed = masks_at(scores, sparsity)
        achieved = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
        assert abs(achieved - sparsity) * sum(mask.numel() for mask in masks.values()) <= 4 * 20 * 4 / 2  # half a head
        assert set(removed) == {f"blocks.{i}.{layer}" for i in range(3) for layer in ("mlp.fc1", "attn.qkv")}
        assert all(gone < of for gone, of in removed.values())
        if previous is not None:
            assert not any(bool((mask & ~previous[name]).any()) for name, mask in masks.items())
        previous = masks
    assert largest == 1600
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_masks_and_smaller_network_compute_the_same() -> None:
    network, batches = drawn()
    images = batches[0][0]
    for sparsity in (0.2, 0.6):
        masks = prune(network, sparsity, batches)
        smaller, masked = shrink(network, masks, images), copy.deepcopy(network)
        masks.apply(masked)
        torch.testing.assert_close(smaller(images), masked(images), rtol=1e-4, atol=1e-5)
        removed: Any = masks.provenance["channels_removed"]
        for i, block in enumerate(smaller.blocks):
            assert block.mlp.fc1.out_features == 80 - removed[f"blocks.{i}.mlp.fc1"][0]
            assert block.attn.num_heads == 5 - removed[f"blocks.{i}.attn.qkv"][0]
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert sum(dict(smaller.named_parameters())[name].numel() for name in masks) == kept


def test_at_least_one_unit_and_head_of_a_block_stay() -> None:
    network, batches = drawn()
    scores = pb.score(network, "snapvit", batches, samples=12, evaluations=0, floor=0.0, head_floor=0.0)
    _, removed = masks_at(scores, 0.85)
    assert all(gone < of for gone, of in removed.values())
    with pytest.raises(
        UsageError, match=r"'snapvit' reaches at most sparsity 0\.\d+ on this network, but 0.99 was"
    ) as caught:
        masks_at(scores, 0.99)
    check_line(caught.value)


def test_the_search_lowers_the_distance_and_repeats() -> None:
    network, batches = drawn()
    told: list[str] = []
    found = []
    for seed in (3, 3, 4):
        context = PruningContext(
            network, prunable_parameters(network), seed, batches=lambda: iter(batches), report=told.append
        )
        found.append(SnapVit(samples=12, evaluations=40).score(context))
    start, end = (float(number) for number in told[0].split("distance ")[1].split(" -> "))
    assert end < start
    assert told[0] == told[1] != told[2]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_neither_labels_nor_classifier_matter() -> None:
    network, batches = drawn()
    expected = prune(network, 0.4, batches)
    assert prune(network, 0.4, [(images, torch.arange(6)) for images, _ in batches]) == expected
    headless = copy.deepcopy(network)
    headless.reset_classifier(0)
    masks = prune(headless, 0.4, batches)
    assert masks["blocks.0.mlp.fc1.weight"].shape == (80, 20)
    ranks = pb.score(headless, "snapvit", batches, samples=12, evaluations=3)
    with_head = pb.score(network, "snapvit", batches, samples=12, evaluations=3)
    assert all(torch.equal(rank, with_head[name]) for name, rank in ranks.items())


@pytest.mark.parametrize(
    "make",
    [
        lambda: vit(init_values=0.1, qk_norm=True, qkv_bias=False, class_token=False, global_pool="avg"),
        lambda: vit(num_classes=0),
        lambda: timm.models.swin_transformer.SwinTransformer(
            img_size=8, patch_size=1, embed_dim=16, window_size=4, depths=(2, 2), num_heads=(2, 4), num_classes=4
        ),
    ],
)
def test_other_transformers(make: Any) -> None:
    with isolated_randomness("others"):
        network = make().eval()
        batches = [(torch.randn(6, 3, 8, 8), None)]
    masks = prune(network, 0.3, batches, samples=6)
    masked = copy.deepcopy(network)
    masks.apply(masked)
    torch.testing.assert_close(
        shrink(network, masks, batches[0][0])(batches[0][0]), masked(batches[0][0]), rtol=1e-4, atol=1e-4
    )


def test_a_scope_leaves_blocks_out() -> None:
    network, batches = drawn()
    masks = prune(network, 0.3, batches, scope={"exclude": ["blocks.0.*"]})
    assert not any(name.startswith("blocks.0.") for name in masks)
    assert sum(int((~mask).sum()) for mask in masks.values()) / masks.total == pytest.approx(0.3, abs=0.02)


class Tokens(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_features(images)


def test_what_cannot_be_pruned_is_told_in_one_line() -> None:
    network, batches = drawn()
    cases: list[tuple[nn.Module, Any, dict[str, Any], str]] = [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
            batches,
            {},
            "'snapvit' cannot prune this Sequential: it has no",
        ),
        (
            network,
            batches,
            {"scope": {"exclude": ["*.attn.proj.weight"]}},
            "cannot find attention heads to remove in Vis",
        ),
        (
            network,
            batches,
            {"scope": {"exclude": ["*.mlp.*"]}},
            "cannot find MLPs beside the attention to remove in Vis",
        ),
        (Tokens(network), batches, {}, r"needs one embedding for each image, but Tokens returns \(2, 5, 20\)"),
        (network, [(batches[0][0][:1], None)], {}, "needs two images at least"),
        (network, [], {}, "'snapvit' needs data"),
    ]
    for subject, data, given, words in cases:
        with pytest.raises(PruningBenchError, match=words) as caught:
            prune(subject, 0.3, data, **given)
        check_line(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"samples": 1}, {"evaluations": -1}, {"ratios": []}, {"ratios": [0.2, 1.0]}, {"lag": 1.0}, {"floor": -0.1},
     {"head_floor": 1.0}, {"components": 0}, {"crops": 0}],
)  # fmt: skip
def test_values_out_of_range_are_named(given: dict[str, Any]) -> None:
    network, batches = drawn()
    with pytest.raises(UsageError, match=next(iter(given))) as caught:
        prune(network, 0.3, batches, **given)
    check_line(caught.value)


def test_embeddings_that_are_not_finite_are_named() -> None:
    network, batches = drawn()
    network.norm.weight.data.fill_(3.3e38)
    with pytest.raises(PruningBenchError, match="'snapvit'.* are NaN or infinite") as caught:
        prune(network, 0.3, batches)
    check_line(caught.value)


class Tripwire(nn.Module):
    """Raises in the pass that its countdown names."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __deepcopy__(self, memo: Any) -> Tripwire:
        return self  # copies of the network count, too

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError("tripped")
        return x


@pytest.mark.parametrize("trip", [0, 5, 25])
def test_the_network_is_left_as_it_was(trip: int) -> None:
    network, batches = drawn()
    network.norm_pre = wire = Tripwire(0)
    network(batches[0][0]).sum().backward()
    network.blocks[1].train()
    network.blocks[0].mlp.fc1.weight.requires_grad_(False)

    def trace() -> list[object]:
        return [
            *((n, id(p), p.tolist(), p.requires_grad, id(p.grad)) for n, p in network.named_parameters()),
            *((n, type(m), m.training, sorted(vars(m))) for n, m in network.named_modules()),
            torch.get_rng_state().tolist(), torch.is_grad_enabled(), network.blocks[0].attn.num_heads,
        ]  # fmt: skip

    before = trace()
    wire.left = trip
    try:
        prune(network, 0.4, batches)
    except (ZeroDivisionError, PruningBenchError) as error:
        assert trip
        assert "tripped" in str(error)
    else:
        assert not trip
    assert trace() == before


@pytest.mark.parametrize("evaluations", [0, 3])
def test_the_passes_are_those_that_it_states(evaluations: int) -> None:
    network, batches = drawn()
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    prune(network, 0.3, batches, evaluations=evaluations, crops=4)
    cost = SnapVit(samples=12, evaluations=evaluations, crops=4).cost(Outline({}, samples=100))
    assert cost.samples == 12
    assert cost.backward == 6
    assert 0 <= sum(seen) - cost.forward * cost.samples <= 20  # of few images, to look at the network


class ToyViews(toy.ToyVision):
    def embed(self, images: Tensor) -> Tensor:
        return self.network.forward_head(self.network.forward_features(images), pre_logits=True)


def test_the_harness_scores_once_for_all_sparsities_and_prunes_in_rounds(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: toy.ToyModel, context: Context) -> toy.ToyVision:
        with isolated_randomness("harness"):
            network = vit(img_size=6, patch_size=3, in_chans=1, num_classes=2)
        names = ("head.weight", "head.bias")
        return ToyViews(network, Preprocessing((0.5,), (0.5,)), classes=("dark", "bright"), head=names)

    calls: list[int] = []
    score = SnapVit.score
    monkeypatch.setattr(toy.ToyModel, "load", load)
    monkeypatch.setattr(SnapVit, "score", lambda self, context: calls.append(1) or score(self, context))
    text = TOY_SUITE.replace(
        "[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[{use: snapvit, evaluations: 2, crops: 2}]"
    )
    text = text.replace("[0, 0.5, 0.9]", "[0, 0.2, 0.5, 0.6]")
    run(text.replace("[none, {use: finetune, epochs: 1}]", "[none]"), toy_registry, tmp_path / "once")
    table = load_results(tmp_path / "once")
    assert set(table["status"]) == {"ok"}
    assert len(calls) == 1
    assert np.allclose(table["sparsity_achieved"], table["sparsity"], atol=0.02)
    rounds = "[{use: iterative, levels: [0.2, 0.5, 0.6], epochs: 1}]"
    run(text.replace("[none, {use: finetune, epochs: 1}]", rounds), toy_registry, tmp_path / "rounds")
    table = load_results(tmp_path / "rounds")
    assert set(table["status"]) == {"ok"}, list(table["error"])
    assert np.allclose(table["sparsity_achieved"], table["sparsity"], atol=0.02)
