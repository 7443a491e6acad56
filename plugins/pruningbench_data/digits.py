"""The data set `digits`: real scans of handwritten digits that ship with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import ArraySamples, Context, DataCard, Dataset, param

if TYPE_CHECKING:
    from pruningbench.contract import Samples

SCAN = 8
"""Side of a scan in pixels."""
LARGEST = 256
"""Largest side, in pixels, to which these data sets enlarge scans."""
CARD = DataCard(
    licence="CC BY 4.0",
    citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
    homepage="https://archive.ics.uci.edu/dataset/80",
    checksum="ships with scikit-learn",
)


@dataclass(frozen=True)
class Digits(Dataset):
    """Scikit-learn's handwritten digits: 1797 scans, one grey channel, bright ink on black.

    The split is fixed: in file order, every third scan of each class is a test image (about
    1200 train, 600 test). Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
    UCI Machine Learning Repository, 1998 (its 8 x 8 test part, as shipped with scikit-learn).
    """

    card: ClassVar[DataCard] = CARD

    split: Literal["train", "test", "all"] = param("train", doc="train, test, or all")
    classes: tuple[int, ...] = param(tuple(range(10)), doc="digits to keep; labels follow this order")
    limit: int | None = param(None, doc="maximum number of images, shared evenly by the classes, >= 1")
    size: int = param(24, doc="side in pixels to which the 8 x 8 scans are enlarged, 8..256")

    def problem(self) -> str | None:
        """Check the classes and ranges."""
        if self.limit is not None and self.limit < 1:
            return f"limit is {self.limit}, but must be at least 1"
        if not SCAN <= self.size <= LARGEST:
            return f"size is {self.size}, but must lie in {SCAN}..{LARGEST}"
        return classes_problem(self.classes)

    def load(self, context: Context) -> Samples:
        """Return (1, size, size) uint8 images with labels; keys are ``digit-ROW`` with the row in the source."""
        del context
        import numpy as np
        import torch

        from pruningbench_data._scans import enlarge, load_scans, rows_of, to_bytes

        rows = rows_of(self.split, self.classes, self.limit)
        scans = load_scans()
        images = to_bytes(enlarge(scans.ink[rows], self.size))
        position = {digit: label for label, digit in enumerate(self.classes)}
        labels = np.array([position[int(digit)] for digit in scans.digits[rows]], dtype=np.int64)
        return ArraySamples(
            torch.from_numpy(images)[:, None],
            torch.from_numpy(labels),
            classes=[str(digit) for digit in self.classes],
            keys=[f"digit-{row}" for row in rows],
        )


def classes_problem(classes: tuple[int, ...]) -> str | None:
    """Return what is wrong with a choice of digits, or None."""
    if not classes:
        return "classes is empty; name at least one digit"
    if not all(0 <= digit <= 9 for digit in classes):
        return f"classes must be digits 0..9, got {list(classes)}"
    if len(set(classes)) < len(classes):
        return f"classes must not repeat, got {list(classes)}"
    return None
