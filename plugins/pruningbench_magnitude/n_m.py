"""The pruner `n-m`: at most n of every m consecutive inputs of a weight are kept."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class NOfM(Pruner):
    """N:M sparsity: of every m consecutive inputs of an output, keep the n of the highest score.

    The score is ``|w|``, or Wanda's ``|w_ij| * ||X_j||_2`` with ``scores`` wanda. Groups run along the input
    dimension and never cross rows. They run along the columns of a linear map, separately for each row, also of
    a fused qkv or ``in_proj_weight``; along the input channels of a convolution at each kernel position
    (``along`` channels), or along its kernel flattened to a row (row). For grouped convolutions the inputs are
    those of one group. A parameter stays dense if m does not divide its number of inputs (a first convolution of
    3 channels, depthwise convolutions). The masks' provenance lists such parameters under ``dense``, and the
    measured sparsity is then below the requested one. Among equal scores the first are kept. Sparsities other
    than ``1 - n/m`` are refused; if n is null, it follows from the sparsity.
    Cost: one sort of the weights; for wanda one forward pass and float64 memory of the weights.
    Needs no data for magnitude, images without labels for wanda. Higher = keep.
    Sources: Mishra et al., Accelerating sparse deep neural networks (2021); general N:M: Zhou et al.,
    Learning N:M fine-grained structured sparse neural networks from scratch (ICLR 2021); Wanda: Sun et al.,
    A simple and effective pruning approach for large language models (ICLR 2024).
    """

    registered: ClassVar[str] = "n-m"
    exact: ClassVar[bool] = False

    n: int | None = param(2, doc="weights kept per group, >= 1 and < m; null = (1 - sparsity) m")
    m: int = param(4, doc="consecutive inputs per group, >= 2")
    scores: Literal["magnitude", "wanda"] = param("magnitude", doc="scores compared within a group")
    along: Literal["channels", "row"] = param(
        "channels", doc="groups in convolutions: input channels at each kernel position, or the flattened row"
    )
    samples: int = param(1024, doc="number of images to use for wanda, starting with the first; at least 1")
    conv_norm: Literal["columns", "channels"] = param(
        "columns", doc="input norms of convolutions for wanda: of each im2col column, or of each input channel"
    )

    @property
    def needs_data(self) -> bool:  # type: ignore[override]  # depends on a field of this pruner
        """Whether the scores are computed from images."""
        return self.scores == "wanda"

    def problem(self) -> str | None:
        """Refuse groups that keep nothing or everything."""
        if self.m < 2:
            return f"m must be at least 2, got {self.m}"
        if self.n is not None and not 1 <= self.n < self.m:
            return f"n must lie in 1 .. m - 1 = {self.m - 1}, got {self.n}"
        return "samples must be at least 1" if self.samples < 1 else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse transposed convolutions and bilinear maps: their second dimension is not an input dimension."""
        from pruningbench.pruning.weight_inputs import without_inputs

        return without_inputs(network)

    def unreachable(self, sparsity: float) -> str | None:
        """Refuse sparsities that are not a multiple of 1/m, or not the one that n implies."""
        kept = round((1 - sparsity) * self.m)
        if self.n is not None and not _same(sparsity, self.n, self.m):
            return (
                f"{self.n}:{self.m} is sparsity {1 - self.n / self.m:g}, not {sparsity:g}: request that sparsity, "
                "or set n "
                f"and m{_remedy(sparsity)}"
            )
        if not 1 <= kept < self.m or not _same(sparsity, kept, self.m):
            return f"sparsity {sparsity:g} is not a multiple of 1/{self.m}: set another m{_remedy(sparsity)}"
        return None

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: the scores, their positions in the groups (int64), the masks, and wanda's forward pass."""
        memory = outline.state_bytes + 10 * outline.weights + 18 * outline.largest
        if self.scores == "magnitude":
            return Cost(0, 0, 0, memory, "S + 10 W + 18 Wmax: state, scores, masks, one parameter sorted")
        memory += 16 * outline.weights + 8 * outline.largest + outline.batch_size * outline.pass_bytes
        samples = outline.images(self.samples)
        return Cost(1, 0, samples, memory, "S + 26 W + 26 Wmax + b A: state, float64 scores, masks, sorting, one batch")

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks that keep at most n of every m inputs, and name the parameters left dense.

        Raises:
            UsageError: if the sparsity is not ``1 - n/m``, or m divides the number of inputs of no parameter.
        """
        import torch

        from pruningbench.contract import UsageError, check_scores
        from pruningbench.pruning.masks import Masks

        if sparsity == 0:
            return Masks.ones(context.parameters)
        reason = self.unreachable(sparsity)
        if reason:
            raise UsageError(f"pruner 'n-m': {reason}")
        inputs = {name: self._inputs(parameter) for name, parameter in context.parameters.items()}
        fitting = {name: p for name, p in context.parameters.items() if inputs[name] % self.m == 0}
        dense = [name for name in inputs if name not in fitting]
        if not fitting:
            raise UsageError(
                f"pruner 'n-m': m = {self.m} divides the inputs of no prunable parameter ({_listing(dense, inputs)}): "
                "set another m, or `along` row"
            )
        if dense:
            context.report(f"n-m leaves {len(dense)} parameters dense: {_listing(dense, inputs)}")
        scores = check_scores(self._scores(context, fitting), fitting)
        kept = self.n or round((1 - sparsity) * self.m)
        masks = {
            name: self._pattern(scores[name], kept) if name in fitting else torch.ones(p.shape, dtype=torch.bool)
            for name, p in context.parameters.items()
        }
        provenance: dict[str, Any] = {"sparsity": sparsity, "pattern": f"{kept}:{self.m}", "dense": dense}
        return Masks(masks, provenance)

    def _inputs(self, parameter: Tensor) -> int:
        """Return the length of the dimension that groups run along."""
        return parameter.shape[1] if self.along == "channels" else parameter[0].numel()

    def _scores(self, context: PruningContext, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        if self.scores == "magnitude":
            return {name: parameter.detach().abs() for name, parameter in parameters.items()}
        from pruningbench.pruning.weight_inputs import weights_times_inputs

        images = (images for images, _ in context.first_images(self.registered, self.samples))
        return weights_times_inputs(
            context.network, parameters, images, pruner=self.registered, per_channel=self.conv_norm == "channels"
        )

    def _pattern(self, scores: Tensor, kept: int) -> Tensor:
        """Return a mask that keeps the `kept` highest scores of each group; among equal scores the first are kept."""
        import torch

        rows = scores.flatten(1) if self.along == "row" else scores.movedim(1, -1)
        groups = rows.reshape(*rows.shape[:-1], -1, self.m)
        best = groups.argsort(dim=-1, descending=True, stable=True)[..., :kept]
        mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True).flatten(-2)
        return mask.view(scores.shape) if self.along == "row" else mask.movedim(-1, 1).contiguous()


def _same(sparsity: float, n: int, m: int) -> bool:
    """Whether a sparsity is 1 - n/m to the precision people write: 0.667 is 1:3."""
    return abs(sparsity - (1 - n / m)) < 5e-4


def _remedy(sparsity: float) -> str:
    """Return the shortest groups with that sparsity, as a hint."""
    kept = Fraction(1 - sparsity).limit_denominator(64)
    return f" (n: {kept.numerator}, m: {kept.denominator})" if kept and abs(kept - (1 - sparsity)) < 5e-4 else ""


def _listing(names: list[str], inputs: dict[str, int], most: int = 4) -> str:
    shown = ", ".join(f"{name} with {inputs[name]}" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
