"""The crops of a concept sheet: those that show each leading concept most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pruningbench.contract import Concepts, Exhibit
from pruningbench_interpretability.coherence import concept_coherence, match_concepts, top_crops

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract import Samples, VisionModel


def exhibit(found: Concepts, model: VisionModel, samples: Samples, count: int) -> Exhibit | None:
    """Return the top crops of the leading concepts, in rows aligned with those of the dense model.

    A row is named after a class and the rank of one of the dense model's concepts; it shows the concept paired
    with that one. Without the dense model it shows the concept of that rank.

    Args:
        found: the concepts.
        model: provides the preprocessing and the class names.
        samples: the data set.
        count: crops per concept; fewer are shown if fewer images contain it.
    """
    crops, keys, captions = [], [], []
    for label in found.explained if count else ():
        concepts, own = found.of_class(label)
        coefficients = found.coefficients[own][:, concepts]
        coherence = concept_coherence(coefficients, found.embeddings[own], found.crop_images[own])
        partners, cosines = _partners(found, label)
        for place, (concept, cosine) in enumerate(zip(partners[: found.top], cosines, strict=False), start=1):
            row = f"{model.classes[label]} {place}"
            caption = _caption(float(found.importance[concepts[concept]]), float(coherence[concept]), cosine)
            for i, position in enumerate(top_crops(coefficients[:, concept], found.crop_images[own], count).tolist()):
                crops.append(_pixels(model, samples, found, int(own[position])))
                keys.append(f"{row}/{i}")
                captions.append(caption)
    return Exhibit("concepts", torch.stack(crops), tuple(keys), captions=tuple(captions)) if crops else None


def _partners(found: Concepts, label: int) -> tuple[list[int], list[float | None]]:
    """Return, for each of the dense model's concepts in order, its partner's rank and their cosine."""
    concepts, own = found.of_class(label)
    if found.dense is None:
        return list(range(len(concepts))), [None] * len(concepts)
    before, after = (c.coefficients[own][:, concepts].T for c in (found.dense, found))
    partners, cosines = match_concepts(before, after)
    return partners.tolist(), list(cosines.tolist())


def _caption(importance: float, coherence: float, cosine: float | None) -> str:
    parts = [f"importance {importance:.2f}", f"coherence {coherence:+.2f}"]
    return " · ".join(parts if cosine is None else [*parts, f"cosine {cosine:.2f}"])


def _pixels(model: VisionModel, samples: Samples, found: Concepts, crop: int) -> Tensor:
    """Return a crop, (C, side, side) in [0, 1]."""
    x0, y0, x1, y1 = (int(edge) for edge in found.crop_boxes[crop].tolist())
    image = model.preprocessing.fit(samples[int(found.crop_images[crop])]).image
    return image[:, y0:y1, x0:x1].float() / 255
