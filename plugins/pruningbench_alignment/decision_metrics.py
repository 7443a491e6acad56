"""Metrics of a model's decisions compared with people's."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pruningbench.contract import HumanDecisions, Metric, Outputs, Responses, commonest

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.statistics import Floats

FRACTION: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class _OfDecisions(Metric):
    """A metric of decisions: its values are a table of trials, so that intervals resample images."""

    consumes = Responses

    def applies(self, outputs: Outputs) -> bool:
        """Whether people's decisions are available."""
        return isinstance(outputs, Responses) and isinstance(outputs.human, HumanDecisions)

    def values(self, outputs: Responses) -> Tensor:
        """(N, 3 + S) float64 table of trials, see `pruningbench_alignment.consistency`; NaN where nobody was asked."""
        from pruningbench_alignment.consistency import FIRST_PERSON

        table = _table(outputs)
        unseen = (table[:, FIRST_PERSON:] < 0).all(dim=1)
        return table.masked_fill(unseen[:, None], float("nan"))

    @abstractmethod
    def people(self, table: Floats) -> float:
        """The value that people reach; see `ceiling`."""

    def ceiling(self, outputs: Responses) -> float:
        """The value that people reach on the same trials, compared with each other."""
        return self.people(_table(outputs).numpy())


def _table(outputs: Responses) -> Tensor:
    from pruningbench_alignment.decisions import trial_table

    assert isinstance(outputs.human, HumanDecisions)  # noqa: S101 - `applies`
    return trial_table(outputs, outputs.human)


@dataclass(frozen=True)
class DecisionAccuracy(_OfDecisions):
    """Share of images whose category is right, averaged over conditions, then data sets; higher is better.

    A missing decision, as from a collapsed network, is wrong. The ceiling is people's mean accuracy.
    """

    unit = "fraction"
    range = FRACTION

    def values(self, outputs: Responses) -> Tensor:
        """(N, 3) float64: number of the data set, of the condition, and 1 for a right decision."""
        return _table(outputs)[:, :3]

    def chance(self, outputs: Responses) -> Tensor | None:
        """(N, 3) float64 of always choosing the most frequent category."""
        assert isinstance(outputs.human, HumanDecisions)  # noqa: S101 - `applies`
        constant = commonest(outputs.human.truth)
        if constant is None:
            return None
        return self.values(replace(outputs, answers=outputs.answers.new_full(outputs.answers.shape, constant)))

    def aggregate(self, values: Floats) -> float:
        """Mean over conditions, then data sets."""
        from pruningbench_alignment.consistency import accuracy

        return accuracy(values)

    def people(self, table: Floats) -> float:
        """People's accuracy."""
        from pruningbench_alignment.consistency import people_accuracy

        return people_accuracy(table)


@dataclass(frozen=True)
class AccuracyDifference(_OfDecisions):
    """Squared difference between the model's accuracy and each person's; lower is better.

    Averaged over conditions, then people, then data sets. The ceiling is that of people compared with each other.
    Source: Geirhos et al., Partial success in closing the gap, NeurIPS 2021.
    """

    higher_is_better = False
    range = FRACTION

    def aggregate(self, values: Floats) -> float:
        """Mean over conditions, people and data sets."""
        from pruningbench_alignment.consistency import model_to_people, squared_gap

        return model_to_people(values, squared_gap)

    def people(self, table: Floats) -> float:
        """Value of people compared with each other."""
        from pruningbench_alignment.consistency import people_to_people, squared_gap

        return people_to_people(table, squared_gap)


@dataclass(frozen=True)
class ObservedConsistency(_OfDecisions):
    """Share of images that model and person both get right or both get wrong; higher is better.

    Averaged over conditions, then people, then data sets. The ceiling is that of people compared with each other.
    Source: Geirhos et al., Beyond accuracy, NeurIPS 2020.
    """

    unit = "fraction"
    range = FRACTION

    def aggregate(self, values: Floats) -> float:
        """Mean over conditions, people and data sets."""
        from pruningbench_alignment.consistency import agreement, model_to_people

        return model_to_people(values, agreement)

    def people(self, table: Floats) -> float:
        """Value of people compared with each other."""
        from pruningbench_alignment.consistency import agreement, people_to_people

        return people_to_people(table, agreement)


@dataclass(frozen=True)
class ErrorConsistency(_OfDecisions):
    """Cohen's kappa of correctness between the model and each person; higher is better.

    0 is the value expected from the accuracies alone; negative means are kept. Averaged over conditions, then
    people, then data sets; the ceiling is that of people compared with each other.
    Source: Geirhos et al., Beyond accuracy, NeurIPS 2020.
    """

    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def aggregate(self, values: Floats) -> float:
        """Mean over conditions, people and data sets."""
        from pruningbench_alignment.consistency import kappa, model_to_people

        return model_to_people(values, kappa)

    def people(self, table: Floats) -> float:
        """Value of people compared with each other."""
        from pruningbench_alignment.consistency import kappa, people_to_people

        return people_to_people(table, kappa)


@dataclass(frozen=True)
class ShapeBias(Metric):
    """Share of shape decisions among decisions for the shape or the texture of an image.

    It applies to images with conflicting cues. Neither end is better; the ceiling is people's mean.
    Source: Geirhos et al., ImageNet-trained CNNs are biased towards texture, ICLR 2019.
    """

    consumes = Responses
    higher_is_better = None
    unit = "fraction"
    range: ClassVar[tuple[float, float]] = FRACTION

    def applies(self, outputs: Outputs) -> bool:
        """Whether the textures are known."""
        return (
            isinstance(outputs, Responses)
            and isinstance(outputs.human, HumanDecisions)
            and outputs.human.texture is not None
        )

    def values(self, outputs: Responses) -> Tensor:
        """(N, 2) float64: 1 where decided by shape, by texture; NaN for images without conflicting cues."""
        return self._votes(outputs.answers.cpu(), outputs.human)

    def aggregate(self, values: Floats) -> float:
        """Decisions by shape divided by decisions by either cue; NaN without any."""
        by_shape, by_texture = values.sum(axis=0)
        return float(by_shape / (by_shape + by_texture)) if by_shape + by_texture else float("nan")

    def ceiling(self, outputs: Responses) -> float:
        """Mean of the people's own shape bias."""
        from pruningbench.contract.statistics import mean

        human: Any = outputs.human
        votes = (self._votes(answers, human) for answers in human.answers.cpu())
        defined = (rows[~rows.isnan().any(dim=1)].numpy() for rows in votes)
        biases = [self.aggregate(rows) for rows in defined if rows.sum()]
        return mean(_array(biases)) if biases else float("nan")

    def _votes(self, answers: Tensor, human: Any) -> Tensor:
        import torch

        by_shape, by_texture = answers == human.truth, answers == human.texture
        conflict = (human.texture >= 0) & (human.texture != human.truth)
        votes = torch.stack([by_shape, by_texture], dim=1).double()
        return votes.masked_fill(~conflict[:, None], float("nan"))


def _array(values: list[float]) -> Floats:
    import numpy as np

    return np.array(values, dtype=np.float64)
