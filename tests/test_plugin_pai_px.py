"""Path exclusion: its scores, by the reference and written out."""

from __future__ import annotations

import copy

import torch
from kit.pai import TOY, everything, flat, job, mixed_job, relative, toy_job
from pruningbench_pai.paths import path_scores
from torch import nn

from pruningbench.base.randomness import isolated_randomness


def test_px_scores_of_the_reference() -> None:
    context = toy_job()
    masks = everything(context.parameters)
    for variant, key in (("path", "all"), ("code", "keep_last")):
        assert relative(flat(path_scores(context, masks, variant)), TOY[f"px_score_{key}"]) < 1e-8  # type: ignore[arg-type]
    mlp = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)
    ).double()
    mlp.load_state_dict({f"{place}.weight": TOY[f"px_mlp_W{i}"] for i, place in ((1, 0), (2, 2), (3, 4))})
    context = job(mlp, (TOY["px_mlp_x"], None))
    assert relative(flat(path_scores(context, everything(context.parameters), "path")), TOY["px_mlp_score"]) < 1e-8


def test_px_takes_batch_norm_without_a_scale_as_one_with_scale_one() -> None:
    scores = []
    for affine in (True, False):
        context = mixed_job()
        norm = nn.BatchNorm2d(8, affine=affine).eval()
        norm.running_var.copy_(context.network.norm.running_var)  # type: ignore[union-attr, arg-type]
        context.network.norm = norm
        scores.append(flat(path_scores(context, everything(context.parameters), "path")))
    assert relative(scores[0], scores[1]) < 1e-12


def test_px_code_train_is_the_network_in_training_mode_with_the_gates_of_eval_mode() -> None:
    with isolated_randomness("px code-train"):
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1),
            nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        ).double()  # fmt: skip
        for norm in (net[1], net[4]):
            norm.running_mean.normal_()
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.normal_()
        batches = [torch.randn(n, 3, 8, 8, dtype=torch.float64) for n in (7, 5)]
    net.eval()
    context = job(net, *((x, None) for x in batches))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scores = path_scores(context, everything(context.parameters), "code-train")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    # written out with modules, each batch by itself
    expected = {name: torch.zeros_like(p) for name, p in context.parameters.items()}
    for x in batches:
        ones, squares = copy.deepcopy(net).train(), copy.deepcopy(net).train()
        for conv in (0, 3):
            ones[conv].weight.data.fill_(1.0)
            squares[conv].weight.data.square_()
        z1, z2, inner = x.square(), torch.ones_like(x), x
        with torch.no_grad():
            for module, of_ones in zip(net, ones, strict=True):
                z1 = z1 * (inner > 0) if isinstance(module, nn.ReLU) else of_ones(z1)
                inner = module(inner)
        for module in squares:
            z2 = z2 if isinstance(module, nn.ReLU) else module(z2)
        (z1 * z2).sum().backward()
        for name in expected:
            expected[name] += squares.get_parameter(name).grad
    for name, gradient in expected.items():
        wanted = (net.get_parameter(name).detach().square() * gradient).abs()
        torch.testing.assert_close(scores[name], wanted, rtol=1e-6, atol=1e-9)
    together = path_scores(job(net, (torch.cat(batches), None)), everything(context.parameters), "code-train")
    assert relative(flat(together), flat(scores)) > 1e-5
