"""Metrics of concepts: coherence, purity, drift under pruning, and concentration of importance.

They use the leading concepts of each class unless stated otherwise. An undefined concept (too few crops, a dead
network) is NaN and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.contract import Concepts, Metric, Outputs, PruningBenchError, param

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ConceptCoherence(Metric):
    """How much more alike a concept's top crops are than random crops of its class; higher is better.

    Mean cosine of the top crops, at most one per image, in the task's frozen encoder, minus the same
    value for randomly permuted crops (in closed form). 0 is chance.
    """

    consumes = Concepts
    unit = "cosine"
    range = (-2.0, 2.0)

    patches: int = param(10, doc="number of top crops per concept, >= 2")

    def problem(self) -> str | None:
        """Refuse fewer than two crops."""
        return None if self.patches >= 2 else f"patches must be at least 2, got {self.patches}"

    def values(self, outputs: Concepts) -> Tensor:
        """(classes * top,) float64."""
        import torch

        from pruningbench_interpretability.coherence import concept_coherence

        parts = []
        for label in outputs.explained:
            concepts, crops = outputs.of_class(label)
            parts.append(
                concept_coherence(
                    outputs.coefficients[crops][:, concepts[: outputs.top]],
                    outputs.embeddings[crops],
                    outputs.crop_images[crops],
                    self.patches,
                )
            )
        return torch.cat(parts)


@dataclass(frozen=True)
class ConceptPurity(Metric):
    """Share of a concept's top crops, among the crops of all classes, that show its own class; higher is better.

    At most one crop per image counts. Chance is the class's share of the images. Applies only with
    two or more classes.
    """

    consumes = Concepts
    unit = "fraction"
    range = (0.0, 1.0)

    patches: int = param(10, doc="number of top crops per concept, >= 1")

    def problem(self) -> str | None:
        """Refuse fewer than one crop."""
        return None if self.patches >= 1 else f"patches must be at least 1, got {self.patches}"

    def applies(self, outputs: Outputs) -> bool:
        """Whether there are other classes to confuse a class with."""
        return isinstance(outputs, Concepts) and len(outputs.explained) > 1

    def values(self, outputs: Concepts) -> Tensor:
        """(classes * top,) float64 in [0, 1]."""
        from pruningbench_interpretability.coherence import concept_purity

        leading = outputs.leading
        return concept_purity(
            outputs.coefficients[:, leading],
            outputs.classes[leading],
            outputs.crop_classes,
            outputs.crop_images,
            self.patches,
        )


@dataclass(frozen=True)
class ConceptDrift(Metric):
    """Shift of the dense model's leading concepts: 1 - cosine with their partners; lower is better.

    The Hungarian assignment pairs all concepts of a class with those of the dense model.
    """

    consumes = Concepts
    higher_is_better = False
    unit = "cosine"
    range = (0.0, 1.0)

    of: Literal["coefficients", "directions"] = param(
        "coefficients",
        doc="what to compare: the concept's coefficients in the same crops, or its direction among the channels",
    )

    def applies(self, outputs: Outputs) -> bool:
        """Whether there are concepts of the dense model, or should be."""
        return isinstance(outputs, Concepts) and (outputs.dense is not None or bool(outputs.lacking))

    def values(self, outputs: Concepts) -> Tensor:
        """(classes * top,) float64 in [0, 1], in the order of the dense model's concepts."""
        import torch

        from pruningbench_interpretability.coherence import match_concepts

        dense = outputs.dense
        if dense is None:
            raise PruningBenchError(outputs.lacking or "these concepts come without those of the dense model")
        parts = []
        for label in outputs.explained:
            concepts, crops = outputs.of_class(label)
            if self.of == "directions":
                before, after = dense.directions[concepts], outputs.directions[concepts]
            else:
                before, after = (c.coefficients[crops][:, concepts].T for c in (dense, outputs))
            parts.append((1 - match_concepts(before, after)[1])[: outputs.top])
        return torch.cat(parts).clamp(0, 1)


@dataclass(frozen=True)
class ConceptConcentration(Metric):
    """Gini index of the importance of all of a class's concepts; higher = fewer concepts decide.

    0 if all matter equally, 1 - 1/k if one of k decides alone.
    """

    consumes = Concepts
    higher_is_better = None
    range = (0.0, 1.0)
    rerun_tolerance = 0.2  # one value per class: the interval of a few classes says little about other networks

    def values(self, outputs: Concepts) -> Tensor:
        """(classes,) float64 in [0, 1)."""
        import torch

        from pruningbench_interpretability.complexity import gini

        rows = [outputs.importance[outputs.of_class(label)[0]] for label in outputs.explained]
        return torch.cat([gini(row[~row.isnan()][None, None]) for row in rows])
