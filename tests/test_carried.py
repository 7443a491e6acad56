"""One pass of all batches, stopped at each layer, gives what a pass for each layer gives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import timm
import torch
from pruningbench_hessian import layerwise
from torch import Tensor, nn
from torch.nn import functional

import pruningbench as pb
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.carried import carry, probe
from pruningbench.pruning.masks import Masks


class Attention(nn.Module):
    """`nn.MultiheadAttention`, whose projections are no modules of their own, within a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.flatten(2).transpose(1, 2).reshape(len(images), -1, 12))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(tokens.mean(1))


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.head = nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.first(images.flatten(1)))
        return self.head(functional.relu(self.shared(functional.relu(self.shared(x)))))


class Backwards(Twice):
    """Uses its layers in another order than it defines them."""

    def forward(self, images: Tensor) -> Tensor:
        return self.first.weight.new_zeros(len(images), 4) + self.head(self.late(images))

    def late(self, images: Tensor) -> Tensor:
        return functional.relu(self.shared(self.first(images.flatten(1)))) * self.gate(images)

    def gate(self, images: Tensor) -> Tensor:
        return self.after(images.flatten(1))

    def __init__(self) -> None:
        super().__init__()
        shared, head = self.shared, self.head
        del self.shared, self.head
        self.head, self.after, self.shared = head, nn.Linear(48, 8), shared


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], int, bool]] = {
    "resnet": (lambda: timm.create_model("test_resnet", pretrained=False, num_classes=4), 32, True),
    "depthwise": (lambda: timm.create_model("test_efficientnet", pretrained=False, num_classes=4), 32, True),
    "vit": (lambda: timm.create_model("test_vit", pretrained=False, img_size=32, num_classes=4), 32, True),
    "attention": (Attention, 4, True),
    "twice": (Twice, 4, False),
    "backwards": (Backwards, 4, False),
}


def made(name: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    build, size, _ = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build().eval()
        batches = [(torch.randn(5, 3, size, size), torch.arange(5) % 4) for _ in range(3)]
    return network, batches


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_and_weights_are_those_of_a_pass_for_each_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, batches = made(name)
    results: list[tuple[Masks, dict[str, Tensor], int]] = []
    for most in (layerwise.MOST_CARRIED, -1):
        pruned, passes = copy.deepcopy(network), Counter()
        monkeypatch.setattr(layerwise, "MOST_CARRIED", most)
        pruned.register_forward_pre_hook(passes)
        masks = pb.prune(pruned, "layer-obs", 0.5, batches, samples=15)
        results.append((masks, pruned.state_dict(), passes.images))
    (masks, weights, images), (same_masks, same_weights, more_images) = results
    assert all(torch.equal(masks[layer], same_masks[layer]) for layer in same_masks)
    assert all(torch.equal(weights[key], same_weights[key]) for key in same_weights)
    # 15 images once; one to learn the order and the sizes; two by `prune`, which checks that they fit
    assert images == 18 if NETWORKS[name][2] else images == more_images
    assert more_images >= 15 * len(masks)


class Counter:
    """Counts the images that a network sees."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, _module: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.images += len(arguments[0])


def small() -> tuple[nn.Sequential, dict[str, nn.Parameter], list[Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        batches = [torch.randn(4, 3), torch.randn(2, 3)]
    return network, {name: p for name, p in network.named_parameters() if p.ndim > 1}, batches


def test_every_pass_waits_and_sees_the_changed_layer() -> None:
    network, watched, batches = small()
    before = {name: p.detach().clone() for name, p in watched.items()}
    events: list[tuple[str, int]] = []
    inputs: list[Tensor] = []

    def sink(name: str, _first: int, _groups: int, columns: Tensor) -> None:
        events.append((name, columns.shape[2]))
        if name == "2.weight":
            inputs.append(columns[0].T)

    def complete(name: str) -> None:
        events.append((name, -1))
        with torch.no_grad():
            watched[name].mul_(2)

    carry(network, watched, batches, sink, complete)
    assert events == [
        ("0.weight", 4),
        ("0.weight", 2),
        ("0.weight", -1),
        ("2.weight", 4),
        ("2.weight", 2),
        ("2.weight", -1),
    ]
    doubled = [functional.relu(functional.linear(batch, 2 * before["0.weight"], network[0].bias)) for batch in batches]
    assert all(torch.equal(got, expected) for got, expected in zip(inputs, doubled, strict=True))
    assert all(torch.equal(watched[name], values) for name, values in before.items()), "left unchanged"


@pytest.mark.parametrize("where", ["pass", "sink", "complete"])
def test_an_error_anywhere_comes_through_and_leaves_no_thread(where: str) -> None:
    network, watched, batches = small()
    threads = threading.active_count()

    def fail(*_arguments: object) -> None:
        raise KeyError(where)

    if where == "pass":
        network[1].register_forward_hook(fail)
    with pytest.raises(KeyError, match=where):
        carry(
            network, watched, batches, fail if where == "sink" else lambda *_: None,
            fail if where == "complete" else lambda _: None,
        )  # fmt: skip
    assert threading.active_count() == threads
    assert torch.is_grad_enabled()


def test_batches_that_take_different_ways_are_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.b(x)) if len(x) > 2 else self.b(self.a(x))

    network = Branching()
    watched = {name: p for name, p in network.named_parameters() if p.ndim > 1}
    with pytest.raises(PruningBenchError, match=r"different orders, here a\.weight and b\.weight"):
        carry(network, watched, [torch.ones(4, 3), torch.ones(2, 3)], lambda *_: None, lambda _: None)


def test_the_order_and_the_bytes_are_those_of_the_network() -> None:
    network, watched, batches = small()
    order, held = probe(network, watched, batches, "test")
    assert order == ["0.weight", "2.weight"]
    assert held == 3 * 5 * 4 * 6  # widest input 5, float32, 6 images
