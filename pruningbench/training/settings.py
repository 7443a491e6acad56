"""Training settings: each field is named, documented and checked here, and nowhere else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pruningbench.contract import param, range_problem


@dataclass(frozen=True)
class FitSettings:
    """How to train; recipes that train have these fields.

    Weight decay applies only to weights with two or more dimensions; as is usual, norms and biases are exempt. A short
    last batch is kept, and a single last sample joins the batch before it, because batch norm cannot train on one
    sample.
    """

    epochs: int = param(2, doc="passes over the training data, >= 1")
    optimizer: Literal["sgd", "adamw"] = param("sgd", doc="sgd or adamw")
    lr: float = param(0.01, doc="peak learning rate, > 0")
    momentum: float = param(0.9, doc="momentum of sgd, in [0, 1)")
    weight_decay: float = param(1e-4, doc="on weights with two or more dimensions, >= 0")
    schedule: Literal["constant", "cosine", "step"] = param(
        "cosine", doc="learning rate over the steps: constant, cosine to zero, or divided by 10 at 1/3 and 2/3 of them"
    )
    warmup: float = param(0.0, doc="share of the steps with a linearly rising rate, in [0, 1)")
    batch_size: int = param(32, doc="samples per step, >= 1")
    label_smoothing: float = param(0.0, doc="in [0, 1)")
    freeze_norm: bool = param(False, doc="keep batch-norm statistics unchanged; scale and shift are trained")
    freeze_head: bool = param(False, doc="keep the classifier unchanged")
    mixed_precision: bool = param(False, doc="autocast to bfloat16")
    clip_norm: float = param(0.0, doc="maximum gradient norm, 0 for no clipping")

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
