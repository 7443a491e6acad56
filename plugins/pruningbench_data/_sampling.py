"""Deterministic choice of a data set's samples: limits, class subsets and balance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pruningbench.contract import Dataset, UsageError, did_you_mean, param


@dataclass(frozen=True, kw_only=True)
class Limited(Dataset):
    """A data set from which a suite may use a subset.

    The samples that a limit keeps depend only on the seed and on each sample's key. Equal settings therefore give
    equal samples on every machine, and a smaller limit keeps a subset of what a larger one keeps.
    """

    limit: int | None = param(None, doc="maximum number of samples, >= 1; null keeps all")
    seed: int = param(0, doc="seed of the random choice of samples under a limit, >= 0")

    def problem(self) -> str | None:
        """Check the ranges."""
        if self.limit is not None and self.limit < 1:
            return f"limit is {self.limit}, but must be at least 1"
        if self.seed < 0:
            return f"seed is {self.seed}, but must be at least 0"
        return None

    def select(self, keys: Sequence[str]) -> list[int]:
        """Return the positions that the limit keeps, in ascending order."""
        return sorted(_by_rank(keys, self.seed)[: self.limit])


@dataclass(frozen=True, kw_only=True)
class Sampled(Limited):
    """A data set with one class per sample, from which a suite may use some classes or a balanced subset."""

    classes: tuple[str, ...] | None = param(None, doc="classes to keep; labels follow this order; null keeps all")
    balanced: bool = param(
        False, doc="equally many samples per class, where available; without a limit, as many as the rarest class has"
    )

    def problem(self) -> str | None:
        """Check ranges and the class subset."""
        if self.classes is not None and not self.classes:
            return "classes is empty; name at least one class, or null for all"
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            return f"classes must not repeat, got {list(self.classes)}"
        return super().problem()

    def chosen(self, keys: Sequence[str], labels: Sequence[int], names: Sequence[str]) -> Choice:
        """Return which of N samples to take, and their labels among the kept classes.

        Args:
            keys: N identifiers.
            labels: N positions in `names`.
            names: all classes of the data set.

        Raises:
            UsageError: for a class that the data set does not have, or if no sample is left.
        """
        classes = tuple(names) if self.classes is None else self.classes
        number_of_class = {name: i for i, name in enumerate(names)}
        for name in classes:
            if name not in number_of_class:
                raise UsageError(f"classes: there is no class {name!r}{did_you_mean(name, names)}")
        relabelled = {number_of_class[name]: place for place, name in enumerate(classes)}
        positions = [i for i, label in enumerate(labels) if label in relabelled]
        if not positions:
            raise UsageError(f"no sample belongs to the classes {list(classes)}")
        new = [relabelled[labels[i]] for i in positions]
        order = _by_rank([keys[i] for i in positions], self.seed)
        if self.balanced:
            order = self._in_turns(order, new, len(classes))
        limited = sorted(order[: self.limit])
        return Choice(tuple(positions[i] for i in limited), tuple(new[i] for i in limited), classes)

    def _in_turns(self, order: Sequence[int], labels: Sequence[int], classes: int) -> list[int]:
        """Return positions ordered so that every prefix holds the classes evenly."""
        ranks = [0] * classes
        turns = []
        for i in order:
            turns.append((ranks[labels[i]], labels[i], i))
            ranks[labels[i]] += 1
        fewest = min(filter(None, ranks)) if self.limit is None else len(labels)
        return [i for turn, _, i in sorted(turns) if turn < fewest]


@dataclass(frozen=True)
class Choice:
    """Chosen samples: ascending positions, their labels, and the classes that the labels index."""

    positions: tuple[int, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def _by_rank(keys: Sequence[str], seed: int) -> list[int]:
    """Return positions in a pseudorandom order fixed by seed and keys."""
    prefix = hashlib.sha256(f"{seed}\0".encode())

    def rank(i: int) -> tuple[bytes, int]:
        sha = prefix.copy()
        sha.update(keys[i].encode())
        return sha.digest(), i

    return sorted(range(len(keys)), key=rank)
