"""Human label distributions: how well a network predicts people's labels, including their uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor


def human_cross_entropy(probabilities: Tensor, human: Tensor) -> Tensor:
    """Return each image's cross-entropy -sum p log q of a network's probabilities q to people's labels p.

    Source: Peterson et al., Human uncertainty makes classification more robust, ICCV 2019.

    Args:
        probabilities: (N, classes) softmax probabilities.
        human: (N, classes) shares or numbers of people who chose each class.

    Returns:
        (N,) float64 nats >= 0, at least the people's own entropy; lower is better. Infinite where people
        chose a class to which the network gives probability zero; NaN where nobody answered or a probability is NaN.

    Raises:
        ValueError: if the shapes differ.
    """
    if probabilities.shape != human.shape or human.ndim != 2:
        raise ValueError(f"both must be (N, classes), got {tuple(probabilities.shape)} and {tuple(human.shape)}")
    shares = label_shares(human).to(probabilities.device)
    logarithms = probabilities.double().log()
    terms = torch.where((shares == 0) & ~logarithms.isnan(), 0.0, -shares * logarithms)
    return terms.sum(dim=1)


def human_entropy(human: Tensor) -> Tensor:
    """Return the entropy of each image's human labels (N, classes): (N,) float64 nats, NaN where nobody answered."""
    shares = label_shares(human)
    return -torch.xlogy(shares, shares).sum(dim=1)


def label_shares(human: Tensor) -> Tensor:
    """Convert numbers or shares of people (N, classes) to float64 shares; NaN where nobody answered."""
    counts = human.double()
    return counts / counts.sum(dim=1, keepdim=True)
