"""Models that a suite can name: how to load them, and what is known about them before loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract.component import Component, ComponentRef, Kind

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

    def skeleton(self) -> nn.Module | None:
        """Return the network's architecture without weights, on torch's ``meta`` device; None if unknown.

        Before anything is loaded, plans use it to find out what the scope covers, which pruners refuse the
        architecture, and what they cost. Activations are counted if it has a ``default_cfg`` (or
        ``pretrained_cfg``) with an ``input_size`` (C, H, W), as timm's networks do.
        """
        return None
