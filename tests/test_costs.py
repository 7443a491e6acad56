"""Costs: outlines of networks without weights, estimates against measured peaks, and refusals before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toybench_parts as toy
from kit.costs import component, of, peak_bytes
from kit.runs import run
from kit.toysuite import TOY_SUITE, Command
from torch import nn

import pruningbench as pb
from pruningbench.base.machine import device_memory, main_memory, resolve_device
from pruningbench.cli.plan import describe
from pruningbench.contract import Cost, Outline
from pruningbench.contract.cost import format_bytes
from pruningbench.errors import UsageError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.pruning.footprint import activation_bytes, input_shape, state_bytes
from pruningbench.pruning.scope import Scope
from pruningbench.suite.binding import bind
from pruningbench.suite.estimates import CostEstimate
from pruningbench.suite.outlines import outline
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import suite_from_text

CPU = torch.device("cpu")
DIGITS = """\
name: digits
models: [digits-resnet, digits-vit]
pruners: [magnitude, synflow]
sparsities: [0.5]
tasks: [{use: classification, data: digits}]
"""


def network() -> nn.Sequential:
    """About 150 thousand weights on images of 3 x 8 x 8."""
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip
    net.default_cfg = {"input_size": (3, 8, 8)}
    return net


@pytest.mark.parametrize(
    ("name", "fields", "loose"),
    [
        ("random", {}, 1.5),
        ("magnitude", {}, 1.5),
        ("magnitude", {"allocation": "lamp"}, 1.5),
        ("snip", {}, 1.5),
        ("iterative-snip", {"rounds": 2}, 1.5),
        ("grasp", {}, 1.5),
        ("synflow", {"rounds": 2}, 1.5),
        ("ntk-sap", {"rounds": 2, "draws": 2, "batch_size": 8}, 1.5),
        ("px", {"rounds": 2}, 2.0),
        ("obd", {"samples": 16}, 1.5),
        ("taylor", {"samples": 16}, 1.5),
        ("block-fisher", {"samples": 16}, 2.0),
        ("block-fisher", {"samples": 32, "block_size": 16}, 2.5),
        ("wanda", {"samples": 16}, 3.0),
        ("obs", {"samples": 16, "block_size": 32}, 2.5),
        ("cap", {"samples": 16, "block_size": 8}, 2.5),
        ("block-hessian", {"samples": 16, "probes": 2}, 2.0),
        ("block-hessian", {"samples": 16, "probes": 2, "saliency": "trace"}, 2.0),
        ("oba", {"samples": 16}, 2.0),
        ("gradual", {"epochs": 2}, 3.0),
        ("movement", {"epochs": 2}, 2.0),
        ("rigl", {"epochs": 2}, 3.0),
        ("layer-obs", {"samples": 16}, 3.0),
        ("layer-obs", {"samples": 16, "rerun": False}, 3.0),
        ("sparse-swaps", {"samples": 16}, 3.0),
        ("sparse-swaps", {"samples": 16, "rerun": False}, 3.0),
    ],
)
def test_memory_is_what_is_measured(name: str, fields: dict[str, Any], loose: float) -> None:
    """An estimate is never much below the measured peak, and not so far above that it would refuse what fits."""
    net = network()
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(16, 3, 8, 8, generator=generator), torch.arange(16) % 10) for _ in range(2)]
    estimated = component(name, **fields).cost(of(net)).memory
    measured = peak_bytes(lambda: pb.prune(net, name, 0.5, batches, **fields))
    assert measured <= 1.15 * estimated, (measured, estimated)
    assert estimated <= loose * measured, (measured, estimated)


def test_activations_are_those_that_autograd_keeps() -> None:
    """Of one image: the input and the rectifier's output, which the second map shares, 4 bytes a number."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert sorted(activation_bytes(net, (4,))) == [16, 32]
    assert sorted(activation_bytes(net.to("meta"), (4,))) == [16, 32]
    assert activation_bytes(net, (5,)) == []
    assert state_bytes(net) == 4 * (4 * 8 + 8 + 8 * 2 + 2)


@pytest.mark.parametrize(("name", "built"), [("vit_small_patch14_dinov2", 224), ("swinv2_tiny_window8_256", 192)])
def test_the_input_has_the_size_that_a_network_was_built_for(name: str, built: int) -> None:
    with torch.device("meta"):
        transformer = timm.create_model(name, img_size=built)
    assert input_shape(transformer) == (3, built, built)  # not the 518 and 256 of their configurations


def test_outlines_follow_the_scope() -> None:
    net = network()
    assert list(of(net).shapes) == ["0.weight", "3.weight", "7.weight", "9.weight"]
    assert of(net).weights == sum(p.numel() for p in net.parameters() if p.ndim > 1)
    assert of(net).largest == 512 * 256
    assert of(net).image_bytes == 4 * 3 * 8 * 8
    assert input_shape(nn.Linear(1, 1)) is None
    limited = outline(net, Scope(exclude=("7.*",)), device=CPU)
    assert limited is not None
    assert list(limited.shapes) == ["0.weight", "3.weight", "9.weight"]
    # the head of a network that does not name it may be known once it is loaded
    assert outline(net, Scope(head=False), device=CPU) is None
    with pytest.raises(UsageError, match="matches no prunable parameter"):
        outline(net, Scope(exclude=("conv.*",)), device=CPU)
    with pytest.raises(UsageError, match="no prunable weights"):
        outline(nn.Flatten(), None, device=CPU)


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_skeletons_are_the_networks_without_weights(name: str) -> None:
    model = bind(load_registry(), "model", name).component
    state = torch.get_rng_state()
    skeleton: Any = model.skeleton()  # type: ignore[attr-defined]
    assert torch.equal(state, torch.get_rng_state())
    assert {p.device.type for p in (*skeleton.parameters(), *skeleton.buffers())} == {"meta"}
    built = model.build(6)  # type: ignore[attr-defined]
    assert {n: t.shape for n, t in skeleton.state_dict().items()} == {n: t.shape for n, t in built.state_dict().items()}
    real = sum(activation_bytes(built, (1, 36, 36)))  # with faster kernels, which keep less, than the meta device knows
    assert real <= of(skeleton).activation_bytes <= 1.6 * real
    every = bind(load_registry(), "model", {"use": name, "data": {"use": "digits"}}).component
    assert every.skeleton().get_classifier().out_features == 10  # type: ignore[attr-defined]


@pytest.mark.parametrize("memory_gb", [1.0, 0.0018])
@pytest.mark.parametrize("name", ["block-fisher", "obs"])
def test_passes_of_the_block_fisher_are_those_it_takes(
    name: str, memory_gb: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pruningbench_hessian.fisher import BlockCurvature

    made: list[BlockCurvature] = []
    start = BlockCurvature.__init__

    def note(self: BlockCurvature, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        start(self, *args, **kwargs)

    monkeypatch.setattr(BlockCurvature, "__init__", note)
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 90), nn.ReLU(), nn.Linear(90, 50), nn.ReLU(), nn.Linear(50, 4))
    fields = {"samples": 64, "memory_gb": memory_gb, "block_size": 128}
    estimate = component(name, **fields).cost(of(net))
    pb.prune(net, name, 0.5, [(torch.randn(64, 60), torch.arange(64) % 4)], **fields)
    assert estimate.forward == made[0].passes == {1.0: 1, 0.0018: 2 if name == "block-fisher" else 4}[memory_gb]
    assert estimate.samples == 64


def test_a_layer_whose_blocks_do_not_fit_is_refused_in_the_same_words() -> None:
    net = network()
    fields = {"memory_gb": 0.001, "samples": 16}
    estimate = component("block-fisher", **fields).cost(of(net))
    assert estimate.refusal is not None
    with pytest.raises(pb.PruningBenchError) as caught:
        pb.prune(net, "block-fisher", 0.5, [(torch.randn(16, 3, 8, 8), torch.arange(16) % 10)], **fields)
    assert str(caught.value).endswith(estimate.refusal)
    assert "'7.weight' alone needs" in estimate.refusal


def test_passes_and_images() -> None:
    known, unknown = Outline({"w": (8, 8)}, samples=500, batch_size=100), Outline({"w": (8, 8)}, batch_size=100)

    def told(name: str, of: Outline, **fields: object) -> tuple[int, int, int | None]:
        cost = component(name, **fields).cost(of)
        assert cost.formula
        return cost.forward, cost.backward, cost.samples

    assert told("random", known) == told("magnitude", known) == (0, 0, 0)
    assert told("snip", known) == (1, 1, 500)
    assert told("snip", unknown) == (1, 1, None)
    assert told("snip", known, batches=2) == told("snip", unknown, batches=2) == (1, 1, 256)
    assert told("force", known, rounds=7) == (7, 7, 500)
    assert told("grasp", known) == (2, 3, 500)
    assert told("synflow", known) == (100, 100, 1)
    assert told("ntk-sap", known, rounds=3, draws=4) == (24, 24, 64)
    assert told("px", unknown, rounds=3, batches=1) == (9, 3, 128)
    assert told("gradual", known, epochs=3) == (3, 3, 500)
    assert told("obd", known) == told("taylor", known) == (1, 1, 500)
    assert told("wanda", unknown) == (1, 0, 1024)
    assert told("layer-obs", known) == (1, 0, 256)


def test_a_pruner_that_does_not_say_gets_a_guess() -> None:
    """Of the toy pruner, which has no cost of its own: scores and masks, and no pass."""
    outline = Outline({"a": (10, 10), "b": (100,)}, state_bytes=1000)
    assert toy.ToyPruner().cost(outline) == Cost(
        0, 0, 0, 1000 + 6 * 200 + 900, "S + 6 W + 9 Wmax: state, scores, masks"
    )


def test_amounts_for_people() -> None:
    assert [format_bytes(n) for n in (25e9, 999e6, 1.24e6, 300e9, 5e4)] == [
        "25 GB",
        "999 MB",
        "1.2 MB",
        "300 GB",
        "0.05 MB",
    ]


def test_the_machine_has_memory() -> None:
    memory = main_memory()
    assert memory is not None
    assert 1e8 < memory == device_memory(CPU)
    assert resolve_device("auto").type in ("cpu", "cuda")


def planned(text: str, registry: Registry) -> Plan:
    return make_plan(suite_from_text(text, registry), registry)


def test_plans_refuse_what_an_architecture_cannot(toy_registry: Registry) -> None:
    plan = planned(DIGITS, toy_registry)
    costs = plan.costs("cpu")
    assert [pair for pair, estimate in costs.items() if estimate.refusal] == [("digits-vit", "synflow")]
    assert all(estimate.cost for pair, estimate in costs.items() if pair != ("digits-vit", "synflow"))
    refused = plan.refusals(costs)
    assert [cell.label for cell in plan.cells if cell.key in refused] == ["digits-vit · synflow 0.5 none"]
    reason = next(iter(refused.values()))
    assert reason.startswith("pruner 'synflow' cannot prune 'digits-vit': blocks.0.norm1 is layer norm")


def test_plans_refuse_what_memory_cannot_hold(toy_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruningbench.base.machine.main_memory", lambda: 3_000_000)
    costs = planned(DIGITS.replace("[magnitude, synflow]", "[magnitude, snip]"), toy_registry).costs("cpu")
    assert {pair for pair, estimate in costs.items() if estimate.refusal} == {
        ("digits-resnet", "snip"), ("digits-vit", "snip"),
    }  # fmt: skip
    refusal = costs["digits-resnet", "snip"].refusal
    assert refusal is not None
    assert refusal.startswith("pruner 'snip' on 'digits-resnet' needs about ")
    assert refusal.endswith("MB of memory, this machine has 3 MB")


def test_plans_refuse_sparsities_that_a_pruner_cannot_give(toy_registry: Registry) -> None:
    plan = planned(TOY_SUITE.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[n-m]"), toy_registry)
    refused = plan.refusals(plan.costs("cpu"))
    assert {cell.sparsity for cell in plan.cells if cell.key in refused} == {0.9}


def test_models_that_do_not_tell_are_not_refused(toy_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(TOY_SUITE, toy_registry)
    (estimate, _other) = plan.costs("cpu").values()
    assert estimate == CostEstimate("toy-net", "toy-pruner", unknown="the model does not declare its architecture")

    def broken(self: toy.ToyModel) -> nn.Module:
        raise RuntimeError("no such\narchitecture")

    monkeypatch.setattr(toy.ToyModel, "skeleton", broken)
    (estimate, _other) = plan.costs("cpu").values()
    assert estimate.unknown == "its network cannot be built without weights (RuntimeError: no such)"
    monkeypatch.setattr(toy.ToyModel, "skeleton", toy.ToyModel.build)
    monkeypatch.setattr(toy.ToyPruner, "cost", lambda self, outline: 1 / 0)
    (estimate, _other) = plan.costs("cpu").values()
    assert estimate.unknown == "the pruner's estimate failed (ZeroDivisionError: division by zero)"
    assert not plan.refusals(plan.costs("cpu"))


def test_a_model_around_another_costs_what_the_other_does(toy_registry: Registry) -> None:
    inner = "{use: timm, name: resnet18, pretrained: false}"
    headed = f"{{use: ridge-headed, model: {inner}, data: {{use: digits, classes: [6, 7]}}}}"
    text = TOY_SUITE.replace("models: [toy-net]", f"models: [{inner}, {headed}]").replace(
        "[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[obd]"
    )
    plan = planned(text + "scope: {head: false}\n", toy_registry)
    own, around = plan.costs("cpu").values()
    assert own.cost is not None
    assert around.cost is not None
    assert around.cost.samples == own.cost.samples
    assert around.cost.memory == pytest.approx(own.cost.memory, rel=0.02)  # without 1,000 classes
    unknown = TOY_SUITE.replace("models: [toy-net]", f"models: [{headed.replace(inner, 'toy-net')}]")
    (estimate, _other) = planned(unknown, toy_registry).costs("cpu").values()
    assert estimate.unknown == "the model does not declare its architecture"


def test_a_scope_that_fits_nothing_is_found_before_anything_runs(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.ToyModel, "skeleton", toy.ToyModel.build)
    text = TOY_SUITE + "scope: {exclude: [conv1.*]}\n"
    with pytest.raises(UsageError, match="model 'toy-net': scope: exclude pattern 'conv1.*' matches no prunable"):
        run(text, toy_registry, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_skip_what_is_refused_and_do_the_rest(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_log: Callable[[], list[str]]
) -> None:
    """Uniform allocation is refused: its cells are recorded with the reason, once, until a retry finds it gone."""
    monkeypatch.setattr(toy.ToyModel, "skeleton", toy.ToyModel.build)
    monkeypatch.setattr(
        toy.ToyPruner, "refuses", lambda self, network: "not today" if self.allocation == "uniform" else None
    )
    summary = run(TOY_SUITE, toy_registry, tmp_path / "run")
    assert not summary.ok
    assert {(r.status, r.pruner) for r in summary.not_ok} == {("skipped", "toy-pruner(allocation=uniform)")}
    assert len(summary.not_ok) == 4
    assert {r.error for r in summary.not_ok} == {
        "pruner 'toy-pruner(allocation=uniform)' cannot prune 'toy-net': not today"
    }
    table = load_results(tmp_path / "run")
    assert (table["status"] == "ok").sum() == 2 * 6
    before = len(toy_log())
    again = run(TOY_SUITE, toy_registry, tmp_path / "run")
    assert (again.computed, again.resumed, len(again.not_ok)) == (0, 10, 4)
    assert len(toy_log()) == before
    still = run(TOY_SUITE, toy_registry, tmp_path / "run", retry_failed=True)
    assert [r.attempts for r in still.not_ok] == [2] * 4
    monkeypatch.setattr(toy.ToyPruner, "refuses", lambda self, network: None)
    assert run(TOY_SUITE, toy_registry, tmp_path / "run", retry_failed=True).ok


def test_a_refusal_that_only_the_loaded_network_shows_is_a_skip_too(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.ToyPruner, "refuses", lambda self, network: "not this network")
    summary = run(TOY_SUITE, toy_registry, tmp_path / "run")
    assert {r.status for r in summary.not_ok} == {"skipped"}
    assert len(summary.not_ok) == 8
    for record in summary.not_ok:
        assert record.error.endswith("cannot prune 'toy-net': not this network")
        assert "\n" not in record.error


def test_plans_as_values(toy_registry: Registry, tmp_path: Path) -> None:
    described = json.loads(json.dumps(describe(planned(DIGITS, toy_registry), tmp_path, {}, "cpu")))
    assert [e["refusal"] is None for e in described["costs"]] == [True, True, True, False]
    assert [e["cost"]["forward"] for e in described["costs"][:2]] == [0, 100]
    assert [cell["refused"] is None for cell in described["cells"]] == [True, True, True, False]


def test_the_command_line_plans_and_skips(pruningbench: Command, suite_file: Callable[..., Path]) -> None:
    path = suite_file(DIGITS)
    text = pruningbench("plan", path, "--device", "cpu", check=0).stdout
    assert "refused (these cells will be skipped)" in text
    assert "cannot prune 'digits-vit': blocks.0.norm1 is layer norm" in text
    assert "100 + 100 x 1" in text
    only = ("--only", "model=digits-vit", "--only", "pruner=synflow", "--progress", "plain")
    wrong = suite_file(DIGITS + "scope: {exclude: [conv9.*]}\n", "wrong.yaml")
    assert "'conv9.*' matches no prunable parameter" in pruningbench("run", wrong, *only, check=2).stderr
    told = pruningbench("run", path, *only, check=1).stderr
    assert "skipped: digits-vit synflow 0.5 none seed 0, task classification: pruner 'synflow' cannot prune" in told
    assert "Traceback" not in told
