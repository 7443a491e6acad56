"""Models from timm: two small networks for handwritten digits, trained in the run and cached.

`TimmVisionModel` gives any timm ResNet or vision transformer the views that tasks need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruningbench.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_timm.augmentation import SceneAugmentation as SceneAugmentation
    from pruningbench_timm.vision import TimmVisionModel as TimmVisionModel

_LAZY = {
    "SceneAugmentation": "pruningbench_timm.augmentation",
    "TimmVisionModel": "pruningbench_timm.vision",
}
__all__ = ["SceneAugmentation", "TimmVisionModel", "pruningbench_register_models"]


@hookimpl
def pruningbench_register_models(register: Register) -> None:
    """Register the models."""
    register("digits-resnet", "pruningbench_timm.digits:DigitsResNet")
    register("digits-vit", "pruningbench_timm.digits:DigitsViT")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
