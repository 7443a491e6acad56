"""The model `python`: anybody's own network, its views by the names of its layers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.models import REGISTRY, component, images, load
from safetensors.torch import save_file
from torch import Tensor, nn

from pruningbench.contract import imagenet_classes
from pruningbench.errors import MissingDataError, PruningBenchError, UsageError, ViewUnavailableError
from pruningbench.suite.binding import BindingError, bind

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=6, classes=3, skip=False, signed=False):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 4, 1)
        self.act = nn.Identity() if signed else nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(width, classes)
        self.skip = skip

    def forward(self, x):
        y = self.drop(self.act(self.stem(x))).mean((2, 3))
        return self.fc(y + x.mean() if self.skip else y)

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.block(torch.cat([self.cls.expand(len(x), -1, -1), x], 1))
        return self.head(x[:, 0])

def make(**args):
    return Net(**args)

def tokens():
    return Tokens()

def timm_network():
    import timm
    return timm.create_model("test_efficientnet", num_classes=3)

def four_dimensional():
    return nn.Conv2d(3, 2, 1)

def nothing():
    return 3

def broken():
    raise KeyError("oops")

def concrete():
    net = Net()
    return net if float(net.fc.weight.detach().abs().sum()) > 0 else net

not_callable = 7
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "mynets.py"
    path.write_text(CODE)
    return path


def net(code: Path, function: str = "make", **fields: Any) -> Any:
    return load("python", network=f"{code}:{function}", **{"size": 32, **fields})


def test_a_function_in_a_file_builds_the_network(code: Path) -> None:
    model = net(code, args={"width": 5, "classes": 4}, mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3], crop=0.5)
    assert model.classes == tuple("0123")
    assert not model.network.training
    assert model.preprocessing.mean == (0.5, 0.4, 0.3)
    assert (model.preprocessing.size, model.preprocessing.crop, model.preprocessing.interpolation) == (
        32,
        0.5,
        "bilinear",
    )
    assert torch.equal(model.logits(images()), model.network(images()))
    again, other = net(code, args={"width": 5, "classes": 4}), net(code, args={"width": 5, "classes": 4}, seed=1)
    assert model.fingerprint == again.fingerprint != other.fingerprint
    model.reinitialise(5)
    assert not torch.equal(model.network.fc.weight, again.network.fc.weight)


def test_a_function_in_a_module_builds_the_network(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(code.parent))
    model = load("python", network="mynets:make", size=32)
    assert type(model.network).__module__ == "mynets"
    use = bind(REGISTRY, "model", {"use": "python", "network": "mynets:make"})
    assert use.label == "python(mynets:make)"


def test_weights_come_from_a_checkpoint(code: Path, tmp_path: Path) -> None:
    source = net(code, seed=4).network
    path = tmp_path / "w.safetensors"
    save_file({f"net.{k}": v for k, v in source.state_dict().items()}, path)
    model = net(code, checkpoint=str(path))
    assert torch.equal(model.network.fc.weight, source.fc.weight)
    with pytest.raises(PruningBenchError, match=r"fc\.weight is \(3, 6\), not \(3, 7\)"):
        net(code, args={"width": 7}, checkpoint=str(path))
    made = component("python", network=f"{code}:make", checkpoint=str(tmp_path / "gone"))
    assert "no such checkpoint" in made.missing()
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        net(code, checkpoint=str(tmp_path / "gone"))


def test_views_are_read_at_the_named_layers(code: Path) -> None:
    model = net(code, features="act", head="fc")
    network, x = model.network, images()
    stage = network.act(network.stem(x))
    assert torch.equal(model.patch_features(x), stage)
    assert torch.allclose(model.embed(x), stage.mean((2, 3)), atol=1e-6)
    assert model.head == ("fc.weight", "fc.bias")
    activations, head = model.head_split()
    assert torch.equal(activations(x), stage)
    assert torch.allclose(head(stage), model.logits(x), atol=1e-6)
    zero = head(torch.zeros_like(stage))
    assert torch.allclose(zero, network.fc.bias.expand(2, -1), atol=1e-6)
    assert head(stage[:1].repeat(5, 1, 1, 1)).shape == (5, 3)  # as many activations as one likes
    module, grid = model.activation_module()
    assert module is network.act
    assert torch.equal(grid(stage, x), stage)
    leaf = x.requires_grad_()
    model.embed(leaf).sum().backward()
    assert leaf.grad is not None
    assert not network.act._forward_hooks
    assert not network.fc._forward_hooks


def test_a_last_stage_of_tokens_becomes_a_grid(code: Path) -> None:
    model = net(code, "tokens", features="block", head="head", prefix_tokens=1)
    assert model.prefix_tokens == 1
    x = torch.randn(2, 3, 32, 16)
    tokens: list[Tensor] = []
    model.network.block.register_forward_hook(lambda _m, _i, output: tokens.append(output))
    found = model.patch_features(x)
    assert found.shape == (2, 8, 4, 2)
    assert torch.allclose(found[:, :, 1, 1], tokens[0][:, 1 + 2 + 1], atol=1e-6)
    wrong = net(code, "tokens", features="block", prefix_tokens=0)
    with pytest.raises(ViewUnavailableError, match="prefix_tokens"):
        wrong.patch_features(torch.randn(1, 3, 32, 32))
    with pytest.raises(ViewUnavailableError, match="not its queries"):
        model.patch_features(x, "queries")


def test_views_that_nobody_declared_say_how_to_declare_them(code: Path) -> None:
    model, x = net(code), images()
    for view, field in (
        (lambda: model.embed(x), "head"),
        (lambda: model.patch_features(x), "features"),
        (model.head_split, "features"),
        (model.activation_module, "features"),
    ):
        with pytest.raises(ViewUnavailableError, match=rf"name a module of it as `{field}` \(stem, act, drop, fc\)"):
            view()
    with pytest.raises(ViewUnavailableError, match="attention"):
        model.attentions(x)
    signed = net(code, args={"signed": True}, features="act")
    with pytest.raises(ViewUnavailableError, match="'act' has negative values"):
        signed.head_split()[0](x)
    skipping = net(code, args={"skip": True}, features="act")
    with pytest.raises(ViewUnavailableError, match="depend on more than 'act'"):
        skipping.head_split()[0](x)
    with pytest.raises(UsageError, match=r"features: Net has no module 'acts'; did you mean 'act'"):
        net(code, features="acts")


def test_a_network_of_timms_classes_needs_no_names(code: Path) -> None:
    model = net(code, "timm_network")
    assert model.patch_features(images()).ndim == 4
    assert model.head == ("classifier.weight", "classifier.bias")


def test_classes_are_checked_against_the_logits(code: Path) -> None:
    assert net(code, classes=["a", "b", "c"]).classes == ("a", "b", "c")
    with pytest.raises(UsageError, match="2 classes are named, but the network has 3 logits"):
        net(code, classes=["a", "b"])
    assert net(code, args={"classes": 1000}, classes="imagenet").classes == imagenet_classes()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("mak", "has no function 'mak'; did you mean 'make'"),
        ("not_callable", "has no function 'not_callable'"),
        ("nothing", "returned a int, not a torch.nn.Module"),
        ("broken", r"broken\(\) failed: KeyError: 'oops'"),
        ("four_dimensional", r"returns \(1, 2, 32, 32\) for one image, not \(1, classes\) logits"),
    ],
)
def test_functions_that_build_no_classifier_are_named(code: Path, function: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        net(code, function)


def test_code_that_cannot_be_imported_is_named(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=rf"{re.escape(str(code.parent / 'gone.py'))}: no such file"):
        load("python", network=f"{code.parent / 'gone.py'}:make")
    bad = code.parent / "bad.py"
    bad.write_text("1 / 0")
    with pytest.raises(UsageError, match="bad.py cannot be imported: ZeroDivisionError"):
        load("python", network=f"{bad}:make")
    with pytest.raises(UsageError, match="no module 'nowhere.at.all' on Python's path; add its folder to PYTHONPATH"):
        load("python", network="nowhere.at.all:make")
    (code.parent / "needy.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(str(code.parent))
    with pytest.raises(UsageError, match="needy: it imports 'a_package_that_is_not_there', which is not installed"):
        load("python", network="needy:make")
    with pytest.raises(UsageError, match=r"refuses images of \(1, 32, 32\)"):
        net(code, mean=[0.5], std=[0.5])
    with pytest.raises(UsageError, match="unexpected keyword argument 'depth'"):
        net(code, args={"depth": 3})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"network": "justamodule"}, "MODULE:FUNCTION"),
        ({"mean": [0.5, 0.5]}, "one number per channel"),
        ({"std": [0.0, 1.0, 1.0]}, "std"),
        ({"size": 0}, "size"),
        ({"crop": 1.5}, "crop"),
        ({"prefix_tokens": -1}, "prefix_tokens"),
        ({"ignore": ["a"]}, "checkpoint"),
        ({"classes": ["a", "a"]}, "repeat"),
        ({"seed": -1}, "seed"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        component("python", **{"network": "a:b", **fields})


def test_the_skeleton_has_no_weights(code: Path) -> None:
    skeleton: Any = component("python", network=f"{code}:make", size=32).skeleton()
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}
    assert skeleton.default_cfg["input_size"] == (3, 32, 32)
    assert isinstance(skeleton, nn.Module)
    assert component("python", network=f"{code}:concrete").skeleton() is None


def test_a_module_may_compute_while_it_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "computing.py"
    file.write_text("import torch\nfrom torch import nn\nWIDTH = int(torch.ones(3).sum().item())\n"
                    "def make():\n    return nn.Linear(WIDTH, 2)\n")  # fmt: skip
    skeleton = component("python", network=f"{file}:make", size=32).skeleton()
    assert skeleton is not None
    assert [p.device.type for p in skeleton.parameters()] == ["meta", "meta"]
