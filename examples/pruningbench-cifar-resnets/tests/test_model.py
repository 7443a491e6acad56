"""The model: checkpoints, preprocessing, views."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pruningbench.contract import (
    Context,
    MissingDataError,
    PruningBenchError,
    Sample,
    ViewUnavailableError,
    VisionModel,
)
from safetensors.torch import save_file

from pruningbench_cifar_resnets.model import CIFAR10, CifarResNetModel
from pruningbench_cifar_resnets.network import CifarResNet


def load(**fields: Any) -> VisionModel:
    """Load the model on the CPU."""
    return CifarResNetModel(**fields).load(Context(torch.device("cpu"), 0, None, None))  # type: ignore[arg-type]


@pytest.fixture()
def state() -> dict[str, torch.Tensor]:
    """Weights of another network than the one that seed 0 draws."""
    torch.manual_seed(5)
    return CifarResNet(20, 10).state_dict()


def test_checkpoints_of_all_layouts(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """Safetensors, torch.save, and what DataParallel training leaves; they give the same network."""
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "best_prec1": 91.7}, tmp_path / "c.th")
    few = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    save_file(few, tmp_path / "d.safetensors")
    prints = set()
    for path in sorted(tmp_path.iterdir()):
        model = load(checkpoint=str(path))
        prints.add(model.fingerprint)
        for name, tensor in model.network.state_dict().items():
            assert torch.equal(tensor, state[name]), (path, name)
    assert len(prints) == 1 and load().fingerprint not in prints


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Name the function that unpickling calls."""
        return os.mkdir, (self.folder,)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    """It is refused in one line."""
    torch.save({"state_dict": Harmful(str(tmp_path / "made"))}, tmp_path / "bad.pt")
    with pytest.raises(PruningBenchError, match="without running code") as caught:
        load(checkpoint=str(tmp_path / "bad.pt"))
    assert not (tmp_path / "made").exists() and "\n" not in str(caught.value)


def test_checkpoints_that_do_not_fit(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """The message says how, and which fields to check."""
    save_file(state, tmp_path / "20.safetensors")
    path = str(tmp_path / "20.safetensors")
    with pytest.raises(PruningBenchError, match=r"it lacks layer1\.3\.conv1\.weight.*check `depth`"):
        load(checkpoint=path, depth=32)
    with pytest.raises(PruningBenchError, match=r"it has in addition layer1\.1"):
        load(checkpoint=path, depth=8)
    with pytest.raises(PruningBenchError, match=r"in another shape linear\.weight, linear\.bias \(2"):
        load(checkpoint=path, classes=("cat", "dog"))
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(PruningBenchError, match=r"torn\.safetensors: no weights can be read"):
        load(checkpoint=str(tmp_path / "torn.safetensors"))
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        load(checkpoint=str(tmp_path / "absent.pt"))
    absent = CifarResNetModel(checkpoint=str(tmp_path / "absent.pt"))
    assert absent.missing() == f"{tmp_path}/absent.pt: no such checkpoint"
    assert CifarResNetModel(checkpoint=path).missing() is None


def test_preprocessing() -> None:
    """A CIFAR image keeps its pixels; a photograph is resized; the mean colour becomes zero."""
    preprocessing = load(normalisation="cifar10").preprocessing
    image = torch.randint(0, 256, (3, 32, 32)).to(torch.uint8)
    assert torch.equal(preprocessing.fit(Sample(image)).image, image)
    assert preprocessing.fit(Sample(torch.zeros(3, 80, 60, dtype=torch.uint8))).image.shape == (3, 32, 32)
    grey = torch.tensor([0.4914, 0.4822, 0.4465]).mul(255).round().to(torch.uint8).view(1, 3, 1, 1)
    assert float(preprocessing.normalise(grey).abs().max()) < 0.01
    assert load().preprocessing.mean == (0.485, 0.456, 0.406)


def test_views_agree() -> None:
    """The embedding is the mean of the grid, the head maps it to the logits, and the hooked module gives the grid."""
    model, images = load(depth=8), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        grid, logits = model.patch_features(images), model.logits(images)
        assert torch.allclose(model.embed(images), grid.mean((2, 3)))
        head = dict(model.network.named_parameters())
        weight, bias = (head[name] for name in model.head)
        assert torch.allclose(model.embed(images) @ weight.T + bias, logits, atol=1e-6)
        features, classify = model.head_split()
        assert torch.allclose(classify(features(images)), logits)
        module, as_grid = model.activation_module()
        seen: list[torch.Tensor] = []
        handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        model.logits(images)
        handle.remove()
        assert torch.equal(as_grid(seen[0], images), grid)
    with pytest.raises(ViewUnavailableError, match="queries"):
        model.patch_features(images, "queries")


def test_seeds_and_new_weights() -> None:
    """Seeds draw other weights; a network that starts again has other weights too."""
    model = load(depth=8)
    assert model.fingerprint == load(depth=8).fingerprint != load(depth=8, seed=1).fingerprint
    before = model.network.get_parameter("conv1.weight").clone()
    model.reinitialise(3)
    assert not torch.equal(model.network.get_parameter("conv1.weight"), before)


def test_fields() -> None:
    """The skeleton has no weights; wrong fields are refused."""
    skeleton = CifarResNetModel(depth=56).skeleton()
    assert all(p.is_meta for p in skeleton.parameters())
    assert sum(p.numel() for p in skeleton.parameters()) == 853_018
    for wrong in ({"depth": 21}, {"classes": ()}, {"classes": ("cat", "cat")}, {"seed": -1}):
        assert CifarResNetModel(**wrong).problem()  # type: ignore[arg-type]
    assert CifarResNetModel().problem() is None and load().classes == CIFAR10
    assert load(augmentation="none").augment is None and load().augment is not None
