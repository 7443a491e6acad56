"""Recipes say when to train and when to prune."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
"""The key in `RecipeJob.shared` and `Recipe.trainings` for training the network before anything is pruned.

This training is shared by all pruners and scopes, and by the dense reference, the cell of sparsity 0. If the reference
is trained in several rounds, round K >= 2 has the key ``[*DENSE_TRAINING, K]``.
"""


class Prune(Protocol):
    """Prunes a model in place with the suite's pruner."""

    def __call__(self, model: VisionModel, sparsity: float, within: Masks | None = None) -> Masks:
        """Apply masks of `sparsity` and return them.

        Args:
            model: the job's model in its current state.
            sparsity: share of all prunable weights, in (0, 1). A job of sparsity 0 never prunes anything.
            within: masks of an earlier round; weights that they prune stay pruned.
        """
        ...


@dataclass
class RecipeJob:
    """One pruning to carry out.

    Attributes:
        model: a copy of the dense model, which the recipe may change.
        sparsity: target share of prunable weights to prune, in [0, 1); 0 asks for the dense reference, the network
            trained as the pruned ones are.
        identity: everything that determines the trained network, as plain JSON values by name; under it an unfinished
            training is stored (`pruningbench.training.checkpoints`). None to store nothing.
        rounds: for the dense reference, the number of trainings in succession: the largest `Recipe.rounds_of` of the
            suite's sparsities; 1 otherwise.
        prune: prunes the job's model in place to a sparsity, by applying masks from the suite's pruner.
        data: training samples, or None when the recipe needs none.
        context: device, seed, cache.
        shared: ``shared(key, make)`` returns the named tensors of ``make()``, computed once and kept for all
            sparsities of this model, pruner, recipe and seed; `key` is plain JSON. Tensors kept under
            `DENSE_TRAINING` are shared by all pruners.
        once: ``once(key, make)`` applies the masks of ``make()`` to the job's model, which nothing has changed before,
            and returns them. They are made once for all recipes that ask for them with the same model, pruner,
            sparsity, seed and key; `key` is plain JSON that says how they are made. None if masks are not kept.
        move: for a pruner whose masks move during training, ``move(model, sparsity, steps)`` starts the
            motion; None for all others.
    """

    model: VisionModel
    sparsity: float
    prune: Prune
    data: Samples | None
    context: Context
    shared: Callable[[Any, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
    move: Callable[[VisionModel, float, int], Motion] | None = None
    rounds: int = 1
    identity: Mapping[str, Any] | None = None
    once: Callable[[Any, Callable[[], Masks]], Masks] | None = None


@dataclass(frozen=True)
class Recipe(Component, ABC):
    """How training and pruning interleave."""

    kind: ClassVar[Kind] = "recipe"
    trains: ClassVar[bool] = False
    """Whether it needs training data and its result is worth a checkpoint.

    A recipe that trains also makes the dense reference that its pruned networks are compared with: `run` is then
    called with a sparsity of 0, and its requests to prune change nothing.

    A field declared with ``training=False`` changes the result without changing the training: recipes that
    differ only in such fields train on the same stream of samples. So do recipes that differ only in fields declared
    with ``draws=False``, which change how a training computes but not what it draws; each of them trains for itself.
    """

    as_loaded: ClassVar[bool] = False
    """Whether the dense model as loaded is measured under this recipe, with its default fields, because it leaves a
    network alone from which nothing is pruned. Exactly one built-in recipe says so."""

    def needs_data(self) -> bool:
        """Whether the suite's training data are needed."""
        return self.trains

    def changes_dense(self) -> bool:
        """Whether it changes a network from which nothing is pruned.

        Suites then measure a dense network under this recipe as well, and tables compare its pruned networks with
        that one: what the recipe does is not taken for what pruning does. `run` is called for it with a sparsity of 0.
        Tasks that compare networks are given this network as the dense one only if the recipe trains.
        """
        return self.trains

    def prunes_dense(self) -> bool:
        """Whether it prunes the dense model immediately, so that other recipes can use the same masks."""
        return True

    def trainings(self, sparsity: float) -> list[Any]:
        """Return the trainings needed to reach a sparsity, as plain JSON keys.

        For the same model, pruner, recipe (except fields declared with ``training=False``) and seed, equal keys
        mean the same training, done once. `DENSE_TRAINING` is the same for all pruners.
        """
        return [sparsity] if self.trains else []

    def rounds_of(self, sparsity: float) -> int:
        """Return how many trainings in succession a network of this sparsity has had, for an equal dense reference.

        A training before which weights are reset does not count those before it.
        """
        return 1

    def refuses(self, pruner: Pruner) -> str | None:
        """Return why this recipe cannot use `pruner`, or None; plans call this before anything runs."""
        return None

    @abstractmethod
    def run(self, job: RecipeJob) -> Masks:
        """Prune (and train) ``job.model`` in place; return the final masks."""
