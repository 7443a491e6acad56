"""What the pruners remove, and what they refuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pruningbench.contract import PruningBenchError, PruningContext, ScoreError, UsageError
from pruningbench.pruning.scope import Scope, prunable_parameters
from torch import Tensor, nn

from pruningbench_lrp.pruners import Lrp, LrpWeights


def network() -> nn.Sequential:
    """Return a small network with norms and biases; it is the same each time."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4),
    ).eval()  # fmt: skip
    nn.init.uniform_(made[1].running_mean, -1, 1)  # type: ignore[arg-type]
    nn.init.uniform_(made[1].bias, -1, 1)  # type: ignore[arg-type]
    return made


def given(subject: nn.Module, batches: Any = None, **scope: Any) -> PruningContext:
    """Return a context with three batches of eight images of four classes."""

    def three() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            yield torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 4

    return PruningContext(subject, prunable_parameters(subject, Scope(**scope)), 0, batches or three)


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.7])
def test_removed_units_are_silent_and_the_others_unchanged(sparsity: float) -> None:
    """Their outputs behind the norm are zero; outputs of kept units of the first layer are as before."""
    dense, pruned = network(), network()
    masks = Lrp().prune(given(pruned), sparsity)
    masks.apply(pruned)
    images = torch.randn(2, 3, 8, 8)
    gone = ~masks["0.weight"].flatten(1).any(1)
    before, after = dense[:2](images), pruned[:2](images)
    assert torch.equal(after[:, gone], torch.zeros_like(after[:, gone]))
    assert torch.equal(after[:, ~gone], before[:, ~gone])
    for mask in masks.values():
        rows = mask.flatten(1)
        assert bool((rows.all(1) | ~rows.any(1)).all()), "a unit is pruned as a whole"
        assert bool(rows.any()), "each layer keeps a unit"
    assert bool(masks["9.weight"].all()), "classes stay"
    widest = max(p[0].numel() for p in pruned.parameters() if p.ndim > 1)
    assert abs(masks.sparsity - sparsity) * masks.total <= widest / 2
    removed = {name: counts[0] for name, counts in masks.provenance["units_removed"].items()}
    assert removed["0.weight"] == int(gone.sum()) and sum(removed.values()) > 1


def test_units_go_in_the_order_of_their_relevance() -> None:
    """All removed units are less relevant than all kept ones, but for the last of each layer."""
    scores, _ = Lrp().unit_scores(given(network()))
    assert set(scores) == {"0.weight", "3.weight", "7.weight"}
    masks = Lrp().prune(given(network()), 0.5)
    gone = torch.cat([~masks[name].flatten(1).any(1) for name in scores])
    values = torch.cat(list(scores.values()))
    spared = torch.cat([score == score.max() for score in scores.values()])
    assert float(values[gone].max()) <= float(values[~gone & ~spared].min())


def test_the_first_samples_of_each_class_are_explained() -> None:
    """One per class: the first four images, so that others change nothing."""
    images, labels = next(given(network()).batches())  # type: ignore[misc]
    few = [(images[:4], labels[:4])]
    pruner = Lrp(samples_per_class=1)
    found, expected = (pruner.unit_scores(given(network(), b))[0] for b in (None, lambda: iter(few)))
    for name, scores in expected.items():
        assert torch.equal(found[name], scores)
    assert not torch.equal(Lrp(samples_per_class=2).unit_scores(given(network()))[0]["0.weight"], found["0.weight"])


def test_scores_are_means_over_samples() -> None:
    """The scores of two images are the means of the scores of each."""
    images, labels = next(given(network()).batches())  # type: ignore[misc]

    def scores(pruner: Lrp, *index: int) -> Tensor:
        part = images[list(index)], labels[list(index)]
        return pruner.unit_scores(given(network(), lambda: iter([part])))[0]["3.weight"]

    for order in ("absolute", "signed"):
        pruner = Lrp(order=order)  # type: ignore[arg-type]
        assert torch.allclose(scores(pruner, 0, 1), (scores(pruner, 0) + scores(pruner, 1)) / 2)
    assert torch.allclose(scores(Lrp(order="absolute"), 0), scores(Lrp(order="signed"), 0).abs())


def test_weights_are_gradient_times_weight() -> None:
    """With epsilon = 0 and the logit at the start, without the norm: biases change no gradient."""
    subject = network()
    del subject[1]
    context = given(subject)
    found = LrpWeights(epsilon=0.0, start="logit", samples_per_class=1).score(context)
    images, labels = next(context.batches())  # type: ignore[misc]
    expected = torch.zeros_like(subject[2].weight)  # type: ignore[arg-type]
    for image, label in zip(images[:4], labels[:4], strict=True):
        (gradient,) = torch.autograd.grad(subject(image[None])[0, label], subject[2].weight)  # type: ignore[arg-type]
        expected += (gradient * subject[2].weight).abs().detach() / 4  # type: ignore[operator]
    assert torch.allclose(found["2.weight"], expected, rtol=1e-4, atol=1e-7)


def test_the_network_is_left_as_it_was() -> None:
    """Weights, flags, gradients and modes; only `prune` silences units."""
    subject = network().train()
    for parameter in list(subject.parameters())[:3]:
        parameter.requires_grad_(False)
    before = copy.deepcopy(subject)
    Lrp().unit_scores(given(subject))
    LrpWeights(samples_per_class=1).score(given(subject))
    for (name, tensor), expected in zip(subject.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name
    assert [p.requires_grad for p in subject.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in subject.parameters()) and subject.training


def test_the_scope_is_respected() -> None:
    """Layers outside stay, and are not scored."""
    masks = Lrp().prune(given(network(), exclude=("3.*",)), 0.3)
    assert set(masks) == {"0.weight", "7.weight", "9.weight"}
    assert masks.provenance["units_removed"].keys() == {"0.weight", "7.weight"}


def test_rules_follow_the_depth() -> None:
    """Of five convolutions, two are low, two high; linear maps have their own rule."""
    layers = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)), nn.Flatten(), nn.Linear(3, 2))
    names = [name for name, p in layers.named_parameters() if p.ndim > 1]
    rules = Lrp(low="z-plus", middle="gamma", high="alpha2-beta1", gamma=0.1).rules(layers, names)
    expected = ["z-plus", "z-plus", "gamma", "alpha2-beta1", "alpha2-beta1", "epsilon"]
    assert [rules[name].name for name in names] == expected
    assert {rule.gamma for rule in rules.values()} == {0.1}


class Gated(nn.Module):
    """A convolution with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.gate, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 4)."""
        y: Tensor = self.head((self.map(x) * self.gate(x)).mean((2, 3)))
        return y


def test_refusals() -> None:
    """Each says what is wrong."""
    with pytest.raises(UsageError, match=r"at most sparsity 0\.\d+ on this network, but 0\.98"):
        Lrp().prune(given(network()), 0.98)
    with pytest.raises(UsageError, match="the mul of two activations"):
        Lrp().prune(given(Gated().eval()), 0.3)
    with pytest.raises(UsageError, match="function 'sigmoid'"):
        Lrp().prune(given(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Sigmoid(), nn.Flatten(), nn.Linear(4, 4)).eval()), 0.3)
    with pytest.raises(PruningBenchError, match="needs labels"):
        Lrp().prune(given(network(), lambda: iter([(torch.randn(2, 3, 8, 8), None)])), 0.3)
    with pytest.raises(PruningBenchError, match="got no images"):
        Lrp().prune(given(network(), lambda: iter([])), 0.3)
    plain = network()
    plain[1] = nn.BatchNorm2d(8, affine=False).eval()
    with pytest.raises(UsageError, match=r"cannot silence units of '0\.weight'"):
        Lrp().prune(given(plain), 0.6)
    broken = network()
    with torch.no_grad():
        broken[3].weight[0, 0, 0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(ScoreError, match="NaN or infinite"):
        Lrp().prune(given(broken), 0.3)
    attention = Lrp().refuses(nn.TransformerEncoderLayer(8, 2))
    assert attention is not None and "MultiheadAttention" in attention
    assert Lrp(epsilon=-1.0).problem() and Lrp(samples_per_class=0).problem() and Lrp().problem() is None
