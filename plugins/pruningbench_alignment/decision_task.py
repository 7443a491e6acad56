"""The task `model-vs-human`: decide among the categories that people chose from, on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Context, DatasetRef, Missing, Responses, Samples, Task, VisionModel, param

if TYPE_CHECKING:
    from pruningbench.contract import HumanDecisions


@dataclass(frozen=True)
class ModelVsHuman(Task):
    """A model's category decisions compared with those of people, image by image.

    A category's probability is the mean softmax probability over its classes; the decision is the category with
    the largest. Values are averaged over conditions, then people, then data sets. Conditions without
    manipulation and those in which people see hardly anything are left out of the averages. Variants: "" is
    the average over all data sets; with several data sets, each has a variant of its name; `conditions` adds
    ``NAME/CONDITION``. If one of several data sets cannot be read, it is missing and the average covers the others;
    such results are never ranked with those of all data sets.

    Source: Geirhos et al., Partial success in closing the gap between human and machine vision, NeurIPS 2021.
    """

    dimension = "alignment"
    metrics = ("decision-accuracy", "accuracy-difference", "observed-consistency", "error-consistency", "shape-bias")
    main_data = "data.0"

    data: tuple[DatasetRef, ...] = param(doc="data sets with people's decisions")
    conditions: bool = param(False, doc="also measure each condition separately")
    lowest: float = param(0.2, doc="conditions with people's mean accuracy below this are left out, in [0, 1]")

    def problem(self) -> str | None:
        """Refuse empty data and an accuracy out of range."""
        if not self.data:
            return "data must name at least one data set"
        return None if 0 <= self.lowest <= 1 else f"lowest must lie in [0, 1], got {self.lowest}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Responses | Missing]]:
        """Yield the decisions on each data set, and on all together."""
        from pruningbench.contract import DataError, MissingDataError, PruningBenchError
        from pruningbench_alignment.decisions import compared_conditions, decisions_of, pool, select

        responses_by_name: dict[str, Responses] = {}
        single: list[tuple[str, Responses]] = []
        lacking: dict[str, Exception] = {}
        for name, reference in zip(_names(self.data), self.data, strict=True):
            try:
                samples = context.open_dataset(reference)
                human = decisions_of(samples, name)
                responses = _decide(model, context, samples, human)
            except (DataError, MissingDataError) as error:
                lacking[name] = error
                continue
            compared = compared_conditions(human, self.lowest)
            if bool(compared.any()):
                responses_by_name[name] = select(responses, compared)
            if self.conditions:
                import torch

                for condition in dict.fromkeys(human.conditions):
                    in_condition = torch.tensor([c == condition for c in human.conditions])
                    single.append((f"{name}/{condition}", select(responses, in_condition)))
        if len(lacking) == len(self.data):
            raise next(iter(lacking.values()))
        if not responses_by_name:
            raise PruningBenchError(
                f"no condition is left to compare: people's accuracy is below {self.lowest:g}, or the images "
                "are not manipulated, in each of them; lower `lowest`"
            )
        yield "", pool(list(responses_by_name.values()))
        if len(responses_by_name) > 1:
            yield from responses_by_name.items()
        yield from single
        for name, reason in lacking.items():
            yield name, Missing(str(reason))


def _decide(model: VisionModel, context: Context, samples: Samples, human: HumanDecisions) -> Responses:
    from pruningbench_alignment.categories import class_columns, decide

    columns = class_columns(model.classes, human.categories)
    probabilities = context.logits(model, samples).double().softmax(dim=1)
    chosen, means = decide(probabilities, columns)
    return Responses(chosen, human, means)


def _names(references: tuple[Any, ...]) -> list[str]:
    """Return short names for data sets: the component's name, or what distinguishes equal components."""
    names: list[str] = []
    for reference in references:
        fields = {"use": reference} if isinstance(reference, str) else reference
        labels = [str(fields[key]) for key in ("experiment", "name", "split") if fields.get(key)]
        name = labels[0] if labels else str(fields["use"])
        repetitions = sum(other == name or other.startswith(f"{name} ") for other in names)
        names.append(f"{name} {repetitions + 1}" if repetitions else name)
    return names
