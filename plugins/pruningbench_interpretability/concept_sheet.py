"""The crops of a concept sheet: those that show each leading concept most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pruningbench.contract import Concepts, Exhibit
from pruningbench_interpretability.coherence import concept_coherence, match_concepts, top_crops

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract import Samples, VisionModel


def exhibit(extracted: Concepts, model: VisionModel, samples: Samples, count: int) -> Exhibit | None:
    """Return the top crops of the leading concepts, in rows aligned with those of the dense model.

    A row is named after a class and the rank of one of the dense model's concepts; it shows the concept paired
    with that one. Without the dense model it shows the concept of that rank.

    Args:
        extracted: the concepts.
        model: provides the preprocessing and the class names.
        samples: the data set.
        count: crops per concept; fewer are shown if fewer images contain it.
    """
    crops, keys, captions = [], [], []
    for label in extracted.explained if count else ():
        concepts, rows = extracted.of_class(label)
        coefficients = extracted.coefficients[rows][:, concepts]
        coherence = concept_coherence(coefficients, extracted.embeddings[rows], extracted.crop_images[rows])
        partners, cosines = _partners(extracted, label)
        for place, (concept, cosine) in enumerate(zip(partners[: extracted.top], cosines, strict=False), start=1):
            row = f"{model.classes[label]} {place}"
            caption = _caption(float(extracted.importance[concepts[concept]]), float(coherence[concept]), cosine)
            for i, position in enumerate(
                top_crops(coefficients[:, concept], extracted.crop_images[rows], count).tolist()
            ):
                crops.append(_pixels(model, samples, extracted, int(rows[position])))
                keys.append(f"{row}/{i}")
                captions.append(caption)
    return Exhibit("concepts", torch.stack(crops), tuple(keys), captions=tuple(captions)) if crops else None


def _partners(extracted: Concepts, label: int) -> tuple[list[int], list[float | None]]:
    """Return, for each of the dense model's concepts in order, its partner's rank and their cosine."""
    concepts, rows = extracted.of_class(label)
    if extracted.dense is None:
        return list(range(len(concepts))), [None] * len(concepts)
    before, after = (c.coefficients[rows][:, concepts].T for c in (extracted.dense, extracted))
    partners, cosines = match_concepts(before, after)
    return partners.tolist(), list(cosines.tolist())


def _caption(importance: float, coherence: float, cosine: float | None) -> str:
    parts = [f"importance {importance:.2f}", f"coherence {coherence:+.2f}"]
    return " · ".join(parts if cosine is None else [*parts, f"cosine {cosine:.2f}"])


def _pixels(model: VisionModel, samples: Samples, extracted: Concepts, crop: int) -> Tensor:
    """Return a crop, (C, side, side) in [0, 1]."""
    x0, y0, x1, y1 = (int(edge) for edge in extracted.crop_boxes[crop].tolist())
    image = model.preprocessing.fit(samples[int(extracted.crop_images[crop])]).image
    return image[:, y0:y1, x0:x1].float() / 255
