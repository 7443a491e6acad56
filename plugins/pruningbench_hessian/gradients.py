"""Per-sample gradients, computed without leaving a trace on the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruningbench.contract import PruningBenchError, PruningContext, generator_for, isolated_randomness
from pruningbench.pruning.preservation import preserved
from pruningbench_hessian.costs import chunk_samples

Fisher = Literal["empirical", "true", "gram"]
Method = Literal["auto", "loop", "vmap"]


@dataclass(frozen=True)
class Draw:
    """Images and the targets of their loss: (B,) int64 labels or (B, D) float directions.

    For a label the loss is the cross-entropy; for a direction v it is the inner product of v and the output.
    """

    images: Tensor
    targets: Tensor

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (B,)."""
        if self.targets.dtype == torch.int64:
            return cross_entropy(outputs, targets, reduction="none")
        return (outputs.flatten(1) * targets).sum(1)


@contextmanager
def scoring(context: PruningContext) -> Iterator[None]:
    """Put the network in eval mode with gradients for the prunable parameters only; restore its state afterwards.

    Weights, buffers, gradients, requires_grad, train/eval flags and random states are restored, even if the
    block raises.
    """
    network = context.network
    prunable = {id(parameter) for parameter in context.parameters.values()}
    with isolated_randomness("hessian", context.seed), preserved(network), torch.enable_grad():
        network.eval()
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in prunable)
        yield


def draws(context: PruningContext, pruner: str, fisher: Fisher, samples: int, seed: int) -> list[Draw]:
    """Return the first `samples` images with their given labels, labels drawn from the model, or directions.

    Call this inside `scoring`. The directions of ``gram`` are drawn from N(0, G), where G = mean f f' is the Gram
    matrix of the features f (the flattened output) over the images.

    Raises:
        PruningBenchError: without images, or if the network or the labels do not fit `fisher`.
    """
    batches = list(context.first_images(pruner, samples))
    if fisher == "empirical":
        return [Draw(images, _given_labels(labels, pruner)) for images, labels in batches]
    with torch.no_grad():
        outputs = [_output(context.network, images, pruner) for images, _ in batches]
    generator = generator_for(seed, "hessian", fisher)
    if fisher == "true":
        return [
            Draw(images, _draw_labels(o, generator, pruner)) for (images, _), o in zip(batches, outputs, strict=True)
        ]
    features = torch.cat([output.flatten(1) for output in outputs])
    drawn = []
    for images, _ in batches:
        noise = torch.randn(len(images), len(features), generator=generator, dtype=torch.float64)
        drawn.append(Draw(images, noise.to(features) @ features / len(features) ** 0.5))
    return drawn


def per_sample_gradients(
    network: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    draws: Sequence[Draw],
    pruner: str,
    method: Method = "auto",
) -> Iterator[dict[str, Tensor]]:
    """Yield the gradients of the samples' losses in chunks: name -> (samples, weights), flat and row-major.

    The tensors are valid until the next chunk is requested. Call this inside `scoring`. ``auto`` runs one
    backward pass per sample on a CPU and `torch.func.vmap` on other devices.

    Raises:
        PruningBenchError: if a gradient is NaN or infinite, the output has no entry for a label, or vmap cannot
            map the network.
    """
    size = sum(p.numel() * p.element_size() for p in parameters.values())
    chunk = chunk_samples(size)
    mapped = method == "vmap" or (method == "auto" and next(iter(parameters.values())).device.type != "cpu")
    for draw in draws:
        for start in range(0, len(draw.images), chunk):
            part = Draw(draw.images[start : start + chunk], draw.targets[start : start + chunk])
            gradients = (_mapped if mapped else _looped)(network, parameters, part, pruner)
            for name, gradient in gradients.items():
                if not bool(torch.isfinite(gradient).all()):
                    raise PruningBenchError(f"pruner {pruner!r}: gradients of {name!r} are NaN or infinite")
            yield gradients


def _looped(network: nn.Module, parameters: Mapping[str, nn.Parameter], draw: Draw, pruner: str) -> dict[str, Tensor]:
    samples = len(draw.images)
    rows_by_name = {name: p.new_empty(samples, p.numel(), requires_grad=False) for name, p in parameters.items()}
    for i in range(samples):
        output = _output(network, draw.images[i : i + 1], pruner)
        check_targets(output, draw.targets, pruner)
        loss = draw.losses(output, draw.targets[i : i + 1]).sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for rows, gradient in zip(rows_by_name.values(), gradients, strict=True):
            rows[i] = 0 if gradient is None else gradient.flatten()
    return rows_by_name


def _mapped(network: nn.Module, parameters: Mapping[str, nn.Parameter], draw: Draw, pruner: str) -> dict[str, Tensor]:
    with torch.no_grad():
        check_targets(_output(network, draw.images[:1], pruner), draw.targets, pruner)

    def loss(values: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        output = torch.func.functional_call(network, values, (image[None],))
        return draw.losses(output, target[None]).sum()

    values = {name: parameter.detach() for name, parameter in parameters.items()}
    try:
        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(values, draw.images, draw.targets)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PruningBenchError(f"pruner {pruner!r}: vmap failed ({reason}); set gradients to 'loop'") from error
    return {name: gradient.flatten(1) for name, gradient in gradients.items()}


def _output(network: nn.Module, images: Tensor, pruner: str) -> Tensor:
    output = network(images)
    if not isinstance(output, Tensor) or output.ndim < 2:
        received = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise PruningBenchError(
            f"pruner {pruner!r} needs one (B, ...) output tensor, but the network's output has {received}"
        )
    return output


def _given_labels(labels: Tensor | None, pruner: str) -> Tensor:
    if labels is None:
        raise PruningBenchError(
            f"pruner {pruner!r} needs labels, but got none: give them, or set its fisher to 'true' (labels drawn from "
            "the model) or 'gram' (no head needed)"
        )
    return labels.to(torch.int64)


def _draw_labels(output: Tensor, generator: torch.Generator, pruner: str) -> Tensor:
    _check_logits(output, pruner)
    chances = output.detach().to("cpu", torch.float64).softmax(1)
    if not bool(torch.isfinite(chances).all()):
        raise PruningBenchError(f"pruner {pruner!r}: the network's logits are NaN or infinite")
    return torch.multinomial(chances, 1, generator=generator)[:, 0].to(output.device)


def _check_logits(output: Tensor, pruner: str) -> None:
    if output.ndim != 2:
        raise PruningBenchError(
            f"pruner {pruner!r} needs (B, classes) logits for its labels, but the output is {tuple(output.shape)}: "
            "set its fisher to 'gram'"
        )


def check_targets(output: Tensor, targets: Tensor | None, pruner: str) -> None:
    """Check that a network's output has logits for labels, (B,) int64, or for its own probabilities (None).

    Raises:
        PruningBenchError: if not.
    """
    if targets is not None and targets.dtype != torch.int64:
        return
    _check_logits(output, pruner)
    if targets is None:
        return
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= output.shape[1]:
        raise PruningBenchError(
            f"pruner {pruner!r}: labels run from {low} to {high}, but the network has {output.shape[1]} outputs"
        )
