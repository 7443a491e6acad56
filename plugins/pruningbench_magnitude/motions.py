"""How the masks of gradual pruning, movement pruning and RigL move."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruningbench.contract import Motion, UsageError
from pruningbench.pruning.allocation import Allocation, allocate
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.top_k import keep_highest
from pruningbench_magnitude.schedule import CubicSchedule

Parameters = Mapping[str, nn.Parameter]


class GradualMotion(Motion):
    """Prune a few more of the smallest weights at each point of the schedule; none returns."""

    def __init__(self, parameters: Parameters, schedule: CubicSchedule, allocation: Allocation) -> None:
        self.parameters, self.schedule, self.allocation = parameters, schedule, allocation
        self.masks = Masks.ones(parameters)
        self._prune_to(schedule.initial)

    def after_step(self, step: int) -> bool:
        """Prune by magnitude when the schedule says so."""
        sparsity = self.schedule.sparsity_after(step + 1)
        if sparsity is None:
            return False
        self._prune_to(sparsity)
        return True

    def state(self) -> Mapping[str, Tensor]:
        """Return nothing: the next masks follow from these and the weights."""
        return {}

    def restore(self, masks: Masks, state: Mapping[str, Tensor]) -> None:
        """Take the masks."""
        self.masks = masks

    def _prune_to(self, sparsity: float) -> None:
        # a pruned weight ranks below a kept one that happens to be zero
        scores = {
            name: parameter.detach().abs().masked_fill((~self.masks[name]).to(parameter.device), -1.0)
            for name, parameter in self.parameters.items()
        }
        self.masks = Masks(allocate(scores, sparsity, self.allocation))


class MovementMotion(Motion):
    """Keep weights that training moves away from zero; pruned weights may return with their old value.

    The score of a weight w is the running sum of -w dL/dw', where w' = mask * w is what the network uses: the
    straight-through gradient of the mask. The value of a pruned weight is kept outside the network; inside, the
    weight is exactly zero. A frozen parameter has no such score and raises a UsageError.
    """

    def __init__(self, parameters: Parameters, schedule: CubicSchedule, allocation: Allocation) -> None:
        self.parameters, self.schedule, self.allocation = parameters, schedule, allocation
        self.masks = Masks.ones(parameters)
        self.scores = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
        self._pruned_values = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def before_step(self, step: int) -> bool:
        """Add this step's contribution to the score of every weight, including pruned ones."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if not parameter.requires_grad:
                    raise UsageError(
                        f"pruner 'movement' ranks weights by their training, but {name!r} is frozen: exclude it "
                        "in the scope"
                    )
                if parameter.grad is not None:
                    self.scores[name] -= ((parameter + self._pruned_values[name]) * parameter.grad).float()
        return True

    def after_step(self, step: int) -> bool:
        """Threshold the scores when the schedule says so."""
        sparsity = self.schedule.sparsity_after(step + 1)
        if sparsity is None:
            return False
        masks = Masks(allocate(self.scores, sparsity, self.allocation))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                keep = masks[name].to(parameter.device)
                all_values = parameter + self._pruned_values[name]  # at every weight one of the two is zero
                parameter.copy_(all_values.masked_fill(~keep, 0))
                self._pruned_values[name] = all_values.masked_fill(keep, 0)
        self.masks = masks
        return True

    def state(self) -> Mapping[str, Tensor]:
        """Return the scores, and the values of the pruned weights."""
        scores = {f"scores/{name}": tensor for name, tensor in self.scores.items()}
        return scores | {f"pruned/{name}": tensor for name, tensor in self._pruned_values.items()}

    def restore(self, masks: Masks, state: Mapping[str, Tensor]) -> None:
        """Take the masks, the scores and the values."""
        self.masks = masks
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class RiglMotion(Motion):
    """Drop the smallest kept weights of each layer and grow those with the largest gradients.

    At every `interval`-th step before `end`, instead of an optimizer step, each layer drops the share
    ``fraction / 2 (1 + cos(pi step / end))`` of its kept weights and grows as many, chosen by abs(dL/dw)
    among all weights not kept after the drop. A grown weight starts at zero, without momentum.
    """

    def __init__(self, parameters: Parameters, masks: Masks, fraction: float, end: int, interval: int) -> None:
        self.parameters, self.masks = parameters, masks
        self.fraction, self.end, self.interval = fraction, end, interval
        self._moved = False

    def before_step(self, step: int) -> bool:
        """Drop and grow if the step is due; the optimizer then skips this step."""
        self._moved = step > 0 and step < self.end and step % self.interval == 0
        if self._moved:
            share = self.fraction / 2 * (1 + math.cos(math.pi * step / self.end))
            self.masks = Masks({name: self._moved_mask(name, share) for name in self.parameters})
        return not self._moved

    def after_step(self, step: int) -> bool:
        """Return whether the masks moved before this step."""
        return self._moved

    def state(self) -> Mapping[str, Tensor]:
        """Return nothing: the next masks follow from these, the weights and the gradients."""
        return {}

    def restore(self, masks: Masks, state: Mapping[str, Tensor]) -> None:
        """Take the masks."""
        self.masks = masks

    def _moved_mask(self, name: str, share: float) -> Tensor:
        parameter, mask = self.parameters[name], self.masks[name]
        kept, total = int(mask.sum()), mask.numel()
        moving = int(share * kept)
        if not moving or kept == total or parameter.grad is None:
            return mask
        mask = mask.to(parameter.device)
        stay = keep_highest([parameter.detach().abs().masked_fill(~mask, -1.0)], total - (kept - moving))[0]
        stay = stay.to(parameter.device)
        grow = keep_highest([parameter.grad.detach().abs().masked_fill(stay, -1.0)], total - moving)[0]
        return stay | grow.to(parameter.device)
