"""A loaded network with its preprocessing, its label space and the four views that tasks take of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.base.copying import copied
from pruningbench.contract.precision import lowered
from pruningbench.contract.sample import Sample
from pruningbench.errors import PruningBenchError, ViewUnavailableError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pruningbench.contract.preprocessing import Preprocessing
    from pruningbench.contract.samples import Samples

Augmentation = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""Maps a uint8 (B, C, H, W) batch and a generator to an augmented batch of the same kind."""

Facet = Literal["keys", "queries", "values", "tokens"]
"""Which output of a transformer's last block represents a patch: keys, queries, values, or the block's own output."""

VIEWS = ("logits", "embed", "patch_features", "attentions", "activation_module", "head_split")
"""The views; each runs in the precision of the task that calls it (`pruningbench.contract.precision`)."""

Grid = Callable[["Tensor", "Tensor"], "Tensor"]
"""Maps a module's output and the images that produced it to (B, D, h, w)."""


@dataclass(frozen=True)
class Batch:
    """A batch on the device.

    Attributes:
        images: (B, C, H, W) float32, normalised.
        labels: (B,) int64, or None.
        boxes: B tensors (K, 4) in pixels of `images`, or None.
        masks: (B, H, W) bool, or None.
        index: (B,) int64 positions in the data set.
    """

    images: Tensor
    labels: Tensor | None
    boxes: list[Tensor] | None
    masks: Tensor | None
    index: Tensor


class VisionModel:
    """A loaded network and the views that tasks take of it.

    Subclasses implement the views for their family; views that an architecture lacks raise
    `ViewUnavailableError`.

    Attributes:
        network: the module, in eval mode, on the device.
        preprocessing: how its inputs are prepared.
        classes: its label space, in the order of the logits; empty for a network without a head.
        head: names of the classifier's parameters.
        augment: the augmentation it was trained with, or None.
        fingerprint: short hash of the dense weights.
        fresh: builds the same architecture with new random weights, or None.
        family: how a network was trained, as far as tasks have published settings for it: ``dino``, ``dinov2``,
            ``deit``, ``clip``; "" for any other, or if unknown.
        norm_init: what norms with a scale of zero start at in new weights, see `NewWeights`.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        classes: Sequence[str] = (),
        head: Sequence[str] = (),
        augment: Augmentation | None = None,
        fingerprint: str = "",
        fresh: Callable[[], nn.Module] | None = None,
        norm_init: Literal["own", "one"] = "own",
        family: str = "",
    ) -> None:
        self.network = network
        self.preprocessing = preprocessing
        self.classes = tuple(classes)
        self.head = tuple(head)
        self.augment = augment
        self.fingerprint = fingerprint
        self.fresh = fresh
        self.norm_init = norm_init
        self.family = family

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the views that a subclass defines follow the precision of the task that calls them."""
        super().__init_subclass__(**options)
        for name in VIEWS:
            own = vars(cls).get(name)
            if isinstance(own, FunctionType) and not hasattr(own, "lowered"):
                setattr(cls, name, lowered(own))

    @property
    def has_classifier(self) -> bool:
        """Whether `logits` gives logits of classes; False for a network whose outputs are features."""
        return True

    @lowered
    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes) logits; features if there is no classifier."""
        logits: Tensor = self.network(images)
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D) features before the classifier."""
        raise self._lacks("embedding")

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """(B, C, H, W) normalised images -> (B, D, h, w): last-block keys of a ViT, last stage of a CNN.

        Another `facet` gives the last block's queries, values or output tokens; a network without
        attention gives its last stage for ``keys`` and ``tokens``, and has neither queries nor values.
        """
        raise self._lacks("patch-feature")

    def attentions(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (L, B, heads, N, N) attention of all L blocks of a transformer.

        Entry (l, b, i, j) is the weight that token i gives to token j, after the softmax; rows sum to 1.
        The first `prefix_tokens` of the N tokens are not patches; the others form the grid, row by row.
        """
        raise self._lacks("attention")

    @property
    def prefix_tokens(self) -> int:
        """Class, distillation and register tokens that a transformer puts before its patches; 0 for others."""
        return 0

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the module whose output is the last activation that has a grid, as Grad-CAM needs it.

        Returns:
            the module to hook, and a function ``(output, images) -> (B, D, h, w)`` that keeps gradients. The
            logits depend on every cell of the grid.
        """
        raise self._lacks("activation")

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return two functions: images -> activations >= 0 of the last stage, and those activations -> logits."""
        raise self._lacks("head-split")

    def _lacks(self, view: str) -> ViewUnavailableError:
        return ViewUnavailableError(f"{type(self.network).__name__} has no {view} view")

    def clone(self) -> VisionModel:
        """Return an independent copy (weights, buffers) that may be pruned and trained."""
        twin = copy.copy(self)
        twin.network = copied(self.network)
        return twin

    def start_norms(self) -> VisionModel:
        """Start norms as `norm_init` says, in new weights; return the model itself."""
        from pruningbench.pruning.ties import start_norms

        if self.norm_init == "one":
            start_norms(self.network)
        return self

    def reinitialise(self, seed: int) -> None:
        """Replace all weights and statistics by new random ones, as the architecture and `norm_init` start them.

        They come from a network that `fresh` builds. Without `fresh`, every module's ``reset_parameters()`` is
        called, then the network's own ``init_weights()`` if it has one.

        Raises:
            PruningBenchError: if neither initialises a parameter; the weights are then unchanged.
        """
        import torch

        from pruningbench.base.randomness import isolated_randomness

        if self.fresh is not None:
            with isolated_randomness("reinitialise", seed):
                self.network.load_state_dict(self.fresh().state_dict())
            self.start_norms()
            return
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        with torch.no_grad(), isolated_randomness("reinitialise", seed):
            for parameter in self.network.parameters():
                parameter.fill_(float("nan"))  # marks what nothing initialises
            for module in self.network.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
            init_weights = getattr(self.network, "init_weights", None)
            if callable(init_weights):
                init_weights()
        lacking = [name for name, p in self.network.named_parameters() if bool(torch.isnan(p).any())]
        if lacking:
            self.network.load_state_dict(before)
            raise PruningBenchError(
                f"{type(self.network).__name__} cannot draw new weights: nothing initialises {lacking[0]!r} "
                f"({len(lacking)} such parameters); give it an init_weights() method, or do not rewind to init"
            )
        self.start_norms()

    @property
    def device(self) -> torch.device:
        """Where the network's parameters are."""
        return next(self.network.parameters()).device

    def labels_of(self, samples: Samples) -> Tensor | None:
        """Return a data set's labels in this model's label space, matched by class name.

        Returns:
            (N,) int64 on the CPU, or None for a data set without labels. For a model that names no
            classes, the data set's own numbers.

        Raises:
            PruningBenchError: if the data set has a class that the model lacks.
        """
        if samples.labels is None or not self.classes or not samples.classes:
            return samples.labels
        lacking = [name for name in samples.classes if name not in self.classes]
        if lacking:
            raise PruningBenchError(
                f"label spaces differ: the model has no class {lacking[0]!r} "
                f"({len(lacking)} of the data set's {len(samples.classes)} classes are missing)"
            )
        return samples.labels_among(self.classes)

    def batches(self, samples: Samples, batch_size: int, *, index: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield the samples in order (or those of `index`), preprocessed for this network.

        Images that differ in size after `Preprocessing.fit` never share a batch. Samples that have to be
        decoded are read ahead by threads and, if there is a cache folder, decoded only once.
        """
        import torch

        from pruningbench.images.reading_ahead import read_ahead

        order = list(range(len(samples))) if index is None else [int(i) for i in index]
        source = samples.resized(self.preprocessing)
        fitted = read_ahead(lambda i: self.preprocessing.fit(source[i]), order, source.workers, 2 * batch_size)
        chosen: list[Sample] = []
        start = 0
        for sample in fitted:
            if len(chosen) == batch_size or (chosen and sample.image.shape != chosen[0].image.shape):
                positions = torch.tensor(order[start : start + len(chosen)])
                yield collate(chosen, self.preprocessing, self.device, positions)
                start += len(chosen)
                chosen = []
            chosen.append(sample)
        if chosen:
            yield collate(chosen, self.preprocessing, self.device, torch.tensor(order[start:]))


def collate(chosen: Sequence[Sample], preprocessing: Preprocessing, device: torch.device, index: Tensor) -> Batch:
    """Stack samples of one size into a batch on `device`; a field that any sample lacks is None for all."""
    import torch

    images = _sent(torch.stack([s.image for s in chosen]), device)
    labels = [s.label for s in chosen if s.label is not None]
    boxes = [s.boxes for s in chosen if s.boxes is not None]
    masks = [s.mask for s in chosen if s.mask is not None]
    n = len(chosen)
    return Batch(
        images=preprocessing.normalise(images),
        labels=_sent(torch.tensor(labels), device) if len(labels) == n else None,
        boxes=boxes if len(boxes) == n else None,
        masks=_sent(torch.stack(masks), device) if len(masks) == n else None,
        index=index,
    )


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to a GPU from pinned memory, so that the copy does not wait for the GPU's work."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
