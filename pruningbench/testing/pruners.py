"""Checks of pruners, on a small convolutional network with batch norm, or a small vision transformer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pruningbench.base.randomness import generator_for, isolated_randomness
from pruningbench.contract import Pruner, PruningContext, Use
from pruningbench.errors import CollapseWarning, PruningBenchError
from pruningbench.plugins import Registry
from pruningbench.pruning.allocation import number_to_prune
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.preservation import preserved
from pruningbench.pruning.scope import prunable_parameters

SPARSITY = 0.5
SHAPE = (3, 8, 8)


class _Residual(nn.Module):
    """A convolution and the shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        sums: Tensor = images + self.conv(images).relu()
        return sums


def network() -> nn.Module:
    """Return a small network whose weights are always the same."""
    with isolated_randomness("testing"):
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), _Residual(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )  # fmt: skip
    return layers.eval()


def transformer() -> nn.Module:
    """Return a small vision transformer of timm whose weights are always the same."""
    from timm.models.vision_transformer import VisionTransformer

    with isolated_randomness("testing"):
        made: nn.Module = VisionTransformer(
            img_size=SHAPE[1], patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=4
        )
    return made.eval()


def network_for(use: Use) -> nn.Module:
    """Return the network that a pruner is checked on: the transformer only if it refuses the other."""
    pruner, small = use.component, network()
    refused = isinstance(pruner, Pruner) and pruner.refuses(small) is not None
    return transformer() if refused else small


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield two batches of (images, labels)."""
    generator = generator_for("testing")
    for _ in range(2):
        yield torch.randn(6, *SHAPE, generator=generator), torch.arange(6) % 4


def prune(use: Use, subject: nn.Module, seed: int = 0) -> Masks:
    """Prune a network as the harness does, without restoring what the pruner changes."""
    pruner = use.component
    if not isinstance(pruner, Pruner):
        raise PruningBenchError(f"{use.name!r} is a {pruner.kind}")
    reason = pruner.refuses(subject)
    if reason:
        raise PruningBenchError(f"it refuses a small convolutional network, and a small vision transformer: {reason}")
    data = batches if pruner.needs_data else None
    context = PruningContext(subject, prunable_parameters(subject), seed, data, input_shape=SHAPE)
    with isolated_randomness("prune", seed, use.identity()), warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        masks = pruner.prune(context, SPARSITY)
    if not isinstance(masks, Masks):
        raise PruningBenchError(f"it returned a {type(masks).__name__}, not Masks")
    return masks


def masks(use: Use, registry: Registry) -> Iterator[str]:
    """Sparsities are compared between pruners: mask every prunable parameter, and prune round(sparsity * weights)."""
    del registry
    subject = network_for(use)
    pruned_masks = prune(use, subject)
    expected = {name: tuple(p.shape) for name, p in prunable_parameters(subject).items()}
    shapes = {name: tuple(mask.shape) for name, mask in pruned_masks.items()}
    if shapes != expected:
        lacking, strange = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
        yield f"its masks are not those of the prunable parameters (lacking {lacking}, too many {strange})"
        return
    requested, pruned = number_to_prune(SPARSITY, pruned_masks.total), pruned_masks.total - pruned_masks.kept
    if isinstance(use.component, Pruner) and use.component.exact and pruned != requested:
        yield f"at sparsity {SPARSITY} it pruned {pruned} of {pruned_masks.total} weights, not {requested}"


def repeatable(use: Use, registry: Registry) -> Iterator[str]:
    """Equal seeds must give equal masks: draw from ``context.generator(...)``, and from nothing else."""
    del registry
    if prune(use, network_for(use)).digest != prune(use, network_for(use)).digest:
        yield "two calls with one seed give different masks"


def seeded(use: Use, registry: Registry) -> Iterator[str]:
    """``seeded = True`` says that masks depend on the seed; only then does each seed get its own masks."""
    del registry
    differs = prune(use, network_for(use), 0).digest != prune(use, network_for(use), 1).digest
    states = isinstance(use.component, Pruner) and use.component.seeded
    if differs and not states:
        yield "its masks depend on the seed, but it declares seeded = False"


def leaves_no_trace(use: Use, registry: Registry) -> Iterator[str]:
    """The network is lent: leave its weights, modes, gradients and hooks as they were, unless ``updates_weights``."""
    del registry
    if isinstance(use.component, Pruner) and use.component.updates_weights:
        return
    subject = network_for(use)
    before = {name: tensor.clone() for name, tensor in subject.state_dict().items()}
    prune(use, subject)
    changed = [name for name, tensor in subject.state_dict().items() if not torch.equal(tensor, before[name])]
    if changed:
        yield f"it changed {changed[0]!r}" + (f" and {len(changed) - 1} more" if changed[1:] else "")
    if any(module.training for module in subject.modules()):
        yield "it left the network in training mode"
    if any(p.grad is not None for p in subject.parameters()):
        yield "it left gradients"
    if any(not p.requires_grad for p in subject.parameters()):
        yield "it left parameters frozen"
    if any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in subject.modules()
    ):
        yield "it left hooks"


def half_precision(use: Use, registry: Registry) -> Iterator[str]:
    """Networks may also be in bfloat16: compute scores in their type or in float32."""
    del registry
    pruner = use.component
    if isinstance(pruner, Pruner) and (pruner.needs_data or pruner.updates_weights):
        return  # data are in float32, and running them in another type is the caller's choice
    subject = network_for(use).to(torch.bfloat16)
    with preserved(subject):
        pruned_masks = prune(use, subject)
    if (
        pruned_masks.total - pruned_masks.kept != number_to_prune(SPARSITY, pruned_masks.total)
        and isinstance(pruner, Pruner)
        and pruner.exact
    ):
        yield "in bfloat16 it prunes another number of weights"


PRUNER_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "masks": masks,
    "repeatable": repeatable,
    "seeded": seeded,
    "leaves no trace": leaves_no_trace,
    "half precision": half_precision,
}
