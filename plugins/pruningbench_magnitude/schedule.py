"""When masks move during training, and how sparse they become."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CubicSchedule:
    """The cubic schedule of gradual pruning (Zhu and Gupta 2017, equation 1).

    With tau running from 0 to 1 between `begin` and `end`, the sparsity is
    ``final + (initial - final) (1 - tau)^3``: it rises fast at first, while many weights are redundant.

    Attributes:
        initial, final: sparsities in [0, 1).
        begin, end: steps completed before the first pruning, and at the last one; 0 <= begin < end.
        interval: steps between two prunings, >= 1.
    """

    initial: float
    final: float
    begin: int
    end: int
    interval: int

    @classmethod
    def over(cls, steps: int, initial: float, final: float, begin: float, end: float, interval: int) -> CubicSchedule:
        """Return a schedule over `steps` steps; `begin` and `end` are shares of them, in [0, 1]."""
        last = max(round(end * steps), 1)
        return cls(min(initial, final), final, min(round(begin * steps), last - 1), last, interval)

    def sparsity_after(self, steps: int) -> float | None:
        """Return the sparsity to prune to after `steps` steps, or None if no pruning is due."""
        if not self.begin < steps <= self.end:
            return None
        if steps < self.end and (steps - self.begin) % self.interval:
            return None
        tau = (steps - self.begin) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * (1 - tau) ** 3 if tau < 1 else self.final


def span_problem(begin: float, end: float, interval: int) -> str | None:
    """Return what is wrong with a schedule's shares and interval, or None."""
    if not 0 <= begin < end <= 1:
        return f"begin and end are {begin:g} and {end:g}, but must be shares with 0 <= begin < end <= 1"
    return None if interval >= 1 else f"interval is {interval}, but must be at least 1 step"
