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
    """Concepts of a few classes by CRAFT: crops, activations >= 0, factorisation and Sobol importance.

    For each class, the activations of crops of its images are factorised into concepts. The importance of a
    concept is how much the class's logit depends on it. The dense model's concepts on the same crops are
    included to measure drift. Concepts are undefined, and counted as such, for a class with fewer crops than
    concepts and for a network whose activations are dead, constant or NaN.

    Source: Fel et al., CRAFT, CVPR 2023.
    """

    dimension = "interpretability"
    metrics = ("concept-coherence", "concept-purity", "concept-drift", "concept-concentration")

    data: DatasetRef = param(doc="labelled data set with images of the classes")
    classes: tuple[str, ...] | int = param(
        3, doc="class names to explain, or their number: the first that data set and model share"
    )
    samples: Literal["all", "correct-dense", "correct", "correct-both"] = param(
        "correct-dense",
        doc="images of a class: all, or those classified correctly by the dense model, this one, or both",
    )
    count: int = param(500, doc="maximum number of images per class, taken from the start, >= 1")
    concepts: int = param(10, doc="concepts per class, >= 1")
    top: int = param(5, doc="number of most important concepts per class that form its explanation, >= 1")
    patch: int = param(64, doc="side of a crop in pixels for a 224-pixel image; scales with the image's shorter side")
    stride: float = param(0.8, doc="distance between crops as a share of their side, > 0")
    designs: int = param(32, doc="points of the Sobol design, >= 2; each costs (concepts + 1) head passes")
    sampler: Literal["halton", "sobol"] = param("halton", doc="sequence of the design")
    scramble: bool = param(True, doc="randomise the sequence for each image; false = one plain sequence, as published")
    judged: int | None = param(64, doc="maximum number of images per class to average the importance over; none = all")
    encoder: ModelRef | None = param(
        None,
        doc="model whose embedding measures how alike crops are; none = the dense "
        "model that the recipe's networks are compared with",
    )
    exhibits: int = param(6, doc="crops per concept kept for figures", identity=False)

    def problem(self) -> str | None:
        """Refuse empty or duplicate classes and numbers out of range."""
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
        embeddings, dense, lacking = self._dense_concepts(model, chosen, craft, context)
        extracted = find_concepts(model, chosen, craft, context, embeddings, dense)
        yield "", replace(extracted, lacking=lacking, exhibit=exhibit(extracted, model, chosen.samples, self.exhibits))

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
            PruningBenchError: for data without labels, a class that the data set or model lacks, or a choice
                that needs a dense model where there is none.
        """
        import torch

        from pruningbench_interpretability.craft import Chosen

        samples = context.open_dataset(self.data)
        labels = samples.labels_among(model.classes)
        if labels is None or not model.classes:
            raise PruningBenchError("concepts need a data set with labels and class names, and a model with classes")
        judges = self._judges(model, context)
        classes = self._classes(model, samples)
        index = []
        for label in classes:
            of_class = (labels == label).nonzero()[:, 0]
            for judge in judges:
                if len(of_class):
                    logits = context.logits(judge, samples, of_class.tolist())
                    of_class = of_class[(logits.argmax(dim=1) == label) & ~logits.isnan().any(dim=1)]
            index.append(of_class[: self.count])
        chosen = torch.cat(index)
        return Chosen(samples, chosen, labels[chosen], classes)

    def _judges(self, model: VisionModel, context: Context) -> list[VisionModel]:
        """Return the models that have to classify an image correctly; the dense one is made only if it is asked."""
        judges = [model] if self.samples in ("correct", "correct-both") else []
        if self.samples in ("correct-dense", "correct-both"):
            if context.dense is None:
                raise PruningBenchError(f"samples={self.samples!r} needs the dense model, which this context lacks")
            judges.insert(0, context.dense)
        return judges

    def _classes(self, model: VisionModel, samples: Samples) -> tuple[int, ...]:
        shared = [name for name in samples.classes if name in model.classes]
        names = tuple(shared[: self.classes]) if isinstance(self.classes, int) else self.classes
        lacking = [name for name in names if name not in shared]
        if lacking or not names:
            absent = f"class {lacking[0]!r}" if lacking else "any class"
            listing = f"; they share {', '.join(map(repr, shared[:10]))}" if shared else ""
            raise PruningBenchError(f"data set and model do not share {absent}{listing}")
        return tuple(model.classes.index(name) for name in names)

    def _dense_concepts(
        self, model: VisionModel, chosen: Chosen, craft: Craft, context: Context
    ) -> tuple[Tensor, Concepts | None, str]:
        """Return the embeddings, the dense model's concepts if there are any, and why its reference is missing, or "".

        None of them depends on the pruned model.
        """
        from pruningbench_interpretability.craft import embed_crops, find_concepts

        def make() -> tuple[Tensor, Concepts | None, str]:
            dense, lacking = None, ""
            try:
                dense = context.dense
            except PruningBenchError as error:
                if self.encoder is None:
                    raise
                lacking = str(error)  # only the metrics that compare are lost
            encoder = (dense or model) if self.encoder is None else context.open_model(self.encoder)
            embeddings = embed_crops(encoder, model, chosen, craft, context)
            if dense is None:
                return embeddings, None, lacking
            return embeddings, find_concepts(dense, chosen, craft, context, embeddings, None), ""

        if self.samples == "correct" or not context.compares:
            return make()  # other cells cannot reuse images chosen by the pruned model
        return context.once("concepts of the dense model", make)
