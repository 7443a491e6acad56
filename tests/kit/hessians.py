"""Small networks in float64, and their exact Hessians."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import PruningContext
from pruningbench.pruning.scope import Scope, prunable_parameters


def make(name: str) -> tuple[PruningContext, Tensor, Tensor]:
    """Return a network in float64 that is far from a minimum, images and labels."""
    with isolated_randomness("hessian", name):
        if name == "mlp":
            network: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4))
        else:
            network = VisionTransformer(
                img_size=2, patch_size=1, embed_dim=4, depth=1, num_heads=2, mlp_ratio=2, num_classes=3
            )
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape) * (1.5 if parameter.ndim == 2 else 0.5)
        images, labels = torch.randn(7, 3, 2, 2, dtype=torch.float64), torch.arange(7) % 3
    network.double().eval()
    parameters = prunable_parameters(
        network, None if name == "mlp" else Scope(exclude=("patch_embed.*", "head.*", "*.fc2.*"))
    )
    return (
        PruningContext(network, parameters, batches=lambda: iter([(images[:4], labels[:4]), (images[4:], labels[4:])])),
        images,
        labels,
    )


def exact(context: PruningContext, images: Tensor, labels: Tensor | None) -> Tensor:
    """Return the Hessian of all prunable weights, (n, n)."""
    names, shapes = list(context.parameters), [p.shape for p in context.parameters.values()]
    sizes = [shape.numel() for shape in shapes]
    start = torch.cat([p.detach().flatten() for p in context.parameters.values()])
    targets = context.network(images).softmax(1).detach() if labels is None else labels

    def loss(flat: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        logits: Any = functional_call(context.network, dict(zip(names, parts, strict=True)), (images,))
        return cross_entropy(logits, targets)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        result = hessian(loss)(start)
    assert isinstance(result, Tensor)
    return result.detach()
