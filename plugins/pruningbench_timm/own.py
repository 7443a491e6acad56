"""The model `python`: your own network, from a function that builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pruningbench.contract import Context, NewWeights, VisionModel, param, range_problem

if TYPE_CHECKING:
    from torch import nn

GREY_OR_RGB = (1, 3)


@dataclass(frozen=True)
class PythonModel(NewWeights):
    """A network built by your own Python function, with your own weights.

    The function returns a ``torch.nn.Module`` that maps normalised (B, C, H, W) images to (B, classes)
    logits. Views other than the logits are read from the modules named in `features` and `head`; a network of
    timm's own classes needs neither. The function is code: like any import it runs with your permissions, even when
    a suite that names it is only planned. `plan` and `run` announce it beforehand (``runs mine.py:build``).
    """

    from_function: ClassVar[bool] = True
    example = {  # noqa: RUF012 - a constant of a frozen dataclass
        "network": "mine.py:build", "checkpoint": "mine.safetensors", "features": "layer4", "head": "fc",
    }  # fmt: skip

    network: str = param(
        doc="function that builds the network: package.module:function, or path/to/file.py:function", shown=True
    )
    args: dict[str, Any] = param({}, doc="keyword arguments for the function")
    checkpoint: str | None = param(None, doc="weight file: safetensors, or a PyTorch file without code; null for none")
    prefix: str = param("", doc="prefix of the checkpoint's names, if several fit (module.teacher.)")
    ignore: tuple[str, ...] = param((), doc="shell patterns of checkpoint names to leave out, e.g. fc.*")
    mean: tuple[float, ...] = param((0.485, 0.456, 0.406), doc="mean of each channel, in [0, 1]; one number for grey")
    std: tuple[float, ...] = param((0.229, 0.224, 0.225), doc="standard deviation of each channel, > 0")
    size: int | None = param(224, doc="image side in pixels; null to leave images unresized")
    crop: float = param(0.875, doc="share of the resized image that the crop keeps, in (0, 1]")
    interpolation: Literal["bicubic", "bilinear"] = param("bilinear", doc="how images are resized")
    classes: tuple[str, ...] | Literal["imagenet"] = param(
        (), doc="class names in logit order, or imagenet for its 1000 WordNet ids"
    )
    features: str = param("", doc="module whose output is the last stage, (B, D, h, w) or (B, N, D), e.g. layer4")
    head: str = param("", doc="classifier module, whose input is the embedding, e.g. fc")
    prefix_tokens: int = param(0, doc="tokens before the patches in the output of `features`, >= 0")
    augmentation: Literal["none", "crop-flip"] = param("none", doc="for training: none, or random crops and flips")
    seed: int = param(0, doc="seed of random weights, >= 0")

    def problem(self) -> str | None:
        """Check the spelling of the function, and ranges."""
        module, colon, function = self.network.rpartition(":")
        if not (colon and module and function.isidentifier()):
            return f"network is {self.network!r}, but must be MODULE:FUNCTION or PATH.py:FUNCTION"
        if len(self.mean) not in GREY_OR_RGB or len(self.mean) != len(self.std):
            return f"mean and std need one number per channel, got {len(self.mean)} and {len(self.std)}"
        for name, fine in (
            ("std", min(self.std) > 0),
            ("size", self.size is None or self.size >= 1),
            ("crop", 0 < self.crop <= 1),
            ("prefix_tokens", self.prefix_tokens >= 0),
            ("seed", self.seed >= 0),
        ):
            if not fine:
                return range_problem(self, name)
        if (self.prefix or self.ignore) and self.checkpoint is None:
            return "prefix and ignore apply to a checkpoint, but none is given"
        if self.classes != "imagenet" and len(set(self.classes)) < len(self.classes):
            return "classes must not repeat"
        return None

    def load(self, context: Context) -> VisionModel:
        """Return the network with its weights on ``context.device``, in eval mode.

        Raises:
            UsageError: if the function cannot be imported or called, or does not return a network.
        """
        from pruningbench.contract import Preprocessing, expanded, tensors_digest
        from pruningbench_timm.calls import build, classes_of, is_of_timm
        from pruningbench_timm.checkpoints import load_weights, read_checkpoint
        from pruningbench_timm.crops import CropAndFlip
        from pruningbench_timm.layered import LayeredVisionModel
        from pruningbench_timm.vision import TimmVisionModel, classifier_names

        network = build(self.network, self.args, self.seed)
        if self.checkpoint is not None:
            path = expanded(self.checkpoint)
            load_weights(network, read_checkpoint(path), str(path), prefix=self.prefix, ignore=self.ignore)
        network = network.eval().to(context.device)
        preprocessing = Preprocessing(self.mean, self.std, self.size, self.crop, self.interpolation)
        shared: dict[str, Any] = {
            "classes": classes_of(network, self.classes, preprocessing, self.network),
            "fresh": lambda: build(self.network, self.args, None),
            "norm_init": self.norm_init,
        }
        model: VisionModel
        if is_of_timm(network) and not (self.features or self.head):
            model = TimmVisionModel(network, preprocessing, head=classifier_names(network), **shared)
        else:
            model = LayeredVisionModel(
                network, preprocessing, features=self.features, last=self.head, prefix=self.prefix_tokens, **shared
            )  # fmt: skip
        if self.checkpoint is None:
            model.start_norms()
        model.fingerprint = tensors_digest(network.state_dict())[:16]
        model.augment = CropAndFlip() if self.augmentation == "crop-flip" else None
        return model

    def runs(self) -> str | None:
        """Return the function and the file that contains it."""
        from pruningbench.contract import expanded

        where, _, function = self.network.rpartition(":")
        return f"{expanded(where) if where.endswith('.py') else where}:{function}"

    def missing(self) -> str | None:
        """Return which checkpoint is missing, or None."""
        from pruningbench.contract import expanded

        if self.checkpoint is None or expanded(self.checkpoint).is_file():
            return None
        return f"{expanded(self.checkpoint)}: no such checkpoint"

    def skeleton(self) -> nn.Module | None:
        """Return the function's network on the meta device; None if the function needs real tensors."""
        from pruningbench_timm.calls import on_meta

        return on_meta(self.network, self.args, (len(self.mean), self.size or 0, self.size or 0))
