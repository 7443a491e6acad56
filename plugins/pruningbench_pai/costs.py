"""What the pruners of this plugin cost: the formulas, each as its implementation has it.

W are the prunable weights (Wmax of the largest parameter), S the bytes of the network's state, of which one copy
restores the network and one lies with the caller, A the bytes of one image and its activations, b the images a
batch. A backward pass takes about half as much again as what was kept for it.
"""

from __future__ import annotations

from pruningbench.contract import Cost, Outline
from pruningbench.contract.cost import SCORING_BATCH


def gradient_cost(outline: Outline, batches: int | None, rounds: int | None = None) -> Cost:
    """One gradient of the loss, or one a round: its sum, that of one batch, scores and masked weights."""
    each = 10 if rounds is None else 18
    memory = 2 * outline.state_bytes + each * outline.weights + _times(1.5, outline.batch_size * outline.pass_bytes)
    what = "state, gradients twice, masks, one batch" + ("" if rounds is None else ", masked weights, scores")
    passes = rounds or 1
    return Cost(passes, passes, _images(outline, batches), memory, f"2 S + {each} W + 1.5 b A: {what}")


def hessian_cost(outline: Outline, batches: int | None) -> Cost:
    """The gradient, then its product with the Hessian: a graph of a graph."""
    memory = 2 * outline.state_bytes + 22 * outline.weights + 3 * outline.batch_size * outline.pass_bytes
    formula = "2 S + 22 W + 3 b A: state, gradient, products, masks, one batch with its second derivatives"
    return Cost(2, 3, _images(outline, batches), memory, formula)


def flow_cost(outline: Outline, rounds: int) -> Cost:
    """One image of ones per round, everything in float64."""
    memory = 4 * outline.state_bytes + 27 * outline.weights + 16 * outline.largest + 4 * outline.pass_bytes
    formula = "4 S + 27 W + 16 Wmax + 4 A: state, weights, gradients and scores in float64, masks"
    return Cost(rounds, rounds, 1, memory, formula)


def kernel_cost(outline: Outline, rounds: int, draws: int, batch_size: int) -> Cost:
    """Two networks on noise a draw; the next draw is made while the last is still there."""
    memory = 2 * outline.state_bytes + 44 * outline.weights + 3 * batch_size * outline.pass_bytes
    formula = "2 S + 44 W + 3 batch_size A: state, draws, perturbed weights, gradients, masks, two networks' passes"
    return Cost(2 * rounds * draws, 2 * rounds * draws, batch_size, memory, formula)


def path_cost(outline: Outline, batches: int | None, rounds: int) -> Cost:
    """Three forward passes a round in float64, of which that of one image is differentiated."""
    batch = _times(2.5, outline.batch_size * outline.pass_bytes) + 4 * outline.pass_bytes
    memory = 4 * outline.state_bytes + 46 * outline.weights + batch
    formula = "4 S + 46 W + (2.5 b + 4) A: state, squares, gradients and scores in float64, masks, gates of one batch"
    return Cost(3 * rounds, rounds, _images(outline, batches), memory, formula)


def _images(outline: Outline, batches: int | None) -> int | None:
    return outline.images(None if batches is None else batches * SCORING_BATCH)


def _times(factor: float, size: int) -> int:
    return int(factor * size)
