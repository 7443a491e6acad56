"""Masks as values, in files, on networks and during training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.errors import MaskError
from pruningbench.pruning.masks import FORMAT, Masks, measured_sparsity
from pruningbench.pruning.scope import prunable_parameters


def network() -> nn.Sequential:
    with isolated_randomness(0):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def half_masks(net: nn.Module) -> Masks:
    generator = torch.Generator().manual_seed(1)
    parameters = prunable_parameters(net)
    return Masks({n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in parameters.items()})


mask_values = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.lists(st.integers(0, 5), max_size=3).flatmap(
        lambda shape: st.integers(0, 2**32).map(
            lambda seed: torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        )
    ),
    max_size=4,
)


@given(mask_values)
@cases(60)
def test_round_trip_through_a_file_is_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    if any(name == "__metadata__" for name in values):
        return  # the one name that safetensors keeps for itself
    masks = Masks(values, {"pruner": "magnitude", "sparsity": 0.5})
    path = tmp_path_factory.mktemp("masks") / "m.safetensors"
    digest = masks.save(path)
    loaded = Masks.load(path)
    assert list(loaded) == list(masks)
    assert all(torch.equal(loaded[name], masks[name]) for name in masks)
    assert loaded == masks
    assert loaded.digest == masks.digest == digest
    assert loaded.provenance == masks.provenance
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_file_holds_eight_weights_to_a_byte(tmp_path: Path) -> None:
    Masks({"w": torch.ones(1000, 80, dtype=torch.bool)}).save(tmp_path / "m")
    assert (tmp_path / "m").stat().st_size < 80_000 / 8 + 1000


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    half_masks(network()).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:7], whole[: len(whole) // 2], b"\xff" * 64, whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(MaskError, match=r"m\.safetensors: damaged mask file"):
            Masks.load(path)


def test_a_flipped_bit_does_not_match_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    half_masks(network()).save(path)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 0x80
    path.write_bytes(bytes(whole))
    with pytest.raises(MaskError, match=r"m\.safetensors: the masks do not match the digest"):
        Masks.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "something-else"}])
def test_other_files_are_no_mask_files(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(3)}, path, metadata)
    with pytest.raises(MaskError, match=r"weights\.safetensors: not a mask file"):
        Masks.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": "{"},
        {"shapes": "[1, 2]"},
        {"shapes": json.dumps({"w": [3, 3]})},
        {"shapes": json.dumps({"w": "xy"})},
        {"shapes": json.dumps({"other": [8]})},
        {"shapes": None},
        {"provenance": "{"},
    ],
)
def test_wrong_metadata_is_damage(tmp_path: Path, change: dict[str, str | None]) -> None:
    path = tmp_path / "m.safetensors"
    Masks({"w": torch.ones(8, dtype=torch.bool)}).save(path)
    metadata = {"format": FORMAT, "digest": "0", "shapes": json.dumps({"w": [8]}), "provenance": "{}", **change}
    save_file(load_file(path), path, {key: value for key, value in metadata.items() if value is not None})
    with pytest.raises(MaskError, match=r"m\.safetensors: damaged mask file"):
        Masks.load(path)


def test_masks_must_be_bool() -> None:
    with pytest.raises(MaskError, match=r"mask of 'w' must be bool, got torch\.float32"):
        Masks({"w": torch.ones(3)})


def test_a_value_does_not_follow_the_tensor_it_was_made_from() -> None:
    tensor = torch.ones(3, dtype=torch.bool)
    masks = Masks({"w": tensor})
    tensor[0] = False
    assert masks.kept == 3


def test_digest_depends_on_bits_names_and_shapes_but_not_on_order_or_provenance() -> None:
    a, b = torch.tensor([True, False]), torch.tensor([False, True])
    masks = Masks({"a": a, "b": b})
    assert masks == Masks({"b": b, "a": a}, {"seed": 3})
    assert hash(masks) == hash(Masks({"b": b, "a": a}))
    others = [{"a": b, "b": a}, {"a": a}, {"a": a, "c": b}, {"a": a, "b": b[None]}]
    assert len({masks.digest, *(Masks(other).digest for other in others)}) == 5
    assert masks != "masks"


def test_counts() -> None:
    masks = Masks({"a": torch.tensor([[True, False], [False, False]]), "b": torch.ones(4, dtype=torch.bool)})
    assert (masks.total, masks.kept, masks.sparsity) == (8, 5, 0.375)
    assert [(layer.name, layer.shape, layer.total, layer.kept, layer.density) for layer in masks.layers()] == [
        ("a", (2, 2), 4, 1, 0.25),
        ("b", (4,), 4, 4, 1.0),
    ]
    assert repr(masks) == "Masks(2 parameters, 8 weights, sparsity 0.3750)"
    assert Masks({}).sparsity == 0


def test_intersection() -> None:
    a = Masks({"x": torch.tensor([True, True, False]), "y": torch.tensor([True])}, {"round": 1})
    b = Masks({"x": torch.tensor([True, False, True]), "z": torch.tensor([False])}, {"round": 2})
    both = a.intersect(b)
    assert {name: mask.tolist() for name, mask in both.items()} == {
        "x": [True, False, False],
        "y": [True],
        "z": [False],
    }
    assert both == b.intersect(a)
    assert both.provenance == {"intersection": [{"round": 1}, {"round": 2}]}
    with pytest.raises(MaskError, match="masks of 'x' differ in shape: 3 and 1x3"):
        a.intersect(Masks({"x": torch.ones(1, 3, dtype=torch.bool)}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_apply_zeroes_nan_and_infinite_weights_and_changes_no_key(dtype: torch.dtype) -> None:
    net = network().to(dtype)
    masks = half_masks(net)
    keys = list(net.state_dict())
    with torch.no_grad():
        net[0].weight.view(-1)[::3] = float("nan")
        net[0].weight.view(-1)[1::3] = float("-inf")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    masks.apply(net)
    assert list(net.state_dict()) == keys
    for name, parameter in net.named_parameters():
        mask = masks[name] if name in masks else torch.ones(parameter.shape, dtype=torch.bool)
        assert torch.equal(parameter[mask], before[name][mask]) or parameter[mask].isnan().any()
        assert torch.equal(parameter[mask].isnan(), before[name][mask].isnan())
        assert not parameter[~mask].any()
        assert parameter.requires_grad


def test_apply_changes_nothing_when_a_name_or_shape_does_not_fit() -> None:
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    none = torch.zeros(4, 3, 3, 3, dtype=torch.bool)
    with pytest.raises(MaskError, match="Sequential has no parameter 'nowhere' to mask"):
        Masks({"0.weight": none, "nowhere": none}).apply(net)
    with pytest.raises(MaskError, match=r"mask of '4\.weight' is 3x4 but the parameter is 3x144"):
        Masks({"0.weight": none, "4.weight": torch.zeros(3, 4, dtype=torch.bool)}).apply(net)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
}


def train(net: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, *, autocast: bool = False) -> None:
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        x, y = torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 3
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(net(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def assert_pruned(net: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer, before: dict[str, Tensor]) -> None:
    for name, mask in masks.items():
        parameter = net.get_parameter(name)
        assert torch.count_nonzero(parameter[~mask]) == 0
        assert not torch.equal(parameter[mask], before[name][mask])
        moments = [v for v in optimizer.state[parameter].values() if isinstance(v, Tensor) and v.ndim]
        assert moments
        for moment in moments:
            assert torch.count_nonzero(moment[~mask]) == 0
            assert torch.count_nonzero(moment[mask]) > 0


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_and_moments_stay_zero(name: str, autocast: bool) -> None:
    net = network()
    optimizer = OPTIMIZERS[name](list(net.parameters()))
    train(net, optimizer)  # moments of all weights from before the pruning
    masks = half_masks(net)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    with masks.kept_during(net, optimizer):
        train(net, optimizer, autocast=autocast)
    assert_pruned(net, masks, optimizer, before)


def test_pruned_weights_stay_zero_in_a_compiled_network() -> None:
    net = network()
    masks = half_masks(net)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    compiled = torch.compile(net, backend="eager")
    optimizer = OPTIMIZERS["nesterov"](list(compiled.parameters()))
    with masks.kept_during(compiled, optimizer):
        train(compiled, optimizer)
    assert_pruned(net, masks, optimizer, before)
    own = half_masks(compiled)  # named as the compiled network names them
    own.apply(compiled)
    assert measured_sparsity(compiled, own)[0] == own.sparsity


@pytest.mark.parametrize("fails", [False, True])
def test_the_hook_goes_when_the_block_ends(fails: bool) -> None:
    net = network()
    masks = half_masks(net)
    optimizer = OPTIMIZERS["momentum"](list(net.parameters()))
    try:
        with masks.kept_during(net, optimizer):
            if fails:
                raise KeyError("from the training loop")
    except KeyError:
        assert fails
    assert measured_sparsity(net, masks)[0] == masks.sparsity
    assert not optimizer._optimizer_step_post_hooks
    train(net, optimizer)
    assert measured_sparsity(net, masks)[0] == 0


def test_tied_weights_are_masked_by_either_name_and_counted_once() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    drop = torch.zeros(4, 4, dtype=torch.bool)
    Masks({"1.weight": drop}).apply(net)
    assert not net[0].weight.any()
    assert measured_sparsity(net, prunable_parameters(net)) == (1.0, 1.0)


def test_measured_sparsity_counts_the_networks_own_zeros() -> None:
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.fill_(1)[0, :] = 0
        net.bias.fill_(1)
        net.weight[1, 0] = -0.0
    assert measured_sparsity(net, prunable_parameters(net)) == (5 / 8, 5 / 10)
    assert measured_sparsity(net, {}) == (0.0, 5 / 10)


def test_ones_keeps_everything() -> None:
    net = network()
    masks = Masks.ones(prunable_parameters(net))
    assert masks.sparsity == 0
    assert {n: m.shape for n, m in masks.items()} == {n: p.shape for n, p in prunable_parameters(net).items()}


def test_packed_bits_come_back_and_wrong_sizes_are_refused() -> None:
    masks = half_masks(network())
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    assert Masks.from_packed(masks.packed(), shapes, {"seed": 1}) == masks
    with pytest.raises(MaskError, match="packed masks do not fit"):
        Masks.from_packed(masks.packed(), {**shapes, "0.weight": (100, 9)})
    with pytest.raises(MaskError, match="packed masks do not fit"):
        Masks.from_packed({}, shapes)
