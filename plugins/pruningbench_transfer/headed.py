"""A backbone with another linear head on its embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pruningbench.contract import Facet, Grid, VisionModel
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters

BACKBONE, HEAD = "backbone", "head"


class Headed(nn.Module):
    """Images -> embedding of a model -> logits of a linear head.

    The model's network is the submodule ``backbone``. Copies are independent, including the views.
    """

    def __init__(self, view: VisionModel, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = view.network, head
        self.view = view

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes) logits."""
        logits: Tensor = self.head(self.view.embed(images))
        return logits


class HeadedModel(VisionModel):
    """A copy of a model with a new head; all other views are those of the model.

    Args:
        model: the model to copy, without its own classifier.
        head: maps (B, D) embeddings to (B, classes) logits.
        classes: the label space of the new head.
    """

    network: Headed

    def __init__(self, model: VisionModel, head: nn.Linear, classes: Sequence[str]) -> None:
        super().__init__(
            Headed(without_classifier(model), head.to(model.device)).eval(),
            model.preprocessing,
            classes=classes,
            head=(f"{HEAD}.weight", f"{HEAD}.bias"),
            augment=model.augment,
            norm_init=model.norm_init,
            family=model.family,
        )

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D) features of the backbone."""
        return self.network.view.embed(images)

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """Patch features of the backbone."""
        return self.network.view.patch_features(images, facet)

    def attentions(self, images: Tensor) -> Tensor:
        """Attention of the backbone's blocks."""
        return self.network.view.attentions(images)

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the backbone's last activation with a grid."""
        return self.network.view.activation_module()

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens that the backbone puts before its patches."""
        return self.network.view.prefix_tokens

    def backbone_weights(self) -> dict[str, nn.Parameter]:
        """Return the prunable parameters of the backbone by their names in the network."""
        prunable = prunable_parameters(self.network.backbone)
        return {f"{BACKBONE}.{name}": parameter for name, parameter in prunable.items()}


def without_classifier(model: VisionModel) -> VisionModel:
    """Return a copy of `model` without its classifier, so that none of the classifier's weights count."""
    copy = model.clone()
    parameters = dict(copy.network.named_parameters())
    for place in sorted({name.rpartition(".")[0] for name in model.head if name in parameters}):
        parent = copy.network.get_submodule(place.rpartition(".")[0])
        setattr(parent, place.rpartition(".")[2], nn.Identity())
    copy.classes, copy.head = (), ()
    return copy


def with_new_head(model: VisionModel, classes: Sequence[str], width: int, generator: torch.Generator) -> HeadedModel:
    """Return a copy of `model` with a new head for `classes` on embeddings of `width` numbers.

    Weights are drawn from `generator`, uniform in +-1/sqrt(width) as in `torch.nn.Linear`; the bias is 0.
    """
    head = nn.Linear(width, len(classes))
    with torch.no_grad():
        head.weight.copy_((2 * torch.rand(head.weight.shape, generator=generator) - 1) / math.sqrt(width))
        head.bias.zero_()
    return HeadedModel(model, head, classes)


def with_linear_head(model: VisionModel, classes: Sequence[str], weight: Tensor, bias: Tensor) -> HeadedModel:
    """Return a copy of `model` with a head of the given (D, classes) weights and (classes,) biases."""
    head = nn.Linear(weight.shape[0], weight.shape[1])
    with torch.no_grad():
        head.weight.copy_(weight.T)
        head.bias.copy_(bias)
    return HeadedModel(model, head, classes)


class _Skeleton(nn.Module):
    """A network of timm with the submodules that `Headed` has, to estimate costs from."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.pretrained_cfg = getattr(backbone, "pretrained_cfg", None) or getattr(backbone, "default_cfg", None)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def get_classifier(self) -> nn.Module:
        return self.head


def headed_skeleton(backbone: nn.Module) -> nn.Module | None:
    """Return a network of timm, on any device, with a head for one class instead of its own.

    Its parameters have the names of those of `Headed`. None for a network that cannot drop its head.
    """
    drop, width = getattr(backbone, "reset_classifier", None), getattr(backbone, "num_features", None)
    if not callable(drop) or not isinstance(width, int):
        return None
    drop(0)
    device = next(backbone.parameters()).device
    return _Skeleton(backbone, nn.Linear(width, 1, device=device))


def kept_weights(learner: HeadedModel) -> Masks:
    """Return masks that prune the backbone's weights that are now exactly zero."""
    return Masks({name: parameter.detach() != 0 for name, parameter in learner.backbone_weights().items()})
