"""Fields that the pruners of this plugin share."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import nn

    from pruningbench_hessian.fisher import BlockCurvature, Sampling


@dataclass(frozen=True)
class Sampled(Pruner, ABC):
    """A pruner that works on per-sample gradients."""

    needs_data: ClassVar[bool] = True
    registered: ClassVar[str]
    """The name that it is registered under, for messages."""

    fisher: Literal["empirical", "true", "gram"] = param(
        "empirical",
        doc="which gradients: empirical (given labels), true (labels drawn from the model) or gram (no labels: "
        "features in random directions drawn with the features' Gram matrix)",
    )
    samples: int = param(1024, doc="number of images to use, starting with the first; at least 1")
    draw_seed: int = param(0, doc="seed of the drawn labels or directions")
    gradients: Literal["auto", "loop", "vmap"] = param(
        "auto", doc="per-sample gradients by a loop, by vmap, or by whichever suits the device", identity=False
    )

    def problem(self) -> str | None:
        """Refuse a number of samples below 1."""
        return "samples must be at least 1" if self.samples < 1 else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse batch norms without running statistics: their outputs mix samples."""
        from pruningbench_hessian.fisher import unsuited

        return unsuited(network)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one backward pass per sample."""
        from pruningbench_hessian.costs import mean_cost

        return mean_cost(outline, self.samples)

    def sampling(self) -> Sampling:
        """Return these fields as one object."""
        from pruningbench_hessian.fisher import Sampling

        return Sampling(self.registered, self.fisher, self.samples, self.draw_seed, self.gradients)


@dataclass(frozen=True)
class Blocked(Sampled, ABC):
    """A pruner that works on the block Fisher matrix."""

    block_size: int = param(128, doc="weights per block, in flat order inside each parameter; at least 1")
    damping: float = param(0.01, doc="added to the diagonal of the Fisher matrix; above 0")
    damping_unit: Literal["relative", "absolute"] = param(
        "relative", doc="whether damping is a fraction of each parameter's mean squared gradient, or absolute"
    )
    memory_gb: float = param(
        4.0, doc="GiB that the blocks may take at a time; if they need more, more passes are made", identity=False
    )

    def problem(self) -> str | None:
        """Refuse numbers out of range."""
        if self.block_size < 1:
            return "block_size must be at least 1"
        for name in ("damping", "memory_gb"):
            if not 0 < getattr(self, name) < float("inf"):
                return f"{name} must be above 0 and finite"
        return super().problem()

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one backward pass per sample for each group of layers."""
        from pruningbench_hessian.costs import block_cost

        return block_cost(outline, self.samples, self.block_size, self.memory_gb)

    def curvature(self, context: PruningContext) -> BlockCurvature:
        """Return the block Fisher matrices of a context."""
        from pruningbench_hessian.fisher import BlockCurvature

        return BlockCurvature(
            context, self.sampling(), block_size=self.block_size, damping=self.damping,
            relative=self.damping_unit == "relative", memory_gb=self.memory_gb,
        )  # fmt: skip
