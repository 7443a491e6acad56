"""The networks, against the paper's numbers and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruningbench_cifar_resnets.network import Block, CifarResNet, pad_crop_flip


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_published_sizes(depth: int, parameters: int) -> None:
    """Table 6 of the paper: .27, .46, .66, .85 and 1.7 million parameters."""
    network = CifarResNet(depth, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules()) == depth


def test_option_b_has_two_projections() -> None:
    """16 x 32 and 32 x 64 weights, and their norms."""
    plain, projected = CifarResNet(20, 10), CifarResNet(20, 10, "B")
    added = sum(p.numel() for p in projected.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert projected.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_shapes_of_the_stages() -> None:
    """The side of the map is halved twice."""
    network, images = CifarResNet(20, 7).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = network.features(images)
        assert features.shape == (2, 64, 8, 8) and float(features.min()) >= 0
        assert torch.equal(network.classify(features), network(images))


def test_a_growing_shortcut_takes_every_second_pixel_between_zeros() -> None:
    """Option A, with the inside silenced."""
    block = Block(4, 8, "A").eval()
    nn.init.zeros_(block.bn2.weight)
    images = torch.rand(1, 4, 6, 6)
    expected = torch.zeros(1, 8, 3, 3)
    expected[:, 2:6] = images[..., ::2, ::2]
    assert torch.equal(block(images), expected)


@pytest.mark.parametrize("depth", [2, 18, 21, 0, -4])
def test_other_depths_are_refused(depth: int) -> None:
    """And the message says which there are."""
    with pytest.raises(ValueError, match="6 n"):
        CifarResNet(depth, 10)


def test_augmented_images_are_crops_of_the_padded_ones() -> None:
    """Each is found at exactly one of 81 places, mirrored or not; both occur, and all shifts."""
    images = torch.randint(1, 256, (300, 3, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    made = pad_crop_flip(images, torch.Generator().manual_seed(1))
    assert made.dtype == torch.uint8 and made.shape == images.shape
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    places = []
    for image, augmented in zip(padded, made, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(9) for left in range(9) for mirrored in (False, True)
            for crop in [image[:, top : top + 6, left : left + 7]]
            if torch.equal(augmented, crop.flip(2) if mirrored else crop)
        ]  # fmt: skip
        assert len(found) == 1
        places += found
    assert {top for top, _, _ in places} == {left for _, left, _ in places} == set(range(9))
    assert 100 < sum(mirrored for _, _, mirrored in places) < 200
    assert torch.equal(made, pad_crop_flip(images, torch.Generator().manual_seed(1)))
