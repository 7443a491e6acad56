"""The inputs that the weights of a pruning context multiply."""

from __future__ import annotations

from collections.abc import Sequence

from pruningbench.contract import PruningContext
from pruningbench.pruning.weight_inputs import Sink, watch_inputs


def for_each_input(context: PruningContext, names: Sequence[str], pruner: str, samples: int, sink: Sink) -> None:
    """Run the first `samples` images and pass the inputs of the named parameters to `sink`.

    Raises:
        PruningBenchError: without images, or if no linear map or convolution uses one of the parameters.
    """
    watched = {name: context.parameters[name] for name in names}
    images = (images for images, _ in context.first_images(pruner, samples))
    watch_inputs(context.network, watched, images, sink, pruner=pruner)
