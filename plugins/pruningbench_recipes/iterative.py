"""Prune in rounds and train between them: iterative magnitude pruning, learning-rate rewinding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.contract import DENSE_TRAINING, MovingPruner, Pruner, RecipeJob, param
from pruningbench_recipes.settings import Training, training_data

if TYPE_CHECKING:
    from pruningbench.pruning.masks import Masks

TOLERANCE = 1e-6
"""Sparsities closer to each other than this are the same level."""
DECIMALS = 6
"""Decimals of the levels, so that a suite can name exactly the same numbers."""


@dataclass(frozen=True)
class Iterative(Training):
    """Prune a little, train, and repeat until the sparsity is reached.

    All sparsities of a suite lie on one trajectory: a level is trained once, kept, and used for every
    sparsity above it. With `rate` the levels are 1 - (1 - rate)^k, to six decimals. A sparsity between two
    levels is reached by a final shorter round from the level below; no other sparsity uses that round. Pruned
    weights never return, and every round starts with a new optimizer and schedule.

    `rewind` says what happens to the weights between rounds:

    * ``none``: they are kept, and only the learning rate is rewound (LRR; Renda et al. 2020).
    * ``pretrained``: the remaining weights are reset to those of the model as loaded.
    * ``init``: the network is first trained from new random weights, and the remaining weights are reset to
      these (IMP, the lottery ticket; Frankle and Carbin 2019).
    * ``early``: as ``init``, but the weights are reset to those after `early_epochs` of that training, and the
      learning rate to its value at that point (Frankle et al. 2020).

    With `dense_first`, the model as loaded is first trained without pruning, exactly as `finetune` with the same
    settings trains it (apart from the seed, which a suite draws for each recipe), and the first round prunes the
    network that this training ends with. From new weights (``pretrained: false`` of the model) with ``rewind: none``
    this is LRR as published: train to completion, prune, rewind the learning rate, and repeat. Without it, the first
    round prunes the model as loaded, which saves a training if the published weights are those of the same recipe.

    The dense reference, sparsity 0, is trained as long as the pruned networks, without pruning. With ``none``, where
    training accumulates, it is the model as loaded after as many trainings as the suite's largest sparsity needs (one a
    round, and one more with `dense_first`), each with a new optimizer and schedule. Otherwise every network has had
    one training since its weights were reset, and so has the reference: with ``pretrained`` from the model as loaded;
    with ``init`` and ``early`` it is the network from which the trajectory starts.
    """

    rate: float = param(0.2, doc="share of the remaining weights pruned per round, in (0, 1), unless levels are given")
    levels: list[float] = param([], doc="sparsity after each round, rising, in (0, 1); instead of a rate")
    rewind: Literal["none", "pretrained", "init", "early"] = param(
        "none",
        doc="values that the remaining weights are reset to before each training: none, pretrained, init or early",
    )
    early_epochs: int = param(1, doc="epochs after which rewind: early takes its weights; at least 1 and below epochs")
    dense_first: bool = param(
        False,
        doc="with rewind: none or pretrained, train the dense network before the first round; init and early always do",
        later=True,
    )

    def problem(self) -> str | None:
        """Check ranges."""
        if not 0 < self.rate < 1:
            return f"rate is {self.rate:g}, but must be in (0, 1)"
        if any(not 0 < level < 1 for level in self.levels) or sorted(set(self.levels)) != list(self.levels):
            return f"levels are {self.levels}, but must rise and lie in (0, 1)"
        if self.rewind == "early" and not 1 <= self.early_epochs < self.epochs:
            return f"early_epochs is {self.early_epochs}, but must be at least 1 and below epochs ({self.epochs})"
        if self.dense_first and self.trains_new_weights:
            return f"dense_first is for rewind: none or pretrained; {self.rewind} always trains the dense network first"
        return super().problem()

    @property
    def trains_new_weights(self) -> bool:
        """Whether the trajectory starts with a dense training from new random weights."""
        return self.rewind in ("init", "early")

    def path_to(self, sparsity: float) -> list[float]:
        """Return the sparsity after each round on the way to `sparsity`, which comes last."""
        if self.levels:
            return [*(level for level in self.levels if level < sparsity - TOLERANCE), sparsity]
        path: list[float] = []
        while (level := round(1 - (1 - self.rate) ** (len(path) + 1), DECIMALS)) < sparsity - TOLERANCE:
            path.append(level)
        return [*path, sparsity]

    def prunes_dense(self) -> bool:
        """Return False: masks come from trained levels, not from the dense model."""
        return False

    def trainings(self, sparsity: float) -> list[Any]:
        """Return the levels on the way, each once, and the dense training if the first level starts from its end."""
        if sparsity == 0:
            return [DENSE_TRAINING]
        path = self.path_to(sparsity)
        levels: list[Any] = [["level", *path[:end]] for end in range(1, len(path) + 1)]
        return [DENSE_TRAINING, *levels] if self.trains_new_weights or self.dense_first else levels

    def rounds_of(self, sparsity: float) -> int:
        """Return the number of trainings in succession if weights are kept between rounds, else 1."""
        return len(self.path_to(sparsity)) + self.dense_first if self.rewind == "none" else 1

    def refuses(self, pruner: Pruner) -> str | None:
        """Refuse pruners that move masks themselves, or cannot prune to the first level."""
        if isinstance(pruner, MovingPruner):
            return "its masks move during training, but 'iterative' prunes in rounds: use recipe 'finetune'"
        reason = pruner.unreachable(self.levels[0] if self.levels else self.rate)
        return f"its first round is not possible: {reason}" if reason else None

    def run(self, job: RecipeJob) -> Masks:
        """Walk the trajectory up to ``job.sparsity``; stored levels are not trained again."""
        from pruningbench_recipes.trajectory import Trajectory

        how = (self.rewind, self.early_epochs, self.dense_first)
        trajectory = Trajectory(self, *how, job, training_data(job))
        masks = trajectory.walk(self.path_to(job.sparsity)) if job.sparsity else trajectory.stay()
        self.finish(job)
        return masks
