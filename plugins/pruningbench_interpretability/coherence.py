"""Coherence and purity of concepts, and the matching of concepts between two networks."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

NEGLIGIBLE = 1e-6
"""Coefficients below this share of the largest one do not show a concept: rounding alone produces them."""


def top_crops(coefficients: Tensor, images: Tensor, count: int) -> Tensor:
    """Return the crops that show a concept most, at most one per image.

    Crops of one image overlap and look alike for any concept; one crop per image avoids this bias.

    Args:
        coefficients: (P,) float, how much of the concept is in each crop.
        images: (P,) int64, the image that each crop comes from.
        count: number of crops to return.

    Returns:
        At most `count` int64 positions, in descending order of the coefficient, ties by index. Only crops
        with a coefficient above 0 (up to rounding) are returned, and none if the coefficients are NaN or equal.
    """
    values = coefficients.double()
    largest, smallest = (float(v) for v in torch.aminmax(values)[::-1]) if len(values) else (0.0, 0.0)
    if not largest > 0 or largest - smallest <= NEGLIGIBLE * largest:  # also NaN
        return torch.empty(0, dtype=torch.int64)
    order = values.cpu().argsort(descending=True, stable=True)
    order = order[values.cpu()[order] > NEGLIGIBLE * largest]
    chosen: dict[int, int] = {}
    for position, image in zip(order.tolist(), images.cpu()[order].tolist(), strict=True):
        chosen.setdefault(image, position)
        if len(chosen) == count:
            break
    return torch.tensor(list(chosen.values()), dtype=torch.int64)


def concept_coherence(coefficients: Tensor, embeddings: Tensor, images: Tensor, patches: int = 10) -> Tensor:
    """Return how much more alike the top crops of each concept are than crops drawn at random.

    This is the mean cosine between the embeddings of the top crops, one per image (`top_crops`), minus its
    mean over all permutations of the crops that keep one crop per image. The latter is the mean cosine between
    random crops of two different images, in closed form. The permutation null removes what all crops of a
    class share, and the encoder's general level of cosines.

    Args:
        coefficients: (P, K) float, how much of each concept is in each crop.
        embeddings: (P, E) float, embeddings of the crops by a frozen encoder; zero and NaN rows are left out.
        images: (P,) int64, the image that each crop comes from.
        patches: number of top crops, >= 2; at most one per image.

    Returns:
        (K,) float64 in [-2, 2], 0 = no more alike than random crops; NaN for a concept that is undefined,
        equal in all crops, or visible in fewer than two images.
    """
    coefficients, embeddings, images = coefficients.cpu(), embeddings.cpu().double(), images.cpu()
    usable = embeddings.isfinite().all(dim=1) & (embeddings != 0).any(dim=1)
    directions, images = normalize(embeddings[usable], dim=1), images[usable]
    chance = _cosine_of_random_crops(directions, images)
    values = []
    for concept in coefficients[usable].T:
        top = directions[top_crops(concept, images, patches)]
        n = len(top)
        pairs = float(top.sum(dim=0).square().sum()) - n
        values.append(pairs / (n * (n - 1)) - chance if n >= 2 else float("nan"))
    return torch.tensor(values, dtype=torch.float64)


def _cosine_of_random_crops(directions: Tensor, images: Tensor) -> float:
    """Return the mean cosine between crops of two different images, with images drawn uniformly."""
    places = torch.unique(images, return_inverse=True)[1]
    n = int(places.max()) + 1 if len(places) else 0
    if n < 2:
        return float("nan")
    sums = directions.new_zeros(n, directions.shape[1]).index_add_(0, places, directions)
    means = sums / places.bincount(minlength=n)[:, None]
    total = means.sum(dim=0).square().sum() - means.square().sum()
    return float(total) / (n * (n - 1))


def concept_purity(
    coefficients: Tensor, classes: Tensor, crop_classes: Tensor, images: Tensor, patches: int = 10
) -> Tensor:
    """Return the share of each concept's top crops among all classes that belong to its own class.

    Args:
        coefficients: (P, K) float, how much of each concept is in each crop of all classes.
        classes: (K,) int64, the class that each concept was found on.
        crop_classes: (P,) int64, the class of each crop.
        images: (P,) int64, the image that each crop comes from.
        patches: number of top crops, one per image, >= 1.

    Returns:
        (K,) float64 in [0, 1]; a concept that is equally present in all classes gets its class's share of the
        images. NaN for a concept that is undefined or equal in all crops.
    """
    class_of_crop = crop_classes.cpu()
    values = []
    for concept, label in zip(coefficients.cpu().T, classes.tolist(), strict=True):
        top = top_crops(concept, images, patches)
        values.append(float((class_of_crop[top] == label).double().mean()) if len(top) else float("nan"))
    return torch.tensor(values, dtype=torch.float64)


def match_concepts(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Pair the concepts of two networks, one to one, so that the sum of their cosines is maximal.

    SciPy solves the Hungarian assignment (Kuhn, Naval Research Logistics Quarterly 2, 1955).

    Args:
        first: (K, F) float, one row per concept: its direction, or its coefficients in the same F crops.
        second: as `first`.

    Returns:
        (K,) int64 partner of each row of `first` among the rows of `second`, and (K,) float64 cosines, NaN
        where a row is zero or not finite.
    """
    cosines = _unit(first) @ _unit(second).T
    _, partners = linear_sum_assignment(cosines.nan_to_num(nan=-1.0).numpy(), maximize=True)
    partner = torch.from_numpy(partners)
    return partner, cosines[torch.arange(len(cosines)), partner].clamp(-1, 1)


def _unit(rows: Tensor) -> Tensor:
    exact = rows.cpu().double()
    unit: Tensor = exact / exact.norm(dim=1, keepdim=True)  # zero rows become NaN
    return unit
