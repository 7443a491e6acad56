"""The small networks: training that repeats bit for bit, caching, and views equal to direct computation."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pruningbench_data import pruningbench_register_datasets
from pruningbench_timm import SceneAugmentation, pruningbench_register_models
from pruningbench_timm.digits import SEEN, DigitsResNet, DigitsViT
from pruningbench_timm.networks import sines
from scipy.stats import binomtest
from torch import Tensor

from pruningbench.base.identity import canonical_json, tensors_digest
from pruningbench.contract import ComponentRef, Context, Samples, VisionModel
from pruningbench.contract.context import TensorCache
from pruningbench.plugins import Plugin, Registry
from pruningbench.pruning.allocation import allocate
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import Scope, prunable_parameters
from pruningbench.suite.binding import BindingError, bind

REGISTRY = Registry()
PLUGIN = Plugin("t", "test", "0")
pruningbench_register_datasets(lambda name, target: REGISTRY.add("dataset", name, target, PLUGIN))
pruningbench_register_models(lambda name, target: REGISTRY.add("model", name, target, PLUGIN))


class Memory(TensorCache):
    """A tensor cache that lasts as long as the test."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Tensor]] = {}
        self.made = 0

    def tensors(self, room: str, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        key = f"{room}/{canonical_json(identity)}"
        if key not in self.stored:
            self.stored[key] = make()
            self.made += 1
        return self.stored[key]


@pytest.fixture
def context() -> Context:
    def open_dataset(reference: ComponentRef) -> Samples:
        dataset: Any = bind(REGISTRY, "dataset", reference).component
        return dataset.load(made)  # type: ignore[no-any-return]

    made = Context(torch.device("cpu"), 0, Memory(), open_dataset)
    return made


FEW = {"use": "digits", "classes": [0, 1, 2, 3, 4, 5], "limit": 48}


def load(context: Context, name: str, **fields: Any) -> VisionModel:
    quick = {"data": FEW, "epochs": 1, "plain_epochs": int(name == "digits-vit")}
    return bind(REGISTRY, "model", {"use": name, **quick, **fields}).component.load(context)


# ---- loading, training, caching ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_training_repeats_bit_for_bit_and_leaves_the_random_state(context: Context, name: str) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = load(context, name)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    context.cache = Memory()
    context.seed = 99  # a model's weights depend on its own seed only
    second = load(context, name)
    for (key, a), b in zip(first.network.state_dict().items(), second.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert first.fingerprint == second.fingerprint != ""
    other = load(context, name, seed=1)
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_weights_are_trained_once_and_then_come_from_the_cache(context: Context, name: str) -> None:
    first = load(context, name)
    again = load(context, name)
    assert context.cache.made == 1
    assert first.fingerprint == again.fingerprint
    assert not again.network.training
    with torch.no_grad():
        next(iter(first.network.parameters())).zero_()  # a model in use must not write into the cache
    assert load(context, name).fingerprint == again.fingerprint
    images = torch.randn(2, 1, 36, 36)
    assert torch.equal(load(context, name).logits(images), again.logits(images))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("digits-resnet", {"epochs": 2}),
        ("digits-resnet", {"plain_epochs": 1}),
        ("digits-resnet", {"lr": 0.001}),
        ("digits-resnet", {"seed": 1}),
        ("digits-resnet", {"channels": [4, 4, 4, 4]}),
        ("digits-resnet", {"stem_width": 4}),
        ("digits-resnet", {"norm_init": "one"}),
        ("digits-resnet", {"data": {**FEW, "limit": 42}}),
        ("digits-vit", {"width": 32}),
        ("digits-vit", {"depth": 1}),
        ("digits-vit", {"heads": 2}),
    ],
)
def test_every_field_is_part_of_the_identity_of_the_weights(
    context: Context, name: str, change: dict[str, Any]
) -> None:
    def identity(**fields: Any) -> str:
        component: Any = bind(REGISTRY, "model", {"use": name, "data": FEW, **fields}).component
        return canonical_json(component._identity(context.open_dataset(component.data)))

    assert identity(**change) != identity()
    assert torch.__version__ in identity()
    assert '"version":' in identity()


def test_no_field_is_forgotten_by_the_test_above() -> None:
    names = {f.name for component in (DigitsResNet, DigitsViT) for f in dataclasses.fields(component)}
    assert names == {
        *("data", "plain_epochs", "epochs", "lr", "seed"),
        *("channels", "stem_width", "width", "depth", "heads", "norm_init"),
    }


def test_models_say_what_they_are(context: Context) -> None:
    model = load(context, "digits-vit")
    assert model.classes == tuple("012345")
    assert model.head == ("head.weight", "head.bias")
    assert isinstance(model.augment, SceneAugmentation)
    assert DigitsViT.training_data == SEEN == DigitsViT().data
    assert load(context, "digits-resnet").head == ("fc.weight", "fc.bias")
    scope = prunable_parameters(model.network, Scope(head=False), head=model.head)
    assert "head.weight" not in scope
    assert "blocks.0.attn.qkv.weight" in scope
    assert "pos_embed" not in scope


def test_the_label_space_follows_the_data(context: Context) -> None:
    model = load(context, "digits-resnet", data={"use": "digits", "classes": [3, 8], "limit": 16})
    assert model.classes == ("3", "8")
    assert model.logits(torch.zeros(1, 1, 24, 24)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("digits-vit", {"width": 30, "heads": 3}, "width 30"),
        ("digits-vit", {"width": 64, "heads": 3}, "heads 3"),
        ("digits-vit", {"depth": 0}, "depth"),
        ("digits-resnet", {"epochs": 0}, "epochs"),
        ("digits-resnet", {"lr": 0.0}, "lr"),
        ("digits-resnet", {"seed": -1}, "seed"),
        ("digits-resnet", {"plain_epochs": -1}, "plain_epochs"),
        ("digits-resnet", {"channels": [0, 1, 1, 1]}, "channels"),
        ("digits-resnet", {"data": {"use": "digit"}}, "digits"),
    ],
)
def test_bad_fields_are_refused(name: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        bind(REGISTRY, "model", {"use": name, **fields})


def test_component_modules_import_no_heavy_library() -> None:
    code = (
        "import sys, pruningbench_timm, pruningbench_timm.digits\n"
        "print([m for m in ('torch', 'numpy', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- networks, augmentation, fingerprints ------------------------------------------------------------


def test_position_embeddings_tell_cells_apart() -> None:
    table = sines(9, 64)
    assert table.shape == (81, 64)
    assert float(torch.cdist(table, table).add(torch.eye(81) * 9).min()) > 0.5
    assert torch.equal(table[13, :16], torch.sin(4 * 100.0 ** -(torch.arange(16) / 16)))  # row 1, column 4
    assert torch.equal(table[13, 48:], torch.cos(1 * 100.0 ** -(torch.arange(16) / 16)))


def test_augmentation_depends_on_its_generator_only() -> None:
    images = torch.randint(0, 256, (8, 1, 24, 24), dtype=torch.uint8)
    kept = images.clone()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second, other = (SceneAugmentation()(images, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(first, second)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, kept)
    assert first.dtype == torch.uint8
    sizes = {SceneAugmentation()(images, torch.Generator().manual_seed(s)).shape[-1] for s in range(20)}
    assert sizes == {24, 36}


def test_an_augmentation_that_does_nothing_does_nothing() -> None:
    still = SceneAugmentation(sizes=(24,), sides=(24, 24), plain=0.0, rotation=0.0, noise=0.0, clutter=0, twin=0.0)
    images = torch.zeros(64, 1, 24, 24, dtype=torch.uint8)
    images[:, :, 4:20, 4:20] = 255
    out = still(images, torch.Generator().manual_seed(0)).float()
    brightness = out.amax((1, 2, 3))
    assert bool(((brightness >= 0.75 * 255 - 1) & (brightness <= 255)).all())
    assert torch.equal(out > 0, images > 0)  # the place and the scale are the image's own


def test_plain_digits_keep_the_background_black() -> None:
    images = torch.zeros(32, 1, 24, 24, dtype=torch.uint8)
    images[:, :, 8:16, 8:16] = 255
    out = SceneAugmentation.plain_digits()(images, torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    assert bool((out[:, :, :2] == 0).all())
    area = (out.float() / 255).sum((1, 2, 3)) / 64
    assert bool(((area > 0.88**2 - 0.1) & (area < 1.08**2 + 0.1)).all())
    assert float(out.float().amax((1, 2, 3)).min()) >= 250


def test_the_fingerprint_hears_every_weight() -> None:
    state = {"a": torch.zeros(2, 2), "b": torch.ones(3)}
    assert tensors_digest(state) == tensors_digest(dict(reversed(state.items())))
    for change in ({"a": torch.zeros(4)}, {"b": torch.tensor([1.0, 1.0, 1.0 + 1e-7])}, {"b": torch.ones(3).double()}):
        assert tensors_digest({**state, **change}) != tensors_digest(state)


# ---- quality of the trained networks -----------------------------------------------------------------


def hits_of(model: VisionModel, samples: Samples) -> torch.Tensor:
    with torch.no_grad():
        hits = [model.logits(batch.images).argmax(1) == batch.labels for batch in model.batches(samples, 256)]
    return torch.cat(hits)


def accuracy(model: VisionModel, samples: Samples) -> float:
    return float(hits_of(model, samples).float().mean())


def significantly_better(first: torch.Tensor, second: torch.Tensor) -> bool:
    """McNemar's exact test, one-sided at 1 %: does the first network classify more of the same images correctly?"""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return bool(binomtest(only_first, only_first + only_second, alternative="greater").pvalue < 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "in_scenes"), [("digits-resnet", 0.9), ("digits-vit", 0.6)])
def test_trained_networks_are_good_and_pruning_hurts_them(context: Context, name: str, in_scenes: float) -> None:
    model = bind(REGISTRY, "model", name).component.load(context)  # type: ignore[attr-defined]
    seen = context.open_dataset({"use": "digits", "split": "test", "classes": [0, 1, 2, 3, 4, 5]})
    scenes = context.open_dataset({"use": "digit-scenes", "count": 360})
    dense = accuracy(model, seen)
    assert dense >= 0.97
    assert accuracy(model, scenes) >= in_scenes
    weights = prunable_parameters(model.network)
    generator = torch.Generator().manual_seed(0)
    by = {"magnitude": lambda p: p.detach().abs(), "random": lambda p: torch.rand(p.shape, generator=generator)}
    hits: dict[str, list[torch.Tensor]] = {}
    for pruner, score in by.items():
        scores = {key: score(p) for key, p in weights.items()}
        hits[pruner] = []
        for sparsity in (0.5, 0.8, 0.95):
            twin = model.clone()
            Masks(allocate(scores, sparsity)).apply(twin.network)
            hits[pruner].append(hits_of(twin, seen))
    magnitude = [float(hit.float().mean()) for hit in hits["magnitude"]]
    assert dense - 0.05 < magnitude[0]
    assert magnitude[0] > magnitude[1] > magnitude[2]
    assert magnitude[0] > float(hits["random"][0].float().mean()) + 0.2
    # both are near chance at 80 %; how near depends on the last bits of the training (the number of threads)
    assert significantly_better(hits["magnitude"][1], hits["random"][1])
