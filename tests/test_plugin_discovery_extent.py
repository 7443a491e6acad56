"""How much of the image the boxes cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pruningbench_discovery.extent import BoxArea, WholeImageRate
from pruningbench_discovery.metrics import CorLoc

from pruningbench.contract import Boxes


def boxes(*first: tuple[float, float, float, float] | None, sizes: bool = True) -> Boxes:
    predicted = [torch.empty(0, 4) if box is None else torch.tensor([box, (0.0, 0.0, 1.0, 1.0)]) for box in first]
    truth = [torch.tensor([[0.0, 0.0, 10.0, 20.0]])] * len(first)
    return Boxes(predicted, truth, sizes=[(20, 10)] * len(first) if sizes else None)


def test_area_is_that_of_the_first_box_inside_the_image() -> None:
    found = boxes((0, 0, 10, 20), (2, 5, 7, 9), (-5, 10, 5, 40), (12, 0, 20, 5), None)
    np.testing.assert_allclose(BoxArea().values(found).numpy(), [1, 20 / 200, 50 / 200, 0, np.nan], equal_nan=True)


def test_rate_counts_boxes_around_nearly_everything() -> None:
    found = boxes((0, 0, 10, 20), (0, 0, 10, 18), (0, 0, 10, 18.01), (0, 0, 5, 5), None)
    np.testing.assert_array_equal(WholeImageRate().values(found).numpy(), [1, 0, 1, 0, np.nan])
    np.testing.assert_array_equal(WholeImageRate(threshold=0.1).values(found).numpy(), [1, 1, 1, 1, np.nan])


def test_it_tells_what_corloc_hides() -> None:
    """Objects that fill more than half of the image: a box around everything hits each of them."""
    found = boxes(*[(0.0, 0.0, 10.0, 20.0)] * 4)
    assert CorLoc().values(found).mean() == 1
    assert WholeImageRate().values(found).mean() == 1


def test_they_do_not_apply_without_sizes() -> None:
    assert not BoxArea().applies(boxes((0, 0, 1, 1), sizes=False))
    assert not WholeImageRate().applies(boxes((0, 0, 1, 1), sizes=False))


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    assert "threshold must lie in [0, 1)" in str(WholeImageRate(threshold=threshold).problem())
