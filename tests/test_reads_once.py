"""Work that tasks do once: an image is read once for all severities, and a network is probed once for all batches."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from kit.transfer import blobs, context, tiny
from pruningbench_interpretability.cam import grad_cam
from pruningbench_interpretability.craft import Chosen, Craft, grid_of
from pruningbench_transfer.robustness import CorruptionRobustness
from torch import Tensor, nn

from pruningbench.contract import ArraySamples, AttributionSettings, Preprocessing, Sample, VisionModel


class Counted(ArraySamples):
    """Samples that count how often each is read."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.reads: Counter[int] = Counter()

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        self.reads[index] += 1
        return super().__getitem__(index)


class Probed(VisionModel):
    """A network that counts how often its activation module is looked for."""

    probes = 0

    def activation_module(self) -> tuple[nn.Module, Any]:
        """Return the first layer."""
        self.probes += 1
        return self.network[0], lambda output, _images: output  # type: ignore[index]


def test_each_image_is_read_once_for_a_corruption() -> None:
    source = blobs([0, 1, 0, 1, 1], ("p2", "p0"))
    data = Counted(source.images, source.labels, classes=source.classes)
    task = CorruptionRobustness(data="d", kinds=("contrast", "gaussian-noise"), severities=(5, 1, 3))
    together = dict(task.run(tiny(("p0", "p1", "p2", "p3"), torch.eye(4)), context(d=data)))
    assert data.reads == dict.fromkeys(range(5), 2)
    for position, severity in enumerate((5, 1, 3)):
        alone = CorruptionRobustness(data="d", kinds=task.kinds, severities=(severity,))
        for kind, outputs in alone.run(tiny(("p0", "p1", "p2", "p3"), torch.eye(4)), context(d=source)):
            assert torch.equal(outputs.scores[:, 0], together[kind].scores[:, position])


def test_grad_cam_looks_for_the_activation_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)).eval()
    model = Probed(network, Preprocessing((0.5,), (0.25,), 8))
    images, targets = torch.randn(7, 1, 8, 8), torch.zeros(7, dtype=torch.int64)

    def maps(batch_size: int) -> Tensor:
        return grad_cam(model, images, targets, AttributionSettings(torch.zeros(1, 1, 1, 1), batch_size=batch_size))

    found = maps(2)
    assert model.probes == 1
    one_by_one = [grad_cam(model, images[i : i + 1], targets[:1], AttributionSettings(torch.zeros(1, 1, 1, 1)))
                  for i in range(7)]  # fmt: skip
    torch.testing.assert_close(found, torch.cat(one_by_one))


@pytest.mark.parametrize(("size", "reads"), [(8, 0), (None, 3)])
def test_sizes_that_the_preprocessing_decides_are_not_read(size: int | None, reads: int) -> None:
    data = Counted(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), classes=("a", "b"))
    model = VisionModel(nn.Flatten(), Preprocessing((0.5,), (0.25,), size))
    chosen = Chosen(data, torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), (0, 1))
    craft = Craft(2, 4, 0.5, 4, "sobol", False, None, 1)
    grid = grid_of(model, chosen, craft)
    assert grid.size == (8, 8)
    assert sum(data.reads.values()) == reads
