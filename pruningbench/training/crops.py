"""Random crops of photographs, by timm's transforms in worker processes: the same for any number of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from pruningbench.base.identity import derive_seed
from pruningbench.base.randomness import generator_for, isolated_randomness, seed_cpu
from pruningbench.contract import EncodedSamples, Preprocessing, Samples, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.training.batches import batch_ranges, to_device
from pruningbench.training.settings import CropSettings

if TYPE_CHECKING:
    from PIL import Image

COLOURS = 3
Item = tuple[int, int]
"""An epoch and the position of a sample."""
View = tuple["Image.Image", ...]
"""The channels of a transformed image, each a grey image."""


class CropLoader:
    """Yields the batches of epochs, each image cropped from its photograph and augmented by timm.

    The order is that of `epoch_batches`. What is drawn for an image depends on the seed, the epoch and the image's
    position in the data set only. Worker processes live until `close`.

    Args:
        model: whose preprocessing and device are used.
        samples: photographs of any size.
        labels: (N,) int64 in the model's label space.
        batch_size: samples per batch.
        crops: what to draw, and the number of worker processes.
        seed: seed of the order and of all draws.
    """

    def __init__(
        self, model: VisionModel, samples: Samples, labels: Tensor, batch_size: int, crops: CropSettings, seed: int
    ) -> None:
        self._model, self._labels, self._seed = model, labels, seed
        self._order, self._ranges = _Order(), batch_ranges(len(samples), batch_size)
        workers = worker_processes(samples, crops.workers)
        self._loader: DataLoader[Any] = DataLoader(
            _Views(samples, make_transform(model.preprocessing, samples, crops), seed),
            batch_sampler=self._order,
            num_workers=workers,
            collate_fn=_stack,
            pin_memory=model.device.type == "cuda",
            multiprocessing_context="fork" if workers else None,  # samples hold functions and open files
            generator=torch.Generator(),  # so that the global one is not drawn from
            persistent_workers=workers > 0,
        )

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (normalised images, labels) on the model's device, without the first `skip` batches.

        Raises:
            PruningBenchError: if an image cannot be decoded, or a worker process has ended.
        """
        order = torch.randperm(len(self._labels), generator=generator_for(self._seed, "epoch", epoch)).tolist()
        rest = [[order[i] for i in batch] for batch in self._ranges[skip:]]
        self._order.batches = [[(epoch, index) for index in batch] for batch in rest]
        loaded = iter(self._loader)
        for index in rest:
            try:
                images = next(loaded)
            except RuntimeError as error:  # torch's word for a worker that is gone
                raise PruningBenchError(
                    f"a process that reads images has ended ({str(error).splitlines()[0]}); if memory or shared memory "
                    "(/dev/shm) is short, take fewer `workers` in the recipe"
                ) from error
            if isinstance(images, Exception):
                raise images
            yield to_device(self._model, images, self._labels[index])

    def close(self) -> None:
        """End the worker processes."""
        workers = self._loader._iterator
        if workers is not None and hasattr(workers, "_shutdown_workers"):
            workers._shutdown_workers()
        self._loader._iterator = None


def worker_processes(samples: Samples, asked: int) -> int:
    """Return how many worker processes to use; a negative number asks for one for each of torch's threads.

    Samples in memory need none. Where processes cannot be forked, or this process may have no children, there are none.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or multiprocessing.current_process().daemon:
        return 0
    if asked >= 0:
        return asked
    return torch.get_num_threads() if samples.workers else 0


def make_transform(preprocessing: Preprocessing, samples: Samples, crops: CropSettings) -> Any:
    """Return timm's transform of a training image, from Pillow's image to Pillow's image of H x W pixels.

    Raises:
        PruningBenchError: if `auto_augment` is not what timm knows.
    """
    from timm.data.transforms_factory import create_transform

    size = (preprocessing.size,) * 2 if preprocessing.size else tuple(samples[0].image.shape[-2:])
    coloured: dict[str, Any] = (
        {"mean": preprocessing.mean, "std": preprocessing.std} if len(preprocessing.mean) == COLOURS else {}
    )
    create: Any = create_transform
    try:
        cropping, colouring, _ = create(
            (COLOURS, *size),
            is_training=True,
            use_prefetcher=True,  # so that the last step, which is left out, draws nothing
            separate=True,
            scale=(crops.crop_area, 1.0),
            color_jitter=crops.color_jitter or None,
            auto_augment=crops.auto_augment or None,
            interpolation=preprocessing.interpolation,
            **coloured,
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise PruningBenchError(
            f"auto_augment is {crops.auto_augment!r}, which timm does not know ({type(error).__name__}: {error}); "
            "write for example rand-m9-mstd0.5-inc1"
        ) from error
    cropping.transforms += colouring.transforms
    return repaired(cropping)


def repaired(transform: Any) -> Any:
    """Make timm's posterizing work with every version of Pillow, in place; return the transform.

    A strong policy (``rand-m9-mstd0.5-inc1``) may ask for 0 bits of each colour, which is black. Recent versions of
    Pillow refuse that, so that about one image in a thousand would end the training.
    """
    for part in transform.transforms:
        found = [*getattr(part, "ops", ()), *chain.from_iterable(getattr(part, "policy", ()))]
        for operation in found:
            if getattr(operation.aug_fn, "__name__", "") == "posterize":
                operation.aug_fn = partial(_posterize, operation.aug_fn)
    return transform


def _posterize(timms: Callable[..., Image.Image], image: Image.Image, bits: int, **more: Any) -> Image.Image:
    return timms(image, bits, **more) if bits >= 1 else image.point(lambda _value: 0)


class _Order(Sampler[list[Item]]):
    """The batches of the epoch that is loaded next."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Views(Dataset[Any]):
    """Transformed images by epoch and position; an error is returned, so that the consumer raises it in one line."""

    def __init__(self, samples: Samples, transform: Any, seed: int) -> None:
        self._samples, self._transform, self._seed = samples, transform, seed

    def __getitem__(self, item: Item) -> View | Exception:
        try:
            return self._view(item)
        except Exception as error:  # noqa: BLE001 - raised again where the consumer gets to it
            return error

    def _view(self, item: Item) -> View:
        image, channels = _picture(self._samples, item[1])
        drawing: Any = nullcontext()
        if get_worker_info() is None:  # in the training's own process, whose generators must not be touched
            drawing = isolated_randomness(self._seed, "view", *item)
        else:
            seed_cpu(derive_seed(self._seed, "view", *item))
        with drawing:
            view: View = self._transform(image).split()
        return view[:channels]


def _picture(samples: Samples, index: int) -> tuple[Image.Image, int]:
    """Return a sample as Pillow's image in RGB, and how many of its channels count: one for a grey image."""
    if isinstance(samples, EncodedSamples):
        return samples.picture(index), COLOURS
    from PIL import Image

    array = samples[index].image.permute(1, 2, 0).numpy()
    channels = array.shape[2]
    return Image.fromarray(array if channels == COLOURS else np.repeat(array, COLOURS, axis=2)), channels


def _stack(views: Sequence[View | Exception]) -> Tensor | Exception:
    """Return images as (B, C, H, W) uint8, or the first error among them.

    Pillow separates the channels of an image several times faster than torch. A worker process writes them into the
    memory that it shares with its consumer, without a copy between.
    """
    images: list[View] = []
    for view in views:
        if isinstance(view, Exception):
            return view
        images.append(view)
    width, height = images[0][0].size
    batch = torch.empty(len(images), len(images[0]), height, width, dtype=torch.uint8)
    if get_worker_info() is not None:
        batch.share_memory_()  # type: ignore[no-untyped-call]
    values = batch.numpy()
    for place, channels in enumerate(images):
        for number, channel in enumerate(channels):
            values[place, number] = channel
    return batch
