"""LAMP: magnitudes rescaled in each layer, so that one global threshold allocates the sparsity well."""

from __future__ import annotations

import torch
from torch import Tensor


def lamp_scores(magnitudes: Tensor) -> Tensor:
    """Return the layer-adaptive magnitude score of each weight of one layer.

    The score of w is ``w^2 / sum of v^2 over all v of the layer with |v| >= |w|``. Equal magnitudes score
    equally, and a layer's largest weight scores 1 unless others are as large. The score ranks the weights
    of a layer as magnitude does, and does not change when the layer is scaled.

    Args:
        magnitudes: finite float tensor of any shape: the layer's weights, or their absolute values.

    Returns:
        Float64 tensor of that shape, in [0, 1]; 0 for zero weights, even if all weights are zero.

    Source: Lee, Park, Mo, Ahn, Shin, Layer-adaptive sparsity for the magnitude-based pruning (ICLR
    2021), equation 1.
    """
    size = magnitudes.detach().abs().to(torch.float64).flatten()
    largest = size.amax() if size.numel() else size.new_zeros(())
    if not largest > 0:
        return torch.zeros_like(magnitudes, dtype=torch.float64)
    descending, order = (size / largest).sort(descending=True, stable=True)
    squares = descending.square()
    # largest first: at the last of a group of equals, the running sum covers all weights at least as large
    running = squares.cumsum(0)
    _, group, count = torch.unique_consecutive(descending, return_inverse=True, return_counts=True)
    as_large = running[count.cumsum(0) - 1][group]
    scores = torch.empty_like(squares)
    scores[order] = squares / as_large
    return scores.reshape(magnitudes.shape)
