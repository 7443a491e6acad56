"""Speed-up of really smaller vision transformers: what removing blocks, heads, MLP units and embedding channels gains.

    OMP_NUM_THREADS=1 pytest benchmarks/bench_shrinking.py

ViT-S/16 at 224 pixels with random weights: time does not depend on their values. The dense and the smaller network are
timed in alternation, as the task `efficiency` does, on one and on eight images. The median ratios, and the shares of
the parameters and operations that are gone, stand in `extra_info`; nothing is asserted about times.
"""

from __future__ import annotations

import copy
from statistics import median
from typing import Any

import pytest
import timm
import torch
from pruningbench_structured import shrink
from pruningbench_structured.blocks import Blocks
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.pruner import Structured
from pruningbench_structured.shrinking import removal_masks
from pruningbench_structured.size import measure_size
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from pruningbench.contract import PruningContext
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.pruning.timing import measured_seconds

CHANNELS: dict[str, str] = {"heads": ".attn.qkv", "MLP units": ".mlp.fc1", "embedding": "patch_embed.proj"}
"""What is removed alone, and how the layers are called that own it."""


def masks_of(network: nn.Module, images: Tensor, what: str, share: float) -> Masks:
    """Return masks that remove a share of the blocks or channels of a kind, or of everything at this sparsity."""
    parameters = prunable_parameters(network)
    context = PruningContext(network, parameters, batches=lambda: iter([(images, None)]))
    if what in ("blocks", "branches"):
        return Blocks(importance="random", branches=what == "branches").prune(context, share)
    if what == "everything":
        pruner = Structured(importance="random", allocation="uniform", heads=True, embedding=True)
        return pruner.prune(context, share)
    graph = channel_graph(network, images, frozenset(parameters), heads=True, embedding=True)
    gone = [
        torch.arange(len(g.channels)) < round(share * len(g.channels) * g.name.endswith(CHANNELS[what]))
        for g in graph.groups
    ]
    return Masks(removal_masks(graph, parameters, gone))


def compared(what: str, share: float) -> dict[str, Any]:
    """Return the shares of parameters and operations that are gone, and the speed-ups on one and eight images."""
    torch.manual_seed(0)
    dense, images = timm.create_model("vit_small_patch16_224").eval(), torch.randn(8, 3, 224, 224)
    masks = masks_of(copy.deepcopy(dense), images[:2], what, share)
    smaller = shrink(dense, masks, images[:2])
    before, after = (measure_size(network, images[:1], runs=1) for network in (dense, smaller))
    result: dict[str, Any] = {
        "parameters": round(1 - after.parameters / before.parameters, 3),
        "operations": round(1 - after.flops / before.flops, 3),
    }
    for count in (1, 8):
        works = [lambda network=network, count=count: network(images[:count]) for network in (smaller, dense)]
        with torch.inference_mode():
            fast, slow = measured_seconds(works, torch.device("cpu"), 15, 3)
        ratios = [b / a for a, b in zip(fast.tolist(), slow.tolist(), strict=True)]
        result[f"speedup_{count}"] = round(median(ratios), 2)
        result[f"dense_ms_{count}"] = round(1000 * median(slow.tolist()), 1)
    return result


@pytest.mark.benchmark(group="shrinking")
@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("what", ["blocks", "branches", *CHANNELS, "everything"])
def test_shrinking(benchmark: BenchmarkFixture, what: str, share: float) -> None:
    benchmark.extra_info.update(benchmark.pedantic(compared, (what, share), rounds=1))
