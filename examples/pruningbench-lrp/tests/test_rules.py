"""The rules, against closed forms, the conservation of relevance, gradient times input, and captum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from torch import Tensor, nn
from torch.nn import functional

from pruningbench_lrp.relevance import relevance
from pruningbench_lrp.rules import Rule, propagating

NAMES = ("epsilon", "gamma", "z-plus", "alpha2-beta1")


@pytest.fixture(autouse=True)
def _in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def shared(rule: Rule, a: list[float], w: list[float], b: float | None = None) -> list[float]:
    """Return how a unit shares a relevance of one among its inputs."""
    inputs = torch.tensor([a], requires_grad=True)
    bias = None if b is None else torch.tensor([b])
    z = propagating(rule, functional.linear, inputs, torch.tensor([w]), bias)
    assert torch.equal(z, functional.linear(inputs, torch.tensor([w]), bias))
    (gradient,) = torch.autograd.grad(z, inputs, 1 / z.detach())
    found: list[float] = (inputs.detach() * gradient)[0].tolist()
    return found


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # a w = (2, -1, 3): z = 4, the positive part is 5 and the negative one -1
        (Rule("epsilon", 0.0), [2 / 4, -1 / 4, 3 / 4]),
        (Rule("epsilon", 1.0), [2 / 5, -1 / 5, 3 / 5]),
        (Rule("z-plus", 0.0), [2 / 5, 0, 3 / 5]),
        (Rule("alpha2-beta1", 0.0), [2 * 2 / 5, -1.0, 2 * 3 / 5]),
        (Rule("gamma", 0.0, 0.5), [3 / 6.5, -1 / 6.5, 4.5 / 6.5]),
    ],
)
def test_closed_forms(rule: Rule, expected: list[float]) -> None:
    """One input is negative, with a negative weight: its contribution is positive."""
    assert shared(rule, [1.0, 1.0, -1.0], [2.0, -1.0, -3.0]) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_sum_favours_negative_contributions(name: Any) -> None:
    """Contributions are (1, -4): the sum is -3; gamma = .5 makes it -5."""
    expected = {
        "epsilon": [-1 / 3, 4 / 3], "z-plus": [1.0, 0.0], "alpha2-beta1": [2.0, -1.0], "gamma": [-1 / 5, 6 / 5],
    }  # fmt: skip
    assert shared(Rule(name, 0.0, 0.5), [1.0, 1.0], [1.0, -4.0]) == pytest.approx(expected[name])


def test_a_bias_takes_its_share() -> None:
    """Contributions 3 and -1 with a bias of 2: z is 4."""
    assert shared(Rule("epsilon", 0.0), [1.0, 1.0], [3.0, -1.0], 2.0) == pytest.approx([3 / 4, -1 / 4])
    assert shared(Rule("z-plus", 0.0), [1.0, 1.0], [3.0, -1.0], 2.0) == pytest.approx([3 / 5, 0])


def test_alpha_beta_conserves_relevance_only_between_both_signs() -> None:
    """A unit without negative contributions gives out 2 R: nothing takes the -R."""
    assert sum(shared(Rule("alpha2-beta1", 0.0), [1.0, 1.0], [3.0, -1.0])) == pytest.approx(1)
    assert sum(shared(Rule("alpha2-beta1", 0.0), [1.0, 1.0], [3.0, 1.0])) == pytest.approx(2)


class Mixed(nn.Module):
    """Everything that the rules cover: shortcuts with padding, norms that fold, pooling, rectifiers in place."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=bias)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=bias)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.hidden, self.last = nn.Linear(8, 7, bias=bias), nn.Linear(7, 4, bias=bias)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        nn.init.uniform_(self.norm.running_mean, 0, 1 if bias else 0)  # type: ignore[arg-type]
        nn.init.uniform_(self.norm.weight, 0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 8, 8) -> (B, 4)."""
        x = self.relu(self.norm(self.first(x)))
        x = self.relu(x + self.grouped(x))
        shortcut = functional.pad(x[..., ::2, ::2], (0, 0, 0, 0, 1, 1))
        x = self.pool(self.relu(self.second(x) + shortcut))
        logits: Tensor = self.last(self.relu(self.hidden(functional.adaptive_avg_pool2d(x, 1).flatten(1))))
        return logits


def explained(network: nn.Module, x: Tensor, y: Tensor, rule: Rule, **more: Any) -> Any:
    """Return the relevances with one rule everywhere."""
    return relevance(network.eval(), x, y, lambda names: dict.fromkeys(names, rule), **more)


@pytest.mark.parametrize("name", ["epsilon", "gamma", "z-plus"])
@pytest.mark.parametrize("start", ["one", "logit"])
def test_relevance_is_conserved(name: Any, start: Any) -> None:
    """Without biases and with epsilon = 0, inputs and the units of layers that all paths cross sum to the start."""
    network, x, y = Mixed(), torch.randn(5, 3, 8, 8), torch.arange(5) % 4
    weights = {n: p for n, p in network.named_parameters() if p.ndim > 1}
    found = explained(network, x, y, Rule(name, 0.0), start=start, through=weights)
    logits = network(x).detach()
    assert torch.allclose(found.logits, logits)
    expected = torch.ones(5) if start == "one" else logits.gather(1, y[:, None])[:, 0]
    assert torch.allclose(found.inputs.sum((1, 2, 3)), expected)
    for layer in ("first.weight", "hidden.weight"):
        assert torch.allclose(found.units[layer].sum(1), expected)
        assert torch.allclose(found.weights[layer].sum(), expected.sum())
    around = found.units["second.weight"].sum(1)  # the shortcut carries the rest
    assert not torch.allclose(around, expected)


@pytest.mark.parametrize("name", NAMES)
def test_biases_and_folded_norms_change_no_logit(name: Any) -> None:
    """And with them, relevance is lost."""
    network, x = Mixed(bias=True), torch.randn(5, 3, 8, 8)
    found = explained(network, x, torch.arange(5) % 4, Rule(name))
    assert torch.allclose(found.logits, network(x))
    assert not torch.allclose(found.inputs.sum((1, 2, 3)), torch.ones(5), atol=0.01)


def test_epsilon_absorbs_relevance() -> None:
    """So the check above can fail."""
    network, x, y = Mixed(), torch.randn(5, 3, 8, 8), torch.arange(5) % 4
    assert not torch.allclose(explained(network, x, y, Rule("epsilon", 0.1)).inputs.sum((1, 2, 3)), torch.ones(5))


def test_epsilon_zero_is_gradient_times_input() -> None:
    """On rectifier networks without biases, for inputs, units and weights."""
    network, x, y = Mixed(), torch.randn(5, 3, 8, 8), torch.arange(5) % 4
    weights = dict(network.named_parameters())
    found = explained(
        network, x, y, Rule("epsilon", 0.0), start="logit", through={"second.weight": weights["second.weight"]}
    )
    seen: list[Tensor] = []
    handle = network.second.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    inputs = x.clone().requires_grad_()
    logits = network(inputs).gather(1, y[:, None]).sum()
    handle.remove()
    at = torch.autograd.grad(logits, [inputs, seen[0], weights["second.weight"]])
    assert torch.allclose(found.inputs, inputs.detach() * at[0])
    assert torch.allclose(found.units["second.weight"], (seen[0].detach() * at[1]).sum((2, 3)))
    assert torch.allclose(found.weights["second.weight"], weights["second.weight"].detach() * at[2])


def test_a_layer_that_is_called_twice_collects_the_relevance_of_both_calls() -> None:
    """Each call passes on all of it."""
    shared = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    network = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Flatten(), nn.Linear(48, 4, bias=False))
    found = explained(network, torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), Rule("epsilon", 0.0))
    assert torch.allclose(found.units["0.weight"].sum(1), torch.full((2,), 2.0))


def test_a_norm_behind_something_else_is_not_folded() -> None:
    """A rectifier in place returns the very tensor that the convolution gave."""
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 4)
    ).eval()
    nn.init.uniform_(network[2].running_mean, -1, 1)  # type: ignore[arg-type]
    x, y = torch.randn(2, 3, 4, 4), torch.tensor([0, 1])
    found = explained(network, x, y, Rule("epsilon", 0.0), start="logit")
    inputs = x.clone().requires_grad_()
    logits = network(inputs)
    (gradient,) = torch.autograd.grad(logits.gather(1, y[:, None]).sum(), inputs)
    assert torch.allclose(found.logits, logits)
    assert torch.allclose(found.inputs, x * gradient)


class Explicable(nn.Module):
    """A network that captum explains: modules that it knows, each of them used once."""

    def __init__(self, bias: bool, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias), *[nn.BatchNorm2d(6)] * norm)
        self.stage = nn.Sequential(
            nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 2, bias=bias), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Sequential(nn.Linear(8, 7, bias=bias), nn.ReLU(), nn.Linear(7, 4, bias=bias))
        if norm:
            nn.init.uniform_(self.stem[1].running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(self.stem[1].running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(self.stem[1].bias, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(self.stem[1].weight, 0.5, 2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 4)."""
        logits: Tensor = self.head(self.stage(self.stem(x)).flatten(1))
        return logits


@pytest.mark.parametrize(
    ("name", "peer", "bias", "norm"),
    [
        ("epsilon", lambda: EpsilonRule(1e-12), True, True),
        ("epsilon", lambda: EpsilonRule(0.01), True, False),
        ("gamma", lambda: GammaRule(0.25), False, False),
        ("z-plus", lambda: Alpha1_Beta0_Rule(), False, False),
    ],
)
def test_inputs_equal_captum(name: Any, peer: Any, bias: bool, norm: bool) -> None:
    """Captum keeps biases out of gamma and z-plus, and folds no norms, so those are compared without."""
    network = Explicable(bias, norm).eval()
    x, y = torch.rand(5, 3, 8, 8), torch.arange(5) % 4
    rule = Rule(name, getattr(peer(), "STABILITY_FACTOR", 1e-9))
    maps = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]

    def rules(names: Sequence[str]) -> dict[str, Rule]:
        return {**dict.fromkeys(names, rule), names[-1]: Rule("epsilon", 1e-9)}

    ours = relevance(network, x, y, rules, start="logit")
    for module in (*maps[:-1], *[m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]):
        module.rule = peer()  # type: ignore[assignment]
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    theirs = LRP(network).attribute(x.clone().requires_grad_(), target=y)
    largest = float(theirs.detach().abs().max())
    assert largest > 1e-4
    assert float((ours.inputs - theirs.detach()).abs().max()) < 1e-6 * largest
