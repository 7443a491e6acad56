"""Training settings: each field is named, documented and checked here, and nowhere else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pruningbench.contract import param, range_problem

OptimizerName = Literal[
    "sgd", "adamw", "nesterov", "adam", "nadamw", "radam", "rmsproptf", "adafactor", "lamb", "lars", "lion", "adan"
]
ScheduleName = Literal["constant", "cosine", "step", "tanh", "poly"]
FLOORED = ("cosine", "tanh", "poly")
"""Schedules that end at `min_lr`."""


@dataclass(frozen=True)
class FitSettings:
    """How to train; recipes that train have these fields.

    Weight decay applies only to weights with two or more dimensions, unless `decay_all` is set; as is usual, norms and
    biases are exempt. A short last batch is kept, and a single last sample joins the batch before it, because batch
    norm cannot train on one sample. Optimizers other than sgd and adamw, and the schedules tanh and poly, are timm's.
    """

    epochs: int = param(2, doc="passes over the training data, >= 1")
    optimizer: OptimizerName = param("sgd", doc="sgd and adamw are torch's, others timm's")
    lr: float = param(0.01, doc="peak learning rate, > 0")
    momentum: float = param(0.9, doc="momentum of sgd, in [0, 1)")
    weight_decay: float = param(1e-4, doc="on weights with two or more dimensions, >= 0")
    schedule: ScheduleName = param(
        "cosine", doc="learning rate over the steps: constant, cosine to zero, or divided by 10 at 1/3 and 2/3 of them"
    )
    warmup: float = param(0.0, doc="share of the steps with a linearly rising rate, in [0, 1)")
    batch_size: int = param(32, doc="samples per step, >= 1")
    label_smoothing: float = param(0.0, doc="in [0, 1)")
    freeze_norm: bool = param(False, doc="keep batch-norm statistics unchanged; scale and shift are trained")
    freeze_head: bool = param(False, doc="keep the classifier unchanged")
    mixed_precision: bool = param(False, doc="autocast to bfloat16; the same as precision: bf16")
    clip_norm: float = param(0.0, doc="maximum gradient norm, 0 for no clipping")
    precision: Literal["float32", "tf32", "bf16"] = param(
        "float32",
        doc="of the training: float32, tf32 (products of float32 on tensor cores), or bf16 (autocast to bfloat16)",
        later=True,
    )
    channels_last: bool = param(False, doc="train in the memory format of channels last; faster for CNNs", later=True)
    accumulate: int = param(
        1, doc="parts of a batch whose gradients are summed before the step, to save memory, >= 1", later=True
    )
    ema: float = param(
        0.0, doc="decay of the moving average of weights with which training ends, in [0, 1); 0 for none", later=True
    )
    step_epochs: int = param(
        0, doc="epochs after which schedule: step divides the rate by 10 again; 0 for 1/3 and 2/3 of all", later=True
    )
    min_lr: float = param(0.0, doc="learning rate at the end of cosine, tanh and poly, >= 0 and below lr", later=True)
    decay_all: bool = param(False, doc="weight decay on norms and biases, too", later=True)
    erasing: float = param(
        0.0, doc="probability that a rectangle of an image is replaced by noise, in [0, 1)", later=True
    )
    mixup: float = param(0.0, doc="alpha of mixup, >= 0; 0 for none", later=True)
    cutmix: float = param(
        0.0, doc="alpha of cutmix, >= 0; 0 for none; with mixup, each is used in half of the batches", later=True
    )
    processes: int = param(
        1,
        doc="processes that share each batch, on one GPU each or on the CPU of this machine, >= 1",
        later=True,
        draws=False,
    )
    sync_norm: bool = param(
        True,
        doc="with several processes, batch norm sees the whole batch; if not, each process's share",
        later=True,
        draws=False,
    )
    compile: bool = param(
        False, doc="compile the network's passes in training with torch.compile", later=True, draws=False
    )
    checkpoint_minutes: float = param(
        5.0,
        doc="minutes within an epoch after which the state is stored for an interrupted training, > 0; it is also "
        "stored after epochs",
        identity=False,
    )

    @property
    def autocasts(self) -> bool:
        """Whether the network is trained under autocast to bfloat16."""
        return self.mixed_precision or self.precision == "bf16"

    def out_of_range(self) -> str | None:
        """Return what is wrong with the first value that is out of its range, or None."""
        for name, fine in (
            ("epochs", self.epochs >= 1),
            ("lr", self.lr > 0),
            ("momentum", 0 <= self.momentum < 1),
            ("weight_decay", self.weight_decay >= 0),
            ("warmup", 0 <= self.warmup < 1),
            ("batch_size", self.batch_size >= 1),
            ("label_smoothing", 0 <= self.label_smoothing < 1),
            ("clip_norm", self.clip_norm >= 0),
            ("accumulate", self.accumulate >= 1),
            ("ema", 0 <= self.ema < 1),
            ("step_epochs", self.step_epochs >= 0),
            ("min_lr", 0 <= self.min_lr < self.lr),
            ("erasing", 0 <= self.erasing < 1),
            ("mixup", self.mixup >= 0),
            ("cutmix", self.cutmix >= 0),
            ("processes", self.processes >= 1),
            ("checkpoint_minutes", self.checkpoint_minutes > 0),
        ):
            if not fine:
                return range_problem(self, name)
        return self._without_effect()

    def _without_effect(self) -> str | None:
        """Return which two values contradict each other, or None."""
        if self.mixed_precision and self.precision == "tf32":
            return "mixed_precision is the same as precision: bf16, but precision is tf32; leave one of them out"
        if self.step_epochs and self.schedule != "step":
            return f"step_epochs is for schedule: step, but schedule is {self.schedule}"
        if not self.sync_norm and self.processes == 1:
            return "sync_norm: false is for several processes, but processes is 1"
        if self.min_lr and self.schedule not in FLOORED:
            return f"min_lr is for schedule: {', '.join(FLOORED)}, but schedule is {self.schedule}"
        return None


@dataclass(frozen=True)
class CropSettings:
    """Random crops of the photographs themselves, not of the resized centre, and what timm can do to their colours.

    A crop has a share of the photograph's area between `crop_area` and 1 and a ratio of sides between 3/4 and 4/3. It
    is resized to the network's size (or that of the first image, if the network takes any) and flipped with
    probability 1/2.
    """

    crop_area: float = param(
        0.08, doc="with augmentation: crops, smallest share of a photograph's area in a crop, in (0, 1]", later=True
    )
    color_jitter: float = param(
        0.0, doc="with augmentation: crops, largest change of brightness, contrast and saturation, >= 0", later=True
    )
    auto_augment: str = param(
        "", doc="with augmentation: crops, timm's name of a policy, such as rand-m9-mstd0.5-inc1; empty for none",
        later=True,
    )  # fmt: skip
    workers: int = param(
        -1,
        doc="with augmentation: crops, processes that decode and crop; 0 for none, -1 for one per thread of torch",
        identity=False,
    )

    def crops_out_of_range(self) -> str | None:
        """Return what is wrong with the first value that is out of its range, or None."""
        for name, fine in (
            ("crop_area", 0 < self.crop_area <= 1),
            ("color_jitter", self.color_jitter >= 0),
            ("workers", self.workers >= -1),
        ):
            if not fine:
                return range_problem(self, name)
        return None


def setting(name: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field of `FitSettings` on a component that has only some of them.

    Args:
        name: name of the field; its documentation is the same everywhere.
        default: the component's own default; if left out, the default of `FitSettings`.
    """
    declared = {field.name: field for field in dataclasses.fields(FitSettings)}[name]
    return param(declared.default if default is dataclasses.MISSING else default, **declared.metadata)
