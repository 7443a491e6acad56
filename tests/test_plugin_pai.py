"""The pruners snip, iterative-snip, force, grasp, synflow, ntk-sap and px: reference values and invariants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pruningbench_pai
import pytest
import torch
from kit.pai import NTK, PRUNERS, TOY, Mixed, everything, flat, job, mixed_job, relative, toy, toy_job
from pruningbench_pai.flow import SynFlow
from pruningbench_pai.kernel import NtkSap, PathExclusion
from pruningbench_pai.rounds import sparsities
from pruningbench_pai.sensitivity import Force, Grasp, IterativeSnip, Snip
from pruningbench_pai.synapses import flow_scores, positive_state
from pruningbench_pai.tangents import Draw, kernel_scores
from torch import Tensor, nn
from torch.nn import functional

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import ScorePruner
from pruningbench.errors import PruningBenchError, ScoreError, UsageError
from pruningbench.plugins import Plugin, Registry
from pruningbench.plugins.loading import _register
from pruningbench.pruning.scope import prunable_parameters


@pytest.mark.parametrize(("pruner", "key"), [(Snip(), "snip_score"), (Grasp(), "grasp_score")])
def test_scores_of_the_reference(pruner: ScorePruner, key: str) -> None:
    assert relative(flat(pruner.score(toy_job())), TOY[key]) < 1e-8


@pytest.mark.parametrize(("rounds", "sparsity"), [(10, 0.7), (100, 0.9)])
@pytest.mark.parametrize(("kind", "pruner"), [("snip", IterativeSnip), ("force", Force)])
def test_iterated_masks_of_the_reference(kind: str, pruner: Any, rounds: int, sparsity: float) -> None:
    masks = pruner(rounds=rounds).prune(toy_job(), sparsity)
    assert torch.equal(flat(masks), TOY[f"mask_iterative_{kind}_R{rounds}_to{sparsity:.2f}"].double())


@pytest.mark.parametrize(
    ("rounds", "sparsity", "key"), [(3, 0.5, "R3_to0.50"), (5, 0.7, "R5_to0.70"), (100, 0.95, "100rounds_0.95")]
)
def test_synflow_masks_of_the_reference(rounds: int, sparsity: float, key: str) -> None:
    assert torch.equal(flat(SynFlow(rounds=rounds).prune(toy_job(), sparsity)), TOY[f"mask_synflow_{key}"].double())


def test_synflow_scores_of_the_reference_sum_to_the_same_in_each_layer() -> None:
    net = toy()
    scores = flow_scores(net, positive_state(net, "bn-linear"), everything(prunable_parameters(net)), (3, 8, 8))
    assert relative(flat(scores), TOY["synflow_score"]) < 1e-12
    sums = torch.stack([score.sum() for score in scores.values()])
    assert torch.allclose(sums, TOY["synflow_layer_sums"], rtol=1e-12)
    assert torch.allclose(sums, sums[0].expand(3), rtol=1e-12)


@pytest.mark.parametrize("kind", ["nobn", "bn"])
def test_ntk_sap_scores_of_the_reference(kind: str) -> None:
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d if kind == "bn" else lambda _: nn.Identity()
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), norm(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1, bias=False), norm(8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5, bias=False),
    ).double().eval()  # fmt: skip
    shapes = {name: p.shape for name, p in prunable_parameters(net).items()}

    def split(key: str) -> dict[str, Tensor]:
        parts = NTK[f"{kind}_{key}"].split([shape.numel() for shape in shapes.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    masks = {name: mask.bool() for name, mask in split("mask").items()}
    draws = [Draw(NTK[f"{kind}_z_{i}"], split(f"theta_{i}"), split(f"delta_{i}")) for i in range(2)]
    scores = kernel_scores(net, masks, draws, float(NTK["epsilon"]), fresh=True)
    assert relative(flat(scores), NTK[f"{kind}_score"]) < 1e-8


def test_grasp_keeps_what_holds_the_gradient_flow_up() -> None:
    """Removing a weight changes g'g by about -2 w (Hg): the score's sign says in which direction."""
    context = mixed_job()
    context.network.double()
    data = [(images.double(), labels) for images, labels in context.batches()]  # type: ignore[misc]
    context = job(context.network, *data)
    scores = Grasp(temperature=1.0).score(context)["head.weight"]

    def flow() -> float:
        outputs = context.network(torch.cat([images for images, _ in data]))
        loss = functional.cross_entropy(outputs, torch.cat([labels for _, labels in data]))
        return sum(float(g.square().sum()) for g in torch.autograd.grad(loss, list(context.parameters.values())))

    weight, before, step = context.network.head.weight, flow(), 1e-5  # type: ignore[union-attr]
    for place in [(0, 0), (1, 3), (3, 7)]:
        kept = weight[place].item()  # type: ignore[index]
        with torch.no_grad():
            weight[place] *= 1 - step  # type: ignore[index, operator]
        change = (flow() - before) / step
        with torch.no_grad():
            weight[place] = kept  # type: ignore[index, operator]
        assert change == pytest.approx(-2 * float(scores[place]), rel=1e-2, abs=1e-7)


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97])
def test_exactly_k_and_deterministic(name: str, sparsity: float) -> None:
    masks = PRUNERS[name].prune(mixed_job(), sparsity)
    assert masks.total == 27 * 8 + 18 * 8 + 64 + 32  # the tied weight counts once
    assert masks.total - masks.kept == round(sparsity * masks.total)
    assert masks == PRUNERS[name].prune(mixed_job(), sparsity)


@pytest.mark.parametrize("name", PRUNERS)
def test_exactly_k_when_all_scores_tie(name: str) -> None:
    context = mixed_job()
    with torch.no_grad():
        for parameter in context.network.parameters():
            parameter.zero_()
    masks = PRUNERS[name].prune(context, 0.9)
    assert masks.total - masks.kept == round(0.9 * masks.total)


def state(net: nn.Module) -> dict[str, Any]:
    return {
        "values": {name: (t, t.detach().clone()) for name, t in [*net.named_parameters(), *net.named_buffers()]},
        "flags": [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in net.modules()
        ],
        "grads": [(p.requires_grad, p.grad) for p in net.parameters()],
        "random": torch.get_rng_state(),
    }


def assert_untouched(net: nn.Module, before: dict[str, Any]) -> None:
    after = state(net)
    for name, (tensor, value) in before["values"].items():
        assert after["values"][name][0] is tensor
        assert torch.equal(after["values"][name][1], value)
    assert before["flags"] == after["flags"]
    assert all(a[0] == b[0] and a[1] is b[1] for a, b in zip(before["grads"], after["grads"], strict=True))
    assert torch.equal(before["random"], after["random"])


@pytest.mark.parametrize("raising", [False, True])
@pytest.mark.parametrize("name", PRUNERS)
def test_the_network_is_left_as_it_was(name: str, raising: bool) -> None:
    context = mixed_job()
    net = context.network
    net.norm.train()  # type: ignore[union-attr]
    net.stem.weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    net.head.weight.grad = torch.ones(4, 8)  # type: ignore[union-attr]
    if raising:

        def fail(*_: object) -> None:
            raise RuntimeError("stop")

        net.head.register_forward_hook(fail)  # type: ignore[union-attr, operator]
    before = state(net)
    if raising:
        with pytest.raises(RuntimeError, match="stop"):
            PRUNERS[name].prune(context, 0.5)
    else:
        PRUNERS[name].prune(context, 0.5)
    assert_untouched(net, before)


def test_iterative_snip_is_snip_at_one_round() -> None:
    assert IterativeSnip(rounds=1).prune(mixed_job(), 0.8) == Snip().prune(mixed_job(), 0.8)
    assert Force(rounds=1).prune(mixed_job(), 0.8) == Snip().prune(mixed_job(), 0.8)


def revived(pruner: Any, rounds: int) -> int:
    """Count weights that a mask of the last round has and that of the round before has not."""
    levels = sparsities(0.9, rounds)
    masks = [flat(pruner(rounds=k).prune(toy_job(), levels[k - 1])) for k in (rounds - 1, rounds)]
    return int(((masks[1] == 1) & (masks[0] == 0)).sum())


def test_force_revives_and_iterative_snip_never_does() -> None:
    # the first k rounds of a schedule to density d are the schedule of k rounds to d^(k / rounds)
    assert revived(IterativeSnip, 8) == 0
    assert revived(Force, 8) > 0


def test_schedule_ends_exactly() -> None:
    assert sparsities(0.9, 1) == [0.9]
    assert sparsities(0.75, 2) == [0.5, 0.75]


@pytest.mark.parametrize("name", ["snip", "grasp", "iterative-snip", "force"])
def test_labels_and_batches_are_asked_for_by_name(name: str) -> None:
    context = mixed_job()
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(UsageError, match=f"'{name}' needs labels"):
        PRUNERS[name].prune(job(context.network, (images, None)), 0.5)
    with pytest.raises(UsageError, match=f"'{name}' needs data"):
        PRUNERS[name].prune(job(context.network), 0.5)
    with pytest.raises(UsageError, match="the network has 4 outputs"):
        PRUNERS[name].prune(job(context.network, (images, torch.tensor([0, 4]))), 0.5)


def test_px_asks_for_batches_and_grasp_for_the_same_ones_twice() -> None:
    context = mixed_job()
    with pytest.raises(UsageError, match="'px' needs data"):
        PRUNERS["px"].prune(job(context.network), 0.5)
    passes = iter([[0, 1], [1, 0]])
    context.batches = lambda: iter([(torch.ones(2, 3, 8, 8), torch.tensor(next(passes)))])
    with pytest.raises(PruningBenchError, match="same batches in both passes"):
        Grasp().score(context)


@pytest.mark.parametrize("name", ["synflow", "ntk-sap"])
def test_the_input_size_is_given_or_asked_for(name: str) -> None:
    without = job(mixed_job().network)
    with pytest.raises(UsageError, match=f"'{name}' does not know the input size"):
        PRUNERS[name].prune(without, 0.5)
    sized = type(PRUNERS[name])(rounds=1, image_size=8).prune(without, 0.5)  # type: ignore[call-arg]
    assert sized == type(PRUNERS[name])(rounds=1).prune(mixed_job(), 0.5)  # type: ignore[call-arg]


def test_ntk_sap_depends_on_the_seed_alone() -> None:
    assert NtkSap.seeded
    assert PRUNERS["ntk-sap"].prune(mixed_job(), 0.5) != PRUNERS["ntk-sap"].prune(mixed_job(seed=1), 0.5)
    given = NtkSap(rounds=1, draws=1, weights="given", batch_size=2)
    assert given.prune(mixed_job(), 0.5) == given.prune(mixed_job(), 0.5)


@pytest.mark.parametrize("name", PRUNERS)
def test_transformers_work_or_are_refused_with_the_reason(name: str) -> None:
    import timm

    with isolated_randomness("vit"):
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=4, depth=1, embed_dim=24).eval()
        fused = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        attention = nn.Sequential(nn.Flatten(2), nn.Linear(64, 8), fused, nn.Flatten(), nn.Linear(24, 4)).eval()
    for net, size in ((vit, 32), (attention, 8)):
        context = job(net, (torch.randn(4, 3, size, size), torch.arange(4)))
        if name in ("synflow", "px"):
            assert "not positively homogeneous" in str(PRUNERS[name].refuses(net))
            with pytest.raises(
                PruningBenchError, match=f"'{name}' cannot work on this network: .* is (layer norm|attention)"
            ):
                PRUNERS[name].prune(context, 0.5)
        else:
            assert PRUNERS[name].refuses(net) is None
            masks = PRUNERS[name].prune(context, 0.5)
            assert masks.total - masks.kept == round(0.5 * masks.total)
            inside = [mask for key, mask in masks.items() if "qkv" in key or "in_proj" in key]
            assert inside
            assert all(mask.any() and not mask.all() for mask in inside)


def test_functions_outside_of_modules_are_refused_when_they_run() -> None:
    class Soft(Mixed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(-1)

    net = Soft().eval()
    assert SynFlow().refuses(net) is None
    with pytest.raises(PruningBenchError, match="uses softmax"):
        SynFlow(rounds=1, image_size=8).prune(job(net), 0.5)


@pytest.mark.parametrize("name", PRUNERS)
def test_scores_that_are_not_numbers_are_reported(name: str) -> None:
    context = mixed_job()
    with torch.no_grad():
        context.network.head.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
        context.network.one.weight[0, 0] = torch.nan  # type: ignore[union-attr, index, operator]
    pruner = NtkSap(rounds=1, draws=1, weights="given", batch_size=2) if name == "ntk-sap" else PRUNERS[name]
    with pytest.raises(ScoreError, match="NaN"):
        pruner.prune(context, 0.5)


def test_fields_are_checked() -> None:
    assert "rounds" in str(Force(rounds=0).problem())
    assert "rounds" in str(SynFlow(rounds=0).problem())
    assert "rounds" in str(PathExclusion(rounds=0).problem())
    assert "draws" in str(NtkSap(draws=0).problem())
    assert "epsilon" in str(NtkSap(epsilon=0.0).problem())
    assert "temperature" in str(Grasp(temperature=0.0).problem())
    assert all(pruner.problem() is None for pruner in PRUNERS.values() if not isinstance(pruner, Snip))


def test_registered_with_their_contract() -> None:
    found = Registry()

    class Point:
        @staticmethod
        def load() -> Any:
            return pruningbench_pai

    _register(found, Plugin("pai", "pruningbench", "0"), Point())  # type: ignore[arg-type]
    assert not found.broken
    assert found.names("pruner") == sorted(PRUNERS)
    for name, pruner in PRUNERS.items():
        assert found.entry("pruner", name).load() is type(pruner)
        assert pruner.needs_data == (name not in ("synflow", "ntk-sap"))
