"""Cells: one pruned model each, what identifies them, and what they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from pruningbench.base.identity import canonical_json, text_hash
from pruningbench.contract.component import Component, Use
from pruningbench.contract.precision import FULL
from pruningbench.contract.pruner import Pruner
from pruningbench.contract.recipe import DENSE_TRAINING, Recipe
from pruningbench.pruning.scope import Scope
from pruningbench.suite.labels import DENSE
from pruningbench.suite.schema import IDENTITY, IDENTITY_IF_GIVEN, IDENTITY_IF_NOT_FULL, KNOB, identity_fields


@dataclass(frozen=True)
class Cell:
    """One pruned model to make and measure; every field declares whether it is part of the key.

    Attributes:
        model, pruner, recipe: components; the pruner is None for the dense model, as loaded or trained by the recipe.
        sparsity: target share of prunable weights to prune, in [0, 1).
        seed: seed of pruning and training.
        scope: which parameters may be pruned.
        data: scoring and training data, if the pruner or recipe uses any.
        batch_size: largest batch of the tasks; a knob.
        limit: number of samples to use from each data set; None for all.
        precision: of the tasks' forward passes.
        rounds: number of trainings in succession of the dense reference of its recipe in this suite. It is part of the
            artifact key instead of the cell's key, because it changes when a suite grows.
    """

    model: Use = field(metadata=IDENTITY)
    pruner: Use | None = field(metadata=IDENTITY)
    recipe: Use = field(metadata=IDENTITY)
    sparsity: float = field(metadata=IDENTITY)
    seed: int = field(metadata=IDENTITY)
    scope: Scope | None = field(default=None, metadata=IDENTITY)
    data: Use | None = field(default=None, metadata=IDENTITY)
    batch_size: int = field(default=128, metadata=KNOB)
    limit: int | None = field(default=None, metadata=IDENTITY_IF_GIVEN)
    rounds: int = field(default=1, metadata=KNOB)
    precision: str = field(default=FULL, metadata=IDENTITY_IF_NOT_FULL)

    def identity(self) -> dict[str, Any]:
        """Return everything that can change this cell's results, and nothing else."""
        values: dict[str, Any] = {}
        for name, value in identity_fields(self).items():
            if isinstance(value, Use):
                values[name] = value.identity()
            else:
                values[name] = dataclasses.asdict(value) if isinstance(value, Scope) else value
        return values

    @cached_property
    def key(self) -> str:
        """16 hex digits; the same for the same work."""
        return text_hash(self.canonical(Use.canonical))

    def canonical(self, spell: Callable[[Use], str], without: str = "") -> str:
        """Return `identity` as canonical JSON, in which components are spelled by `spell` and a field is left out."""
        if without:
            return "{" + ",".join(_spelled_fields(self, spell, without)) + "}"
        # the seed and the sparsity, the last in the alphabet, differ between cells that have all else in common
        shared = (self.model, self.pruner, self.recipe, self.scope, self.data)
        key = (*map(id, shared), self.limit, self.precision, spell)
        known = _HEADS.get(key)
        if known is None:
            if len(_HEADS) >= MOST_HEADS:
                _HEADS.clear()
            # the objects are kept, so that no other gets the identity of one
            known = _HEADS[key] = shared, "{" + "".join(f"{text}," for text in _spelled_fields(self, spell, *_LAST))
        return f'{known[1]}"seed":{_canonical(self.seed)},"sparsity":{_canonical(self.sparsity)}}}'

    @property
    def pruner_label(self) -> str:
        """Label of the pruner in tables; ``dense`` for the dense model."""
        return self.pruner.label if self.pruner else DENSE

    @property
    def trained(self) -> bool:
        """Whether its recipe trains."""
        return isinstance(self.recipe.component, Recipe) and self.recipe.component.trains

    @property
    def changes_dense(self) -> bool:
        """Whether its recipe changes a network from which nothing is pruned, and so has a dense cell of its own."""
        return isinstance(self.recipe.component, Recipe) and self.recipe.component.changes_dense()

    def reference(self) -> Cell:
        """Return the dense cell of this cell's recipe; pruned networks are compared with it if there is one."""
        return dataclasses.replace(self, pruner=None, sparsity=0.0, scope=None)

    @property
    def label(self) -> str:
        """One line for people."""
        if self.pruner is not None:
            condition = f"{self.pruner.label} {self.sparsity:g} {self.recipe.label}"
        else:
            condition = f"{DENSE} {self.recipe.label}" if self.changes_dense else DENSE
        return f"{self.model.label} · {condition}" + (f" · seed {self.seed}" if self.seed else "")


_NAMES = tuple(sorted(f.name for f in dataclasses.fields(Cell) if f.metadata["identity"]))
_ALWAYS = tuple(name for name in _NAMES if name not in ("limit", "precision"))
_LAST = ("seed", "sparsity")
MOST_HEADS = 1000
_HEADS: dict[tuple[Any, ...], tuple[tuple[Any, ...], str]] = {}
"""The beginnings of canonical texts, with the objects whose identities are their keys."""


def _spelled_fields(cell: Cell, spell: Callable[[Use], str], *without: str) -> list[str]:
    """Return the fields of a cell's identity as canonical JSON, but for some."""
    given = {"limit": cell.limit is not None, "precision": cell.precision != FULL}
    names = [name for name in _NAMES if given.get(name, True)] if any(given.values()) else _ALWAYS
    values = [(name, getattr(cell, name)) for name in names if name not in without]
    return [f'"{name}":{spell(v) if isinstance(v, Use) else _canonical(v)}' for name, v in values]


@lru_cache(maxsize=100)
def _fields(scope: Scope) -> dict[str, Any]:
    return dataclasses.asdict(scope)


@lru_cache(maxsize=10_000)
def _canonical(value: Scope | float | int | str | None) -> str:
    return canonical_json(dataclasses.asdict(value) if isinstance(value, Scope) else value)


@dataclass(frozen=True)
class TaskRun:
    """A task as the suite runs it on every cell that it is for, with the requested metrics."""

    label: str
    task: Use
    metrics: tuple[Use, ...]


def pruner_of(cell: Cell) -> Component | None:
    """Return the pruner of a cell; None for the dense model."""
    return cell.pruner.component if cell.pruner else None


def recipe_of(cell: Cell) -> Recipe:
    """Return the recipe of a cell."""
    recipe = cell.recipe.component
    assert isinstance(recipe, Recipe)  # noqa: S101 - binding checked the kind
    return recipe


def trainings_of(cell: Cell) -> list[tuple[str, ...]]:
    """Return a key for each training that a cell needs; trainings with the same key are done once."""
    return [(str(cell.seed), *key) for key in trainings_in_common(cell)]


def trainings_in_common(cell: Cell) -> list[tuple[str, ...]]:
    """Return `trainings_of` without the seed: what cells that differ only in their seed have in common."""
    keys = recipe_of(cell).trainings(cell.sparsity)
    if cell.pruner is None and cell.trained:
        keys = [*keys, *([*DENSE_TRAINING, k] for k in range(2, cell.rounds + 1))]
    if not keys:
        return []
    recipe = cell.recipe.canonical(without="training")
    same = (cell.model.canonical(), recipe, cell.data.canonical() if cell.data else "", str(cell.limit))
    pruned = (cell.pruner.canonical() if cell.pruner else "", _canonical(cell.scope))
    return [(*same, *(() if is_dense_training(key) else pruned), _spelled(key, repr(key))) for key in keys]


_SPELLED: dict[str, str] = {}
"""Keys of trainings as canonical JSON, by their ``repr``: the cells of a large plan have few of them."""


def _spelled(key: Any, written: str) -> str:
    if written not in _SPELLED:
        if len(_SPELLED) > 10_000:
            _SPELLED.clear()
        _SPELLED[written] = canonical_json(key)
    return _SPELLED[written]


def is_dense_training(key: Any) -> bool:
    """Whether a key of a training is that of a network from which nothing has been pruned."""
    return isinstance(key, list) and key[:1] == DENSE_TRAINING


def plan_key(cell: Cell, run: TaskRun) -> str:
    """Return the key of what the suite requests when a task runs on a cell.

    Versions are left out: they describe the code, which is part of the artifact key.
    """
    return text_hash(f"[{cell.canonical(_unversioned_text)},{_unversioned_text(run.task)}]")


def _unversioned_text(use: Use) -> str:
    if "unversioned" not in use.texts:
        use.texts["unversioned"] = canonical_json(_unversioned(use.identity()))
    return use.texts["unversioned"]


def _unversioned(value: Any) -> Any:
    """Return an identity without the versions of its components; a field named ``version`` stays."""
    if isinstance(value, Mapping):
        component = value.keys() == {"use", "version", "fields"}
        return {key: _unversioned(item) for key, item in value.items() if not (component and key == "version")}
    return [_unversioned(item) for item in value] if isinstance(value, (list, tuple)) else value


def score_identity(cell: Cell, spell: Callable[..., Any] = Use.identity) -> dict[str, Any]:
    """Return what the scores of a cell's pruner depend on; it is the same for all its sparsities.

    Args:
        cell: a pruned cell.
        spell: returns the identity of a component in another form.
    """
    if cell.pruner is None or not isinstance(cell.pruner.component, Pruner):
        raise ValueError("the dense model has no scores")
    pruner = cell.pruner.component
    return {
        "model": spell(cell.model),
        "pruner": spell(cell.pruner, without="scores"),
        "scope": _fields(cell.scope or Scope()),
        # a seed also draws the scoring data; 0 counts as None, so that results from before that keep their identity
        "seed": cell.seed if pruner.seeded else (cell.seed or None) if pruner.needs_data else None,
        "data": spell(cell.data) if pruner.needs_data and cell.data else None,
    }


def scored_as(cell: Cell) -> tuple[str, ...]:
    """Return a key that is the same for cells with the same `score_identity`."""
    assert cell.pruner is not None  # noqa: S101 - the dense model has no scores
    identity = score_identity(cell, spell=Use.canonical)
    return tuple(str(value) for value in identity.values())


def pruned_as(cell: Cell) -> tuple[str, ...]:
    """Return a key that is the same for cells with the same `mask_identity`, apart from the sparsity."""
    assert cell.pruner is not None  # noqa: S101 - the dense model is not pruned
    return (*scored_as(cell), cell.pruner.canonical())


def mask_identity(cell: Cell) -> dict[str, Any]:
    """Return what the masks of a cell's pruner depend on."""
    identity = score_identity(cell)
    assert cell.pruner is not None  # noqa: S101 - score_identity refused None
    return {**identity, "pruner": cell.pruner.identity(), "sparsity": cell.sparsity}
