"""The pruners `lrp` and `lrp-weights`: remove what is least relevant for the logits of the true classes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, ScorePruner, param

if TYPE_CHECKING:
    from pruningbench.pruning.masks import Masks
    from torch import Tensor, nn

    from pruningbench_lrp.relevance import Layer, Relevance
    from pruningbench_lrp.rules import Rule

RuleName = Literal["epsilon", "gamma", "z-plus", "alpha2-beta1"]
_RULE = "epsilon, gamma, z-plus or alpha2-beta1"


@dataclass(frozen=True)
class _Relevant(Pruner, ABC):
    """What both pruners share: the composite of rules, and the reference samples."""

    needs_data: ClassVar[bool] = True

    low: RuleName = param("epsilon", doc=f"rule of the first quarter of the convolutions: {_RULE}")
    middle: RuleName = param("epsilon", doc="rule of the other convolutions")
    high: RuleName = param("epsilon", doc="rule of the last quarter of the convolutions")
    linear: RuleName = param("epsilon", doc="rule of the linear maps")
    epsilon: float = param(1e-6, doc="term that keeps denominators from zero, >= 0")
    gamma: float = param(0.25, doc="how much the rule gamma favours contributions of the sign of their sum, >= 0")
    start: Literal["one", "logit"] = param("one", doc="relevance of the true class's logit: 1, or the logit itself")
    order: Literal["absolute", "signed"] = param(
        "absolute", doc="remove relevances near zero first (absolute), or the most negative ones (signed)"
    )
    samples_per_class: int = param(10, doc="reference samples of each class, the first ones in the data; >= 1")

    def problem(self) -> str | None:
        """Check the ranges."""
        if not 0 <= self.epsilon < float("inf") or not 0 <= self.gamma < float("inf"):
            return f"epsilon {self.epsilon} and gamma {self.gamma} must be finite and at least 0"
        return "samples_per_class must be at least 1" if self.samples_per_class < 1 else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse networks with attention or layer norms, for which there are no rules here."""
        from torch import nn

        for name, module in network.named_modules():
            if isinstance(module, (nn.MultiheadAttention, nn.LayerNorm, nn.GroupNorm, nn.Softmax)):
                kind = type(module).__name__
                return f"its rules explain convolutional networks and MLPs, not a {kind} ({name or 'the network'})"
        return None

    def rules(self, network: nn.Module, names: Sequence[str]) -> dict[str, Rule]:
        """Return the rule of each layer from the order of their calls: low, middle or high by depth, or linear."""
        from pruningbench_lrp.rules import Rule

        parameters = dict(network.named_parameters())
        convolutions = [name for name in dict.fromkeys(names) if parameters[name].ndim > 2]
        quarter = -(-len(convolutions) // 4)
        depth: dict[str, RuleName] = dict.fromkeys(names, self.linear)
        depth |= dict.fromkeys(convolutions, self.middle)
        depth |= dict.fromkeys(convolutions[:quarter], self.low)
        depth |= dict.fromkeys(convolutions[max(quarter, len(convolutions) - quarter) :], self.high)
        return {name: Rule(rule, self.epsilon, self.gamma) for name, rule in depth.items()}

    def references(self, context: PruningContext) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the reference samples: batches of (images, labels).

        Raises:
            PruningBenchError: without images or labels.
        """
        import torch
        from pruningbench.contract import PruningBenchError

        seen: dict[int, int] = {}
        for images, labels in context.batches() if context.batches is not None else ():
            if labels is None:
                raise PruningBenchError("pruner 'lrp' needs labels: relevance starts at the logit of the true class")
            chosen = []
            for position, label in enumerate(labels.tolist()):
                seen[label] = seen.get(label, 0) + 1
                if seen[label] <= self.samples_per_class:
                    chosen.append(position)
            if chosen:
                index = torch.tensor(chosen, device=images.device)
                yield images[index], labels[index]
        if not seen:
            raise PruningBenchError("pruner 'lrp' needs data, but got no images: give at least one batch")

    def explained(self, network: nn.Module, images: Tensor, labels: Tensor, **more: Mapping[str, Tensor]) -> Relevance:
        """Return the relevances of one batch."""
        from pruningbench_lrp.relevance import relevance

        return relevance(network, images, labels, lambda names: self.rules(network, names), start=self.start, **more)


@contextmanager
def _lent(context: PruningContext) -> Iterator[None]:
    """Run in eval mode and without autocast, and leave the network and the random state as they were."""
    import torch
    from pruningbench.contract import isolated_randomness
    from pruningbench.pruning.preservation import preserved

    device = next(iter(context.parameters.values())).device.type
    with isolated_randomness("lrp"), preserved(context.network), torch.autocast(device, enabled=False):
        context.network.eval()
        yield


@dataclass(frozen=True)
class Lrp(_Relevant):
    """Remove the filters and neurons that are least relevant, by layer-wise relevance propagation (LRP).

    The relevance of a unit is that of its output, summed over positions. Its absolute value is averaged over the
    reference samples, and the units of all layers are removed in ascending order: rows of weights are masked, and
    their biases and the scales and shifts of their batch norms become zero in place. As many units are removed as
    bring the pruned share of the prunable weights closest to the sparsity; ``sparsity_achieved`` gives it. Weights of
    later layers that read a removed unit still count as kept. The units of the last layer are the classes and stay,
    and each layer keeps its most relevant unit. Cost: two forward passes, of which one with up to four times the
    operations, and one backward pass over the reference samples. Needs labels. Higher = keep. Networks with
    attention, gates or layer norms are refused. Sources: Hatefi et al., Pruning by explaining revisited (ECCV
    workshops 2024, arXiv 2408.12568); Yeom et al., Pruning by explaining (Pattern Recognition 2021).
    """

    exact: ClassVar[bool] = False
    updates_weights: ClassVar[bool] = True

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: two passes forward and one back; the rules keep up to four outputs of each layer."""
        memory = 2 * outline.state_bytes + 2 * outline.weights + 6 * outline.batch_size * outline.pass_bytes
        return Cost(2, 1, outline.images(None), memory, "2 S + 2 W + 6 b A: state, masks, one batch under rules")

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks of whole rows, and silence the removed units in place.

        Raises:
            PruningBenchError: without images or labels, or if relevances are not finite.
            UsageError: for a sparsity that removable units cannot reach, or a network that the rules do not cover.
        """
        import torch
        from pruningbench.pruning.allocation import number_to_prune
        from pruningbench.pruning.masks import Masks

        scores, layers = self.unit_scores(context)
        requested = number_to_prune(sparsity, sum(p.numel() for p in context.parameters.values()))
        removed = _removed(scores, context.parameters, requested)
        masks = {name: torch.ones(p.shape, dtype=torch.bool) for name, p in context.parameters.items()}
        with torch.no_grad():
            for name, units in removed.items():
                masks[name][units.cpu()] = False
                if bool(units.any()):
                    _silence(layers[name], units)
        counts = {name: [int(units.sum()), len(units)] for name, units in removed.items()}
        gone, present = (sum(count[i] for count in counts.values()) for i in (0, 1))
        context.report(f"lrp removes {gone} of {present} units")
        return Masks(masks, {"sparsity": sparsity, "units_removed": counts})

    def unit_scores(self, context: PruningContext) -> tuple[dict[str, Tensor], dict[str, Layer]]:
        """Return weight name -> (units,) mean relevances of removable layers, higher = keep, and the layers.

        Raises:
            PruningBenchError: without images or labels, or if relevances are not finite.
        """
        from pruningbench.contract import check_weights

        check_weights(context.network)
        sums: dict[str, Tensor] = {}
        layers: dict[str, Layer] = {}
        count = 0
        with _lent(context):
            for images, labels in self.references(context):
                found = self.explained(context.network, images, labels)
                for name, of_units in found.units.items():
                    kind = of_units.double().abs() if self.order == "absolute" else of_units.double()
                    sums[name] = sums.get(name, 0) + kind.sum(0)
                layers = {layer.weight: layer for layer in found.layers}
                count += len(images)
                last = found.layers[-1].weight
        scores = {n: total / count for n, total in sums.items() if n in context.parameters and n != last}
        _check_finite(scores)
        return scores, layers


@dataclass(frozen=True)
class LrpWeights(_Relevant, ScorePruner):
    """Keep the weights through which most relevance flows, by layer-wise relevance propagation (LRP).

    The relevance of a weight is what its unit's rule sends along it, summed over positions; its absolute value is
    averaged over the reference samples. With epsilon = 0 everywhere and ``start: logit`` that is the mean of
    ``|w g|`` with g the gradient of one sample's true logit. Cost: as `lrp`, one sample at a time. Needs labels.
    Higher = keep. The paper scores units (`lrp`); it names weights as other components that LRP can score.
    """

    allocation: Literal["global", "uniform", "erk"] = param(
        "global", doc="how the sparsity is shared between layers: global, uniform or erk", scores=False
    )

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: passes over single images, and two gradients of the weights."""
        memory = 2 * outline.state_bytes + 18 * outline.weights + 6 * outline.pass_bytes
        return Cost(2, 1, outline.images(None), memory, "2 S + 18 W + 6 A: state, gradients, scores, masks, one image")

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return the mean relevance of every prunable weight, float32.

        Raises:
            PruningBenchError: without images or labels, or if relevances are not finite.
            UsageError: for a network that the rules do not cover.
        """
        import torch
        from pruningbench.contract import check_weights

        check_weights(context.network)
        sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in context.parameters.items()}
        count = 0
        with _lent(context):
            for images, labels in self.references(context):
                for at in range(len(images)):
                    one = slice(at, at + 1)
                    found = self.explained(context.network, images[one], labels[one], through=context.parameters)
                    for name, of_weights in found.weights.items():
                        sums[name] += of_weights.abs() if self.order == "absolute" else of_weights
                count += len(images)
        scores = {name: total / count for name, total in sums.items()}
        _check_finite(scores)
        return scores


def _check_finite(scores: Mapping[str, Tensor]) -> None:
    from pruningbench.contract import ScoreError

    for name, score in scores.items():
        if not bool(score.isfinite().all()):
            raise ScoreError(f"relevances of {name!r} are NaN or infinite: raise `epsilon`, or use the rule epsilon")


def _removed(scores: Mapping[str, Tensor], parameters: Mapping[str, Tensor], requested: int) -> dict[str, Tensor]:
    """Return the removed units of each layer, bool: a prefix of the ascending order, closest to `requested` weights.

    Ties go to the first of two units. The most relevant unit of each layer stays.

    Raises:
        UsageError: if the removable units have fewer weights.
    """
    import torch
    from pruningbench.contract import UsageError

    names = list(scores)
    flat = torch.cat([scores[name] for name in names])
    weights = torch.cat([torch.full((len(scores[n]),), parameters[n][0].numel(), device=flat.device) for n in names])
    starts = [0]
    for name in names:
        starts.append(starts[-1] + len(scores[name]))
    kept = {start + int(scores[name].argmax()) for name, start in zip(names, starts, strict=False)}
    order = torch.tensor([i for i in flat.argsort(stable=True).tolist() if i not in kept], device=flat.device)
    pruned = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)])
    if int(pruned[-1]) < requested:
        total = sum(p.numel() for p in parameters.values())
        raise UsageError(
            f"pruner 'lrp' reaches at most sparsity {int(pruned[-1]) / total:.3f} on this network, but "
            f"{requested / total:.3f} was requested: the last layer and one unit of each other layer stay"
        )
    gone = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    gone[order[: int((pruned - requested).abs().argmin())]] = True
    return {name: gone[start : start + len(scores[name])] for name, start in zip(names, starts, strict=False)}


def _silence(layer: Layer, units: Tensor) -> None:
    """Zero whatever else than weights reaches the output of removed units, in place.

    Raises:
        UsageError: for a batch norm without scale and shift, which cannot be silenced.
    """
    from pruningbench.contract import UsageError

    if layer.fixed_norm:
        raise UsageError(
            f"pruner 'lrp' cannot silence units of {layer.weight!r}: its batch norm has no scale and shift"
        )
    for tensor in layer.shift:
        tensor.masked_fill_(units.to(tensor.device), 0)
