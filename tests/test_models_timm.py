"""The model `timm` and the papers' models: names, preprocessing, label space, errors, pins."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from kit.models import REGISTRY, SMALL, component, images, load, small
from PIL import Image
from pruningbench_timm import papers
from pruningbench_timm.build import known_source, preprocessing_of
from timm.data import create_transform
from timm.models import get_pretrained_cfg

from pruningbench.contract import Preprocessing, Sample, class_title, class_titles, imagenet_classes
from pruningbench.contract.labels import is_wordnet_id
from pruningbench.errors import MissingDataError, UsageError
from pruningbench.suite.binding import BindingError, bind

PAPERS = ["resnet", "vit", "swin", "dino", "dinov2", "mocov2"]


# ---- preprocessing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(300, 417), (417, 300), (91, 64), (64, 64), (50, 49)])
@pytest.mark.parametrize(("crop", "mode"), [(0.875, "center"), (0.9, "center"), (1.0, "center"), (0.9, "squash")])
def test_preprocessing_equals_timms_own(interpolation: Any, height: int, width: int, crop: float, mode: str) -> None:
    pixels = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = torch.nn.functional.avg_pool2d(pixels.float(), 5, 1, 2).to(torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    transform: Any = create_transform(
        (3, 48, 48), interpolation=interpolation, crop_pct=crop, crop_mode=mode, mean=mean, std=std
    )  # fmt: skip
    expected = transform(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    own = Preprocessing(mean, std, 48, crop, interpolation, squash=mode == "squash")
    found = own.normalise(own.fit(Sample(pixels)).image[None])[0]
    levels = (found - expected).abs() * torch.tensor(std).view(3, 1, 1) * 255
    assert float(levels.max()) < 2.01  # in steps of 8 bits: rounding of Pillow's two passes
    assert float(levels.mean()) < 0.4


def test_preprocessing_comes_from_the_networks_own_configuration() -> None:
    for name, size, crop, interpolation, squash in (
        ("resnet18.tv_in1k", 224, 0.875, "bilinear", False),
        ("resnet18.a1_in1k", 224, 0.95, "bicubic", False),
        ("vit_base_patch16_384.augreg_in21k_ft_in1k", 384, 1.0, "bicubic", False),
        ("convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384", 384, 1.0, "bicubic", True),
        ("tf_efficientnet_lite0.in1k", 224, 0.875, "bicubic", False),
    ):
        source = known_source(name)
        made = preprocessing_of(source, torch.nn.Conv2d(3, 1, 1), None, None)
        assert (made.size, made.crop, made.interpolation, made.squash) == (size, crop, interpolation, squash), name
        assert made.mean == source.settings["mean"]
    assert small("resnet18", size=96, crop=0.5).preprocessing.size == 96
    assert small("resnet18", size=0).preprocessing.size is None
    assert small("resnet18", crop=0.5).preprocessing.crop == 0.5
    grey = small("resnet18", args={"in_chans": 1}).preprocessing
    assert grey.mean == (pytest.approx((0.485 + 0.456 + 0.406) / 3),)


def test_sizes_that_a_network_cannot_take_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of its patch size"):
        small("vit_tiny_patch16_224", size=36)
    with pytest.raises(UsageError, match="takes images of 32 pixels only, not any size"):
        small("swin_tiny_patch4_window7_224", size=0, args={"img_size": 32})
    assert small("vit_tiny_patch16_224", size=48).preprocessing.size == 48


# ---- label space -----------------------------------------------------------------------------------


def test_imagenet_networks_name_their_classes_by_wordnet_ids() -> None:
    model = small("resnet18", args={"num_classes": 1000})
    assert model.classes == imagenet_classes()
    assert model.classes[281] == "n02123045"
    assert class_title("n02123045") == "tabby, tabby cat"
    assert class_title("n02123045", longest=8) == "tabby"
    assert class_titles(["n07920052", "digit", "n99999999"]) == ("espresso", "digit", "n99999999")
    assert len(imagenet_classes("imagenet-22k")) == 21841
    assert len(set(imagenet_classes())) == 1000
    assert all(map(is_wordnet_id, imagenet_classes()))
    assert not is_wordnet_id("n0212304x")


def test_classes_are_declared_or_numbered_or_none() -> None:
    named = load("timm", name="resnet18", pretrained=False, classes=["cat", "dog"], **SMALL["resnet18"])
    assert named.classes == ("cat", "dog")
    assert named.logits(images()).shape == (2, 2)
    headless = small("resnet18", args={"num_classes": 0})
    assert (headless.classes, headless.head) == ((), ())
    with pytest.raises(UsageError, match="2 classes are named, but the network has 3 logits"):
        load("timm", name="resnet18", pretrained=False, classes=["a", "b"], args={"num_classes": 3})
    with pytest.raises(UsageError, match="published weights have 1000 classes, not 2"):
        load("timm", name="resnet18.a1_in1k", classes=["a", "b"])


# ---- names, fields, seeds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet81", "no model 'resnet81'; did you mean 'resnet18'"),
        ("resnet18.a1_in2k", "did you mean 'resnet18.a1_in1k'"),
        ("xyzzy", "see timm.list_models"),
        ("hf-hub:justaname", "OWNER/NAME"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, words: str) -> None:
    for ask in (lambda: component("timm", name=name).missing(), lambda: load("timm", name=name)):
        with pytest.raises(UsageError, match=words):
            ask()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": -1}, "size is -1"),
        ({"crop": 0.0}, "crop is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"prefix": "a."}, "local checkpoint"),
        ({"classes": ["a", "a"]}, "repeat"),
        ({"name": " "}, "name is empty"),
        ({"output_stride": 4}, "output_stride"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        component("timm", **{"name": "resnet18", **fields})


def test_arguments_that_an_architecture_refuses_are_named() -> None:
    with pytest.raises(UsageError, match="timm cannot build resnet18 with .*unexpected keyword argument 'heads'"):
        load("timm", name="resnet18", pretrained=False, args={"heads": 3})
    with pytest.raises(UsageError, match="timm cannot build vit_tiny_patch16_224"):
        load("timm", name="vit_tiny_patch16_224", pretrained=False, output_stride=8)


def test_an_architecture_without_published_weights_says_so() -> None:
    name = next(n for n in timm.list_models() if not timm.list_models(f"{n}*", pretrained=True))
    with pytest.raises(MissingDataError, match="no weights of it are published"):
        load("timm", name=name)
    assert component("timm", name=name, pretrained=False).missing() is None


def test_random_weights_depend_on_the_seed_only_and_can_be_drawn_anew() -> None:
    def fresh(**fields: Any) -> Any:
        torch.manual_seed(len(fields))
        return small("resnet18", shaken=False, **fields)

    first, second, other = fresh(), fresh(seed=0), fresh(seed=1)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    before = first.network.state_dict()["conv1.weight"].clone()
    first.reinitialise(3)
    assert not torch.equal(first.network.state_dict()["conv1.weight"], before)


def test_the_label_shows_which_network_it_is() -> None:
    use = bind(REGISTRY, "model", {"use": "timm", "name": "resnet18.a1_in1k", "size": 64})
    assert use.label == "timm(resnet18.a1_in1k,size=64)"
    assert bind(REGISTRY, "model", {"use": "resnet", "depth": 18}).label == "resnet(depth=18)"


@pytest.mark.parametrize("name", SMALL)
def test_skeletons_have_the_architecture_and_no_weights(name: str) -> None:
    own = SMALL[name]
    made = component("timm", name=name.split(maxsplit=1)[0], **own)
    skeleton: Any = made.skeleton()
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}
    dense = small(name, args={"num_classes": 1000}).network
    assert {k: v.shape for k, v in skeleton.state_dict().items()} == {k: v.shape for k, v in dense.state_dict().items()}
    assert not skeleton.training
    assert component("timm", name="hf-hub:some/thing").skeleton() is None


def test_component_modules_import_no_heavy_library() -> None:
    modules = ", ".join(f"pruningbench_timm.{name}" for name in ("models", "papers", "own", "clip", "lite"))
    code = f"import sys, {modules}\nprint([m for m in ('torch', 'numpy', 'timm', 'open_clip') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the papers' models ----------------------------------------------------------------------------


def test_the_papers_models_are_pinned_to_weights_that_timm_knows() -> None:
    pins = [*papers.RESNETS.values(), *papers.VITS.values(), papers.SWIN, *papers.DINOS.values(),
            *papers.DINOS_V2.values()]  # fmt: skip
    for name, revision in pins:
        settings: Any = get_pretrained_cfg(name)
        assert settings is not None, name
        assert settings.hf_hub_id == f"timm/{name}"
        assert revision is None or (len(revision) == 40 and int(revision, 16))
    assert sum(revision is None for _, revision in pins) == 2


@pytest.mark.parametrize("use", PAPERS)
def test_the_papers_models_say_what_is_to_be_fetched(use: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    made = component(use)
    lack = made.missing()
    assert "not on this machine" in lack
    if use != "mocov2":
        name, revision = made.pin()
        assert f"`hf download timm/{name} model.safetensors --revision {revision}`" in lack
    assert made.load_fetches()


def test_the_variants_of_the_papers_models_are_what_they_are_called() -> None:
    resnet: Any = component("resnet", depth=18, output_stride=16).skeleton()
    assert len(resnet.layer1) == 2
    assert resnet.layer4[0].conv1.stride == (1, 1)
    assert not hasattr(resnet.layer4[0], "conv3")
    vit: Any = component("vit", patch=32, size=64).skeleton()
    assert vit.patch_embed.proj.kernel_size == (32, 32)
    assert vit.pos_embed.shape == (1, 5, 768)
    dino: Any = component("dino", variant="vit-s8").skeleton()
    assert (dino.num_classes, dino.embed_dim, dino.patch_embed.patch_size) == (0, 384, (8, 8))
    dinov2: Any = component("dinov2", size=224).skeleton()
    assert (dinov2.num_classes, dinov2.embed_dim, dinov2.patch_embed.grid_size) == (0, 768, (16, 16))
    swin: Any = component("swin").skeleton()
    assert type(swin).__name__ == "SwinTransformerV2"
    moco: Any = component("mocov2").skeleton()
    assert moco.num_classes == 0
    for use in PAPERS:
        fields = {f.name for f in dataclasses.fields(component(use))}
        assert fields <= {"depth", "patch", "variant", "epochs", "size", "output_stride", "checkpoint", "norm_init"}
    with pytest.raises(BindingError, match="size is -3"):
        component("dino", size=-3)


# ---- plans -----------------------------------------------------------------------------------------


def test_plans_tell_what_comes_down_by_itself_from_what_has_to_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from huggingface_hub import constants

    from pruningbench.plugins import load_registry
    from pruningbench.suite.plan import make_plan
    from pruningbench.suite.schema import suite_from_text

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    registry = load_registry()
    gone = tmp_path / "gone.pth"
    suite = suite_from_text(
        f"name: s\nmodels: [{{use: timm, name: resnet18.a1_in1k}}, {{use: timm, name: resnet18, checkpoint: {gone}}}]\n"
        "pruners: [magnitude]\nsparsities: [0]\ntasks: [{use: classification, data: digits}]\n",
        registry,
    )
    plan = make_plan(suite, registry)
    (fetched,) = plan.fetched_when_run()
    assert fetched.startswith("model timm(resnet18.a1_in1k): weights timm/resnet18.a1_in1k are not on this machine")
    (missing,) = plan.missing()
    assert missing.endswith(f"{gone}: no such checkpoint")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (len(plan.fetched_when_run()), len(plan.missing())) == (0, 2)
