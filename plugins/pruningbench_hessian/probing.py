"""Blocks of the loss's Hessian, from its products with vectors of random signs.

Sources: Hutchinson (1989) for the trace; Bekas, Kokiopoulou and Saad (2007) for diagonals and Hadamard vectors;
Pearlmutter, Fast exact multiplication by the Hessian (1994) for the products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, pad

from pruningbench.contract import PruningBenchError, PruningContext, RefusedError, generator_for
from pruningbench.pruning.weight_inputs import in_double
from pruningbench_hessian.costs import PROBED_AT_ONCE, STEP_ENTRIES, groups_that_fit, probed_bytes, too_large
from pruningbench_hessian.gradients import check_targets, scoring

_NO_CURVATURE = 1e-30
"""Damping where the curvature is zero: any positive number ranks such weights lowest."""
Target = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Probes:
    """The vectors that the Hessian is multiplied with.

    Attributes:
        number: products for each block.
        groups: sets of blocks that are probed one after the other.
        block_size: weights per block; a parameter with fewer is one block.
        seed: of the signs.
    """

    number: int
    groups: int
    block_size: int
    seed: int = 0

    def vectors(self, sizes: Mapping[str, int]) -> Iterator[dict[str, Tensor]]:
        """Yield `number` vectors for each group, in float32 on the CPU: parameter -> (weights,) of -1, 0 and 1.

        In each block, as many consecutive vectors of a group as the Hadamard matrix has rows are orthogonal.

        Args:
            sizes: the parameters and their numbers of weights, in order.
        """
        rows = hadamard(self.block_size)
        for group in range(self.groups):
            for count in range(self.number):
                turn, place = divmod(count, len(rows))
                order = torch.randperm(len(rows), generator=generator_for(self.seed, "probe order", group, turn))
                first, vectors = 0, {}
                for name, weights in sizes.items():
                    size = min(self.block_size, weights)
                    blocks = -(-weights // size)
                    generator = generator_for(self.seed, "probe signs", name, group, turn)
                    signs = torch.randint(0, 2, (blocks, size), generator=generator) * 2 - 1
                    probed = (torch.arange(first, first + blocks) % self.groups == group)[:, None]
                    vector = signs * rows[order[place], :size] * probed
                    vectors[name] = vector.flatten()[:weights].float()
                    first += blocks
                yield vectors


@dataclass(frozen=True)
class Scoring:
    """How weights are scored by the Hessian; see the fields of `BlockHessian`.

    Attributes:
        pruner: name for messages.
        saliency: obs, diagonal or trace.
        samples: number of images.
        labels: whether the loss is that of the given labels; otherwise that of the model's own probabilities.
        clamp: whether negative curvature becomes zero; otherwise its absolute value is taken.
        damping: fraction of the parameter's mean absolute diagonal that is added to the eigenvalues.
        memory_gb: GiB that the blocks may take at a time.
    """

    pruner: str
    saliency: Literal["obs", "diagonal", "trace"]
    samples: int
    labels: bool
    clamp: bool
    damping: float
    memory_gb: float


def hadamard(least: int) -> Tensor:
    """Return the Hadamard matrix of the smallest power of two >= `least`: its rows and columns are orthogonal signs."""
    matrix = torch.ones(1, 1, dtype=torch.int64)
    while len(matrix) < least:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def block_hessians(
    context: PruningContext,
    names: Sequence[str],
    probes: Probes,
    samples: int,
    *,
    labels: bool,
    pruner: str,
    full: bool,
) -> dict[str, Tensor]:
    """Return estimates of the Hessian's blocks for some parameters, in their dtype.

    Args:
        context: the network, its prunable parameters (all of them are probed) and images.
        names: the parameters whose blocks are wanted.
        probes: the vectors.
        samples: number of images.
        labels: whether the loss is that of the given labels; otherwise that of the model's own probabilities.
        pruner: name for messages.
        full: whether to return blocks, (blocks, size, size), not symmetrised, with padding of zeros; or the diagonal,
            (weights,).

    Raises:
        PruningBenchError: without images or labels, or for products that are NaN or infinite.
    """
    parameters = context.parameters
    sizes = {name: p.numel() for name, p in parameters.items()}
    sums: dict[str, Tensor] = {}
    for name in names:
        size = min(probes.block_size, sizes[name])
        shape = (-(-sizes[name] // size), size, size) if full else (sizes[name],)
        sums[name] = torch.zeros(shape, dtype=parameters[name].dtype, device=parameters[name].device)
    count = 0
    with scoring(context), sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
        for images, targets in _chunks(context, samples, labels=labels, pruner=pruner):
            loss = _loss(context.network, images, targets, pruner)
            live = _live_gradients(loss, parameters)
            for vectors in probes.vectors(sizes):
                _add_products(sums, live, parameters, vectors, pruner)
            count += len(images)
    return {name: total / (count * probes.number) for name, total in sums.items()}


def interactions(context: PruningContext, samples: int, *, labels: bool, pruner: str) -> dict[str, Tensor]:
    """Return ``w (H w)`` for each weight, float64: H is the Hessian of the mean loss in all prunable weights.

    Args:
        context: the network, its prunable parameters and images.
        samples: number of images.
        labels: whether the loss is that of the given labels; otherwise that of the model's own probabilities.
        pruner: name for messages.

    Raises:
        PruningBenchError: without images or labels, or for products that are NaN or infinite.
    """
    parameters = context.parameters
    sums = {name: torch.zeros_like(in_double(p.detach())) for name, p in parameters.items()}
    count = 0
    with scoring(context), sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
        for images, targets in _chunks(context, samples, labels=labels, pruner=pruner):
            live = _live_gradients(_loss(context.network, images, targets, pruner), parameters)
            if live:
                products = torch.autograd.grad(
                    list(live.values()), list(parameters.values()),
                    grad_outputs=[parameters[name].detach() for name in live], allow_unused=True,
                )  # fmt: skip
                for name, product in zip(sums, products, strict=True):
                    if product is not None:
                        sums[name] += in_double(_finite(product, name, pruner))
            count += len(images)
    return {name: in_double(p.detach()) * sums[name] / count for name, p in parameters.items()}


def saliencies(context: PruningContext, how: Scoring, probes: Probes) -> dict[str, Tensor]:
    """Return the scores of all parameters, float64 in their shapes and >= 0.

    Raises:
        PruningBenchError: as `block_hessians` does, or if one layer's blocks take more memory than allowed.
    """
    full = how.saliency == "obs"
    limit = int(how.memory_gb * 2**30)
    needs = {
        name: probed_bytes(p.numel(), probes.block_size if full else 1, p.element_size())
        for name, p in context.parameters.items()
    }
    for name, needed in needs.items():
        if needed > limit:
            raise RefusedError(f"pruner {how.pruner!r}: {too_large(name, needed)}")
    scores = {}
    for names in groups_that_fit(needs, limit):
        found = block_hessians(context, names, probes, how.samples, labels=how.labels, pruner=how.pruner, full=full)
        for name in names:
            parameter = context.parameters[name]
            squares = in_double(parameter.detach()).flatten().square()
            curvature = _curvature(in_double(found.pop(name)), how, probes.block_size, parameter.numel())
            scores[name] = (squares * curvature.to(squares.device) / 2).view(parameter.shape)
    return {name: scores[name] for name in context.parameters}


def inverse_diagonal(blocks: Tensor, damping: float, *, clamp: bool) -> Tensor:
    """Return the diagonals of the inverses of blocks made symmetric and positive, (b, n) float64.

    Args:
        blocks: (b, n, n) float64.
        damping: added to the eigenvalues, > 0.
        clamp: whether negative eigenvalues become zero; otherwise their absolute value is taken.
    """
    values, vectors = torch.linalg.eigh((blocks + blocks.transpose(1, 2)) / 2)
    values = (values.clamp(min=0) if clamp else values.abs()) + damping
    diagonals: Tensor = (vectors.square() / values.unsqueeze(1)).sum(2)
    return diagonals


def _curvature(found: Tensor, how: Scoring, block_size: int, weights: int) -> Tensor:
    """Return what each squared weight is multiplied with, (weights,) float64 and >= 0."""
    if found.ndim == 3:
        diagonal = found.diagonal(dim1=1, dim2=2).flatten()[:weights]
        damping = how.damping * float(diagonal.abs().mean()) or _NO_CURVATURE
        step = max(1, STEP_ENTRIES // found.shape[1] ** 2)
        inverse = torch.cat([inverse_diagonal(part, damping, clamp=how.clamp) for part in torch.split(found, step)])
        return 1 / inverse.flatten()[:weights]
    if how.saliency == "trace":
        size = min(block_size, weights)
        present = _to_blocks(torch.ones_like(found), size).sum(1, keepdim=True)
        blocked = _to_blocks(found, size)
        found = (blocked.sum(1, keepdim=True) / present).expand_as(blocked).flatten()[:weights]
    return found.clamp(min=0) if how.clamp else found.abs()


def _add_products(
    sums: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    vectors: Mapping[str, Tensor],
    pruner: str,
) -> None:
    """Add ``(H z)_b z_b'`` of one vector z to each block, or ``(H z) z`` to the diagonals."""
    if not gradients:
        return
    along = [vectors[name].to(gradient).view_as(gradient) for name, gradient in gradients.items()]
    wanted = [parameters[name] for name in sums]
    products = torch.autograd.grad(
        list(gradients.values()), wanted, grad_outputs=along, retain_graph=True, allow_unused=True
    )
    for (name, total), product in zip(sums.items(), products, strict=True):
        if product is None:
            continue
        vector, flat = vectors[name].to(product), _finite(product, name, pruner).flatten()
        if total.ndim == 1:
            total.addcmul_(vector, flat)
        else:
            size = total.shape[1]
            total.baddbmm_(_to_blocks(flat, size).unsqueeze(2), _to_blocks(vector, size).unsqueeze(1))


def _live_gradients(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the gradients that can be differentiated again; a loss without curvature in a parameter has none."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
    return {n: g for n, g in zip(parameters, gradients, strict=True) if g is not None and g.requires_grad}


def _finite(product: Tensor, name: str, pruner: str) -> Tensor:
    if not bool(torch.isfinite(product).all()):
        raise PruningBenchError(f"pruner {pruner!r}: Hessian products of {name!r} are NaN or infinite")
    return product.detach()


def _to_blocks(flat: Tensor, size: int) -> Tensor:
    return pad(flat, (0, -len(flat) % size)).view(-1, size)


def _chunks(context: PruningContext, samples: int, *, labels: bool, pruner: str) -> Iterator[Target]:
    """Yield a few images at a time: the graph of their gradients is held for all probes."""
    for images, given in context.first_images(pruner, samples):
        if labels and given is None:
            raise PruningBenchError(
                f"pruner {pruner!r} needs labels, but got none: give them, or set its labels to 'model'"
            )
        for start in range(0, len(images), PROBED_AT_ONCE):
            part = slice(start, start + PROBED_AT_ONCE)
            yield images[part], given[part].to(torch.int64) if labels and given is not None else None


def _loss(network: nn.Module, images: Tensor, targets: Tensor | None, pruner: str) -> Tensor:
    """Return the summed cross-entropy."""
    logits = network(images)
    check_targets(logits, targets, pruner)
    return cross_entropy(logits, logits.detach().softmax(1) if targets is None else targets, reduction="sum")
