"""Repositories of models on a hub."""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import save

from kit.models import SMALL, small

REPO = "someone/tiny-resnet"


NAME = f"hf-hub:{REPO}"


def files(seed: int = 0, **config: Any) -> dict[str, bytes]:
    """Return a repository as timm publishes models: a configuration and weights."""
    network = small("resnet18", seed=seed).network
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    described = {
        "architecture": "resnet18",
        "num_classes": 5,
        "label_names": ["ant", "bee", "cow", "doe", "elk"],
        "model_args": SMALL["resnet18"]["args"],
        "pretrained_cfg": {
            "input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9,
            "interpolation": "bilinear", "num_classes": 5, "first_conv": "conv1", "classifier": "fc",
        },
        **config,
    }  # fmt: skip
    return {"config.json": json.dumps(described).encode(), "model.safetensors": save(state), "README.md": b"# Tiny"}
