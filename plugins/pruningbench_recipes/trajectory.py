"""The trajectory of iterative pruning: one trained state per level, each computed once and stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from pruningbench.contract import DENSE_TRAINING, RecipeJob, Samples, derive_seed
from pruningbench.pruning.masks import Masks
from pruningbench.training.fit import fit
from pruningbench_recipes.settings import Training, checkpoints_of

PROVENANCE = "provenance"
"""Key in a level's state of the pruner's provenance of the masks, as JSON in bytes."""
Rewind = Literal["none", "pretrained", "init", "early"]
State = dict[str, Tensor]
"""Named tensors: ``weights/NAME`` and ``masks/NAME`` of a level; ``early/NAME`` alongside the dense weights."""


class Trajectory:
    """Walk along a trajectory of rounds on ``job.model``.

    Args:
        training: how to train.
        rewind: what the remaining weights are reset to before each training.
        early_epochs: epochs after which ``rewind: early`` takes its weights.
        dense_first: whether the model as loaded is trained before the first round.
        job: the model to change, and the store shared by the trajectory's levels.
        samples: training data.
    """

    def __init__(
        self,
        training: Training,
        rewind: Rewind,
        early_epochs: int,
        dense_first: bool,
        job: RecipeJob,
        samples: Samples,
    ) -> None:
        self.training, self.rewind, self.early_epochs = training, rewind, early_epochs
        self.dense_first = dense_first
        self.job, self.samples = job, samples
        self.network = job.model.network
        self.from_scratch = self.rewind in ("init", "early")
        self._loaded = self._weights()

    def walk(self, path: list[float]) -> Masks:
        """Load the trained state at the end of `path` into the model, and return its masks."""
        masks = self._load_level(path)
        assert masks is not None  # noqa: S101 - a path has at least the requested sparsity
        return masks

    def stay(self) -> Masks:
        """Load the dense network, trained as long as the pruned ones, and return masks that prune nothing."""
        self._load(self._dense(), "weights/")
        for k in range(2, self.job.rounds + 1):
            self._load(self.job.shared([*DENSE_TRAINING, k], lambda k=k: self._train_on(k)), "weights/")  # type: ignore[misc]
        return self.job.prune(self.job.model, 0.0)

    def _load_level(self, path: list[float]) -> Masks | None:
        """Load the state after the rounds of `path` into the model, or the dense state if there are none."""
        if path:
            state = self._level(path)
            self._load(state, "weights/")
            return self._masks_of(state)
        if self.from_scratch or self.dense_first:
            self._load(self._dense(), "weights/")
        else:
            self.network.load_state_dict(self._loaded)
        return None

    def _level(self, path: list[float]) -> State:
        return self.job.shared(["level", *path], lambda: self._train_level(path))

    def _train_level(self, path: list[float]) -> State:
        before = self._load_level(path[:-1])
        self.job.context.report(f"round {len(path)}: pruning to {path[-1]:g}")
        masks = self.job.prune(self.job.model, path[-1], before)
        self._rewind()
        masks.apply(self.network)
        early = self.early_epochs if self.rewind == "early" else 0
        self._fit(f"round {len(path)}", masks, first_epoch=early)
        kept = {f"masks/{name}": mask for name, mask in masks.items()}
        kept[PROVENANCE] = torch.tensor(list(json.dumps(dict(masks.provenance)).encode()), dtype=torch.uint8)
        return {**_prefixed("weights/", self._weights()), **kept}

    def _dense(self) -> State:
        """Return the dense network after one training, plus its early weights if it starts from new ones."""
        return self.job.shared(DENSE_TRAINING, self._train_dense)

    def _train_dense(self) -> State:
        if self.dense_first:
            self._fit("dense", None, seed=self.job.context.seed)  # of `finetune`
            return _prefixed("weights/", self._weights())
        if not self.from_scratch:
            self._fit("round 1", None)  # on the same sample stream as the first level
            return _prefixed("weights/", self._weights())
        self._initialise()
        early: State = {}

        def keep_early(epoch: int) -> None:
            if epoch == self.early_epochs:
                early.update(_prefixed("early/", self._weights()))

        collects = self.rewind == "early"
        self._fit("dense", None, after_epoch=keep_early if collects else None, collected=early if collects else None)
        return {**_prefixed("weights/", self._weights()), **early}

    def _train_on(self, k: int) -> State:
        """Train the dense network of training k - 1 again, on the same sample stream as the level of training k."""
        self._fit(f"round {k - self.dense_first}", None)
        return _prefixed("weights/", self._weights())

    def _rewind(self) -> None:
        match self.rewind:
            case "pretrained":
                self.network.load_state_dict(self._loaded)
            case "init":
                self._initialise()
            case "early":
                self._load(self._dense(), "early/")

    def _initialise(self) -> None:
        self.job.model.reinitialise(derive_seed(self.job.context.seed, "initial weights"))

    def _fit(
        self,
        stage: str,
        masks: Masks | None,
        first_epoch: int = 0,
        after_epoch: Callable[[int], None] | None = None,
        collected: State | None = None,
        seed: int | None = None,
    ) -> None:
        checkpoints = checkpoints_of(self.job, stage)
        fit(
            self.job.model,
            self.samples,
            self.training,
            seed=derive_seed(self.job.context.seed, stage) if seed is None else seed,
            masks=masks,
            augment=self.training.augment(self.job),
            first_epoch=first_epoch,
            after_epoch=after_epoch,
            collected=collected,
            checkpoints=checkpoints,
            report=lambda text: self.job.context.report(f"{stage}: {text}"),
        )
        if checkpoints is not None:
            checkpoints.clear()

    def _weights(self) -> State:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def _load(self, state: Mapping[str, Tensor], prefix: str) -> None:
        chosen = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
        self.network.load_state_dict(chosen)

    def _masks_of(self, state: Mapping[str, Tensor]) -> Masks:
        names = dict(self.network.named_parameters())
        found = {name: state[f"masks/{name}"].bool() for name in names if f"masks/{name}" in state}
        told = json.loads(bytes(state[PROVENANCE].tolist())) if PROVENANCE in state else {}
        return Masks(found, {**told, "recipe": "iterative", "rewind": self.rewind})


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}
