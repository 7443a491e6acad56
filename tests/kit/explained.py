"""Small networks with random weights whose images are explained, of both families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pruningbench_timm import TimmVisionModel
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pruningbench.contract import Preprocessing

PREPROCESSING = Preprocessing((0.5,) * 3, (0.25,) * 3)
VIT_ONLY = ("attention-rollout", "last-attention")
"""Attribution methods for transformers only."""


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return network.eval()


def resnet(seed: int = 0) -> TimmVisionModel:
    network = seeded(
        lambda: ResNet(BasicBlock, (1, 1, 1, 1), num_classes=4, channels=(8, 8, 12, 16), stem_width=8), seed
    )
    return TimmVisionModel(network, PREPROCESSING, classes=tuple("abcd"))


def vit(seed: int = 0, **fields: Any) -> TimmVisionModel:
    make = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 4, **fields}
    return TimmVisionModel(seeded(lambda: VisionTransformer(**make), seed), PREPROCESSING, classes=tuple("abcd"))
