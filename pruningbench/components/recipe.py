"""Recipes say when to train and when to prune."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.components.base import Component, Kind

if TYPE_CHECKING:
    from pruningbench.components.context import Context
    from pruningbench.components.dataset import Samples
    from pruningbench.components.model import VisionModel
    from pruningbench.masks import Masks


@dataclass
class RecipeJob:
    """One pruning to carry out.

    Attributes:
        model: a copy of the dense model, the recipe's to change.
        sparsity: target share of prunable weights to prune, in (0, 1).
        prune: prunes the job's model in place to a sparsity: masks from the suite's pruner, applied.
        data: training samples, or None when the recipe needs none.
        context: device, seed, cache.
    """

    model: VisionModel
    sparsity: float
    prune: Callable[[VisionModel, float], Masks]
    data: Samples | None
    context: Context


@dataclass(frozen=True)
class Recipe(Component, ABC):
    """How training and pruning interleave."""

    kind: ClassVar[Kind] = "recipe"
    trains: ClassVar[bool] = False
    """Whether it needs training data, and its result is worth a checkpoint."""

    @abstractmethod
    def run(self, job: RecipeJob) -> Masks:
        """Prune (and train) ``job.model`` in place; return the masks it ends with."""
