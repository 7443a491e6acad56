"""What the pruner snapvit measures with: views of images, the loss between them, and principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from pruningbench_structured.fidelity import principal_components
from pruningbench_structured.views import GLOBAL, LOCAL, random_box, view_gradients, view_loss, views
from sklearn.decomposition import PCA
from timm.models.vision_transformer import VisionTransformer
from torchvision.transforms.v2.functional import resized_crop

from pruningbench.base.randomness import generator_for, isolated_randomness


def test_the_loss_is_the_sum_over_pairs_of_views() -> None:
    with isolated_randomness("loss"):
        embeddings = torch.randn(2, 5, 7, requires_grad=True)
    unit = embeddings / embeddings.norm(dim=-1, keepdim=True)
    expected = [
        sum(
            -(unit[b, t].detach().softmax(0) * unit[b, s].softmax(0).log()).sum()
            for t in range(2)
            for s in range(5)
            if s != t
        )
        for b in range(2)
    ]
    found = view_loss(embeddings)
    torch.testing.assert_close(found, torch.stack(expected))
    mine, theirs = (torch.autograd.grad(x, embeddings, retain_graph=True)[0] for x in (found.sum(), sum(expected)))
    torch.testing.assert_close(mine, theirs)


def test_gradients_do_not_depend_on_how_images_are_batched() -> None:
    with isolated_randomness("batches"):
        network = VisionTransformer(img_size=8, patch_size=4, embed_dim=20, depth=2, num_heads=5, num_classes=0)
        images = torch.randn(12, 3, 8, 8).double()
    network.double().eval()
    parameters = [network.blocks[0].mlp.fc1.weight]
    found = [
        view_gradients(network, parameters, images.split(size), 3, lambda number: generator_for("crops", number))[0]
        for size in (12, 5, 1)
    ]
    assert found[0].abs().max() > 0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("area", [GLOBAL, LOCAL])
@pytest.mark.parametrize("size", [(32, 32), (12, 40)])
def test_crops_are_distributed_as_torchvisions(area: tuple[float, float], size: tuple[int, int]) -> None:
    generator = generator_for("boxes")
    mine = np.array([random_box(*size, area, generator) for _ in range(4000)], dtype=float)
    with isolated_randomness("boxes"):
        image = torch.zeros(3, *size)
        get = torchvision.transforms.RandomResizedCrop.get_params
        theirs = np.array([get(image, list(area), [3 / 4, 4 / 3]) for _ in range(4000)], dtype=float)
    for a, b in zip(mine.T, theirs.T, strict=True):
        error = np.sqrt((a.var() + b.var()) / 4000)
        assert abs(a.mean() - b.mean()) <= 4 * error
        assert a.std() == pytest.approx(b.std(), rel=0.08, abs=1e-9)
        assert abs(a.min() - b.min()) <= 1
        assert abs(a.max() - b.max()) <= 1


def test_views_are_crops_resized_as_torchvision_does() -> None:
    with isolated_randomness("images"):
        images = torch.randn(2, 3, 20, 24)
    found = views(images, 4, [generator_for(number) for number in range(2)])
    assert found.shape == (2, 4, 3, 20, 24)
    for number, image in enumerate(images):
        generator = generator_for(number)
        for view, area in enumerate((GLOBAL, GLOBAL, LOCAL, LOCAL)):
            box = random_box(20, 24, area, generator)
            expected = resized_crop(image, *box, size=[20, 24], antialias=True)
            torch.testing.assert_close(found[number, view], expected)
    assert not torch.equal(found[0, 0], found[0, 1])  # each view is drawn on its own


def test_principal_components_are_sklearns() -> None:
    with isolated_randomness("pca"):
        embeddings = torch.randn(30, 6, dtype=torch.float64) @ torch.randn(6, 12, dtype=torch.float64) + 3
    for count in (2, 5):
        projection = principal_components(embeddings, count)
        peer = PCA(count).fit(embeddings.numpy())
        assert projection is not None
        signs = torch.from_numpy(np.sign((peer.components_ * projection.components.T.numpy()).sum(1)))
        torch.testing.assert_close(projection(embeddings) * signs, torch.from_numpy(peer.transform(embeddings.numpy())))
    assert principal_components(embeddings, 12) is None
    few = principal_components(embeddings[:4], 8)
    assert few is not None
    assert few.components.shape == (12, 3)
