"""Recipes say when to train and when to prune."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pruningbench.contract.component import Component, Kind

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.context import Context
    from pruningbench.contract.moving import Motion
    from pruningbench.contract.pruner import Pruner
    from pruningbench.contract.samples import Samples
    from pruningbench.contract.vision import VisionModel
    from pruningbench.pruning.masks import Masks


DENSE_TRAINING = ["dense"]
"""The key, in `RecipeJob.shared` and `Recipe.trainings`, of the training of the network before anything is pruned.

It is shared by all pruners and scopes, and by the dense reference, the cell of sparsity 0.
"""


class Prune(Protocol):
    """Prunes a model in place with the suite's pruner."""

    def __call__(self, model: VisionModel, sparsity: float, within: Masks | None = None) -> Masks:
        """Apply masks of `sparsity` and return them.

        Args:
            model: the job's model, as it is now.
            sparsity: share of all prunable weights, in (0, 1). Of a job of sparsity 0 nothing is ever pruned.
            within: masks of an earlier round: what they prune stays pruned.
        """
        ...


@dataclass
class RecipeJob:
    """One pruning to carry out.

    Attributes:
        model: a copy of the dense model, the recipe's to change.
        sparsity: target share of prunable weights to prune, in [0, 1); 0 asks for the dense reference, the network
            trained as the pruned ones are.
        prune: prunes the job's model in place to a sparsity: masks from the suite's pruner, applied.
        data: training samples, or None when the recipe needs none.
        context: device, seed, cache.
        shared: ``shared(key, make)`` returns the named tensors of ``make()``, made once and kept for all
            sparsities of this model, pruner, recipe and seed; `key` is plain JSON. What is kept under
            `DENSE_TRAINING` is shared by all pruners.
        move: of a pruner whose masks move while training, ``move(model, sparsity, steps)`` begins to; None
            for all others.
    """

    model: VisionModel
    sparsity: float
    prune: Prune
    data: Samples | None
    context: Context
    shared: Callable[[Any, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
    move: Callable[[VisionModel, float, int], Motion] | None = None


@dataclass(frozen=True)
class Recipe(Component, ABC):
    """How training and pruning interleave."""

    kind: ClassVar[Kind] = "recipe"
    trains: ClassVar[bool] = False
    """Whether it needs training data, and its result is worth a checkpoint.

    A recipe that trains also makes the dense reference that its pruned networks are compared with: `run` is then
    called with a sparsity of 0, and what it asks to be pruned stays as it is.

    A field declared with ``training=False`` changes the result without changing the training: pairs of
    recipes that differ only there train on the same stream of samples.
    """

    def needs_data(self) -> bool:
        """Whether the suite's training data are needed."""
        return self.trains

    def prunes_dense(self) -> bool:
        """Whether it prunes the dense model, at once, so that others can use the same masks."""
        return True

    def trainings(self, sparsity: float) -> list[Any]:
        """Return what is trained on the way to a sparsity, as plain JSON keys.

        Equal keys of one model, pruner, recipe (but for fields declared with ``training=False``) and seed are
        the same training, done once. `DENSE_TRAINING` is the same for all pruners.
        """
        return [sparsity] if self.trains else []

    def refuses(self, pruner: Pruner) -> str | None:
        """Return why this recipe cannot use `pruner`, or None; plans ask before anything runs."""
        return None

    @abstractmethod
    def run(self, job: RecipeJob) -> Masks:
        """Prune (and train) ``job.model`` in place; return the masks it ends with."""
