"""The task: the concepts that a network uses to recognise classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.contract import (
    Concepts,
    Context,
    DatasetRef,
    ModelRef,
    PruningBenchError,
    Samples,
    Task,
    VisionModel,
    param,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench_interpretability.craft import Chosen, Craft


@dataclass(frozen=True)
class ConceptExtraction(Task):
    """Concepts of a few classes by CRAFT: crops, activations >= 0, their factorisation, Sobol importance.

    For every class the activations of crops of its images are factorised into concepts; how much the
    class's logit depends on each is its importance. The dense model's concepts on the same crops come
    along, for the drift. A class with fewer crops than concepts, and a network whose activations are dead,
    constant or NaN, have undefined concepts, counted as such.

    Source: Fel et al., CRAFT, CVPR 2023.
    """

    metrics = ("concept-coherence", "concept-purity", "concept-drift", "concept-concentration")

    data: DatasetRef = param(doc="labelled data set with images of the classes")
    classes: tuple[str, ...] | int = param(
        3, doc="names of the classes to explain, or how many: the first ones that data set and model share"
    )
    samples: Literal["all", "correct-dense", "correct"] = param(
        "correct-dense", doc="which images of a class: all, those the dense model gets right, or this one does"
    )
    count: int = param(500, doc="most images a class, the first ones, >= 1")
    concepts: int = param(10, doc="concepts a class, >= 1")
    top: int = param(5, doc="concepts a class, the most important ones, that its explanation consists of, >= 1")
    patch: int = param(64, doc="side of a crop in pixels of an image of 224; scales with the image's shorter side")
    stride: float = param(0.8, doc="distance between crops as a share of their side, > 0")
    designs: int = param(32, doc="points of the importance's design, >= 2; costs (concepts + 1) head passes each")
    sampler: Literal["halton", "sobol"] = param("halton", doc="sequence of the design")
    scramble: bool = param(True, doc="randomise it for every image; false = one plain sequence, as published")
    judged: int | None = param(64, doc="most images a class that the importance is averaged over; none = all")
    encoder: ModelRef | None = param(
        None, doc="model whose embedding judges how alike crops are; none = the dense model"
    )
    exhibits: int = param(6, doc="crops of each concept kept for figures", identity=False)

    def problem(self) -> str | None:
        """Refuse empty or doubled classes and numbers out of range."""
        if isinstance(self.classes, tuple) and (not self.classes or len(set(self.classes)) != len(self.classes)):
            return f"classes must be distinct and at least one, got {list(self.classes)}"
        for name, least in (("count", 1), ("concepts", 1), ("top", 1), ("patch", 1), ("designs", 2), ("exhibits", 0)):
            if getattr(self, name) < least:
                return f"{name} must be at least {least}, got {getattr(self, name)}"
        for name, value in (("classes", self.classes), ("judged", self.judged)):
            if isinstance(value, int) and value < 1:
                return f"{name} must be at least 1, got {value}"
        return None if self.stride > 0 else f"stride must be positive, got {self.stride}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Concepts]]:
        """Yield the concepts of all classes."""
        from dataclasses import replace

        from pruningbench_interpretability.concept_sheet import exhibit
        from pruningbench_interpretability.craft import find_concepts

        craft = self._craft()
        chosen = self._choose(model, context)
        embeddings, dense = self._of_dense(model, chosen, craft, context)
        found = find_concepts(model, chosen, craft, context, embeddings, dense)
        yield "", replace(found, exhibit=exhibit(found, model, chosen.samples, self.exhibits))

    def _craft(self) -> Craft:
        from pruningbench_interpretability.craft import Craft

        return Craft(
            concepts=self.concepts,
            patch=self.patch,
            stride=self.stride,
            designs=self.designs,
            sampler=self.sampler,
            scramble=self.scramble,
            judged=self.judged,
            top=self.top,
        )

    def _choose(self, model: VisionModel, context: Context) -> Chosen:
        """Return the images of each class.

        Raises:
            PruningBenchError: for data without labels, a class that data set or model lack, or a choice
                that needs a dense model where there is none.
        """
        import torch

        from pruningbench_interpretability.craft import Chosen

        samples = context.open_dataset(self.data)
        labels = samples.labels_among(model.classes)
        if labels is None or not model.classes:
            raise PruningBenchError("concepts need a data set with labels and class names, and a model with classes")
        judge = context.dense if self.samples == "correct-dense" else model
        if judge is None:
            raise PruningBenchError("samples='correct-dense' needs the dense model, which this context lacks")
        classes = self._classes(model, samples)
        index = []
        for label in classes:
            own = (labels == label).nonzero()[:, 0]
            if self.samples != "all" and len(own):
                logits = context.logits(judge, samples, own.tolist())
                own = own[(logits.argmax(dim=1) == label) & ~logits.isnan().any(dim=1)]
            index.append(own[: self.count])
        chosen = torch.cat(index)
        return Chosen(samples, chosen, labels[chosen], classes)

    def _classes(self, model: VisionModel, samples: Samples) -> tuple[int, ...]:
        shared = [name for name in samples.classes if name in model.classes]
        wanted = tuple(shared[: self.classes]) if isinstance(self.classes, int) else self.classes
        lacking = [name for name in wanted if name not in shared]
        if lacking or not wanted:
            named = f"class {lacking[0]!r}" if lacking else "no class"
            shown = ", ".join(map(repr, shared[:10])) or "none"
            raise PruningBenchError(f"{named} is in both data set and model; they share {shown}")
        return tuple(model.classes.index(name) for name in wanted)

    def _of_dense(
        self, model: VisionModel, chosen: Chosen, craft: Craft, context: Context
    ) -> tuple[Tensor, Concepts | None]:
        """Return what does not depend on the pruned model: the embeddings, and the dense model's concepts."""
        from pruningbench_interpretability.craft import embed_crops, find_concepts

        def make() -> tuple[Tensor, Concepts | None]:
            encoder = (context.dense or model) if self.encoder is None else context.open_model(self.encoder)
            embeddings = embed_crops(encoder, model, chosen, craft, context)
            if context.dense is None:
                return embeddings, None
            return embeddings, find_concepts(context.dense, chosen, craft, context, embeddings, None)

        if self.samples == "correct" or context.dense is None:
            return make()  # images chosen by the pruned model are of no use to other cells
        return context.once("concepts of the dense model", make)
