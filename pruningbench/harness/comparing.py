"""The dense references that tasks compare with: one for each recipe that trains and seed, made when first asked for."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pruningbench.base.identity import tensors_digest
from pruningbench.contract import Context, VisionModel
from pruningbench.contract.precision import in_full
from pruningbench.errors import PruningBenchError
from pruningbench.harness.lending import Loan
from pruningbench.store.attempts import Attempt, last_attempts
from pruningbench.store.records import Record
from pruningbench.suite.cells import Cell
from pruningbench.suite.plan import Plan

MOST_KEPT = 4
"""Number of trained references that stay in memory; others come from the cache again."""


class Reference:
    """The dense network that the tasks of some cells compare with, lent to them.

    Args:
        label: the recipe that trained it; "" for the model as loaded.
        make: returns the network; called once, when a task first asks.
    """

    def __init__(self, label: str, make: Callable[[], VisionModel]) -> None:
        self.label, self._make = label, make
        self.memo: dict[Any, Any] = {}
        self.used = False
        self._loan: Loan | None = None
        self._others: tuple[Loan, ...] = ()
        self._digest = ""
        self._error: PruningBenchError | None = None

    def adopt(self, loan: Loan) -> None:
        """Use a network that has just been made for a cell of its own."""
        self._loan, self._error, self._digest = loan, None, ""

    def lend(self, *others: Loan) -> None:
        """Prepare for the next task; `others` are loans that are taken back separately after it."""
        self.used, self._others = False, others

    @property
    def opened(self) -> VisionModel | None:
        """The lent copy, or None if no task has asked for it yet."""
        return self._loan.model if self._loan is not None else None

    @property
    def identity(self) -> str:
        """Its recipe and the hash of its tensors, as records store it; "" if no task has asked for it."""
        if self._loan is None:
            return ""
        if not self._digest:
            self._digest = tensors_digest(dict(self._loan.original.network.state_dict()))[:16]
        return f"{self.label or 'as loaded'} {self._digest}"

    def model(self) -> VisionModel:
        """Return the lent copy; make the network first if need be.

        Raises:
            PruningBenchError: if it cannot be made; it is not tried again.
        """
        self.used = True
        if self._error is not None:
            raise self._error
        if self._loan is None:
            try:
                with in_full(), torch.inference_mode(False), torch.enable_grad():  # a task may ask inside `no_grad`
                    self._loan = Loan(self._make())
            except Exception as error:
                self._error = PruningBenchError(
                    f"there is no dense reference of recipe {self.label!r} to compare with: {reason_of(error)}"
                )
                raise self._error from error
        return self._loan.model

    def collect(self) -> list[str]:
        """Take the copy back; return what the borrower changed, in words."""
        return self._loan.collect() if self._loan is not None and self._loan not in self._others else []


def reason_of(error: BaseException) -> str:
    """Return in one line why a network could not be made."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def lost_references(plan: Plan, attempts: Iterable[Attempt], pending: Collection[str]) -> dict[str, str]:
    """Return the trained dense cells that could not be made in an earlier run, with the reason.

    Args:
        plan: the plan.
        attempts: the journal.
        pending: keys of cells that are about to be run; these are not lost.
    """
    dense = {cell.key for cell in plan.cells if cell.pruner is None and cell.trained} - set(pending)
    lines: dict[str, list[Record]] = {}
    for (cell, _), last in last_attempts(attempts).items():
        if cell in dense:
            lines.setdefault(cell, []).extend(last.lines)
    return {
        key: own[0].error.strip().rpartition("\n")[2] or own[0].status
        for key, own in lines.items()
        if all(record.status != "ok" and math.isnan(record.sparsity_achieved) for record in own)
    }


class References:
    """The references of one model, by recipe and seed; the least recently used trained one is dropped first.

    Args:
        loaded: the model as loaded.
        make: makes the network of a dense cell.
        lost: keys of dense cells that are known to have failed, with the reason.
    """

    def __init__(self, loaded: Loan, make: Callable[[Cell], VisionModel], lost: Mapping[str, str]) -> None:
        self.loaded = Reference("", lambda: loaded.original)
        self.loaded.adopt(loaded)
        self._make, self._lost = make, lost
        self._trained: OrderedDict[str, Reference] = OrderedDict()

    def of(self, cell: Cell) -> Reference:
        """Return the reference that a cell is compared with."""
        if not cell.trained:
            return self.loaded
        dense = cell.reference()
        if dense.key not in self._trained:

            def make() -> VisionModel:
                if dense.key in self._lost:
                    raise PruningBenchError(self._lost[dense.key])
                return self._make(dense)

            self._trained[dense.key] = Reference(cell.recipe.label, make)
        self._trained.move_to_end(dense.key)
        while len(self._trained) > MOST_KEPT:
            self._trained.popitem(last=False)
        return self._trained[dense.key]

    def forget(self) -> None:
        """Forget everything that tasks share about the references."""
        for reference in (self.loaded, *self._trained.values()):
            reference.memo.clear()


class Memo(dict[Any, Any]):
    """What a task keeps for the cells that are compared with one reference, and whether the task has asked for it."""

    compared = False


@dataclass
class ComparingContext(Context):
    """A context whose dense model is made when the task first asks for it."""

    reference: Reference | None = field(default=None, repr=False)

    @property
    def compares(self) -> bool:
        """Whether there is a dense model to compare with; it need not have been made yet."""
        return self.reference is not None

    @property  # type: ignore[misc]  # not a plain attribute, because it is made when asked for
    def dense(self) -> VisionModel | None:
        """The dense reference of the cell's recipe.

        Raises:
            PruningBenchError: if it cannot be made.
        """
        return self.reference.model() if self.reference is not None else None

    @dense.setter
    def dense(self, model: VisionModel | None) -> None:
        """Ignore the default that a context is made with."""

    def _opened_dense(self) -> VisionModel | None:
        return self.reference.opened if self.reference is not None else None
