"""Configurations that strangers' repositories give their models: whatever they hold is checked, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.hostilefiles import SPECIAL
from kit.hubmodels import NAME, REPO, files
from kit.hubserver import HubServer
from kit.models import SMALL, load
from pruningbench_timm.hubconfig import LARGEST_NUMBER, read_config

from pruningbench.errors import PruningBenchError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.point_client_here(monkeypatch, tmp_path / "hub")
        yield server


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(PruningBenchError) as caught:
        read_config(path)
    text = str(caught.value)
    assert text.startswith((f"{path}: ", f"{path}, line"))
    assert text.isprintable() and len(text) < 600
    return text.removeprefix(str(path))


FINE = {"architecture": "resnet18", "num_classes": 5, "label_names": list("abcde"), "model_args": {"depths": [2, 2]}}


def test_a_fine_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**FINE, "pretrained_cfg": {"mean": [0.5], "crop_pct": 1}}))
    settings = {"mean": [0.5], "crop_pct": 1, "num_classes": 5, "label_names": list("abcde")}
    assert read_config(path) == ("resnet18", settings, {"depths": [2, 2]})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"architecture": "\xff"}', "is not JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b'{"architecture": "resnet18", "num_classes": 1' + b"0" * 5000 + b"}", "is not JSON"),
        (b'{"architecture": "resnet18", "num_classes": NaN}', "it holds NaN"),
        (b'{"architecture": "resnet18", "crop_pct": Infinity}', "it holds Infinity"),
        (rb'{"architecture": "resnet18\ud800"}', "lone surrogate"),
        (b"null", "names no architecture"),
        (b"[1]", "names no architecture"),
        (b'{"architecture": 5}', "names no architecture"),
        (b'{"architecture": ["resnet18"]}', "names no architecture"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_is_no_configuration_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refused(tmp_path / "config.json", content)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", -1),
        ("num_classes", 10**9),
        ("num_classes", 10**400),
        ("num_classes", 2.5),
        ("num_classes", True),
        ("num_classes", "5"),
        ("label_names", "abcde"),
        ("label_names", [1, 2]),
        ("label_names", {"0": {}}),
        ("label_descriptions", 5),
        ("input_size", [3, 224]),
        ("input_size", [3, 0, 224]),
        ("input_size", [3, 10**8, 10**8]),
        ("input_size", "224"),
        ("mean", "half"),
        ("mean", []),
        ("mean", [1e300]),
        ("std", [None]),
        ("crop_pct", 0),
        ("crop_pct", "all"),
        ("interpolation", ["bicubic"]),
        ("crop_mode", {}),
        ("first_conv", 5),
        ("classifier", [5]),
    ],
)
@pytest.mark.parametrize("place", ["pretrained_cfg", "flat"])
def test_a_setting_of_another_type_or_size_is_named(tmp_path: Path, field: str, value: Any, place: str) -> None:
    flat = {"architecture": "resnet18", field: value}
    whole = flat if place == "flat" else {"architecture": "resnet18", "pretrained_cfg": {"x": 1, field: value}}
    text = json.dumps(whole)
    assert f"{field} is " in refused(tmp_path / "config.json", text.encode())


@pytest.mark.parametrize(
    "value",
    [LARGEST_NUMBER + 1, -(10**12), 1e300, [[10**6]], {"a": {"b": 10**6}}, [0] * (LARGEST_NUMBER + 1),
     [[[[[[[[[[1]]]]]]]]]]],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_arguments_beyond_any_network_are_named(tmp_path: Path, value: Any) -> None:
    content = json.dumps({**FINE, "model_args": {"width": value}}).encode()
    assert "model_args holds 'width' of " in refused(tmp_path / "config.json", content)


@pytest.mark.parametrize("value", [[1], "x", 5])
def test_mappings_that_are_none_are_named(tmp_path: Path, value: Any) -> None:
    for field in ("model_args", "pretrained_cfg"):
        content = json.dumps({**FINE, field: value}).encode()
        assert f"{field} is a {type(value).__name__}, not a mapping" in refused(tmp_path / "config.json", content)


def test_a_configuration_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2**34)
    with pytest.raises(PruningBenchError, match="17,179,869,184 bytes are too many"):
        read_config(path)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_is_no_file_is_no_configuration(tmp_path: Path, kind: str) -> None:
    make, words = SPECIAL[kind]
    make(tmp_path / "config.json")
    with pytest.raises(PruningBenchError, match=words):
        read_config(tmp_path / "config.json")


@pytest.mark.timeout(60)
def test_a_network_larger_than_any_is_refused_before_it_takes_memory(hub: HubServer) -> None:
    """64 terabytes of weights, described in one line."""
    hub.commit("model", REPO, files(model_args={**SMALL["resnet18"]["args"], "channels": [32768] * 4}))
    with pytest.raises(PruningBenchError, match=rf"{NAME}: its configuration describes [\d,]+ parameters; at most"):
        load("timm", name=NAME)


def test_a_hostile_configuration_from_the_hub_is_named(hub: HubServer) -> None:
    hub.commit("model", REPO, {**files(), "config.json": b"[" * 100_000})
    with pytest.raises(PruningBenchError, match=r"config\.json: is nested too deeply"):
        load("timm", name=NAME)
