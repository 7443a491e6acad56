"""Networks without a classifier: what explains them, and which metrics apply."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from kit.interpretability import context
from pruningbench_interpretability.task import Interpretability
from pruningbench_timm.vision import TimmVisionModel
from timm.models import VisionTransformer

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import ArraySamples, Preprocessing, ViewUnavailableError
from pruningbench.plugins import load_registry
from pruningbench.suite.binding import bind


def vit(classes: int) -> TimmVisionModel:
    with isolated_randomness("headless"):
        network = VisionTransformer(img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=2, num_classes=classes)
    preprocessing = Preprocessing((0.5,) * 3, (0.25,) * 3, None)
    return TimmVisionModel(network.eval(), preprocessing, classes=tuple("abcd"[:classes]))


def test_without_a_classifier_only_attention_explains():
    """DINO's networks end in features: their largest is no class, and no metric may take it for one."""
    images = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    headless, lent = vit(0), context(ArraySamples(images))
    assert vit(4).has_classifier and not headless.has_classifier
    task = Interpretability(data="pictures", methods=("last-attention", "saliency"))
    with pytest.raises(ViewUnavailableError, match="saliency explains a class, but the network has no classifier"):
        list(task.run(headless, lent))
    ((name, outputs),) = dataclasses.replace(task, unsupported="skip").run(headless, lent)
    assert (name, outputs.predict, outputs.logits) == ("last-attention", None, None)
    assert outputs.exhibit.captions == ("", "", "")
    registry = load_registry()
    metrics = [bind(registry, "metric", metric).component for metric in registry.names("metric")]
    applying = {type(metric).__name__ for metric in metrics if metric.applies(outputs)}
    assert {"Gini", "MaxSensitivity"} <= applying
    assert not applying & {
        "Deletion",
        "Insertion",
        "PixelFlipping",
        "Aopc",
        "Infidelity",
        "RandomLogit",
        "RoadMorf",
        "RoadLerf",
    }
    with pytest.raises(ValueError, match="no classifier"):
        outputs.classifier(images)
