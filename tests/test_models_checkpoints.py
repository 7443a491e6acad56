"""Local files of weights: every layout that is read, and every way in which one does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.models import SMALL, component, images, load, small
from pruningbench_timm.checkpoints import load_weights, read_checkpoint
from safetensors.torch import save_file
from torch import Tensor, nn

from pruningbench.errors import MissingDataError, PruningBenchError, UsageError

RESNET = {"use": "timm", "name": "resnet18", "args": {"num_classes": 5, **SMALL["resnet18"]["args"]}}
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return {name: tensor.clone() for name, tensor in small("resnet18").network.state_dict().items()}


class Evil:
    """An object whose pickle runs code when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def written(folder: Path, content: Any, name: str = "weights.pth") -> Path:
    path = folder / name
    if name.endswith(".safetensors"):
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.safetensors", lambda state: state),
        ("w.pth", lambda state: state),
        ("w.pt", lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}}),
        ("w.tar", lambda state: {"model": {f"module.{k}": v for k, v in state.items()}}),
        ("w.bin", lambda state: {"net": {f"_orig_mod.module.{k}": v for k, v in state.items()}}),
        ("w.ckpt", lambda state: {"model_state_dict": {k: v for k, v in state.items() if "tracked" not in k}}),
    ],
)
def test_a_checkpoint_gives_the_network_its_weights(tmp_path: Path, state: State, name: str, wrap: Any) -> None:
    path = written(tmp_path, wrap(state), name)
    model = load(**RESNET, checkpoint=str(path))
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, state[key]) or key.endswith("tracked"), key
    other = load(**RESNET, pretrained=False)
    assert other.fingerprint != model.fingerprint != ""
    assert torch.equal(model.logits(images()), model.network(images()))


def test_the_wrapper_of_a_checkpoint_is_found_inside_other_wrappers(tmp_path: Path) -> None:
    path = written(tmp_path, {"epoch": 1, "model": {"state_dict": {"a": torch.ones(2), "note": "x"}}})
    assert list(read_checkpoint(path)) == ["a"]


def test_one_of_two_networks_in_a_checkpoint_is_chosen_by_its_prefix(tmp_path: Path, state: State) -> None:
    both = {f"teacher.{k}": v for k, v in state.items()} | {f"student.{k}": v + 1 for k, v in state.items()}
    path = written(tmp_path, both)
    with pytest.raises(UsageError, match=r"'student\.' and under 'teacher\.' fit equally; choose with `prefix`"):
        load(**RESNET, checkpoint=str(path))
    model = load(**RESNET, checkpoint=str(path), prefix="teacher.")
    assert torch.equal(model.network.state_dict()["fc.weight"], state["fc.weight"])
    with pytest.raises(UsageError, match="no name begins with 'other\\.'"):
        load(**RESNET, checkpoint=str(path), prefix="other.")


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(state: State) -> None:
    network = small("resnet18").network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    broken = dict(state)
    del broken["fc.bias"], broken["bn1.weight"]
    broken["fc.weight"] = torch.zeros(7, 16)
    broken["extra.weight"] = torch.zeros(1)
    with pytest.raises(PruningBenchError) as caught:
        load_weights(network, broken, "here.pth")
    message = str(caught.value)
    assert "here.pth does not fit ResNet" in message
    assert "2 missing (bn1.weight, fc.bias)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "1 of another shape (fc.weight is (7, 16), not (5, 16))" in message
    assert "\n" not in message
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_extra_weights_are_left_out_on_request_only(tmp_path: Path, state: State) -> None:
    path = written(tmp_path, {**state, "projection.0.weight": torch.zeros(3, 3)})
    with pytest.raises(PruningBenchError, match=r"1 unexpected \(projection.0.weight\)"):
        load(**RESNET, checkpoint=str(path))
    load(**RESNET, checkpoint=str(path), ignore=["projection.*"])
    with pytest.raises(UsageError, match=r"'nothing\.\*' matches none"):
        load(**RESNET, checkpoint=str(path), ignore=["nothing.*"])


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, small("convnext_atto").network.state_dict(), "other.safetensors")
    with pytest.raises(PruningBenchError, match=rf"^{re.escape(str(path))} does not fit ResNet: \d+ missing \(conv1"):
        load(**RESNET, checkpoint=str(path))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    path = written(tmp_path, {"state_dict": {"fc.weight": torch.zeros(1)}, "extra": Evil(proof)})
    with pytest.raises(PruningBenchError, match=rf"{re.escape(str(path))}: holds more than weights .*never run"):
        load(**RESNET, checkpoint=str(path))
    assert not proof.exists()
    torch.save(nn.Linear(2, 2), path)  # a whole module is code as well
    with pytest.raises(PruningBenchError, match=r"it would import torch\.nn\.modules\.linear\.Linear"):
        load(**RESNET, checkpoint=str(path))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_truncated_files_are_named(tmp_path: Path, state: State, name: str) -> None:
    path = written(tmp_path, state, name)
    content = path.read_bytes()
    for kept in (0, 7, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(PruningBenchError, match=rf"^{re.escape(str(path))}: .*copy or download it again"):
            load(**RESNET, checkpoint=str(path))
    path.write_text("<html>404</html>")
    with pytest.raises(PruningBenchError, match=rf"^{re.escape(str(path))}: .*download it again"):
        load(**RESNET, checkpoint=str(path))


def test_files_without_weights_and_absent_files(tmp_path: Path) -> None:
    path = written(tmp_path, {"epoch": 3, "history": [1.0]})
    with pytest.raises(PruningBenchError, match=r"holds no weights \(found: epoch, history\)"):
        read_checkpoint(path)
    with pytest.raises(PruningBenchError, match=r"holds no weights \(found: list\)"):
        read_checkpoint(written(tmp_path, [1, 2]))
    gone = tmp_path / "gone.pth"
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        load(**RESNET, checkpoint=str(gone))
    assert component(**RESNET, checkpoint=str(gone)).missing() == f"{gone}: no such checkpoint"
    assert not component(**RESNET, checkpoint=str(gone)).load_fetches()
    assert component(**RESNET, checkpoint=str(path)).missing() is None
    with pytest.raises(MissingDataError, match="it is a folder"):
        read_checkpoint(tmp_path)


def test_names_of_an_original_repository_are_translated_as_timm_does(tmp_path: Path) -> None:
    """Swin's own checkpoints name the downsampling after the stage before; positions have another grid."""
    model = small("vit_tiny_patch16_224")
    state = dict(model.network.state_dict())
    state["pos_embed"] = torch.randn(1, 1 + 9, 32)  # of a grid of 3 x 3 patches
    path = written(tmp_path, state, "vit.safetensors")
    fields = SMALL["vit_tiny_patch16_224"]
    loaded = load(
        "timm", name="vit_tiny_patch16_224", size=32, args={"num_classes": 5, **fields["args"]}, checkpoint=str(path)
    )
    found = loaded.network.state_dict()
    assert found["pos_embed"].shape == (1, 17, 32)
    assert torch.equal(found["pos_embed"][:, 0], state["pos_embed"][:, 0])
    assert torch.equal(found["head.weight"], state["head.weight"])


def test_mocov2_is_the_query_encoder_of_its_authors_checkpoint(tmp_path: Path) -> None:
    network: Any = load("timm", name="resnet50", pretrained=False, args={"num_classes": 0}).network
    encoder = dict(network.state_dict())
    projection = {"fc.0.weight": torch.zeros(4, 4), "fc.2.weight": torch.zeros(2, 4)}
    stored = {f"module.encoder_q.{k}": v for k, v in {**encoder, **projection}.items()}
    stored |= {f"module.encoder_k.{k}": torch.zeros(()) for k in encoder} | {"module.queue": torch.zeros(2, 2)}
    path = written(tmp_path, {"epoch": 800, "arch": "resnet50", "state_dict": stored}, "moco.pth.tar")
    model = load("mocov2", checkpoint=str(path))
    assert torch.equal(model.network.state_dict()["layer4.2.conv3.weight"], encoder["layer4.2.conv3.weight"])
    assert (model.classes, model.head) == ((), ())
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)
    assert component("mocov2", checkpoint=str(path)).missing() is None
    missing = component("mocov2").missing()
    assert "moco_v2_800ep_pretrain.pth.tar to " in missing
    assert component("mocov2").load_fetches()
