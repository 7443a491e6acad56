"""Prune in rounds and train between them: iterative magnitude pruning, learning-rate rewinding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.contract import DENSE_TRAINING, MovingPruner, Pruner, RecipeJob, param
from pruningbench_recipes.settings import Training, training_data

if TYPE_CHECKING:
    from pruningbench.pruning.masks import Masks

TOLERANCE = 1e-6
"""Sparsities nearer to each other than this are one level."""
DECIMALS = 6
"""Of the levels, so that a suite can name exactly the same numbers."""


@dataclass(frozen=True)
class Iterative(Training):
    """Prune a little, train, and again, until the sparsity is reached.

    All sparsities of a suite lie on one trajectory: a level is trained once, kept, and serves every
    sparsity above it. With `rate` the levels are 1 - (1 - rate)^k, to six decimals; a sparsity between two
    levels is a last shorter round from the level below, which no other sparsity passes through. Pruned
    weights never return, and every round starts with a new optimizer and schedule.

    What the weights do between rounds is `rewind`:

    * ``none``: they are kept, and only the learning rate is rewound (LRR; Renda et al. 2020).
    * ``pretrained``: those left go back to the weights of the model as loaded.
    * ``init``: the network is first trained from new random weights, and those left go back to these
      (IMP, the lottery ticket; Frankle and Carbin 2019).
    * ``early``: as ``init``, but they go back to the weights after `early_epochs` of that training, and the
      learning rate to its value then (Frankle et al. 2020).

    The dense reference, sparsity 0, has one such training: under ``init`` and ``early`` it is the network that the
    trajectory starts from, else the model as loaded, trained for one round in which nothing is pruned.
    """

    rate: float = param(0.2, doc="share of the remaining weights pruned a round, in (0, 1), unless levels are given")
    levels: list[float] = param([], doc="sparsity after each round, rising, in (0, 1); instead of a rate")
    rewind: Literal["none", "pretrained", "init", "early"] = param(
        "none", doc="what the weights left go back to before each training: none, pretrained, init or early"
    )
    early_epochs: int = param(1, doc="epochs after which the weights are those of rewind: early; 1 <= it < epochs")

    def problem(self) -> str | None:
        """Check ranges."""
        if not 0 < self.rate < 1:
            return f"rate is {self.rate:g}, must be in (0, 1)"
        if any(not 0 < level < 1 for level in self.levels) or sorted(set(self.levels)) != list(self.levels):
            return f"levels are {self.levels}, must rise and lie in (0, 1)"
        if self.rewind == "early" and not 1 <= self.early_epochs < self.epochs:
            return f"early_epochs is {self.early_epochs}, must be at least 1 and below epochs ({self.epochs})"
        return super().problem()

    def path_to(self, sparsity: float) -> list[float]:
        """Return the sparsity after each round on the way to `sparsity`, which is the last."""
        if self.levels:
            return [*(level for level in self.levels if level < sparsity - TOLERANCE), sparsity]
        path: list[float] = []
        while (level := round(1 - (1 - self.rate) ** (len(path) + 1), DECIMALS)) < sparsity - TOLERANCE:
            path.append(level)
        return [*path, sparsity]

    def prunes_dense(self) -> bool:
        """Whether masks are those of the dense model: never, they are of trained levels."""
        return False

    def trainings(self, sparsity: float) -> list[Any]:
        """Return the levels on the way, each once, and the dense training where the network starts afresh."""
        if sparsity == 0:
            return [DENSE_TRAINING]
        path = self.path_to(sparsity)
        levels: list[Any] = [["level", *path[:end]] for end in range(1, len(path) + 1)]
        return [DENSE_TRAINING, *levels] if self.rewind in ("init", "early") else levels

    def refuses(self, pruner: Pruner) -> str | None:
        """Refuse pruners that do what this recipe does."""
        if isinstance(pruner, MovingPruner):
            return "its masks move while training, and 'iterative' prunes in rounds: use recipe 'finetune'"
        reason = pruner.unreachable(self.levels[0] if self.levels else self.rate)
        return f"its first round cannot be made: {reason}" if reason else None

    def run(self, job: RecipeJob) -> Masks:
        """Walk the trajectory as far as ``job.sparsity``; levels that are kept are not trained again."""
        from pruningbench_recipes.trajectory import Trajectory

        trajectory = Trajectory(self, self.rewind, self.early_epochs, job, training_data(job))
        masks = trajectory.walk(self.path_to(job.sparsity)) if job.sparsity else trajectory.stay()
        self.finish(job)
        return masks
