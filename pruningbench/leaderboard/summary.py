"""The sweet spots and ranks of a board in a few sentences, for people who will read nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from pruningbench.base.text import displayable
from pruningbench.contract.findings import SweetSpot
from pruningbench.leaderboard.contests import ALL_MODELS, Contest, contests, p_text
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.rows import Board
from pruningbench.leaderboard.sweetspots import EPSILON, blocked, sweet_spots

LINES = 12
"""Largest number of lines of a summary."""
SPOTS = 3
"""Largest number of sweet spots that a summary spells out."""
DRAWS = 0
"""The sentences on ranks show no intervals, so none are drawn."""


def summary_lines(board: Board, width: int = 80, *, lines: int = LINES) -> list[str]:
    """Return the sweet spots and the ranks of a board as sentences.

    The sweet spots with the largest improvement, relative to its interval, come first, one for each model and
    dimension; then the ranks of each dimension, those that show a difference first. Names are safe to display.

    Args:
        board: what `pruningbench.leaderboard.build` returned.
        width: largest number of characters of a line, >= 20.
        lines: largest number of lines, >= 2.

    Returns:
        At most `lines` lines; empty if the board has no pruned rows. What does not fit is counted in the last line.
    """
    sentences = [*spot_sentences(sweet_spots(board)), *rank_sentences(contests(board, draws=DRAWS))]
    shown: list[str] = []
    for number, sentence in enumerate(sentences):
        wrapped = textwrap.wrap(
            displayable(sentence), width, break_on_hyphens=False, initial_indent="* ", subsequent_indent="  "
        )
        left = len(sentences) - number
        if len(shown) + len(wrapped) > lines - (left > 1):
            shown.append(f"* {left} more of these sentences: --format json"[:width])
            break
        shown += wrapped
    return shown


def spot_sentences(spots: Sequence[SweetSpot], most: int = SPOTS) -> list[str]:
    """Return a sentence that counts the sweet spots, and one for each of the clearest, at most `most`."""
    if not spots:
        return []
    with_spots = [spot for spot in spots if spot.sparsities]
    obstacles = blocked(spots)
    if not with_spots and all(spot.obstacle for spot in spots):
        return [f"No sweet spots can be stated: {', and '.join(obstacles)}."]
    compared = sum(not spot.obstacle for spot in spots)
    rule = f"a metric better than dense while accuracy is not worse by more than {EPSILON:g}"
    of = f"{compared} combinations of model, pruner, recipe and metric"
    unproven = sum(any(p.unproven for p in spot.points) for spot in spots if not (spot.sparsities or spot.obstacle))
    more = f"; {unproven} {'more ' if with_spots else ''}are better where too few samples show that accuracy is kept"
    count = f"Sweet spots ({rule}): {len(with_spots) or 'none'} of {of}{more if unproven else ''}."
    return [count, *(spot.sentence for spot in _clearest(with_spots)[:most])]


def rank_sentences(held: Iterable[Contest]) -> list[str]:
    """Return one sentence for each contest that shows a difference, one for those that show none, one for the untested.

    Of several contests of a dimension and recipe, only that of all models is stated.
    """
    widest: dict[tuple[str, str], Contest] = {}
    for contest in held:
        key = (contest.dimension, contest.recipe)
        if contest.contestants and (contest.model == ALL_MODELS or key not in widest):
            widest[key] = contest
    names = compact(c.pruner for contest in widest.values() for c in contest.contestants)
    recipes = compact(recipe for _, recipe in widest)
    sentences = [contest.sentence for contest in widest.values() if contest.decided]
    undecided = [
        f"{elide(dimension, 34)} ({recipes[recipe]}, p = {p_text(contest.p)})"
        for (dimension, recipe), contest in widest.items()
        if contest.blocks > 1 and not contest.decided
    ]
    if undecided:
        sentences.append(f"No difference between pruners is shown (Friedman's test) in {', '.join(undecided)}.")
    untested = [
        f"{elide(dimension, 34)} ({recipes[recipe]}) {names[contest.contestants[0].pruner]}"
        for (dimension, recipe), contest in widest.items()
        if contest.blocks == 1
    ]
    if untested:
        sentences.append(f"Best mean rank on a single task and seed, which no test supports: {', '.join(untested)}.")
    return sentences


def _clearest(spots: Sequence[SweetSpot]) -> list[SweetSpot]:
    """Sort by the best improvement in half widths of its interval; one of each model and dimension before others."""
    ordered = sorted(spots, key=_clarity, reverse=True)
    first: dict[tuple[str, str], SweetSpot] = {}
    for spot in ordered:
        first.setdefault((spot.model, spot.dimension), spot)
    chosen = list(first.values())
    return [*chosen, *(spot for spot in ordered if spot not in chosen)]


def _clarity(spot: SweetSpot) -> float:
    if spot.best is None or spot.best.difference is None:
        return 0.0
    change = spot.best.difference
    return abs(change.value) / max((change.high - change.low) / 2, 1e-12)
