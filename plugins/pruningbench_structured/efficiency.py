"""The task `shrunk-efficiency`: the costs of the smaller network that a pruned network's zeros allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Context, DatasetRef, PruningBenchError, ResourceUse, Task, VisionModel, param

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ShrunkEfficiency(Task):
    """Parameters, operations, and the measured time and memory of the network without what is empty in it.

    Channels, attention heads, residual blocks and channels of a vision transformer's embedding whose weights are all
    zero are physically removed (`pruningbench_structured.shrink`), and the smaller network is checked to give the same
    outputs. It is timed in alternation with the dense network. If nothing whole is empty, as after unstructured
    pruning, its shapes are those of the dense network, and the measured speed-up is exactly 1. Times differ from run
    to run.
    """

    dimension = "efficiency"
    metrics = ("parameters", "dense-flops", "measured-latency", "measured-speedup", "measured-peak-memory")

    data: DatasetRef = param(
        doc="images that define the network's input size; two of them are compared before and after"
    )
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
        from pruningbench_structured.shrinking import shrink, zero_masks

        samples = context.open_dataset(self.data)
        if not len(samples):
            raise PruningBenchError("shrunk-efficiency needs at least one image to know the size of the input")
        examples = next(iter(model.batches(samples, 2, index=range(min(2, len(samples)))))).images
        dense = context.as_loaded if context.as_loaded is not None else model
        smaller = shrink(model.network, zero_masks(model.network), examples)
        batch = examples[:1].repeat(self.images, 1, 1, 1)
        macs = count_macs(smaller, lambda: smaller(batch[:1]))
        works = [lambda: smaller(batch)]
        if shapes(smaller) != shapes(dense.network):
            works.append(lambda: dense.network(batch))
        with torch.inference_mode():
            seconds = measured_seconds(works, context.device, self.repeats, self.warmup)
            peak = peak_memory(smaller, works[0], context.device)
        parameters = list(smaller.parameters())
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


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters, on which its time depends."""
    named: Iterator[tuple[str, Tensor]] = network.named_parameters()
    return {name: tuple(tensor.shape) for name, tensor in named}
