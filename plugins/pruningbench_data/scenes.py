"""The data set `digit-scenes`: scenes composed of real digits, with exact boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import ArraySamples, Context, DataCard, Dataset, param, range_problem
from pruningbench_data.digits import CARD, LARGEST, SCAN, classes_problem

if TYPE_CHECKING:
    from pruningbench.contract import Samples

GAP = 2
"""Free pixels between the boxes of two objects, and between an object and clutter."""


@dataclass(frozen=True)
class DigitScenes(Dataset):
    """Scenes with a few digits of one class on a textured background, among fragments of other digits.

    The scenes follow cluttered MNIST (V. Mnih et al., Recurrent models of visual attention, 2014), with scans
    from the data set `digits`; scenes of a split contain only scans of that split. A scene's label is the
    class of its digits. Scene i shows class i modulo the number of classes, and does not depend on the number
    of scenes. The mask covers pixels of which a digit's ink, after scaling, covers at least half; boxes tightly
    enclose each digit's part of the mask. Digits do not overlap.
    """

    card: ClassVar[DataCard] = CARD

    split: Literal["train", "test"] = param("test", doc="split of `digits` whose scans form the scenes")
    classes: tuple[int, ...] = param((0, 1, 2, 3, 4, 5), doc="digits to show; labels follow this order")
    count: int = param(120, doc="number of scenes, >= 1")
    size: int = param(36, doc="side of a scene in pixels, 16..256")
    objects: tuple[int, int] = param((1, 2), doc="minimum and maximum number of digits in a scene, >= 1")
    scale: tuple[float, float] = param(
        (0.45, 0.75), doc="smallest and largest side of a digit's scan, as a share of the scene's side, in (0, 1]"
    )
    clutter: int = param(3, doc="number of fragments of other digits in the background, >= 0")
    noise: float = param(0.3, doc="brightest background, as a share of full white, in [0, 1)")
    seed: int = param(0, doc="seed of the composition, >= 0")

    def problem(self) -> str | None:
        """Check ranges, and that the maximum number of digits always fits."""
        fewest, most = self.objects
        smallest, largest = self.scale
        for name, fine in (
            ("count", self.count >= 1),
            ("size", 2 * SCAN <= self.size <= LARGEST),
            ("objects", 1 <= fewest <= most),
            ("scale", 0 < smallest <= largest <= 1),
            ("clutter", self.clutter >= 0),
            ("noise", 0 <= self.noise < 1),
            ("seed", self.seed >= 0),
        ):
            if not fine:
                return range_problem(self, name)
        side = self.sides[0]
        if side < SCAN:
            return f"scale: digits of {side} pixels are smaller than scans of {SCAN} pixels; raise `scale` or `size`"
        if ((self.size + GAP) // (side + GAP)) ** 2 < most:
            return f"{most} digits of {side} pixels do not fit in {self.size} pixels; raise `size` or lower `objects`"
        return classes_problem(self.classes)

    @property
    def sides(self) -> tuple[int, int]:
        """Smallest and largest side of a digit's scan, in pixels."""
        return round(self.scale[0] * self.size), round(self.scale[1] * self.size)

    def load(self, context: Context) -> Samples:
        """Return (1, size, size) uint8 scenes with labels, boxes and masks.

        Keys are ``scene-INDEX-digit-ROW...`` with the rows of the digits in the scene.
        """
        del context
        import torch

        from pruningbench.contract import derive_seed
        from pruningbench_data._compose import Layout, compose

        layout = Layout(self.size, self.objects, self.sides, self.clutter, self.noise, GAP)
        scenes = [
            compose(layout, self.split, self.classes, i % len(self.classes),
                    derive_seed("digit-scenes", self.split, self.seed, i))
            for i in range(self.count)
        ]  # fmt: skip
        return ArraySamples(
            torch.stack([torch.from_numpy(scene.image) for scene in scenes])[:, None],
            torch.tensor([i % len(self.classes) for i in range(self.count)]),
            boxes=[torch.from_numpy(scene.boxes) for scene in scenes],
            masks=torch.stack([torch.from_numpy(scene.mask) for scene in scenes]),
            classes=[str(digit) for digit in self.classes],
            keys=[f"scene-{i}-" + "-".join(f"digit-{row}" for row in scene.rows) for i, scene in enumerate(scenes)],
        )
