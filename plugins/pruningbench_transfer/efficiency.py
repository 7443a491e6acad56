"""The task `efficiency`: a network's costs, counted and measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Context, DatasetRef, PruningBenchError, ResourceUse, Samples, Task, VisionModel, param

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Efficiency(Task):
    """Parameters, multiplications, and the measured time and memory of the network in its current form.

    Counted numbers show what remains of the weights; ``effective`` ones only show what hardware that skips zeros
    *could* save. Measured numbers are those of the network as run here: masks leave dense tensors that contain
    zeros and take the same time, so a network that is only masked has a measured speed-up of exactly 1. A network
    with smaller tensors is timed in alternation with the dense network. Times differ from run to run.
    """

    dimension = "efficiency"
    metrics = (
        "parameters",
        "nonzero-parameters",
        "dense-flops",
        "effective-flops-theoretical",
        "measured-latency",
        "measured-speedup",
        "measured-peak-memory",
    )

    data: DatasetRef = param(doc="images that define the network's input size; their content does not matter")
    images: int = param(1, doc="images in the timed batch, >= 1")
    repeats: int = param(20, doc="number of timed batches, >= 1; the result is their median")
    warmup: int = param(3, doc="number of untimed batches before these, >= 0")

    def problem(self) -> str | None:
        """Check ranges."""
        fine = self.images >= 1 and self.repeats >= 1 and self.warmup >= 0
        return None if fine else "images and repeats must be at least 1, warmup at least 0"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, ResourceUse]]:
        """Yield the costs, with one value per repeat and no values per image."""
        import torch

        from pruningbench.pruning.counting import count_macs
        from pruningbench.pruning.timing import measured_seconds, peak_memory

        batch = self._batch(model, context.open_dataset(self.data))
        # masks are recognised by the architecture, so no recipe needs to train a reference for this
        dense = context.as_loaded if context.as_loaded is not None else model
        macs = count_macs(model.network, lambda: model.network(batch[:1]))
        works = [lambda: model.network(batch)]
        if not only_masked(model, dense):
            works.append(lambda: dense.network(batch))
        with torch.inference_mode():
            seconds = measured_seconds(works, context.device, self.repeats, self.warmup)
            peak = peak_memory(model.network, works[0], context.device)
        parameters = list(model.network.parameters())
        yield (
            "",
            ResourceUse(
                parameters=sum(p.numel() for p in parameters),
                nonzero=sum(int(torch.count_nonzero(p)) for p in parameters),
                dense_macs=macs.dense,
                effective_macs=macs.effective,
                seconds=seconds[0],
                dense_seconds=seconds[-1],
                batch_size=self.images,
                peak_memory=peak,
            ),
        )

    def _batch(self, model: VisionModel, samples: Samples) -> Tensor:
        if not len(samples):
            raise PruningBenchError("efficiency needs at least one image to know the size of the input")
        batch = next(iter(model.batches(samples, 1, index=[0])))
        return batch.images.repeat(self.images, 1, 1, 1)


def only_masked(model: VisionModel, dense: VisionModel) -> bool:
    """Return whether a network has all tensors of the dense one in full shape, and so does the same work."""
    shapes, dense_shapes = (
        {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
        for network in (model.network, dense.network)
    )
    return shapes == dense_shapes
