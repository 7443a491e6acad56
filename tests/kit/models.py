"""What the tests of models share: a context, and small networks of every family."""

from __future__ import annotations

from typing import Any

import torch
from pruningbench_timm import pruningbench_register_models

from kit.cache import NoCache
from pruningbench.contract import Context, VisionModel
from pruningbench.plugins import Plugin, Registry
from pruningbench.suite.binding import bind

REGISTRY = Registry()
pruningbench_register_models(lambda name, target: REGISTRY.add("model", name, target, Plugin("t", "test", "0")))

VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"args": {"channels": [4, 8, 12, 16]}},
    "convnext_atto": {"args": {"depths": [1, 1, 1, 1], "dims": [4, 8, 8, 16]}},
    "test_efficientnet": {},
    "test_efficientnet relu6": {"args": {"act_layer": "relu6"}},
    "vit_tiny_patch16_224": {"size": 32, "args": VIT},
    "deit_tiny_distilled_patch16_224": {"size": 32, "args": VIT},
    "swin_tiny_patch4_window7_224": {
        "size": 32, "args": {"window_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
    },
}  # fmt: skip
"""Small networks with random weights, by timm's names; what follows a space tells variants apart."""


def context() -> Context:
    """Return a context on the CPU that opens no data set."""

    def open_dataset(reference: Any) -> Any:
        raise AssertionError(f"a model opened the data set {reference}")

    return Context(torch.device("cpu"), 0, NoCache(), open_dataset)


def component(use: str, **fields: Any) -> Any:
    """Return a model component as a suite would make it."""
    return bind(REGISTRY, "model", {"use": use, **fields}).component


def load(use: str, **fields: Any) -> VisionModel:
    """Load a model as the harness would."""
    model: VisionModel = component(use, **fields).load(context())
    return model


def small(name: str, *, shaken: bool = True, **fields: Any) -> VisionModel:
    """Load one of `SMALL` with five classes, its weights and norms shaken so that no default hides a mistake."""
    own = SMALL[name]
    args = {"num_classes": 5, **own.get("args", {}), **fields.pop("args", {})}
    size = {"size": own["size"]} if "size" in own else {}
    model = load("timm", name=name.split(maxsplit=1)[0], pretrained=False, args=args, **{**size, **fields})
    if shaken:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name_, tensor in model.network.state_dict().items():
                if name_.endswith("running_var"):
                    tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
                elif tensor.is_floating_point():
                    scale = 0.3 if tensor.ndim < 2 else 0.2 * float(tensor.std())
                    tensor.add_(scale * torch.randn(tensor.shape, generator=generator))
    return model


def images(size: int = 32, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Return (count, 3, size, size) random images, as normalised ones are."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
