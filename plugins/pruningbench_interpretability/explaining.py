"""Repeated explanation of a model's images by one method, for the stability metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruningbench.contract import AttributionMethod, AttributionSettings, Pooling, VisionModel
from pruningbench_interpretability.methods import attribute, pool


@dataclass(frozen=True)
class ModelExplainer:
    """One attribution method on one model.

    Attributes:
        model: the network to explain.
        method: computes the attributions.
        settings: settings of the method.
        pooling: over channels, unless the method has its own.
    """

    model: VisionModel
    method: AttributionMethod
    settings: AttributionSettings
    pooling: Pooling

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """(B, C, H, W) normalised images and (B,) classes -> (B, H, W) maps."""
        return self.pooled(self.attributions(images, targets))

    def attributions(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return (B, C, H, W) attributions before pooling, or (B, H, W) maps if the method returns maps."""
        return attribute(self.method, self.model, images, targets, self.settings)

    def pooled(self, attributions: Tensor) -> Tensor:
        """Pool attributions with this method's pooling."""
        return pool(attributions, self.method.pooling or self.pooling)

    def randomised(self, seed: int, share: float = 1.0) -> ModelExplainer:
        """Return the method for a copy of the model with the last `share` of its layers reinitialised.

        Layers are the modules with their own parameters, in network order. Raises the errors of
        ``VisionModel.reinitialise``.
        """
        twin = self.model.clone()
        twin.reinitialise(seed)
        twin.network.eval()
        layers = [name for name, module in twin.network.named_modules() if any(True for _ in module.parameters(False))]
        trained_layers = layers[: len(layers) - round(share * len(layers))]
        with torch.no_grad():
            for name in trained_layers:
                old, new = self.model.network.get_submodule(name), twin.network.get_submodule(name)
                for kind in ("_parameters", "_buffers"):
                    for key, tensor in getattr(new, kind).items():
                        if tensor is not None:
                            tensor.copy_(getattr(old, kind)[key])
        return replace(self, model=twin)
