"""The paper's experiment in reduced form: units of small networks for digits are removed without any retraining.

``python tests/reduced.py`` prints the tables of the README; it takes about three minutes on two cores.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pruningbench as pb
import torch
from pruningbench.contract import PruningContext, isolated_randomness
from pruningbench.pruning.scope import prunable_parameters
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pruningbench_lrp.pruners import Lrp, _removed, _silence

TRAINING = 1000
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
Scores = dict[str, Tensor]


class Residual(nn.Module):
    """Five convolutions with batch norm, of which two lie inside a shortcut, and a linear map."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = [(1, width, 1), (width, width, 1), (width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1)]
        self.maps = nn.ModuleList(nn.Conv2d(i, o, 3, stride=s, padding=1, bias=False) for i, o, s in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in sizes)
        self.linear = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 10) logits."""
        first, inner, outer, wider, last = (
            lambda x, m=m, n=n: n(m(x)) for m, n in zip(self.maps, self.norms, strict=True)
        )
        x = torch.relu(first(x))
        x = torch.relu(x + outer(torch.relu(inner(x))))
        logits: Tensor = self.linear(torch.relu(last(torch.relu(wider(x)))).mean((2, 3)))
        return logits


def plain(width: int = 16) -> nn.Module:
    """Return three convolutions with batch norm and two linear maps, as in a VGG network."""
    layers: list[nn.Module] = []
    for channels_in, channels, pool in ((1, width, False), (width, 2 * width, True), (2 * width, 2 * width, True)):
        layers += [nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 10))


def digits() -> tuple[Tensor, Tensor]:
    """Return 1797 normalised images (N, 1, 8, 8) and their labels; the first `TRAINING` are for training."""
    data = load_digits()
    return (torch.tensor(data.images, dtype=torch.float32)[:, None] / 16 - 0.3) / 0.37, torch.tensor(data.target)


def trained(make: Callable[[], nn.Module], seed: int, epochs: int = 15) -> nn.Module:
    """Return a network that is right on about 97 % of the test digits."""
    images, labels = digits()
    with isolated_randomness("reduced", seed), torch.enable_grad():
        network = make().train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.006, total_steps=16 * epochs)
        for _ in range(epochs):
            for index in torch.randperm(TRAINING).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images[index]), labels[index]).backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def context(network: nn.Module) -> PruningContext:
    """Return what a pruner is given: the network and the training digits."""
    images, labels = digits()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.arange(TRAINING).split(128):
            yield images[index], labels[index]

    return PruningContext(network, prunable_parameters(network), 0, batches)


def accuracy(network: nn.Module) -> float:
    """Return the share of right answers on the test digits."""
    images, labels = digits()
    with torch.no_grad():
        return float((network(images[TRAINING:]).argmax(1) == labels[TRAINING:]).double().mean())


def curve(network: nn.Module, pruner: Lrp, sparsities: tuple[float, ...] = SPARSITIES) -> list[float]:
    """Return the accuracy at each sparsity, as pruned."""
    found = []
    for sparsity in sparsities:
        pruned = copy.deepcopy(network)
        pruner.prune(context(pruned), sparsity).apply(pruned)
        found.append(accuracy(pruned))
    return found


def baseline(
    network: nn.Module, score: Callable[[Scores], Scores], sparsities: tuple[float, ...] = SPARSITIES
) -> list[float]:
    """Return what `curve` does, for units that are removed in the order of other scores.

    `score` maps the weights (units, ...) of removable layers to scores of their units.
    """
    found = []
    for sparsity in sparsities:
        pruned = copy.deepcopy(network)
        given = context(pruned)
        relevances, layers = Lrp(samples_per_class=1).unit_scores(given)
        scores = score({name: given.parameters[name].detach() for name in relevances})
        requested = round(sparsity * sum(p.numel() for p in given.parameters.values()))
        with torch.no_grad():
            for name, gone in _removed(scores, given.parameters, requested).items():
                given.parameters[name][gone] = 0
                if bool(gone.any()):
                    _silence(layers[name], gone)
        found.append(accuracy(pruned))
    return found


def at_random(network: nn.Module, sparsities: tuple[float, ...] = SPARSITIES, draws: int = 5) -> list[float]:
    """Return the mean accuracy at each sparsity over random orders."""
    generator = torch.Generator().manual_seed(0)

    def draw(weights: Scores) -> Scores:
        return {name: torch.rand(len(weight), generator=generator) for name, weight in weights.items()}

    return torch.tensor([baseline(network, draw, sparsities) for _ in range(draws)]).mean(0).tolist()


def norms(weights: Scores) -> Scores:
    """Return the L2 norm of each unit's weights."""
    return {name: weight.flatten(1).norm(dim=1) for name, weight in weights.items()}


def relative_norms(weights: Scores) -> Scores:
    """Return the L2 norm of each unit's weights, divided by the mean of its layer."""
    return {name: norm / norm.mean() for name, norm in norms(weights).items()}


def composite(rule: Any, **fields: Any) -> Lrp:
    """Return the pruner with one rule everywhere."""
    return Lrp(low=rule, middle=rule, high=rule, linear=rule, **fields)


CONTENDERS: dict[str, Callable[[nn.Module], list[float]]] = {
    "random units (5 draws)": at_random,
    "magnitude (L2 norm of a unit)": lambda network: baseline(network, norms),
    "magnitude, by the layer's mean": lambda network: baseline(network, relative_norms),
    "lrp, epsilon": lambda network: curve(network, Lrp()),
    "lrp, epsilon, 1 sample per class": lambda network: curve(network, Lrp(samples_per_class=1)),
    "lrp, epsilon, signed order": lambda network: curve(network, Lrp(order="signed")),
    "lrp, gamma": lambda network: curve(network, composite("gamma")),
    "lrp, z-plus (Yeom et al.)": lambda network: curve(network, composite("z-plus")),
    "lrp, alpha2-beta1": lambda network: curve(network, composite("alpha2-beta1")),
}


WEIGHTS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Sparsities at which single weights are pruned."""


def by_weight(pruner: str, **fields: Any) -> Callable[[nn.Module], list[float]]:
    """Return a function from a network to its accuracies with single weights pruned."""

    def run(network: nn.Module) -> list[float]:
        found = []
        for sparsity in WEIGHTS:
            pruned = copy.deepcopy(network)
            batches = context(pruned).batches
            assert batches is not None
            pb.prune(pruned, pruner, sparsity, batches(), **fields).apply(pruned)
            found.append(accuracy(pruned))
        return found

    return run


BY_WEIGHT = {
    "random": by_weight("random"),
    "magnitude": by_weight("magnitude"),
    "snip": by_weight("snip"),
    "lrp-weights, epsilon": by_weight("lrp-weights"),
    "lrp-weights, z-plus": by_weight("lrp-weights", low="z-plus", middle="z-plus", high="z-plus", linear="z-plus"),
}


def main() -> None:
    """Print the tables."""
    for title, make in (("residual", Residual), ("plain", plain)):
        networks = [trained(make, seed) for seed in range(3)]
        print(f"\n{title}: dense {sum(map(accuracy, networks)) / 3:.3f}")
        for what, sparsities, contenders in (("units", SPARSITIES, CONTENDERS), ("weights", WEIGHTS, BY_WEIGHT)):
            print(f"\n| {what} removed by | mean | " + " | ".join(f"{s:g}" for s in sparsities) + " |")
            print("|---|" + (1 + len(sparsities)) * "---|")
            for name, contender in contenders.items():
                values = torch.tensor([contender(network) for network in networks]).mean(0)
                print(f"| {name} | {values.mean():.2f} | " + " | ".join(f"{v:.2f}" for v in values.tolist()) + " |")


if __name__ == "__main__":
    main()
