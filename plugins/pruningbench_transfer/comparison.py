"""The task `dense-similarity`: compares the pruned model's representation with the dense model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pruningbench.contract import Context, DatasetRef, Features, PruningBenchError, Task, VisionModel, param


@dataclass(frozen=True)
class DenseSimilarity(Task):
    """Embeddings of the same images by the pruned and the dense model, for comparison.

    The dense model is the reference of the cell's recipe: as loaded or, if the recipe trains, trained by it.
    """

    dimension = "similarity"
    metrics = ("linear-cka", "neuron-similarity")

    data: DatasetRef = param(doc="any images; labels are not needed")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Features]]:
        """Yield the features of all images."""
        if context.dense is None:
            raise PruningBenchError("dense-similarity needs the dense model, which this context lacks")
        samples = context.open_dataset(self.data)
        features, dense = context.features(model, samples), context.features(context.dense, samples)
        yield "", Features(features, dense, samples.labels)
