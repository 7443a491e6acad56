"""A model's session: the dense model and everything that its cells share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from pruningbench.base.identity import content_hash
from pruningbench.base.randomness import generator_for, isolated_randomness
from pruningbench.contract import (
    Context,
    Model,
    Motion,
    MovingPruner,
    Pruner,
    PruningContext,
    Recipe,
    ScorePruner,
    Use,
    VisionModel,
    check_scores,
    check_weights,
)
from pruningbench.contract.cost import SCORING_BATCH
from pruningbench.contract.precision import FULL, kernels
from pruningbench.errors import PluginError, RefusedError
from pruningbench.harness.artifacts import model_parts
from pruningbench.harness.comparing import Memo, References
from pruningbench.harness.lending import Blame, Lender, Loan, lending
from pruningbench.harness.lent import LentTensors
from pruningbench.harness.networks import PROVENANCE, as_tensor
from pruningbench.harness.shelves import DataShelf, load_model
from pruningbench.harness.thresholds import note_ties, prune_within, threshold
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.store.cache import Cache
from pruningbench.store.code import code_of
from pruningbench.suite.cells import Cell, is_dense_training, mask_identity, score_identity

CACHE_VERSION = 2
"""Increase this when scores or masks of the same identity come out differently."""


class ModelSession:
    """The dense model, and the scores and masks that its cells share.

    Args:
        use: the model.
        context: makes a context for a seed.
        cache: weights, scores and masks on disk.
        shelf: opens the scoring data.
        blame: records which component changed what it borrowed.
        make_dense: makes the network of a dense cell of this session.
        lost: keys of dense cells that are known to have failed, with the reason.
        prepare: changes how the loaded model computes, not its weights.
    """

    def __init__(
        self,
        use: Use,
        context: Callable[[int], Context],
        cache: Cache,
        shelf: DataShelf,
        blame: Blame,
        make_dense: Callable[[ModelSession, Cell], VisionModel],
        lost: Mapping[str, str],
        prepare: Callable[[VisionModel], None],
    ) -> None:
        self._context, self._cache, self._shelf, self._blame = context, cache, shelf, blame
        self.use = use
        self.dense = load_model(use, context)
        prepare(self.dense)
        self.loan = Loan(self.dense)
        self.references = References(self.loan, lambda cell: make_dense(self, cell), lost)
        self.reference = self.references.loaded
        self.memos: dict[tuple[str, int, str], Memo] = {}
        self.of_pruned: dict[Any, Any] = {}
        self.of_others: dict[int, tuple[VisionModel, dict[Any, Any]]] = {}
        self._scores: tuple[str, dict[str, torch.Tensor]] | None = None
        self._masks: tuple[str, Masks] | None = None  # only of the last condition, because masks are large
        self._failed: dict[str, Exception] = {}
        self.scoring_passes = 0

    def begin(self, cell: Cell) -> None:
        """Begin a cell: results that tasks share about its model are dropped; those about the dense model stay."""
        self.reference = self.references.of(cell)
        is_reference = cell.pruner is None and (cell.trained or not cell.changes_dense)
        self.of_pruned = self.reference.memo if is_reference else {}
        self.of_others = {}

    def forget(self) -> None:
        """Forget everything that tasks share: a borrower may have computed it from models or data that it changed."""
        self.references.forget()
        self.of_pruned.clear()
        self.of_others.clear()

    def memo(self, task: str, cell: Cell) -> Memo:
        """Return what a task keeps for all cells of a seed that are compared with one reference."""
        reference = cell.reference().key if cell.trained else ""
        return self.memos.setdefault((task, cell.seed, reference), Memo())

    def prune(
        self, cell: Cell, model: VisionModel, sparsity: float, *, untouched: bool, within: Masks | None = None
    ) -> Masks:
        """Prune `model` in place with the cell's pruner.

        Args:
            cell: names pruner, scope, seed and data.
            model: what to prune.
            sparsity: share of the prunable weights, in (0, 1).
            untouched: whether the model still has the dense weights, so that their scores, computed for another
                sparsity or recipe, can be reused here.
            within: masks of an earlier round; the weights that they prune stay pruned.
        """
        if cell.pruner is None:
            return Masks.ones(self._prunable(cell, model))  # a dense reference, whatever sparsity the recipe requests
        pruner = self._pruner(cell, model)
        if untouched and within is None and not pruner.updates_weights:
            masks = self._shared_masks(cell, pruner, sparsity)
        else:
            masks = self._own_masks(cell, pruner, model, sparsity, within)
            masks = note_ties(masks, model.network, within, self._remedy())
        masks.apply(model.network)
        return masks

    def prune_once(self, cell: Cell, model: VisionModel, key: Any, make: Callable[[], Masks]) -> Masks:
        """Return masks that a recipe makes of the dense weights, kept for all recipes that make them in the same way.

        Args:
            cell: names pruner, scope, sparsity, seed and data.
            model: a copy of the dense model, pruned in place.
            key: how `make` makes them, as plain JSON.
            make: prunes `model` and returns its masks.
        """
        if cell.pruner is None or self._pruner(cell, model).updates_weights:
            return make()  # masks alone do not say what the network is
        made_by = {"key": key, "code": code_of(cell.recipe)}  # the same for all recipes of a plugin and version
        identity = {
            **mask_identity(cell), **self._weights_identity(), "made of": self.made_of(cell, cell.pruner),
            "made by": made_by,
        }  # fmt: skip

        def pack() -> dict[str, torch.Tensor]:
            masks = make()
            return {**masks.packed(), PROVENANCE: as_tensor(masks)}

        packed = self._cache.tensors("masks", identity, pack)
        masks = self._unpacked(packed, cell, model)
        masks.apply(model.network)
        return masks

    def _unpacked(self, packed: dict[str, torch.Tensor], cell: Cell, model: VisionModel, **told: Any) -> Masks:
        shapes = {name: tuple(p.shape) for name, p in self._prunable(cell, model).items()}
        stored = json.loads(bytes(packed.pop(PROVENANCE).tolist()))
        return Masks.from_packed(packed, shapes, {**stored, **told})

    def mover(self, cell: Cell) -> Callable[[VisionModel, float, int], Motion] | None:
        """Return the function that starts moving the masks of the cell's pruner, or None if they do not move."""
        pruner = cell.pruner.component if cell.pruner else None
        if not isinstance(pruner, MovingPruner):
            return None

        def move(model: VisionModel, sparsity: float, steps: int) -> Motion:
            self._pruner(cell, model)
            return pruner.motion(self._pruning_context(cell, model), sparsity, steps)

        return move

    def trajectory_identity(self, cell: Cell, key: Any = None) -> dict[str, Any]:
        """Return what the trained levels of a cell depend on; it is the same for all its sparsities.

        Args:
            cell: the cell.
            key: the key of the stored level; dense trainings depend neither on the pruner nor on the scope.
        """
        if is_dense_training(key) and cell.pruner is not None:
            return self.trajectory_identity(cell.reference())
        identity = {name: value for name, value in cell.identity().items() if name not in ("sparsity", "precision")}
        return {
            **identity,
            "recipe": cell.recipe.identity(without="training"),
            **self._weights_identity(),
            "made of": self.made_of(cell, cell.pruner, cell.recipe),
        }

    def made_of(self, cell: Cell, *uses: Use | None) -> dict[str, Any]:
        """Return what scores, masks and trained weights are actually made from, beyond what the suite requests.

        That is the content of the data, the preprocessing, and the code of the model and of the components that
        make them. The key already contains the dense weights. The returned parts decide which cached tensors may be
        used; they never affect random draws.
        """
        components = [use.component for use in uses if use is not None]
        reads = any(getattr(c, "needs_data", False) if isinstance(c, Pruner) else c.needs_data()
                    for c in components if isinstance(c, (Pruner, Recipe)))  # fmt: skip
        return {
            "data": self._shelf.open(cell.data).fingerprint if reads and cell.data is not None else None,
            "preprocessing": repr(self.dense.preprocessing) if reads else None,
            "libraries": model_parts(self.dense)["libraries"],
            "code": [code_of(use) for use in (self.use, *uses) if use is not None],
        }

    def network_identity(self, cell: Cell) -> dict[str, Any]:
        """Return what the cell's pruned network depends on, for networks that are worth keeping."""
        recipe = {"recipe": cell.recipe.identity(), "sparsity": cell.sparsity}
        if cell.pruner is None and cell.rounds > 1:
            recipe["rounds"] = cell.rounds
        return {**self.trajectory_identity(cell), **recipe}

    def _pruner(self, cell: Cell, model: VisionModel) -> Pruner:
        assert cell.pruner is not None  # noqa: S101 - the dense model is never pruned
        pruner = cell.pruner.component
        if not isinstance(pruner, Pruner):
            raise PluginError(f"{cell.pruner.name!r} is a {pruner.kind}, not a pruner")
        reason = pruner.refuses(model.network)
        if reason:
            raise RefusedError(f"pruner {cell.pruner_label!r} cannot prune {self.use.label!r}: {reason}")
        return pruner

    def _own_masks(
        self, cell: Cell, pruner: Pruner, model: VisionModel, sparsity: float, within: Masks | None = None
    ) -> Masks:
        # a pruner that updates weights works on the model itself; one that only chooses masks works on a copy
        lenders: list[Lender] = [self._shelf]
        if not pruner.updates_weights:
            loan = Loan(model)
            lenders.append(loan)
            model = loan.model
        context = self._pruning_context(cell, model)
        with (
            isolated_randomness("prune", cell.seed, cell.pruner.identity() if cell.pruner else None),
            kernels(FULL),
            lending(f"pruner {cell.pruner_label!r}", self._blame, *lenders),
        ):
            masks = prune_within(pruner, context, sparsity, within)
        if not isinstance(masks, Masks):
            raise PluginError(f"pruner {cell.pruner_label!r} returned a {type(masks).__name__}, not Masks")
        return masks

    def _shared_masks(self, cell: Cell, pruner: Pruner, sparsity: float) -> Masks:
        identity = {
            **mask_identity(cell), "sparsity": sparsity, **self._weights_identity(),
            "made of": self.made_of(cell, cell.pruner),
        }  # fmt: skip
        key = content_hash(identity)
        if self._masks is None or self._masks[0] != key:

            def make() -> dict[str, torch.Tensor]:
                if isinstance(pruner, ScorePruner):
                    scores = self._shared_scores(cell, pruner)
                    lent = LentTensors(list(scores.values()), "scores were changed while they were thresholded")
                    with (
                        isolated_randomness("threshold", identity),
                        lending(f"pruner {cell.pruner_label!r}", self._blame, lent),
                    ):
                        masks = threshold(pruner, scores, sparsity)
                else:
                    masks = self._own_masks(cell, pruner, self.dense, sparsity)
                masks = note_ties(masks, self.dense.network, remedy=self._remedy())
                check_names(cell.pruner_label, masks, self.prunable_names(cell))
                return {**masks.packed(), PROVENANCE: as_tensor(masks)}

            packed = self._cache.tensors("masks", identity, make)
            told = {"pruner": cell.pruner_label, "sparsity": sparsity, "seed": cell.seed}
            self._masks = (key, self._unpacked(packed, cell, self.dense, **told))
        return self._masks[1]

    def _shared_scores(self, cell: Cell, pruner: ScorePruner) -> dict[str, torch.Tensor]:
        """Return the scores of the dense model; one pass serves all sparsities, allocations and recipes."""
        identity = {**score_identity(cell), **self._weights_identity()}
        stored = {**identity, "made of": self.made_of(cell, cell.pruner)}
        key = content_hash(stored)
        if key in self._failed:
            raise self._failed[key]  # a scoring pass that failed fails for every sparsity
        if self._scores is None or self._scores[0] != key:

            def make() -> dict[str, torch.Tensor]:
                self.scoring_passes += 1
                context = self._pruning_context(cell, self.loan.model)
                with (
                    isolated_randomness("score", identity),
                    kernels(FULL),
                    lending(f"pruner {cell.pruner_label!r}", self._blame, self.loan, self._shelf),
                ):
                    return check_scores(pruner.score(context), context.parameters)

            try:
                scores = self._cache.tensors("scores", stored, make) if pruner.cache_scores else make()
            except Exception as error:
                self._failed[key] = error
                raise
            self._scores = (key, {n: _beside(p, scores[n]) for n, p in self._prunable(cell, self.dense).items()})
        return self._scores[1]

    def _remedy(self) -> str:
        component = self.use.component
        return component.zero_norms_remedy() if isinstance(component, Model) else ""

    def _weights_identity(self) -> dict[str, Any]:
        return {"weights": self.dense.fingerprint, "cache_version": CACHE_VERSION}

    def _prunable(self, cell: Cell, model: VisionModel) -> dict[str, torch.nn.Parameter]:
        return prunable_parameters(model.network, cell.scope, head=model.head or None)

    def prunable_names(self, cell: Cell) -> list[str]:
        """Return the names of the parameters the cell may prune."""
        return list(self._prunable(cell, self.dense))

    def _pruning_context(self, cell: Cell, model: VisionModel) -> PruningContext:
        pruner = cell.pruner.component if cell.pruner else None
        batches = None
        if isinstance(pruner, Pruner) and pruner.needs_data and cell.data is not None:
            samples = self._shelf.open(cell.data)

            labels = model.labels_of(samples)

            # in a shuffled order, so that a few batches of data sorted by class hold all classes; the order depends on
            # the seed, but seed 0 adds nothing, to reproduce results from before it did
            drawn = generator_for("scoring order", *([cell.seed] if cell.seed else []))
            order = torch.randperm(len(samples), generator=drawn).tolist()
            most = getattr(pruner, "batches", None)
            # pruning depends on which samples are seen, not on how memory limits split them into batches
            size = getattr(pruner, "batch_size", min(SCORING_BATCH, cell.batch_size))
            index = order if most is None else order[: most * getattr(pruner, "batch_size", SCORING_BATCH)]

            def batches() -> Any:
                for batch in model.batches(samples, size, index=index):
                    yield batch.images, None if labels is None else labels[batch.index].to(model.device)

        check_weights(model.network)
        context = self._context(cell.seed)
        side, channels = model.preprocessing.size, len(model.preprocessing.mean)
        shape = (channels, side, side) if side else None
        return PruningContext(model.network, self._prunable(cell, model), cell.seed, batches, context.report, shape)


def _beside(parameter: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Move scores, which the cache keeps on the CPU, to the device of their parameter: it thresholds them faster."""
    if parameter.device.type == "mps" and scores.dtype == torch.float64:
        return scores  # such devices have no float64
    return scores.to(parameter.device)


def check_names(pruner: str, masks: Masks, prunable: Sequence[str]) -> None:
    """Make sure that masks cover the prunable parameters and no others.

    Raises:
        PluginError: names the first parameter that is unexpected or missing.
    """
    strange = sorted(set(masks) - set(prunable))
    lacking = [name for name in prunable if name not in masks]
    if strange:
        raise PluginError(f"pruner {pruner!r} masks {strange[0]!r}, which is not prunable in this scope")
    if lacking:
        raise PluginError(f"pruner {pruner!r} gave no mask for {lacking[0]!r}")
