"""Outputs that say nothing: one class or one box for everything, nothing found, constant maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEARLY_ALL = 0.95
"""If at least this share of the samples has the same answer, the answer says nothing about any of them."""
FEW = 8
"""With fewer samples than this, equal answers may be chance."""


@dataclass(frozen=True)
class Degenerate:
    """Samples whose output says nothing about them.

    Attributes:
        what: what is wrong with them, in a few words (``one predicted class``).
        count: number of such samples, >= 1.
        remedy: what is likely to help, in a few words; "" if unknown.
    """

    what: str
    count: int
    remedy: str = ""

    def joined(self, other: Degenerate) -> Degenerate:
        """Return what is wrong with the samples of two parts of the same outputs."""
        return Degenerate(self.what, self.count + other.count, self.remedy or other.remedy)


COLLAPSED = "the network is probably destroyed: prune less, or train after pruning"


def one_answer(answers: Tensor, truth: Tensor | None, what: str) -> Degenerate | None:
    """Report whether nearly all (N,) int64 answers are the same although the true ones, if known, are not."""
    if len(answers) < FEW or (truth is not None and _share(truth) >= NEARLY_ALL):
        return None
    return Degenerate(what, _most(answers), COLLAPSED) if _share(answers) >= NEARLY_ALL else None


def constant_maps(maps: Tensor) -> Degenerate | None:
    """Count (N, H, W) maps that have one finite value everywhere."""
    flat = maps.flatten(1)
    if not flat.numel():
        return None
    count = int(((flat == flat[:, :1]).all(dim=1) & flat[:, 0].isfinite()).sum())
    return Degenerate("constant map", count, COLLAPSED) if count else None


def boxes_alike(
    boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]] | None, remedy: str = ""
) -> Degenerate | None:
    """Count images in which nothing is found and, if nearly all images have the same box, these too.

    Args:
        boxes: N tensors (K, 4), the most certain first.
        sizes: N pairs (height, width), by which boxes are divided; None compares pixels.
        remedy: what is likely to help, from the task.
    """
    import torch

    first = [(i, found[0].double().cpu()) for i, found in enumerate(boxes) if len(found)]
    nothing = len(boxes) - len(first)
    if len(first) >= FEW:
        scale = [(1, 1) if sizes is None else sizes[i] for i, _ in first]
        divided = torch.stack([box / torch.tensor([w, h, w, h]) for (_, box), (h, w) in zip(first, scale, strict=True)])
        same = Counter(map(tuple, (divided * 200).round().tolist())).most_common(1)[0][1]
        if same >= NEARLY_ALL * len(first):
            return Degenerate("the same box", same + nothing, remedy)
    return Degenerate("nothing found", nothing, remedy) if nothing else None


def _most(answers: Tensor) -> int:
    return Counter(answers.tolist()).most_common(1)[0][1]


def _share(answers: Tensor) -> float:
    return _most(answers) / len(answers)
