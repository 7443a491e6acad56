"""Models that a suite can name: how to load them, and what is known about them before loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract.component import Component, ComponentRef, Kind, param

if TYPE_CHECKING:
    from torch import nn

    from pruningbench.contract.context import Context
    from pruningbench.contract.vision import VisionModel


@dataclass(frozen=True)
class Model(Component, ABC):
    """A model that a suite can name: knows how to load a `VisionModel`."""

    kind: ClassVar[Kind] = "model"
    training_data: ClassVar[ComponentRef | None] = None
    """Default data for scoring and fine-tuning if the suite names none and the model has no field `data`.

    A model with a field `data` (a `DatasetRef`) is scored and fine-tuned on the data set that this field names.
    """

    from_function: ClassVar[bool] = False
    """Whether it builds its network with the function that its field ``network`` names (``module:function``), called
    with the keyword arguments in its field ``args``. Exactly one built-in model says so; `evaluate` uses it."""

    @abstractmethod
    def load(self, context: Context) -> VisionModel:
        """Build the network with its weights on ``context.device``, in eval mode."""

    def missing(self) -> str | None:
        """Return which weights must be fetched first, and how; None if there are none."""
        return None

    def load_fetches(self) -> bool:
        """Whether `load` itself fetches what `missing` names, so that a run may start without it."""
        return False

    def runs(self) -> str | None:
        """Return the user's own file or function whose code `skeleton` and `load` run, or None.

        Plans and runs announce it beforehand: users choose their plugins, but a suite may come from anyone.
        """
        return None

    def zero_norms_remedy(self) -> str:
        """Return what to write in a suite so that norms start at a scale of one instead of zero; "" for nothing.

        It is shown when such norms leave a pruner's scores undecided.
        """
        return ""

    def skeleton(self) -> nn.Module | None:
        """Return the network's architecture without weights, on torch's ``meta`` device; None if unknown.

        Before anything is loaded, plans use it to find out what the scope covers, which pruners refuse the
        architecture, and what they cost. Activations are counted if it has a ``default_cfg`` (or
        ``pretrained_cfg``) with an ``input_size`` (C, H, W), as timm's networks do.
        """
        return None

    def skeleton_around(self, inner: nn.Module) -> nn.Module | None:
        """Return the architecture of a model whose field `model` names another model, given that model's `skeleton`.

        Plans call it if `skeleton` returns None. `inner` may be changed. None if the architecture stays unknown.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class NewWeights(Model):
    """Base of models whose weights can be drawn anew: by the model itself, or by a recipe that rewinds to ``init``.

    `load` passes `norm_init` to the `VisionModel`, whose `reinitialise` follows it, and calls
    `VisionModel.start_norms` if its weights are random.
    """

    norm_init: Literal["own", "one"] = param(
        "own",
        doc="new weights: norms that the architecture starts at a scale of zero (the last of each residual block) "
        "keep it (own) or start at one, which pruners that score gradients at initialisation need",
        later=True,
    )

    def zero_norms_remedy(self) -> str:
        """Return the field that starts them at one, unless it is set already."""
        return "" if self.norm_init == "one" else "`norm_init: one`"
