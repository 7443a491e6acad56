"""Models of the hub, against a loopback server that speaks its protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.hubmodels import NAME, REPO, files
from kit.hubserver import HubServer
from kit.models import SMALL, component, images, load, small
from safetensors.torch import save

from pruningbench.errors import MissingDataError, PruningBenchError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.point_client_here(monkeypatch, tmp_path / "hub")
        yield server


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_of_the_hub_brings_weights_classes_and_preprocessing(hub: HubServer) -> None:
    commit = hub.commit("model", REPO, files())
    made = component("timm", name=NAME)
    assert f"hf download {REPO} config.json model.safetensors" in made.missing()
    assert made.load_fetches()
    assert made.skeleton() is None
    model = load("timm", name=NAME)
    assert torch.equal(model.logits(images(64)), small("resnet18").logits(images(64)))
    assert model.classes == ("ant", "bee", "cow", "doe", "elk")
    shown = model.preprocessing
    assert (shown.mean, shown.size, shown.crop, shown.interpolation) == ((0.1, 0.2, 0.3), 64, 0.9, "bilinear")
    assert made.missing() is None
    assert [p.shape for p in made.skeleton().parameters()] == [p.shape for p in model.network.parameters()]
    assert load("timm", name=f"{NAME}@{commit}").fingerprint == model.fingerprint


def test_the_second_time_needs_no_download_and_then_no_network(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    commit = hub.commit("model", REPO, files())
    first = load("timm", name=NAME)
    again = load("timm", name=NAME)
    assert len(hub.downloads("model.safetensors")) == 1
    asked = len(hub.requests)
    pinned = load("timm", name=NAME, revision=commit)
    assert len(hub.requests) == asked  # a commit in the cache is not asked for
    hub.down = True
    unreachable = load("timm", name=NAME)
    go_offline(monkeypatch)
    offline = load("timm", name=NAME)
    assert {m.fingerprint for m in (first, again, pinned, unreachable, offline)} == {first.fingerprint}


def test_a_revision_is_what_it_was_whatever_the_branch_says_later(hub: HubServer) -> None:
    old = hub.commit("model", REPO, files(seed=0))
    new = hub.commit("model", REPO, files(seed=1))
    then, now = load("timm", name=NAME, revision=old), load("timm", name=NAME)
    assert then.fingerprint != now.fingerprint == load("timm", name=NAME, revision=new).fingerprint
    with pytest.raises(PruningBenchError, match="give one of them"):
        load("timm", name=f"{NAME}@{old}", revision=new)


def test_unknown_revisions_and_repositories_are_named(hub: HubServer) -> None:
    commit = hub.commit("model", REPO, files())
    with pytest.raises(MissingDataError, match=f"{REPO} has no revision 'v2'; leave `revision` out"):
        load("timm", name=NAME, revision="v2")
    hub.forget("model", REPO, commit)
    with pytest.raises(MissingDataError, match="has no revision"):
        load("timm", name=NAME, revision=commit)
    with pytest.raises(MissingDataError, match="nobody/nothing: no such repository"):
        load("timm", name="hf-hub:nobody/nothing")


def test_without_network_the_command_that_fetches_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("model", REPO, files())
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # between the client's tries
    go_offline(monkeypatch)
    made = component("timm", name=NAME)
    assert not made.load_fetches()
    with pytest.raises(MissingDataError, match=rf"switched off \(HF_HUB_OFFLINE\).*`hf download {REPO} config.json"):
        load("timm", name=NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.down = True
    with pytest.raises(MissingDataError, match="with a network, run|interrupted"):
        load("timm", name=NAME)


def test_a_download_that_breaks_off_leaves_nothing_half_and_is_done_by_the_next(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    hub.commit("model", REPO, files())
    hub.cuts["model.safetensors"] = 1000
    try:
        load("timm", name=NAME)
    except MissingDataError as error:  # the client may resume by itself
        assert "model.safetensors" in str(error)
        assert not list(tmp_path.rglob("model.safetensors"))
        assert component("timm", name=NAME).missing() is not None
    model = load("timm", name=NAME)
    assert torch.equal(model.logits(images(64)), small("resnet18").logits(images(64)))
    assert len(hub.downloads("model.safetensors")) >= 2  # the one that was cut, and the rest


def test_damaged_weights_and_foreign_configurations_are_named(hub: HubServer) -> None:
    hub.commit("model", REPO, {**files(), "model.safetensors": files()["model.safetensors"][:5000]})
    with pytest.raises(PruningBenchError, match=r"model\.safetensors: damaged"):
        load("timm", name=NAME)
    hub.commit("model", "a/words", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(PruningBenchError, match="not a configuration of a timm model"):
        load("timm", name="hf-hub:a/words")
    hub.commit("model", "a/newer", files(architecture="resnet19"))
    with pytest.raises(PruningBenchError, match="has no architecture 'resnet19'; did you mean 'resnet1"):
        load("timm", name="hf-hub:a/newer")
    bare = {name: content for name, content in files().items() if not name.startswith("model")}
    hub.commit("model", "a/bare", bare)
    with pytest.raises(MissingDataError, match="no model.safetensors and no pytorch_model.bin"):
        load("timm", name="hf-hub:a/bare")
    hub.commit("model", "a/other", files(model_args={"channels": [4, 8, 12, 20]}))
    with pytest.raises(PruningBenchError, match="its weights do not fit"):
        load("timm", name="hf-hub:a/other")


def test_older_repositories_have_a_torch_file_and_a_flat_configuration(hub: HubServer, tmp_path: Path) -> None:
    network = small("resnet18").network
    torch.save(network.state_dict(), tmp_path / "w")
    content = files()
    flat = {**json.loads(content["config.json"])["pretrained_cfg"], "architecture": "resnet18", "labels": list("abcde")}
    old = {"config.json": json.dumps(flat).encode(), "pytorch_model.bin": (tmp_path / "w").read_bytes()}
    hub.commit("model", REPO, old)
    model = load("timm", name=NAME, **SMALL["resnet18"])
    assert model.classes == tuple("abcde")
    assert torch.equal(model.network.state_dict()["fc.weight"], network.state_dict()["fc.weight"])


def test_timms_own_names_load_from_its_repositories_at_a_revision(hub: HubServer) -> None:
    """A name of timm with published weights, changed to a small network by its arguments."""
    network = small("resnet18", args={"num_classes": 1000}).network
    weights = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    commit = hub.commit("model", "timm/resnet18.a1_in1k", {"model.safetensors": weights})
    model = load("timm", name="resnet18.a1_in1k", revision=commit, **SMALL["resnet18"])
    assert torch.equal(model.network.state_dict()["fc.weight"], network.state_dict()["fc.weight"])
    assert model.classes[0] == "n01440764"
    assert model.preprocessing.crop == 0.95
    settings: Any = model.network.pretrained_cfg
    assert "state_dict" not in settings
    grey = load("timm", name="resnet18.a1_in1k", revision=commit, args={**SMALL["resnet18"]["args"], "in_chans": 1})
    stem = network.state_dict()["conv1.weight"].sum(1, keepdim=True)
    assert torch.allclose(grey.network.state_dict()["conv1.weight"], stem, atol=1e-6)
    assert grey.logits(torch.randn(1, 1, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "/somewhere/else.safetensors"},
        {"pretrained_cfg_overlay": {"file": "/somewhere/else.safetensors"}},
        {"pretrained_cfg_overlay": {"url": "http://127.0.0.1:9/other.pth"}},
        {"pretrained": True},
        {"cache_dir": "/somewhere"},
    ],
    ids=lambda arguments: "-".join([*arguments, *(v for v in arguments.values() if isinstance(v, dict) for v in v)]),
)
def test_a_repository_cannot_say_where_weights_come_from(hub: HubServer, arguments: dict[str, Any]) -> None:
    hub.commit("model", REPO, files(model_args={**SMALL["resnet18"]["args"], **arguments}))
    with pytest.raises(PruningBenchError, match=rf"config\.json: model_args holds '{next(iter(arguments))}'"):
        load("timm", name=NAME)


def test_model_args_that_are_no_mapping_are_named(hub: HubServer) -> None:
    hub.commit("model", REPO, files(model_args=["checkpoint_path"]))
    with pytest.raises(PruningBenchError, match="model_args is a list, not a mapping"):
        load("timm", name=NAME)
