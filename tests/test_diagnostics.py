"""Diagnoses against masks whose layers, units and paths are counted by hand or by another method."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.toysuite import TOY_SUITE
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.errors import MaskError
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.hookspecs import hookimpl
from pruningbench.plugins import Registry
from pruningbench.pruning.diagnostics import collapse, mask_summary
from pruningbench.pruning.masks import Masks
from pruningbench.suite.schema import suite_from_text


def masks_of(**rows: list[list[int]]) -> Masks:
    """Return masks by name, ``a_weight`` for "a.weight"."""
    return Masks({name.replace("_", "."): torch.tensor(values, dtype=torch.bool) for name, values in rows.items()})


def chain(*widths: int) -> nn.Sequential:
    maps = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[layer for each in maps for layer in (each, nn.ReLU())][:-1])


def test_a_small_chain_by_hand() -> None:
    """2 inputs, 3 hidden units, 2 outputs: unit 0 reads and is read, 1 is not read, 2 reads nothing."""
    masks = Masks({
        "0.weight": torch.tensor([[True, False], [True, True], [False, False]]),
        "2.weight": torch.tensor([[True, False, True], [False, False, False]]),
    })  # fmt: skip
    found = pb.diagnose(chain(2, 3, 2), masks, (2,))
    first, second = found.layers
    assert (first.total, first.kept, first.units, first.dead, first.inputs, first.unread) == (6, 3, 3, 1, 2, 0)
    assert (second.total, second.kept, second.units, second.dead, second.inputs, second.unread) == (6, 2, 2, 1, 3, 1)
    assert (first.on_path, second.on_path) == (1, 1)
    assert (first.density, second.density) == (0.5, 2 / 6)
    assert (found.connected, found.outputs_reached, found.empty) == (True, 0.5, ())
    assert (found.dead_units, found.unread_inputs, found.disconnected) == (2, 1, 3)
    assert found.sparsity == 1 - 5 / 12
    assert found.effective_sparsity == 1 - 2 / 12


def on_path_by_matrices(masks: list[Tensor]) -> list[Tensor]:
    """Reference for chains: units that the input reaches, and that reach the output, by boolean products."""
    before, after = [torch.ones(masks[0].shape[1], dtype=torch.bool)], [torch.ones(len(masks[-1]), dtype=torch.bool)]
    for mask in masks:
        before.append((mask & before[-1]).any(1))
    for mask in reversed(masks):
        after.insert(0, (mask & after[0][:, None]).any(0))
    return [mask & before[i] & after[i + 1][:, None] for i, mask in enumerate(masks)]


@cases(60)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.floats(0.05, 0.95), st.integers(0, 2**20))
def test_paths_of_chains_are_those_of_boolean_products(widths: list[int], density: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = chain(*widths)
    drawn = [torch.rand(b, a, generator=generator) < density for a, b in itertools.pairwise(widths)]
    found = pb.diagnose(network, Masks({f"{2 * i}.weight": mask for i, mask in enumerate(drawn)}), (widths[0],))
    expected = on_path_by_matrices(drawn)
    assert [layer.on_path for layer in found.layers] == [int(mask.sum()) for mask in expected]
    assert found.connected == bool(expected[-1].any())
    assert found.effective_sparsity is not None
    assert found.effective_sparsity >= found.sparsity - 1e-12
    assert [layer.dead for layer in found.layers] == [int((~mask.any(1)).sum()) for mask in drawn]
    assert [layer.unread for layer in found.layers] == [int((~mask.any(0)).sum()) for mask in drawn]


class Residual(nn.Module):
    """x + second(relu(first(x))), then a head on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.norm(self.second(self.first(x).relu()))).relu().mean((2, 3)))


def without(network: nn.Module, *names: str) -> Masks:
    """Return masks that keep all weights except those of the named parameters."""
    kept = {n: torch.ones_like(p, dtype=torch.bool) for n, p in network.named_parameters() if n.endswith("weight")}
    kept = {n: mask & (n not in names) for n, mask in kept.items() if mask.ndim > 1}
    return Masks(kept)


def test_a_shortcut_stays_open_when_its_branch_is_empty() -> None:
    network = Residual()
    found = pb.diagnose(network, without(network, "first.weight"), (1, 6, 6))
    assert found.connected
    assert found.empty == ("first.weight",)
    assert {layer.name: layer.on_path for layer in found.layers} == {
        "stem.weight": 18, "first.weight": 0, "second.weight": 0, "head.weight": 4,
    }  # fmt: skip
    assert found.disconnected == 36
    cut = pb.diagnose(network, without(network, "stem.weight"), (1, 6, 6))
    assert (cut.connected, cut.outputs_reached, cut.effective_sparsity) == (False, 0.0, 1.0)
    assert cut.disconnected == 36 + 36 + 4


def test_channels_that_are_dead_cut_what_reads_them() -> None:
    """Block and shortcut: a branch's unit that is dead cuts the column that reads it, and nothing else."""
    network = Residual()
    masks = dict(without(network))
    masks["first.weight"][1] = False
    found = {layer.name: layer for layer in pb.diagnose(network, Masks(masks), (1, 6, 6)).layers}
    assert (found["first.weight"].dead, found["first.weight"].on_path) == (1, 18)
    assert found["second.weight"].on_path == 18
    assert found["stem.weight"].on_path == 18


def test_positions_count() -> None:
    """On a single pixel only the centre of a padded kernel ever meets the image."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten())
    masks = without(network)
    assert pb.diagnose(network, masks, (2, 1, 1)).layers[0].on_path == 6
    assert pb.diagnose(nn.Sequential(*network[:1]), masks, (2, 3, 3)).layers[0].on_path == 54


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(2),
        nn.Identity(), nn.Sequential(nn.Sigmoid(), nn.Flatten()),
    ],
    ids=lambda pool: type(pool).__name__,
)  # fmt: skip
def test_maxima_let_every_element_pass(pool: nn.Module) -> None:
    """A gradient to the largest element only would leave out most of a kernel."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU6(), pool, nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 1, 6, 6))
    found = pb.diagnose(network, without(network), (1, 6, 6))
    if isinstance(pool, nn.Sequential):
        assert "sigmoid" in found.no_paths
    else:
        assert found.disconnected == 0
        assert found.effective_sparsity == 0


def test_groups_and_transposed_convolutions_have_units_of_their_own() -> None:
    """2 groups of 2 rows that read 2 channels each; a transposed convolution's rows are its inputs."""
    network = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.ReLU(), nn.ConvTranspose2d(4, 6, 1, groups=2))
    masks = dict(without(network))
    masks["0.weight"][:2, 0] = False  # nobody in group 0 reads channel 0
    masks["0.weight"][3] = False  # unit 3 reads nothing
    masks["2.weight"][2] = False  # input 2 is not read
    masks["2.weight"][:2, 1] = False  # output 1 of group 0 gets nothing
    first, second = pb.diagnose(network, Masks(masks), (4, 2, 2)).layers
    assert (first.units, first.dead, first.inputs, first.unread) == (4, 1, 4, 1)
    assert (second.units, second.dead, second.inputs, second.unread) == (6, 1, 4, 1)
    assert first.on_path == 2  # unit 2 is not read and unit 3 is dead
    assert second.on_path == 4  # rows 0 and 1, two columns each; row 3 has nothing to read


class Gated(nn.Module):
    def __init__(self, how: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.right, self.head, self.how = nn.Linear(2, 2), nn.Linear(2, 2), nn.LazyLinear(2), how
        self.head(how(torch.ones(1, 2), torch.ones(1, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.how(self.left(x), self.right(x)))


def test_factors_are_all_needed_and_branches_are_not() -> None:
    def left_on_path(how: Callable[[Tensor, Tensor], Tensor]) -> int | None:
        network = Gated(how)
        return pb.diagnose(network, without(network, "right.weight"), (2,)).layers[0].on_path

    assert left_on_path(torch.mul) == 0
    assert left_on_path(torch.add) == 4
    assert left_on_path(lambda a, b: torch.cat([a, b], 1)) == 4
    assert left_on_path(torch.maximum) == 4


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (torch.sub, "negative"),
        (lambda a, b: a.softmax(1) + b, "softmax"),
        (lambda a, b: a * b.sigmoid(), "sigmoid gate"),
        (lambda a, b: a.max(1, keepdim=True)[0] + b, "maximum by index"),
        (lambda a, b: a @ torch.ones(3, 2) + b, "makes the network fail"),
    ],
)
def test_networks_without_paths_say_so(how: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    network = Gated(torch.add)
    network.how = how
    found = pb.diagnose(network, without(network, "right.weight"), (2,))
    assert words in found.no_paths
    assert (found.connected, found.disconnected, found.effective_sparsity) == (None, None, None)
    assert found.empty == ("right.weight",)
    assert found.dead_units == 2


def test_attention_gets_the_figures_of_single_layers() -> None:
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    masks = dict(without(network))
    masks["self_attn.in_proj_weight"][3] = False
    found = pb.diagnose(network, Masks(masks), (5, 8))
    assert "attention" in found.no_paths
    assert (found.layers[0].units, found.layers[0].dead) == (24, 1)


def test_depth_neither_overflows_nor_vanishes() -> None:
    network = nn.Sequential(*(nn.Linear(40, 40) for _ in range(300)))
    found = pb.diagnose(network, without(network), (40,))
    assert found.disconnected == 0
    cut = pb.diagnose(network, without(network, "299.weight"), (40,))
    assert cut.disconnected == 299 * 1600


def test_the_shape_of_an_input_is_told_or_asked_for() -> None:
    network = chain(3, 4, 2)
    masks = without(network)
    assert "input_shape" in pb.diagnose(network, masks).no_paths
    assert pb.diagnose(network, masks, (3,), paths=False).no_paths == "not requested"
    network.default_cfg = {"input_size": (3,)}
    assert pb.diagnose(network, masks).connected
    with pytest.raises(MaskError, match="no parameter"):
        pb.diagnose(network, masks_of(other_weight=[[1]]))


def test_the_network_is_left_as_it_was() -> None:
    network = Residual().train()
    network(torch.randn(2, 1, 6, 6)).sum().backward()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    grads, state = [p.grad.clone() for p in network.parameters()], torch.get_rng_state()
    pb.diagnose(network, without(network), (1, 6, 6))
    assert network.norm.training
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, network.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_summaries_are_plain_and_agree() -> None:
    network = Residual()
    masks = without(network, "first.weight", "second.weight")
    whole = pb.diagnose(network, masks, (1, 6, 6)).summary()
    cheap = mask_summary(masks)
    assert json.loads(json.dumps(whole)) == whole
    assert {name: whole[name] for name in cheap} == cheap
    assert cheap == {
        "parameters": 4, "empty": ["first.weight", "second.weight"], "lowest_density": 0.0, "units": 8, "dead_units": 4,
    }  # fmt: skip
    assert collapse(masks, 0.75) == "sparsity 0.75 leaves no weight in 2 of 4 parameters, the first 'first.weight'"
    assert collapse(without(network), 0.75) is None


def test_runs_keep_the_figures_and_warn_once_a_cell(toy_registry: Registry, tmp_path: Path) -> None:
    """At .99 three of 328 weights stay: the uniform allocation leaves one in the convolution, the other none."""
    said: list[str] = []

    class Listener:
        @hookimpl
        def pruningbench_warning(self, message: str) -> None:
            if "leaves no weight" in message:
                said.append(message)

    text = TOY_SUITE.replace("[0, 0.5, 0.9]", "[0.5, 0.99]")
    prepared = prepare(suite_from_text(text, toy_registry), toy_registry, tmp_path / "run", RunOptions(device="cpu"))
    assert execute(prepared, toy_registry, Listener()).ok
    emptied = [line for line in said if "leaves no weight" in line]
    warned = 0
    for cell in prepared.plan.cells:
        masks = Masks.load(prepared.folder.mask_file(cell.key))
        assert masks.provenance["diagnosis"] == mask_summary(masks)
        empty = [name for name, mask in masks.items() if not mask.any()]
        mine = [line for line in emptied if line.startswith(f"{cell.label}: ")]
        assert len(mine) == bool(empty)
        if empty:
            warned += 1
            assert mine[0].endswith(f"sparsity 0.99 leaves no weight in 1 of 2 parameters, the first {empty[0]!r}")
    assert warned == len(emptied) > 0
