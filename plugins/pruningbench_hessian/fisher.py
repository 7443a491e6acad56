"""The Fisher matrix of all prunable parameters: its diagonal, and its blocks, streamed layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningBenchError, PruningContext, RefusedError
from pruningbench_hessian.blocks import BlockGram
from pruningbench_hessian.costs import block_bytes, groups_that_fit, too_large
from pruningbench_hessian.gradients import Draw, Fisher, Method, draws, per_sample_gradients, scoring


@dataclass(frozen=True)
class Sampling:
    """The gradients that form the Fisher matrix: the pruner's name and its fields of the same names."""

    pruner: str
    fisher: Fisher
    samples: int
    draw_seed: int
    gradients: Method

    def draws(self, context: PruningContext) -> list[Draw]:
        """Return images and targets; call this inside `scoring`."""
        return draws(context, self.pruner, self.fisher, self.samples, self.draw_seed)


def mean_of_gradients(
    context: PruningContext, sampling: Sampling, of: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return the mean over the samples of ``of(gradients, weights)``, float64 in the parameters' shapes.

    Args:
        context: the network to score.
        sampling: which gradients.
        of: elementwise function of (samples, weights) float64 gradients and (weights,) float64 weights.
    """
    with scoring(context):
        draws = sampling.draws(context)
        count = sum(len(draw.images) for draw in draws)
        weights = {name: _double(p.detach()).flatten() for name, p in context.parameters.items()}
        sums = {name: torch.zeros_like(w) for name, w in weights.items()}
        for chunk in per_sample_gradients(
            context.network, context.parameters, draws, sampling.pruner, sampling.gradients
        ):
            for name, gradients in chunk.items():
                sums[name] += of(_double(gradients), weights[name]).sum(0)
    return {name: (sums[name] / count).view(p.shape).to(p.device) for name, p in context.parameters.items()}


class BlockCurvature:
    """The damped block Fisher matrices of a network, a few layers at a time.

    Each iteration computes the gradients once per group of layers whose Gram matrices fit in memory together.
    If all of them fit, they are kept, and the next iteration costs nothing. Otherwise a Gram matrix is valid
    until the next one is requested.

    Args:
        context: the network to prune; its weights must not change between iterations.
        sampling: which gradients.
        block_size: weights per block.
        damping: value added to the diagonal.
        relative: whether `damping` is a fraction of each parameter's mean squared gradient.
        memory_gb: GiB that Gram matrices may take at a time.
    """

    def __init__(
        self,
        context: PruningContext,
        sampling: Sampling,
        *,
        block_size: int,
        damping: float,
        relative: bool,
        memory_gb: float,
    ) -> None:
        self._context, self._sampling = context, sampling
        self._block_size, self._damping, self._relative = block_size, damping, relative
        self._limit = int(memory_gb * 2**30)
        self._draws: list[Draw] | None = None
        self._stored_grams: dict[str, BlockGram] | None = None
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[str, BlockGram]]:
        """Yield each parameter's name and Gram matrices, in the order of the context.

        Raises:
            PruningBenchError: if the data are unsuitable, or one layer alone takes more memory than allowed.
        """
        if self._stored_grams is not None:
            yield from self._stored_grams.items()
            return
        with scoring(self._context):
            self._draws = self._draws or self._sampling.draws(self._context)
        groups = self._groups(sum(len(draw.images) for draw in self._draws))
        for group in groups:
            grams = self._grams(group, self._draws)
            if len(groups) == 1:
                self._stored_grams = grams
                yield from grams.items()
                return
            for name, gram in grams.items():
                yield name, gram
                gram.free()  # the caller still holds the last one while the next group is built

    def _groups(self, samples: int) -> list[dict[str, nn.Parameter]]:
        parameters = self._context.parameters
        needs = {
            name: block_bytes(p.numel(), self._block_size, samples, p.element_size()) for name, p in parameters.items()
        }
        for name, needed in needs.items():
            if needed > self._limit:
                raise RefusedError(f"pruner {self._sampling.pruner!r}: {too_large(name, needed)}")
        return [{name: parameters[name] for name in group} for group in groups_that_fit(needs, self._limit)]

    def _grams(self, group: Mapping[str, nn.Parameter], draws: list[Draw]) -> dict[str, BlockGram]:
        self.passes += 1
        samples = sum(len(draw.images) for draw in draws)
        grams = {
            name: BlockGram(
                parameter.numel(), self._block_size, samples, damping=self._damping,
                relative=self._relative, dtype=parameter.dtype, device=parameter.device,
            )
            for name, parameter in group.items()
        }  # fmt: skip
        with scoring(self._context):
            for chunk in per_sample_gradients(
                self._context.network, group, draws, self._sampling.pruner, self._sampling.gradients
            ):
                for name, gradients in chunk.items():
                    grams[name].add(gradients)
        return grams

    def saliencies(self) -> dict[str, Tensor]:
        """Return ``w^2 / (2 [F^-1]_qq)``, float64 in the parameters' shapes.

        Raises:
            PruningBenchError: as for iteration, or if a matrix is not positive-definite.
        """
        saliency_of = {}
        for name, gram in self:
            parameter = self._context.parameters[name]
            with naming(self._sampling.pruner, name):
                diagonal = gram.inverse_diagonal()
            squares = parameter.detach().to(diagonal.device).double().flatten().square()
            saliency_of[name] = (squares / (2 * diagonal)).view(parameter.shape)
        return saliency_of


@contextmanager
def naming(pruner: str, parameter: str) -> Iterator[None]:
    """Name the pruner and the parameter in errors of the linear algebra."""
    try:
        yield
    except PruningBenchError as error:
        raise PruningBenchError(f"pruner {pruner!r}, parameter {parameter!r}: {error}") from error


def unsuited(network: nn.Module) -> str | None:
    """Return why per-sample gradients do not exist in this network, or None if they do."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            return f"batch norm {name!r} keeps no running statistics, so the gradient of a sample depends on its batch"
    return None


def _double(values: Tensor) -> Tensor:
    return (values.cpu() if values.device.type == "mps" else values).double()
