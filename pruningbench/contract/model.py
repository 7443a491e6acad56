"""Models that a suite can name: how they are loaded, and what is known before."""

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
    """A model a suite can name: knows how to load a `VisionModel`."""

    kind: ClassVar[Kind] = "model"
    training_data: ClassVar[ComponentRef | None] = None
    """Default data for scoring and fine-tuning, when the suite names none and the model has no field `data`.

    A model with a field `data` (a `DatasetRef`) is scored and fine-tuned on the data set that it was made with.
    """

    @abstractmethod
    def load(self, context: Context) -> VisionModel:
        """Build the network with its weights on ``context.device``, in eval mode."""

    def missing(self) -> str | None:
        """Return which weights have to be fetched first, and how, or None if none have."""
        return None

    def load_fetches(self) -> bool:
        """Whether `load` itself fetches what `missing` names, so that a run may begin without it."""
        return False

    def runs(self) -> str | None:
        """Return the file or function of the user's own whose code `skeleton` and `load` run, or None.

        Plans and runs say it before it happens: a plugin is installed by choice, a suite may come from anybody.
        """
        return None

    def skeleton(self) -> nn.Module | None:
        """Return the network's architecture without weights, on torch's ``meta`` device; None if that is unknown.

        Plans ask it, before anything is loaded, what the scope covers, which pruners refuse the architecture and
        what they cost. Activations are counted where it has a ``default_cfg`` (or ``pretrained_cfg``) with an
        ``input_size`` (C, H, W), as timm's networks do.
        """
        return None
