"""The costs of really smaller networks: closed forms, what stays as it is, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from kit.transfer import context as lending
from pruningbench_structured import compare_size, shrink
from pruningbench_structured.efficiency import ShrunkEfficiency, shapes
from pruningbench_structured.shrinking import zero_masks
from pruningbench_transfer import costs
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import ArraySamples, Preprocessing, ResourceUse, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import load_registry
from pruningbench.suite.schema import load_suite

WIDTH, HIDDEN, DEPTH, TOKENS = 24, 96, 3, 17


class Wrapped(VisionModel):
    """A network with a classifier, for images of its own size."""

    def logits(self, images: Tensor) -> Tensor:
        out: Tensor = self.network(images)
        return out


def vit() -> nn.Module:
    with isolated_randomness(0):
        return timm.create_model(
            "vit_tiny_patch16_224", num_classes=4, img_size=16, patch_size=4, embed_dim=WIDTH, depth=DEPTH, num_heads=4
        ).eval()


def wrapped(network: nn.Module) -> VisionModel:
    return Wrapped(network, Preprocessing((0.5,) * 3, (0.5,) * 3, size=16), classes=("a", "b", "c", "d"))


def images(count: int) -> ArraySamples:
    return ArraySamples(torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8))


def cost(pruned: nn.Module, dense: nn.Module, count: int = 3, **fields: int) -> ResourceUse:
    lent = lending(d=images(count))
    lent.as_loaded, lent.dense = wrapped(dense), None
    task = ShrunkEfficiency(data="d", **{"repeats": 3, "warmup": 1, **fields})
    ((variant, outputs),) = task.run(wrapped(pruned), lent)
    assert variant == ""
    return outputs


def weights_of(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_removed_hidden_units_are_the_closed_form() -> None:
    dense, pruned = vit(), vit()
    with torch.no_grad():
        for block in pruned.blocks:
            block.mlp.fc1.weight[: HIDDEN // 2] = 0
            block.mlp.fc1.bias[: HIDDEN // 2] = 0
            block.mlp.fc2.weight[:, : HIDDEN // 2] = 0
    outputs, before = cost(pruned, dense, images=2), cost(dense, dense)
    gone = DEPTH * HIDDEN // 2
    assert before.parameters == weights_of(dense)
    assert before.parameters - outputs.parameters == gone * (2 * WIDTH + 1)
    assert before.dense_macs - outputs.dense_macs == gone * 2 * WIDTH * TOKENS
    assert outputs.nonzero == int(sum(torch.count_nonzero(p) for p in pruned.parameters()))
    assert outputs.effective_macs == outputs.dense_macs and outputs.batch_size == 2
    assert outputs.seconds.shape == outputs.dense_seconds.shape == (3,) and (outputs.seconds > 0).all()
    assert not torch.equal(outputs.seconds, outputs.dense_seconds)


@pytest.mark.parametrize(
    ("name", "fields"), [("structured", {"heads": True}), ("structured", {"embedding": True}), ("blocks", {})]
)
def test_costs_are_those_of_the_network_that_shrink_gives(name: str, fields: dict[str, Any]) -> None:
    dense, pruned, inputs = vit(), vit(), torch.randn(2, 3, 16, 16)
    masks = pb.prune(pruned, name, 0.4, [(inputs, None)], **fields)
    masks.apply(pruned)
    outputs, peer = cost(pruned, dense), compare_size(dense, masks, inputs, runs=1)
    assert outputs.parameters == peer.smaller.parameters < peer.dense.parameters == weights_of(dense)
    assert 2 * outputs.dense_macs == peer.smaller.flops < peer.dense.flops
    assert shapes(shrink(pruned, zero_masks(pruned), inputs)) == shapes(shrink(pruned, masks, inputs))


def test_single_zeros_make_nothing_smaller_or_faster() -> None:
    dense, pruned = vit(), vit()
    before = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    pb.prune(pruned, "magnitude", 0.5).apply(pruned)
    outputs = cost(pruned, dense)
    assert outputs.parameters == weights_of(dense) > outputs.nonzero
    assert costs.MeasuredSpeedup().values(outputs).tolist() == [1.0] * 3
    assert outputs.effective_macs < outputs.dense_macs == cost(dense, dense).dense_macs
    assert any(not torch.equal(tensor, before[name]) for name, tensor in pruned.state_dict().items())


def test_the_pruned_network_is_left_as_it_is() -> None:
    dense, pruned = vit(), vit()
    pb.prune(pruned, "blocks", 0.3, [(torch.randn(2, 3, 16, 16), None)]).apply(pruned)
    before = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    cost(pruned, dense)
    assert pruned.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in pruned.state_dict().items())


def test_it_refuses_an_empty_data_set_and_numbers_out_of_range() -> None:
    with pytest.raises(PruningBenchError, match="at least one image"):
        cost(vit(), vit(), count=0)
    for wrong in ({"images": 0}, {"repeats": 0}, {"warmup": -1}):
        assert "at least 1" in str(ShrunkEfficiency(data="d", **wrong).problem())
    assert ShrunkEfficiency(data="d").problem() is None
    assert cost(vit(), vit(), count=1).batch_size == 1


def test_a_suite_shows_what_is_really_gone(tmp_path: Path) -> None:
    """Beside `efficiency`, which measures the masked network: all its parameters are there, and it is not faster."""
    data = {"use": "digits", "classes": [0, 1, 2], "size": 24, "limit": 24}
    path = tmp_path / "smaller.yaml"
    suite = {
        "name": "smaller",
        "models": [{"use": "digits-resnet", "channels": [8, 8, 8, 8], "epochs": 1}],
        "pruners": ["structured", "magnitude"],
        "sparsities": [0, 0.5],
        "seeds": [0],
        "tasks": [{"use": task, "data": data, "repeats": 2} for task in ("efficiency", "shrunk-efficiency")],
    }
    path.write_text(yaml.safe_dump(suite))
    registry = load_registry()
    prepared = prepare(load_suite(str(path), registry), registry, tmp_path / "run", RunOptions(device="cpu"))
    execute(prepared, registry)
    table = load_results([tmp_path / "run"])
    values = {(r.pruner, r.task, r.metric): r.value for r in table.itertuples()}
    dense = values["dense", "efficiency", "parameters"]
    assert values["structured", "efficiency", "parameters"] == dense
    assert values["structured", "efficiency", "measured-speedup"] == 1
    assert values["structured", "shrunk-efficiency", "parameters"] < 0.7 * dense
    assert values["structured", "shrunk-efficiency", "measured-speedup"] != 1
    assert values["magnitude", "shrunk-efficiency", "parameters"] == dense
    assert values["magnitude", "shrunk-efficiency", "measured-speedup"] == 1
