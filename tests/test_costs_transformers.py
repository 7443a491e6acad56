"""Costs of pruners for transformers: estimates of memory against measured peaks."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from kit.costs import component, of, peak_bytes

import pruningbench as pb


@pytest.mark.parametrize(("side", "patch", "width", "batch"), [(64, 16, 96, 16), (96, 8, 24, 16), (64, 8, 48, 4)])
def test_memory_of_a_pruner_for_transformers_is_what_is_measured(side: int, patch: int, width: int, batch: int) -> None:
    net = timm.create_model(
        "vit_tiny_patch16_224", num_classes=4, img_size=side, patch_size=patch, embed_dim=width, depth=4, num_heads=4
    ).eval()
    batches = [(torch.randn(batch, 3, side, side), None) for _ in range(2)]
    fields: dict[str, Any] = {"samples": 2 * batch, "evaluations": 1}
    estimated = component("snapvit", **fields).cost(of(net, batch_size=batch)).memory
    measured = peak_bytes(lambda: pb.prune(net, "snapvit", 0.3, batches, **fields)) + 2 * batch * 3 * side * side * 4
    assert measured <= 1.15 * estimated, (measured, estimated)
    assert estimated <= 2 * measured, (measured, estimated)


@pytest.mark.parametrize("importance", ["influence", "output"])
@pytest.mark.parametrize(("side", "patch", "width", "batch"), [(64, 8, 48, 16), (96, 8, 24, 32)])
def test_memory_of_blocks_is_that_of_passes_without_gradients(
    side: int, patch: int, width: int, batch: int, importance: str
) -> None:
    net = timm.create_model(
        "vit_tiny_patch16_224", num_classes=4, img_size=side, patch_size=patch, embed_dim=width, depth=12, num_heads=4
    ).eval()
    batches = [(torch.randn(batch, 3, side, side), None) for _ in range(2)]
    fields: dict[str, Any] = {"samples": 2 * batch, "importance": importance}
    estimated = component("blocks", **fields).cost(of(net, batch_size=batch)).memory
    measured = peak_bytes(lambda: pb.prune(net, "blocks", 0.3, batches, **fields))
    assert measured <= estimated, (measured, estimated)
    assert estimated <= 7 * measured, (
        measured,
        estimated,
    )  # the largest may be attention, which fused kernels never hold
