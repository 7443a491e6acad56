"""What a context shares: rows of features and logits, of the pruned and of the dense model."""

from __future__ import annotations

import pytest
import torch
from kit.cache import NoCache
from kit.transfer import Tiny, blobs, tiny
from torch import Tensor, nn

from pruningbench.contract import Context, Preprocessing, Sample, Samples
from pruningbench.plugins import Registry


class Ragged(Samples):
    """Grey images of two sizes, in turns; the mean of image i is i."""

    classes = ("a",)
    fingerprint = "ragged"

    @property
    def labels(self) -> Tensor | None:
        return None

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not 0 <= index < 7:
            raise IndexError(index)
        return Sample(torch.full((1, 2 + index % 2, 3), index, dtype=torch.uint8))


class Mean(Tiny):
    """Embeds an image as its mean level, whatever its size, and remembers the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1), Preprocessing((0.0,), (1.0,)))
        self.batches_seen: list[int] = []

    def embed(self, images: Tensor) -> Tensor:
        self.batches_seen.append(len(images))
        return 255 * images.mean(dim=(1, 2, 3))[:, None]


def lent(dense: Tiny | None = None, batch_size: int = 3) -> Context:
    def no_data(_reference: object) -> Samples:
        raise AssertionError("no data set is opened here")

    return Context(torch.device("cpu"), 0, NoCache(), no_data, batch_size=batch_size, dense=dense)


def test_rows_come_in_the_order_of_the_index_and_repeat_with_it() -> None:
    data, model, context = blobs([0, 1, 0, 1, 1], ("p0", "p1")), tiny(("p0", "p1")), lent()
    pixels = data.images.flatten(1) / 255
    torch.testing.assert_close(context.features(model, data, [3, 0, 3]), pixels[[3, 0, 3]])
    assert model.embedded == 2  # the image asked for twice went through once
    torch.testing.assert_close(context.features(model, data), pixels)
    assert model.embedded == 5  # only those that were lacking
    torch.testing.assert_close(context.features(model, data, torch.tensor([4, 4])), pixels[[4, 4]])
    assert model.embedded == 5


def test_logits_are_kept_apart_from_features() -> None:
    data, context = blobs([0, 1, 0], ("p0", "p1")), lent()
    model = tiny(("p0", "p1"), torch.eye(2, 4))
    torch.testing.assert_close(context.logits(model, data), data.images.flatten(1)[:, :2] / 255)
    assert context.features(model, data).shape == (3, 4)
    assert not context.logits(model, data).requires_grad and context.logits(model, data).dtype == torch.float32


def test_another_data_set_is_computed_anew() -> None:
    model, context = tiny(("p0", "p1")), lent()
    first, second = blobs([0, 1], ("p0", "p1"), 0), blobs([0, 1], ("p0", "p1"), 1)
    assert not torch.equal(context.features(model, first), context.features(model, second))
    assert model.embedded == 4


def test_images_of_different_sizes() -> None:
    model, context = Mean(), lent()
    assert context.features(model, Ragged())[:, 0].tolist() == pytest.approx(list(range(7)))
    assert model.batches_seen == [1] * 7  # sizes alternate, and never share a batch
    odd = Mean()
    assert lent().features(odd, Ragged(), [5, 1, 3, 0, 2])[:, 0].tolist() == pytest.approx([5, 1, 3, 0, 2])
    assert odd.batches_seen == [3, 2]


def test_no_images_have_no_features() -> None:
    model, context = Mean(), lent()
    with pytest.raises(ValueError, match="no samples"):
        context.features(model, Ragged(), [])
    assert model.batches_seen == []


def test_the_dense_model_is_not_mistaken_for_the_pruned_one() -> None:
    data, dense, pruned = blobs([0, 1], ("p0", "p1")), tiny(("p0", "p1")), tiny(("p0", "p1"))
    with torch.no_grad():
        pruned.network[1].weight.zero_()  # type: ignore[union-attr,operator]
    context = lent(dense)
    assert context.logits(pruned, data).count_nonzero() == 0
    assert context.logits(dense, data).count_nonzero() > 0
    assert context.logits(pruned, data).count_nonzero() == 0


def test_of_model_keeps_what_was_made_of_each_model() -> None:
    dense, pruned, made = tiny(("p0",)), tiny(("p0",)), []
    context = lent(dense)

    def make(what: str) -> str:
        made.append(what)
        return what

    for _ in range(2):
        assert context.of_model(dense, "key", lambda: make("dense")) == "dense"
        assert context.of_model(pruned, "key", lambda: make("pruned")) == "pruned"
        assert context.of_model(pruned, "other", lambda: make("other")) == "other"
    assert made == ["dense", "pruned", "other"]


def test_once_is_apart_from_what_belongs_to_a_model() -> None:
    context = lent()
    assert [context.once("key", lambda: 1), context.once("key", lambda: 2)] == [1, 1]
    assert context.of_model(tiny(("p0",)), "key", lambda: 3) == 3


def test_a_nan_stays_with_its_image() -> None:
    class Broken(Tiny):
        def embed(self, images: Tensor) -> Tensor:
            return torch.where(images.amax(dim=(1, 2, 3)) > 0.5, float("nan"), 1.0)[:, None]

    data = blobs([0, 1, 0], ("p0", "p1"))
    data.images[1] = 0
    rows = lent().features(Broken(nn.Linear(1, 1), Preprocessing((0.0,), (1.0,))), data)
    assert rows[:, 0].isnan().tolist() == [True, False, True]


def test_every_context_of_a_worker_looks_components_up(toy_registry: Registry) -> None:
    """Also the one in which a check loads models: with another cache, and otherwise the same."""
    from pruningbench.harness.worker import Worker
    from pruningbench.store.cache import Cache

    worker = Worker("suite", toy_registry, torch.device("cpu"), Cache(), lambda _note: None)
    for made in (worker.context(0, NoCache()), worker._context(0)):
        assert made.component("attribution-method", "saliency").full_name == "pruningbench/saliency"
