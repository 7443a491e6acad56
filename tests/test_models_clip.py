"""Zero-shot heads: made of text embeddings, by definition; with a tiny open_clip network, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from kit.models import component, images, load
from pruningbench_timm.zeroshot import text_directions
from torch.nn.functional import normalize, softmax

from pruningbench.errors import MissingDataError, PruningBenchError, UsageError
from pruningbench.suite.binding import BindingError

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CLASSES = ["cat", "dog", "n07920052"]
TEMPLATES = ["a photo of a {}.", "a drawing of a {}."]


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tell open_clip of a tiny architecture."""
    path = tmp_path_factory.mktemp("clip") / "tiny-clip.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    return "tiny-clip"


def clip(**fields: Any) -> Any:
    return load("clip", **{"name": "tiny-clip", "weights": None, "classes": CLASSES, "templates": TEMPLATES, **fields})


def test_directions_are_means_of_unit_embeddings() -> None:
    table = {"a x": [3.0, 0.0], "b x": [0.0, 5.0], "a y": [-1.0, 0.0], "b y": [-2.0, 0.0]}
    tokens = {sentence: i for i, sentence in enumerate(table)}
    found = text_directions(
        lambda ids: torch.tensor(list(table.values()))[ids[:, 0]],
        lambda sentences: torch.tensor([[tokens[s]] for s in sentences]),
        ["x", "y"],
        ["a {}", "b {}"],
    )
    assert torch.allclose(found, torch.tensor([[0.5**0.5, 0.5**0.5], [-1.0, 0.0]]))


def test_logits_are_scaled_cosines_of_image_and_text() -> None:
    model, x = clip(seed=2), images()
    torch.manual_seed(0)
    from pruningbench.base.randomness import isolated_randomness

    with isolated_randomness(2, "initial weights"):
        reference: Any = open_clip.create_model("tiny-clip").eval()
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    with torch.no_grad():
        image = normalize(reference.encode_image(x), dim=-1)
        columns = []
        for title in ("cat", "dog", "espresso"):
            text = normalize(reference.encode_text(tokenizer([t.format(title) for t in TEMPLATES])), dim=-1)
            columns.append(image @ normalize(text.mean(0), dim=0) * reference.logit_scale.exp())
        assert torch.allclose(model.logits(x), torch.stack(columns, 1), atol=1e-4)
        assert torch.allclose(model.embed(x), image, atol=1e-5)
    assert model.classes == tuple(CLASSES)
    assert model.head == ("head.weight",)
    assert not any("text" in name or "token_embedding" in name for name, _ in model.network.named_parameters())
    shown = model.preprocessing
    assert (shown.size, shown.interpolation, shown.squash) == (32, "bicubic", False)
    assert shown.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def test_patch_features_are_the_last_blocks_projections() -> None:
    """The keys, queries and values with which the last attention comes to what it comes to."""
    model, x = clip(), images()
    block = model.network.visual.transformer.resblocks[-1]
    kept: dict[str, Any] = {}
    block.ln_1.register_forward_hook(lambda _m, _i, output: kept.update(inside=output))
    block.attn.register_forward_hook(lambda _m, _i, output: kept.update(mixed=output[0]))
    facets = {f: model.patch_features(x, f) for f in ("queries", "keys", "values", "tokens")}
    assert all(found.shape == (2, 32, 4, 4) for found in facets.values())
    q, k, v = (
        part.reshape(2, 17, 2, 16).transpose(1, 2)
        for part in (kept["inside"] @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, -1)
    )
    mixed = (softmax(q @ k.transpose(2, 3) / 4, -1) @ v).transpose(1, 2).flatten(2)
    assert torch.allclose(block.attn.out_proj(mixed), kept["mixed"], atol=1e-5)
    for facet, tensor in (("queries", q), ("keys", k), ("values", v)):
        rows = tensor.transpose(1, 2).flatten(2)[:, 1:].transpose(1, 2).reshape(2, 32, 4, 4)
        assert torch.allclose(facets[facet], rows, atol=1e-5)
    module, grid = model.activation_module()
    assert module is block.ln_1
    assert grid(kept["inside"], x).shape == (2, 32, 4, 4)
    assert model.prefix_tokens == 1


def test_weights_come_from_a_local_file(tmp_path: Path) -> None:
    from pruningbench.base.randomness import isolated_randomness

    with isolated_randomness(7, "initial weights"):
        stored = open_clip.create_model("tiny-clip").state_dict()
    path = tmp_path / "tiny.pt"
    torch.save(stored, path)
    model = clip(weights=str(path))
    assert torch.equal(model.network.state_dict()["visual.conv1.weight"], stored["visual.conv1.weight"])
    assert model.fingerprint == clip(seed=7).fingerprint != clip(seed=8).fingerprint
    assert component("clip", name="tiny-clip", weights=str(path)).missing() is None
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(PruningBenchError, match=r"tiny\.pt: damaged, or not a weight file"):
        clip(weights=str(path))
    torch.save({**stored, "visual.conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(PruningBenchError, match=r"tiny\.pt: its weights do not fit tiny-clip"):
        clip(weights=str(path))


def test_unknown_names_and_tags_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no architecture 'ViT-B-23'; did you mean 'ViT-B-32'"):
        load("clip", name="ViT-B-23", classes=CLASSES)
    with pytest.raises(UsageError, match="no architecture 'ViT-B-23'"):
        load("clip", name="ViT-B-23", weights=None, classes=CLASSES)
    with pytest.raises(UsageError, match="ViT-B-32 has no weights 'laion2b_s34b'.*did you mean 'laion2b_s34b_b79k'"):
        component("clip", weights="laion2b_s34b").missing()


def test_what_has_to_be_fetched_or_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    lack = component("clip").missing()
    assert "`hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K open_clip_model.safetensors`" in lack
    assert component("clip").load_fetches()
    assert component("clip", weights=None).missing() is None
    monkeypatch.setattr("pruningbench_timm.clip.find_spec", lambda _name: None)
    assert component("clip").missing() == "model 'clip' needs open_clip: pip install 'pruningbench[clip]'"
    assert not component("clip").load_fetches()
    with pytest.raises(MissingDataError, match=r"pip install 'pruningbench\[clip\]'"):
        clip()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": []}, "classes is empty"),
        ({"classes": ["a", "a"]}, "repeat"),
        ({"templates": []}, "templates is empty"),
        ({"templates": ["a photo"]}, "must hold {} once"),
        ({"templates": ["a {0} {}"]}, "must hold {} once"),
        ({"seed": -1}, "seed"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        component("clip", **fields)
