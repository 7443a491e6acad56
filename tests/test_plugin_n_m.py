"""The pruner n-m: patterns, golden masks, refusals, and the same patterns as PyTorch's own tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_magnitude.n_m import NOfM
from torch import nn
from torch.sparse import _semi_structured_conversions as semi_structured

import pruningbench as pb
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Outline, PruningContext
from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.plugins import load_registry
from pruningbench.pruning.scope import Scope, prunable_parameters
from pruningbench.suite.binding import BindingError, bind

GOLDEN = np.load(Path(__file__).parent / "data/pruners/n_m.npz")


class Mixed(nn.Module):
    """A first convolution, one in groups, a depthwise one, fused attention and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.qkv = nn.Linear(16, 48)
        self.head = nn.Linear(48, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.conv2(torch.relu(self.conv1(images))))))
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(torch.relu(self.qkv(x)).mean(1))


def mixed() -> Mixed:
    with isolated_randomness("mixed"):
        return Mixed().eval()


def images() -> torch.Tensor:
    with isolated_randomness("images"):
        return torch.randn(6, 3, 6, 6)


def context(network: nn.Module, batches: list[Any] | None = None) -> PruningContext:
    return PruningContext(network, prunable_parameters(network), 0, (lambda: iter(batches)) if batches else None)


def groups(tensor: torch.Tensor, m: int, along: str = "channels") -> torch.Tensor:
    """Independent of the implementation: (..., m) groups by explicit loops over outputs and kernel positions."""
    rows = []
    for output in tensor:
        if along == "row" or output.ndim == 1:
            rows.append(output.reshape(-1))
        else:
            rows += list(output.reshape(len(output), -1).T)
    return torch.stack([row[i : i + m] for row in rows for i in range(0, len(row), m)])


@pytest.mark.parametrize(("key", "along"), [("conv_channels", "channels"), ("conv_row", "row"), ("linear_mask", "channels")])  # fmt: skip
def test_two_of_four_equals_the_reference(key: str, along: Any) -> None:
    weights = GOLDEN[key.partition("_")[0]]
    layer = nn.Conv2d(32, 12, 3) if weights.ndim == 4 else nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
    mask = NOfM(along=along).prune(context(layer), 0.5)["weight"]
    assert np.array_equal(mask.numpy(), np.unpackbits(GOLDEN[key])[: weights.size].reshape(weights.shape).astype(bool))


def test_two_of_four_is_what_the_semi_structured_format_holds() -> None:
    with isolated_randomness("format"):
        layer = nn.Linear(64, 32)
    dense = layer.weight.detach().to(torch.float16)
    pruned = dense * NOfM().prune(context(layer), 0.5)["weight"]
    packed = semi_structured.sparse_semi_structured_from_dense_cutlass(pruned)
    assert torch.equal(semi_structured.sparse_semi_structured_to_dense_cutlass(*packed), pruned)
    packed = semi_structured.sparse_semi_structured_from_dense_cutlass(dense)  # which loses what is not 2:4
    assert not torch.equal(semi_structured.sparse_semi_structured_to_dense_cutlass(*packed), dense)


@pytest.mark.parametrize(("n", "m", "sparsity"), [(2, 4, 0.5), (1, 4, 0.75), (1, 3, 0.667), (4, 8, 0.5)])
def test_masks_are_those_of_torchs_own_sparsifier(n: int, m: int, sparsity: float) -> None:
    with isolated_randomness("sparsifier"):
        layer = nn.Sequential(nn.Linear(24, 10))
    mine = NOfM(n=n, m=m).prune(context(layer), sparsity)["0.weight"]
    peer = torch.ao.pruning.WeightNormSparsifier(
        sparsity_level=1.0, sparse_block_shape=(1, m), zeros_per_block=m - n, norm=1
    )
    peer.prepare(layer, [{"tensor_fqn": "0.weight"}])
    peer.step()
    assert torch.equal(mine, layer[0].parametrizations.weight[0].mask.bool())


@cases(60)
@given(
    rows=st.integers(1, 4), groups_a_row=st.integers(1, 4), m=st.integers(2, 9), kernel=st.integers(1, 3),
    along=st.sampled_from(["channels", "row"]), data=st.data(),
)  # fmt: skip
def test_every_group_keeps_its_n_highest(
    rows: int, groups_a_row: int, m: int, kernel: int, along: Any, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, m - 1))
    ties = data.draw(st.booleans())
    layer = nn.Conv2d(groups_a_row * m, rows, kernel)
    with isolated_randomness("hypothesis", data.draw(st.integers(0, 99))), torch.no_grad():
        layer.weight.copy_(torch.randint(-2, 3, layer.weight.shape) if ties else torch.randn(layer.weight.shape))
    mask = NOfM(n=n if data.draw(st.booleans()) else None, m=m, along=along).prune(context(layer), 1 - n / m)["weight"]
    sizes, kept = groups(layer.weight.detach().abs(), m, along), groups(mask, m, along)
    assert (kept.sum(1) == n).all()
    for size, keep in zip(sizes.tolist(), kept.tolist(), strict=True):
        best = sorted(range(m), key=lambda i: (-size[i], i))[:n]
        assert [i for i in range(m) if keep[i]] == sorted(best)


def test_rows_of_fused_projections_and_groups_of_convolutions_are_kept_apart() -> None:
    network = mixed()
    notes: list[str] = []
    job = context(network)
    job.report = notes.append
    masks = NOfM().prune(job, 0.5)
    dense = ["conv1.weight", "depthwise.weight"]
    assert masks.provenance["dense"] == dense
    assert masks.provenance["pattern"] == "2:4"
    assert notes == ["n-m leaves 2 parameters dense: conv1.weight with 3, depthwise.weight with 1"]
    for name, mask in masks.items():
        assert mask.all() if name in dense else (groups(mask, 4).sum(1) == 2).all()
    # the query's rows, those of one group of a convolution: pruned as if they were layers of their own
    query = nn.Linear(16, 16)
    group = nn.Conv2d(4, 8, 3)
    with torch.no_grad():
        query.weight.copy_(network.attention.in_proj_weight[:16])
        group.weight.copy_(network.conv2.weight[8:])
    assert torch.equal(masks["attention.in_proj_weight"][:16], NOfM().prune(context(query), 0.5)["weight"])
    assert torch.equal(masks["conv2.weight"][8:], NOfM().prune(context(group), 0.5)["weight"])
    # 9 entries of a depthwise kernel make three groups of a row
    rows = NOfM(n=1, m=3, along="row").prune(context(network), 2 / 3)
    assert int(rows["depthwise.weight"].sum()) == 16 * 3


@pytest.mark.parametrize("conv_norm", ["columns", "channels"])
def test_wanda_scores_are_those_of_the_pruner_wanda(conv_norm: Any) -> None:
    network, batches = mixed(), [(images()[:4], None), (images()[4:], None)]
    scores = pb.score(network, "wanda", batches, samples=5, conv_norm=conv_norm)
    masks = pb.prune(network, "n-m", 0.5, batches, scores="wanda", samples=5, conv_norm=conv_norm)
    assert masks != pb.prune(network, "n-m", 0.5)
    for name, mask in masks.items():
        if name not in masks.provenance["dense"]:
            kept, score = groups(mask, 4), groups(scores[name], 4)
            assert (kept.sum(1) == 2).all()
            least = score.masked_fill(~kept, float("inf")).amin(1)
            assert (least >= score.masked_fill(kept, -1.0).amax(1)).all()


def test_the_scope_is_kept_and_the_network_left_as_found() -> None:
    network = mixed()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    masks = pb.prune(network, "n-m", 0.5, [(images(), None)], scores="wanda", scope=Scope(exclude=("head.*", "conv1*")))
    assert "head.weight" not in masks
    assert masks.provenance["dense"] == ["depthwise.weight"]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training and all(p.grad is None and p.requires_grad for p in network.parameters())
    assert pb.prune(network, "n-m", 0.0).sparsity == 0


@pytest.mark.parametrize(
    ("fields", "sparsity", "message"),
    [
        ({}, 0.9, r"2:4 is sparsity 0.5, not 0.9: request that sparsity, or set n and m \(n: 1, m: 10\)"),
        ({"n": None}, 0.6, r"sparsity 0.6 is not a multiple of 1/4: set another m \(n: 2, m: 5\)"),
        ({"n": None}, 0.99, r"sparsity 0.99 is not a multiple of 1/4: set another m$"),
        ({"n": 1, "m": 7}, 6 / 7, r"m = 7 divides the inputs of no prunable parameter \(conv1.weight with 3, "),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(fields: Any, sparsity: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pb.prune(mixed(), "n-m", sparsity, **fields)


def test_other_networks_and_fields_are_refused() -> None:
    with pytest.raises(UsageError, match="ConvTranspose2d"):
        pb.prune(nn.Sequential(nn.ConvTranspose2d(4, 4, 3)), "n-m", 0.5)
    with pytest.raises(UsageError, match="needs data"):
        pb.prune(mixed(), "n-m", 0.5, scores="wanda")
    with pytest.raises(PruningBenchError, match="got no images"):
        NOfM(scores="wanda").prune(context(mixed()), 0.5)
    for fields, message in [({"n": 4}, "n must lie in 1 .. m - 1 = 3"), ({"m": 1}, "m must be"), ({"samples": 0}, "samples")]:  # fmt: skip
        with pytest.raises(BindingError, match=message):
            bind(load_registry(), "pruner", {"use": "n-m", **fields})
    assert NOfM().needs_data is False and NOfM(scores="wanda").needs_data is True


def test_the_cost_is_a_forward_pass_for_wanda_and_none_for_magnitude() -> None:
    outline = Outline({"w": (8, 16)}, state_bytes=512, image_bytes=48, activation_bytes=100, samples=50)
    free, paid = NOfM().cost(outline), NOfM(scores="wanda", samples=20).cost(outline)
    assert (free.forward, free.backward, free.samples, free.memory) == (0, 0, 0, 512 + 28 * 128)
    assert (paid.forward, paid.backward, paid.samples, paid.memory) == (1, 0, 20, 512 + 52 * 128 + 128 * 148)


def test_in_a_suite_the_achieved_sparsity_is_what_the_pattern_leaves(tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "name: pattern\nmodels: [toy-net]\npruners: [{use: n-m, n: 1, m: 2}]\nsparsities: [0.5, 0.75]\n"
        "tasks: [{use: toy-task, data: {use: toy-data, split: test}}]\n"
    )
    table = pb.run(suite, out=tmp_path / "run", device="cpu").results()
    good, bad = table[table.sparsity == 0.5], table[table.sparsity == 0.75]
    assert set(good.status) == {"ok"} and 0 < good.sparsity_achieved.iloc[0] <= 0.5
    assert set(bad.status) == {"skipped"} and "request that sparsity" in bad.error.iloc[0]
