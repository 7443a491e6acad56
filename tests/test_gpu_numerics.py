"""Computations that have a form of their own on an NVIDIA GPU, against the CPU; `make test` leaves them out."""

from __future__ import annotations

import pytest
import torch
from kit.gpu import only_on_a_gpu
from kit.models import images, small
from pruningbench_discovery.affinity import resembling, unit_rows
from pruningbench_discovery.seed_expansion import degrees, lost
from pruningbench_discovery.spectral import second_eigenvectors
from pruningbench_hessian.blocks import BlockGram
from pruningbench_interpretability.factorisation import nmf
from pruningbench_interpretability.nonnegative import nnls
from pruningbench_interpretability.road import road_impute
from pruningbench_interpretability.similarity import rank_correlation, structural_similarity
from pruningbench_structured.size import measure_size
from pruningbench_transfer.neighbours import knn_predict
from torch import Tensor, nn

from pruningbench.base.randomness import generator_for, isolated_randomness, random_state, set_random_state
from pruningbench.contract.precision import computed_in, kernels, refusal
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.timing import measured_seconds, peak_memory
from pruningbench.pruning.top_k import keep_highest
from pruningbench.training.recalibration import recalibrate

pytestmark = pytest.mark.gpu


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "infinite", "few"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_thresholds_are_exact_with_the_first_of_equal_scores(kind: str, share: float, gpu: torch.device) -> None:
    scores = [normal(300, 400), normal(70, 1000, seed=1), normal(7, seed=2)]
    if kind == "few":
        scores = scores[2:]
    elif kind == "ties":
        scores = [one.mul(2).round() for one in scores]
    elif kind == "constant":
        scores = [torch.ones_like(one) for one in scores]
    elif kind == "infinite":
        scores = [torch.where(one > 1, torch.inf, one) for one in scores]
    prune = round(share * sum(one.numel() for one in scores))
    here, there = keep_highest(scores, prune), keep_highest([one.to(gpu) for one in scores], prune)
    assert all(mask.device.type == gpu.type for mask in there)
    assert all(torch.equal(mask.cpu(), other) for mask, other in zip(there, here, strict=True))


def test_masks_are_applied_and_stored_the_same(gpu: torch.device) -> None:
    layer = nn.Linear(9, 5).to(gpu)
    kept = normal(5, 9) > 0
    masks = Masks({"weight": kept.to(gpu)})
    masks.apply(layer)
    assert masks == Masks({"weight": kept})
    assert torch.equal(layer.weight.cpu() != 0, kept)


def test_road_gives_the_same_images(gpu: torch.device) -> None:
    pictures, keep = normal(3, 3, 40, 56), normal(3, 1, 40, 56, seed=1) > 0.3
    keep[0] = False
    here, there = road_impute(pictures, keep), road_impute(pictures.to(gpu), keep.to(gpu))
    assert float((there.cpu() - here).abs().max()) < 2e-4
    assert torch.equal(there.cpu()[keep.expand_as(pictures)], pictures[keep.expand_as(pictures)])


def test_discovery_decides_as_float64_does(gpu: torch.device) -> None:
    features = normal(2, 144, 24)
    exact, unit = features.double(), unit_rows(features)
    for precision in ("float32", "tf32"):
        with kernels(precision):
            assert torch.equal(degrees(exact.to(gpu)).cpu(), degrees(exact))
            assert torch.equal(resembling(unit.to(gpu), 0.1).cpu(), torch.bmm(unit, unit.mT) > 0.1)
    assert torch.equal(lost(features.to(gpu), (12, 12), 8, (96, 96)).cpu(), lost(features, (12, 12), 8, (96, 96)))


@pytest.mark.parametrize("nodes", [100, 200])
def test_normalised_cuts_have_the_same_vectors(nodes: int, gpu: torch.device) -> None:
    near = (torch.arange(nodes)[:, None] - torch.arange(nodes)).abs()
    connected = torch.stack([near < 20, (near < 30) | (normal(nodes, nodes) > 2.5)])
    connected |= connected.mT.clone()
    here, there = second_eigenvectors(connected, 1e-5), second_eigenvectors(connected.to(gpu), 1e-5).cpu()
    assert float(((here * there).sum(1).abs() - 1).abs().max()) < 1e-8


def test_factorisations_are_the_same(gpu: torch.device) -> None:
    matrix = normal(60, 20, dtype=torch.float64).abs()
    here, there = (nmf(matrix.to(device), 4, seed=0) for device in ("cpu", gpu))
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(other.cpu(), one, rtol=1e-5, atol=1e-7)
    basis = normal(4, 20, seed=3, dtype=torch.float64).abs()
    assert torch.allclose(nnls(matrix.to(gpu), basis.to(gpu)).cpu(), nnls(matrix, basis), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("samples", [4, 40])
def test_blocks_of_curvature_have_the_same_inverse(samples: int, gpu: torch.device) -> None:
    diagonals = []
    for device in ("cpu", gpu):
        gram = BlockGram(70, 16, samples, damping=1e-3, relative=True, device=device)
        gram.add(normal(samples, 70).to(device))
        diagonals.append(gram.inverse_diagonal().cpu())
    assert torch.allclose(diagonals[1], diagonals[0], rtol=1e-4)


def test_similarities_and_neighbours_are_the_same(gpu: torch.device) -> None:
    one, other = normal(3, 20, 30).mul(3).round(), normal(3, 20, 30, seed=1)
    for measure in (rank_correlation, structural_similarity):
        assert torch.allclose(measure(one.to(gpu), other.to(gpu)).cpu(), measure(one, other), atol=1e-9)
    train, labels, test = normal(50, 8), torch.arange(50) % 3, normal(20, 8, seed=1)
    assert torch.equal(knn_predict(train.to(gpu), labels, test.to(gpu), 5).cpu(), knn_predict(train, labels, test, 5))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_views_of_networks_are_the_same(name: str, gpu: torch.device) -> None:
    model = small(name)
    pictures = images(32)
    views = ["logits", "embed", "patch_features", *(["attentions"] if name.startswith("vit") else [])]
    with torch.no_grad(), computed_in("float32"):
        here = {view: getattr(model, view)(pictures) for view in views}
        model.network.to(gpu)
        there = {view: getattr(model, view)(pictures.to(gpu)) for view in views}
    for view, value in here.items():
        assert float((there[view].cpu() - value).abs().max()) < 1e-4 * float(value.abs().max()), view


def test_float32_has_no_tf32_and_the_switches_return(gpu: torch.device) -> None:
    left, right = normal(256, 256), normal(256, 256, seed=1)
    pictures, weights = normal(2, 32, 24, 24), normal(32, 32, 3, 3, seed=1)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    def error(precision: str) -> tuple[float, float]:
        with kernels(precision):
            product = (left.to(gpu) @ right.to(gpu)).cpu()
            folded = nn.functional.conv2d(pictures.to(gpu), weights.to(gpu)).cpu()
        exact = left.double() @ right.double(), nn.functional.conv2d(pictures.double(), weights.double())
        return tuple(  # type: ignore[return-value]
            float((found - true).abs().max() / true.abs().max())
            for found, true in zip((product, folded), exact, strict=True)
        )

    assert max(error("float32")) < 3e-5
    assert only_on_a_gpu(max(error("tf32")) > 1e-4)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert refusal("bf16", gpu) == refusal("tf32", gpu) == ""


def test_bf16_computes_views_in_bfloat16_and_returns_float32(gpu: torch.device) -> None:
    model = small("resnet18")
    model.network.to(gpu)
    pictures = images(32).to(gpu)
    with torch.no_grad(), computed_in("float32"):
        full = model.logits(pictures)
    with torch.no_grad(), computed_in("bf16", model.network):
        low = model.logits(pictures)
    assert low.dtype == torch.float32
    difference = float((low - full).abs().max() / full.abs().max())
    assert only_on_a_gpu(difference > 0)
    assert difference < 0.1


def test_recalibration_gives_the_same_statistics(gpu: torch.device) -> None:
    networks = [small("resnet18").network for _ in range(2)]
    networks[1].to(gpu)
    with kernels("float32"):
        for network, device in zip(networks, ("cpu", gpu), strict=True):
            recalibrate(network, [images(32, 4, seed).to(device) for seed in range(2)])
    for one, other in zip(networks[0].buffers(), networks[1].buffers(), strict=True):
        assert torch.allclose(other.cpu(), one, rtol=1e-4, atol=1e-5)


def test_random_numbers_of_the_device_are_seeded_and_restored(gpu: torch.device) -> None:
    torch.rand(1, device=gpu)
    state = random_state()
    drawn = []
    for _ in range(2):
        with isolated_randomness("same"):
            drawn.append(torch.rand(5, device=gpu).cpu())
    free = [torch.rand(5, device=gpu).cpu()]
    set_random_state(state)
    free.append(torch.rand(5, device=gpu).cpu())
    assert torch.equal(*drawn)
    assert torch.equal(*free)
    assert not torch.equal(drawn[0], free[0])
    assert generator_for("same").device.type == "cpu"  # the same numbers for every device


def test_times_and_memory_of_passes_are_measured(gpu: torch.device) -> None:
    network = nn.Conv2d(3, 8, 3).to(gpu)
    pictures = images(64, 8).to(gpu)
    with torch.no_grad():
        few, many = measured_seconds([lambda: network(pictures), lambda: network(network(pictures)[:, :3])], gpu, 5, 2)
        peak = peak_memory(network, lambda: network(pictures), gpu)
        size = measure_size(network, pictures, runs=3)
    assert min(float(few.min()), float(many.min())) > 0
    held = sum(p.numel() * p.element_size() for p in network.parameters())
    assert peak is not None and peak >= held
    assert only_on_a_gpu(peak >= held + 8 * 8 * 62 * 62 * 4)  # the output
    assert size.latency_ms > 0
    assert size.flops == 2 * 62 * 62 * 8 * 27
