"""Cost formulas of this plugin's pruners; each follows the implementation.

W is the number of prunable weights (Wmax: of the largest parameter). S is the bytes of the network's state: one copy
restores the network, and the caller holds another. A is the bytes of one image and its activations, b the images per
batch. A backward pass takes about half as much memory again as was kept for it.
"""

from __future__ import annotations

from pruningbench.contract import Cost, Outline
from pruningbench.contract.cost import SCORING_BATCH


def gradient_cost(outline: Outline, batches: int | None, rounds: int | None = None) -> Cost:
    """Return the cost of one loss gradient, or one per round: the sum, one batch's, scores and masked weights."""
    bytes_per_weight = 10 if rounds is None else 18
    memory = (
        2 * outline.state_bytes
        + bytes_per_weight * outline.weights
        + _times(1.5, outline.batch_size * outline.pass_bytes)
    )
    contents = "state, gradients twice, masks, one batch" + ("" if rounds is None else ", masked weights, scores")
    passes = rounds or 1
    return Cost(passes, passes, _images(outline, batches), memory, f"2 S + {bytes_per_weight} W + 1.5 b A: {contents}")


def hessian_cost(outline: Outline, batches: int | None) -> Cost:
    """Return the cost of the gradient, then of its product with the Hessian by double backward."""
    memory = 2 * outline.state_bytes + 22 * outline.weights + 3 * outline.batch_size * outline.pass_bytes
    formula = "2 S + 22 W + 3 b A: state, gradient, products, masks, one batch with its second derivatives"
    return Cost(2, 3, _images(outline, batches), memory, formula)


def flow_cost(outline: Outline, rounds: int) -> Cost:
    """Return the cost of one image of ones per round, all in float64."""
    memory = 4 * outline.state_bytes + 27 * outline.weights + 16 * outline.largest + 4 * outline.pass_bytes
    formula = "4 S + 27 W + 16 Wmax + 4 A: state, weights, gradients and scores in float64, masks"
    return Cost(rounds, rounds, 1, memory, formula)


def kernel_cost(outline: Outline, rounds: int, draws: int, batch_size: int) -> Cost:
    """Return the cost of two networks on noise per draw; a draw stays in memory while the next is made."""
    memory = 2 * outline.state_bytes + 44 * outline.weights + 3 * batch_size * outline.pass_bytes
    formula = "2 S + 44 W + 3 batch_size A: state, draws, perturbed weights, gradients, masks, two networks' passes"
    return Cost(2 * rounds * draws, 2 * rounds * draws, batch_size, memory, formula)


def path_cost(outline: Outline, batches: int | None, rounds: int) -> Cost:
    """Return the cost of three float64 forward passes per round; only the pass of a single image is differentiated."""
    batch = _times(2.5, outline.batch_size * outline.pass_bytes) + 4 * outline.pass_bytes
    memory = 4 * outline.state_bytes + 46 * outline.weights + batch
    formula = "4 S + 46 W + (2.5 b + 4) A: state, squares, gradients and scores in float64, masks, gates of one batch"
    return Cost(3 * rounds, rounds, _images(outline, batches), memory, formula)


def _images(outline: Outline, batches: int | None) -> int | None:
    return outline.images(None if batches is None else batches * SCORING_BATCH)


def _times(factor: float, size: int) -> int:
    return int(factor * size)
