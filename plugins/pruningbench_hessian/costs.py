"""Cost formulas of this plugin's pruners; each follows the implementation.

W is the number of prunable weights (Wmax: of the largest parameter). S is the bytes of the network's state: one copy
restores the network, and the caller holds another. A is the bytes of one image and its activations, a those of its
largest activation, d the inputs of a row, b the images per batch, m the images used, c the images whose gradients are
held at a time, and B the weights per block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pruningbench.contract import Cost, Outline
from pruningbench.contract.cost import DOUBLE, FLOAT
from pruningbench.pruning.carried import HELD, MOST_CARRIED

CHUNK_BYTES = 1 << 28
CHUNK_SAMPLES = 64
"""Limits on the per-sample gradients held at a time: bytes, and samples."""
STEP_ENTRIES = 1 << 23
"""Matrix entries processed at a time: 64 MiB in float64."""
PROBED_AT_ONCE = 16
"""Images whose graph of gradients is held for products with the Hessian."""
_COLUMN_BYTES = 1 << 26
"""Bytes of the im2col matrix built at a time."""


def chunk_samples(gradient_bytes: int) -> int:
    """Return the number of samples whose gradients, of `gradient_bytes` each, are held at a time."""
    return max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // max(gradient_bytes, 1)))


def groups_that_fit(needs: Mapping[str, int], limit: int) -> list[list[str]]:
    """Cut the parameters, in order, into groups whose needs add up to at most `limit` bytes each.

    A parameter that needs more than the limit forms a group of its own.
    """
    groups: list[list[str]] = []
    group_bytes = limit + 1
    for name, needed in needs.items():
        if group_bytes + needed > limit:
            groups.append([])
            group_bytes = 0
        groups[-1].append(name)
        group_bytes += needed
    return groups


def block_bytes(weights: int, block_size: int, samples: int, element_size: int = FLOAT) -> int:
    """Return the bytes of a parameter's Gram matrices, padding included."""
    size = min(block_size, weights)
    return -(-weights // size) * size * min(size, samples) * element_size


def too_large(name: str, needed: int) -> str:
    """Return the message that one parameter's blocks do not fit."""
    size = f"{needed / 2**30:.3g} GiB"
    return f"{name!r} alone needs {size} for its blocks: raise memory_gb, or lower block_size or samples"


def mean_cost(outline: Outline, samples: int) -> Cost:
    """Return the cost of the mean over samples of a function of gradients and weights."""
    images = outline.images(samples) or samples
    chunk = _samples_at_once(outline, outline.weights, images)
    memory = 2 * outline.state_bytes + 28 * outline.weights + _gradients(outline, outline.weights, chunk, images)
    memory += 3 * DOUBLE * chunk * outline.largest
    formula = "2 S + 28 W + m images + A + (c + 1) 4 W + 24 c Wmax: state, sums in float64, gradients of c samples"
    return Cost(1, 1, images, memory, formula)


def block_cost(outline: Outline, samples: int, block_size: int, memory_gb: float, *, surgeon: int = 0) -> Cost:
    """Return the cost of Gram matrices, gathered for as many layers at a time as `memory_gb` allows.

    Args:
        outline: the network to prune.
        samples: number of gradients.
        block_size: weights per block.
        memory_gb: GiB of Gram matrices at a time.
        surgeon: further bytes per weight for a pruner that also updates weights, else 0; such a pruner passes over
            the data twice unless all matrices fit at once.
    """
    images = outline.images(samples) or samples
    limit = int(memory_gb * 2**30)
    needs = {name: block_bytes(size, block_size, images) for name, size in outline.sizes.items()}
    groups = groups_that_fit(needs, limit)
    most = max(sum(needs[name] for name in group) for group in groups)
    weights = max(sum(outline.sizes[name] for name in group) for group in groups)
    chunk = _samples_at_once(outline, weights, images)
    gathering = _gradients(outline, weights, chunk, images) + FLOAT * chunk * outline.largest
    solving = images * outline.image_bytes + _solving(outline, block_size, images, whole=surgeon > 0)
    memory = 2 * outline.state_bytes + most + (18 + surgeon) * outline.weights + max(gathering, solving)
    passes = len(groups) * (2 if surgeon and len(groups) > 1 else 1)
    name = max(needs, key=needs.__getitem__)
    return Cost(
        passes, passes, images, memory,
        f"2 S + 4 W min(B, m), at most memory_gb, + {18 + surgeon} W + m images + the larger of (c + 1) 4 W + A + "
        f"4 c Wmax (gradients) and {8 if surgeon else 4} x 64 MiB (blocks)",
        too_large(name, needs[name]) if needs[name] > limit else None,
    )  # fmt: skip


def probed_bytes(weights: int, block_size: int, element_size: int = FLOAT) -> int:
    """Return the bytes of a parameter's blocks of the Hessian, padding included; of its diagonal for size 1."""
    size = min(block_size, weights)
    return -(-weights // size) * size**2 * element_size


def probing_cost(outline: Outline, samples: int, block_size: int, products: int, memory_gb: float) -> Cost:
    """Return the cost of Hessian-vector products, about two backward passes each, for each set of layers that fits.

    Args:
        outline: the network to prune.
        samples: number of images.
        block_size: weights per block; 1 for the diagonal.
        products: number of products.
        memory_gb: GiB of blocks at a time.
    """
    images = outline.images(samples) or samples
    limit = int(memory_gb * 2**30)
    needs = {name: probed_bytes(size, block_size) for name, size in outline.sizes.items()}
    sets = groups_that_fit(needs, limit)
    most = max(sum(needs[name] for name in names) for names in sets)
    at_once = min(PROBED_AT_ONCE, images, outline.batch_size)
    entries = min(max(STEP_ENTRIES, block_size**2), outline.largest * block_size + block_size**2)
    solving = 6 * DOUBLE * entries if block_size > 1 else 0
    memory = 2 * outline.state_bytes + most + 2 * max(needs.values()) + 30 * outline.weights
    memory += 4 * at_once * outline.pass_bytes + solving
    name = max(needs, key=needs.__getitem__)
    return Cost(
        len(sets), len(sets) * (1 + 2 * products), images, memory,
        "2 S + 4 W B, at most memory_gb, + 8 Wmax B + 30 W + 4 A of 16 images + 6 x 64 MiB: state, blocks, products",
        too_large(name, needs[name]) if needs[name] > limit else None,
    )  # fmt: skip


def interaction_cost(outline: Outline, samples: int) -> Cost:
    """Return the cost of the gradient and of one product with the Hessian, about two backward passes."""
    images = outline.images(samples) or samples
    at_once = min(PROBED_AT_ONCE, images, outline.batch_size)
    memory = 2 * outline.state_bytes + 34 * outline.weights + 4 * at_once * outline.pass_bytes
    formula = "2 S + 34 W + 4 A of 16 images: state, sums and scores in float64, gradients, products"
    return Cost(1, 3, images, memory, formula)


def input_cost(outline: Outline, samples: int) -> Cost:
    """Return the cost of one forward pass that observes the inputs of all layers."""
    images = outline.images(samples) or samples
    memory = 2 * outline.state_bytes + 18 * outline.weights + 2 * DOUBLE * outline.largest + _watching(outline, images)
    formula = "2 S + 18 W + 16 Wmax + 3 to 7 b a + 7 x 64 MiB: state, scores in float64, masks, inputs of one batch"
    return Cost(1, 0, images, memory, formula)


def layer_cost(outline: Outline, samples: int, *, rerun: bool, solver: Literal["columns", "greedy", "swaps"]) -> Cost:
    """Return the cost of the input Hessians of one layer (or all layers), with which layers are pruned one by one.

    The Hessians are inverted and factored for columns and greedy removals; swaps need the pairs of each row's weights.
    """
    images = outline.images(samples) or samples
    squares = {name: _hessian_entries(name, shape) for name, shape in outline.shapes.items()}
    largest = max(squares.values())
    hessians = largest if rerun else sum(squares.values())
    if solver == "swaps":
        copies, rows = 1, 3 * max(_pairs(shape) for shape in outline.shapes.values()) + 6 * outline.largest
        each = "8 d^2 of the largest + 48 Wmax + 3 x 64 MiB"
    elif solver == "greedy":
        copies, rows = 5, 6 * STEP_ENTRIES + 24 * outline.largest
        each = "40 d^2 of the largest + 192 Wmax + 6 x 64 MiB"
    else:
        copies, rows = 5, 4 * outline.largest
        each = "40 d^2 of the largest + 32 Wmax"
    memory = 2 * outline.state_bytes + 6 * outline.weights + DOUBLE * (hessians + copies * largest + rows)
    memory += _watching(outline, images)
    held = images * (outline.image_bytes + HELD * outline.widest_bytes)
    carried = rerun and held <= MOST_CARRIED
    memory += held if carried else 0
    of = "one layer" if rerun else "all layers"
    formula = f"2 S + 6 W + 8 d^2 of {of} + {each} + 3 to 7 b a + 7 x 64 MiB: Hessians, inputs"
    if carried:
        formula += f"; + n (i + {HELD} a): all images at one layer"
    return Cost(len(outline.shapes) if rerun and not carried else 1, 0, images, memory, formula)


def _pairs(shape: tuple[int, ...]) -> int:
    """Return the most pairs of a kept and a pruned weight of a row that are held at a time."""
    in_row = math.prod(shape[1:]) ** 2 // 4
    return min(shape[0] * in_row, max(STEP_ENTRIES, in_row))


def _samples_at_once(outline: Outline, weights: int, images: int) -> int:
    """Return the number of samples whose gradients are held at a time, at most one batch."""
    return min(chunk_samples(FLOAT * weights), images, outline.batch_size)


def _gradients(outline: Outline, weights: int, chunk: int, images: int) -> int:
    """Return the bytes of the images, of the gradients of `chunk` samples and of the passes that compute them."""
    at_once = 1 if outline.on_cpu else chunk  # vmap runs all samples together
    return images * outline.image_bytes + (chunk + at_once) * FLOAT * weights + at_once * outline.pass_bytes


def _solving(outline: Outline, block_size: int, images: int, *, whole: bool) -> int:
    """Return the bytes of the linear algebra of the blocks processed at a time.

    With fewer samples than weights per block, a score needs only the gradients, not the whole matrices.
    """
    size = min(block_size, outline.largest)
    entries = min(max(STEP_ENTRIES, size**2), outline.largest * size + size**2)
    if images < size and not whole:
        return 4 * DOUBLE * entries * images // size
    return (8 if whole else 4) * DOUBLE * entries


def _watching(outline: Outline, images: int) -> int:
    """Return the bytes of a forward pass of one batch and of the layer inputs that it passes on.

    Convolutions pass their inputs on a few columns at a time, linear maps all at once and in float64. The inputs of
    linear maps are as wide as the widest activation only in networks with more linear maps than convolutions.
    """
    widest = min(outline.batch_size, images) * outline.widest_bytes
    kernel = max((math.prod(shape[2:]) for shape in outline.shapes.values()), default=1)
    linear = sum(len(shape) == 2 for shape in outline.shapes.values())
    return (7 if 2 * linear > len(outline.shapes) else 3) * widest + 7 * min(_COLUMN_BYTES, kernel * widest)


def _hessian_entries(name: str, shape: tuple[int, ...]) -> int:
    """Return the number of entries of ``X X'`` over all groups; a depthwise convolution has one group per channel."""
    inputs = math.prod(shape[1:])
    groups = 3 if name.endswith("in_proj_weight") else shape[0] if len(shape) > 2 and shape[1] == 1 else 1
    return groups * inputs**2
