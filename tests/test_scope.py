"""Which parameters are prunable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from pruningbench.errors import MaskError, UsageError
from pruningbench.pruning.scope import Scope, prunable_parameters


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight


class Words(nn.Module):
    """An embedding whose weight is also the output map, a position table, and norms of two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.bag = nn.EmbeddingBag(10, 4)
        self.position = nn.Parameter(torch.zeros(1, 9, 4))
        self.norm = nn.LayerNorm([3, 4])
        self.batch_norm = nn.BatchNorm2d(3)
        self.map = nn.Linear(4, 3)
        self.out = nn.Linear(4, 10, bias=False)
        self.out.weight = self.embedding.weight


def test_fused_attention_projection_is_found() -> None:
    attention = nn.MultiheadAttention(8, 2)
    assert list(prunable_parameters(attention)) == ["in_proj_weight", "out_proj.weight"]
    separate = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    assert list(prunable_parameters(separate)) == [
        "q_proj_weight",
        "k_proj_weight",
        "v_proj_weight",
        "out_proj.weight",
    ]


def test_embeddings_norms_positions_and_biases_are_left_out() -> None:
    assert list(prunable_parameters(Words())) == ["map.weight"]


def test_a_tied_parameter_is_counted_once_under_its_first_name() -> None:
    found = prunable_parameters(Tied())
    assert list(found) == ["first.weight"]
    assert sum(p.numel() for p in found.values()) == 16


def test_grouped_and_transposed_convolutions_are_found() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.ConvTranspose2d(8, 4, 2), nn.Conv1d(4, 4, 3))
    assert list(prunable_parameters(network)) == ["0.weight", "1.weight", "2.weight"]


def test_vision_transformer_of_timm() -> None:
    network = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=5)
    found = prunable_parameters(network)
    assert "blocks.0.attn.qkv.weight" in found
    assert "patch_embed.proj.weight" in found
    assert "head.weight" in found
    assert not {"cls_token", "pos_embed", "norm.weight"} & set(found)
    assert len(found) == 1 + 2 * 4 + 1


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc.weight"), ("vit_tiny_patch16_224", "head.weight")])
def test_head_of_a_timm_network_can_be_left_out(name: str, head: str) -> None:
    network = timm.create_model(name, num_classes=5)
    everything = list(prunable_parameters(network))
    without = list(prunable_parameters(network, Scope(head=False)))
    assert head in everything
    assert without == [parameter for parameter in everything if parameter != head]


def test_head_given_by_the_caller() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    assert list(prunable_parameters(network, Scope(head=False), head=["1.weight", "1.bias"])) == ["0.weight"]


def test_head_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(UsageError, match="does not say which module is its head"):
        prunable_parameters(nn.Sequential(nn.Linear(4, 2)), Scope(head=False))


def test_exclude_patterns() -> None:
    network = timm.create_model("vit_tiny_patch16_224", depth=2)
    found = prunable_parameters(network, Scope(exclude=("*.qkv.*", "patch_embed.*")))
    assert found
    assert not any("qkv" in name or "patch_embed" in name for name in found)


def test_a_pattern_that_matches_nothing_suggests_the_nearest_name() -> None:
    network = nn.Sequential()
    network.add_module("stem", nn.Linear(4, 4))
    with pytest.raises(UsageError, match=r"'sten\.weight' matches no prunable .* did you mean 'stem\.weight'"):
        prunable_parameters(network, Scope(exclude=("sten.weight",)))


def test_nothing_to_prune() -> None:
    with pytest.raises(MaskError, match="BatchNorm2d has no prunable weights"):
        prunable_parameters(nn.BatchNorm2d(3))
    with pytest.raises(MaskError, match="leaves no prunable weights in Linear"):
        prunable_parameters(nn.Linear(3, 3), Scope(exclude=("*",)))


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        pytest.param(nn.utils.weight_norm, marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
    ],
)
def test_weights_that_are_computed_are_refused_and_may_be_excluded(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = nn.Sequential(wrap(nn.Linear(4, 4)), nn.Linear(4, 2))
    words = r"^'0\.weight' is computed from other parameters .* exclude '0\.weight' in the scope$"
    with pytest.raises(MaskError, match=words):
        prunable_parameters(network)
    assert list(prunable_parameters(network, Scope(exclude=("0.*",)))) == ["1.weight"]
    assert list(prunable_parameters(network, Scope(exclude=("0.weight",)))) == ["1.weight"]
