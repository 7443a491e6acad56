"""People's decisions on one or more data sets, and the tables of trials built from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruningbench.contract import NO_ANSWER, NOT_SHOWN, HumanDecisions, PruningBenchError, Responses, Samples
from pruningbench_alignment.consistency import SHOWN_TO_NOBODY


@dataclass(frozen=True)
class PooledDecisions(HumanDecisions):
    """Decisions on several data sets; subject i is the i-th subject of each set, a different person in each.

    Attributes:
        sets: (N,) int64 number of the data set that each image belongs to; None for a single data set.
    """

    sets: Tensor | None = None


def decisions_of(samples: Samples, name: str) -> HumanDecisions:
    """Return the decisions that come with a data set, after checking them.

    Raises:
        PruningBenchError: if there are none, or their sizes do not match the images.
    """
    human = samples.human
    if not isinstance(human, HumanDecisions):
        has = "no human answers" if human is None else f"{type(human).__name__}"
        raise PruningBenchError(f"model-vs-human needs people's decisions on each image, but {name!r} has {has}")
    images = len(samples)
    if human.answers.ndim != 2 or human.answers.shape[1] != images or len(human.truth) != images:
        raise PruningBenchError(
            f"{name!r} has {images} images, but answers of shape {tuple(human.answers.shape)} and "
            f"{len(human.truth)} categories"
        )
    if len(human.conditions) != images:
        raise PruningBenchError(f"{name!r} has {images} images, but conditions for {len(human.conditions)}")
    if not bool((human.answers != NOT_SHOWN).any()):
        raise PruningBenchError(f"{name!r} has no image that was shown to anyone")
    return human


def compared_conditions(human: HumanDecisions, lowest: float) -> Tensor:
    """Return which images (N,) bool the published comparisons keep.

    Conditions without manipulation, and those in which people's mean accuracy is below `lowest`, are
    left out.
    """
    compared = torch.zeros(len(human.truth), dtype=torch.bool)
    shown = human.answers != NOT_SHOWN
    right = (human.answers == human.truth) & shown
    for condition in dict.fromkeys(human.conditions):
        in_condition = torch.tensor([c == condition for c in human.conditions])
        people = shown[:, in_condition].sum(dim=1)
        accuracies = right[:, in_condition].sum(dim=1)[people > 0] / people[people > 0]
        if condition not in human.controls and len(accuracies) and float(accuracies.double().mean()) >= lowest:
            compared |= in_condition
    return compared


def select(responses: Responses, chosen: Tensor) -> Responses:
    """Return the trials that a mask (N,) bool selects."""
    human = responses.human
    assert isinstance(human, HumanDecisions)  # noqa: S101 - made by this module
    conditions = tuple(c for c, keep in zip(human.conditions, chosen.tolist(), strict=True) if keep)
    texture = None if human.texture is None else human.texture[chosen]
    selected = replace(
        human, answers=human.answers[:, chosen], truth=human.truth[chosen], conditions=conditions, texture=texture
    )
    probabilities = None if responses.probabilities is None else responses.probabilities[chosen]
    return Responses(responses.answers[chosen], selected, probabilities)


def pool(parts: Sequence[Responses]) -> Responses:
    """Combine the trials of several data sets with the same categories.

    Raises:
        PruningBenchError: if the categories differ.
    """
    humans = [part.human for part in parts if isinstance(part.human, HumanDecisions)]
    categories = humans[0].categories
    if any(human.categories != categories for human in humans):
        raise PruningBenchError(
            "data sets with different categories have no common average; measure them in separate tasks"
        )
    most = max(len(human.subjects) for human in humans)
    answers = [
        torch.cat([human.answers, human.answers.new_full((most - len(human.subjects), len(human.truth)), NOT_SHOWN)])
        for human in humans
    ]
    textures = [torch.full_like(h.truth, -1) if h.texture is None else h.texture for h in humans]
    pooled = PooledDecisions(
        categories,
        tuple(f"subject-{i + 1:02d}" for i in range(most)),
        torch.cat(answers, dim=1),
        torch.cat([human.truth for human in humans]),
        tuple(f"{i}/{condition}" for i, human in enumerate(humans) for condition in human.conditions),
        torch.cat(textures) if any(human.texture is not None for human in humans) else None,
        sets=torch.cat([torch.full_like(human.truth, i) for i, human in enumerate(humans)]),
    )
    means = [part.probabilities for part in parts if part.probabilities is not None]
    return Responses(torch.cat([part.answers for part in parts]), pooled, torch.cat(means) if means else None)


def trial_table(outputs: Responses, human: HumanDecisions) -> Tensor:
    """Return the table of trials that `pruningbench_alignment.consistency` reads: (N, 3 + S) float64.

    A model or person without a valid answer counts as wrong.
    """
    numbers = {condition: i for i, condition in enumerate(dict.fromkeys(human.conditions))}
    groups = torch.tensor([numbers[condition] for condition in human.conditions], dtype=torch.float64)
    sets = getattr(human, "sets", None)
    set_of_group = torch.zeros(len(groups), dtype=torch.float64) if sets is None else sets.double()
    truth = human.truth.cpu()
    right = (outputs.answers.cpu() == truth) & (outputs.answers.cpu() != NO_ANSWER)
    people = (human.answers == truth).double().masked_fill(human.answers == NOT_SHOWN, SHOWN_TO_NOBODY)
    return torch.cat([set_of_group[:, None], groups[:, None], right.double()[:, None], people.T], dim=1)
