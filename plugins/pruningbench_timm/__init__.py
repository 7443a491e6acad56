"""Models: any network from timm or the hub, the papers' networks by name, CLIP, and your own.

`TimmVisionModel` gives a timm network the views that tasks need; `LayeredVisionModel` does so for any other network,
given the names of its layers. Two small networks for handwritten digits are trained during the run and cached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_timm.augmentation import SceneAugmentation as SceneAugmentation
    from pruningbench_timm.checkpoints import read_checkpoint as read_checkpoint
    from pruningbench_timm.layered import LayeredVisionModel as LayeredVisionModel
    from pruningbench_timm.vision import TimmVisionModel as TimmVisionModel

_LAZY = {
    "LayeredVisionModel": "pruningbench_timm.layered",
    "SceneAugmentation": "pruningbench_timm.augmentation",
    "TimmVisionModel": "pruningbench_timm.vision",
    "read_checkpoint": "pruningbench_timm.checkpoints",
}
__all__ = [
    "LayeredVisionModel",
    "SceneAugmentation",
    "TimmVisionModel",
    "pruningbench_register_models",
    "read_checkpoint",
]


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_models(register: Register) -> None:
    """Register the models."""
    register("digits-resnet", "pruningbench_timm.digits:DigitsResNet")
    register("digits-vit", "pruningbench_timm.digits:DigitsViT")
    register("timm", "pruningbench_timm.models:TimmModel")
    register("python", "pruningbench_timm.own:PythonModel")
    register("clip", "pruningbench_timm.clip:Clip")
    register("efficientnet-lite0", "pruningbench_timm.lite:EfficientNetLite0")
    register("efficientnet-lite2", "pruningbench_timm.lite:EfficientNetLite2")
    register("resnet", "pruningbench_timm.papers:ResNet")
    register("vit", "pruningbench_timm.papers:ViT")
    register("swin", "pruningbench_timm.papers:Swin")
    register("dino", "pruningbench_timm.papers:Dino")
    register("dinov2", "pruningbench_timm.papers:DinoV2")
    register("mocov2", "pruningbench_timm.papers:MoCoV2")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
