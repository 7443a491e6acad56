"""The settings of training: each field is named, documented and checked here, and nowhere else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pruningbench.contract import param


@dataclass(frozen=True)
class FitSettings:
    """How to train; recipes that train have these fields.

    Weight decay falls on weights of two and more dimensions only, as is usual for norms and biases. A last short
    batch is kept, and a single last sample joins the batch before it, because batch norm cannot train on one sample.
    """

    epochs: int = param(2, doc="passes over the training data, >= 1")
    optimizer: Literal["sgd", "adamw"] = param("sgd", doc="sgd or adamw")
    lr: float = param(0.01, doc="peak learning rate, > 0")
    momentum: float = param(0.9, doc="momentum of sgd, in [0, 1)")
    weight_decay: float = param(1e-4, doc="on weights of two and more dimensions, >= 0")
    schedule: Literal["constant", "cosine", "step"] = param(
        "cosine", doc="learning rate over the steps: constant, cosine to zero, or a tenth at 1/3 and at 2/3 of them"
    )
    warmup: float = param(0.0, doc="share of the steps with a linearly rising rate, in [0, 1)")
    batch_size: int = param(32, doc="samples a step, >= 1")
    label_smoothing: float = param(0.0, doc="in [0, 1)")
    freeze_norm: bool = param(False, doc="keep batch-norm statistics as they are; scale and shift are trained")
    freeze_head: bool = param(False, doc="keep the classifier as it is")
    mixed_precision: bool = param(False, doc="autocast to bfloat16")
    clip_norm: float = param(0.0, doc="largest gradient norm, 0 for none")

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
        ):
            if not fine:
                return f"{name} is {getattr(self, name)}, out of its range"
        return None


def setting(name: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field of `FitSettings` on a component that has only some of them.

    Args:
        name: of the field; its documentation is the same everywhere.
        default: the component's own default; that of `FitSettings` if left out.
    """
    declared = {field.name: field for field in dataclasses.fields(FitSettings)}[name]
    return param(declared.default if default is dataclasses.MISSING else default, **declared.metadata)
