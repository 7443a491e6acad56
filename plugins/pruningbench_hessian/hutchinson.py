"""The pruner `block-hessian`: blocks of the Hessian itself, estimated from products with random vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, PruningContext, ScorePruner, param
from pruningbench_hessian.scores import ALLOCATION_DOC, Allocation

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class BlockHessian(ScorePruner):
    """Block Hessian: Optimal Brain Surgeon's saliency from blocks of the Hessian, estimated by Hutchinson's probes.

    For vectors z of random signs, ``E[(H z)_b z_b'] = H_bb`` for each block b of consecutive weights, H the Hessian of
    the mean cross-entropy; one product H z serves all blocks. Within a block, probes are rows of a Hadamard matrix
    with the columns' signs drawn anew for each pass over the rows: once all rows are used, only other blocks add
    noise. With ``groups``, only every so many blocks are probed at a time, which lowers that noise; with a group per
    block the blocks are exact. The score is ``w^2 / (2 [M^-1]_qq)`` (obs), ``w^2 |H_qq| / 2`` (diagonal) or
    ``w^2 |t| / 2`` with t the mean of the block's diagonal (trace). M has the eigenvectors of the symmetrised block;
    its eigenvalues are their absolute values, or zero where negative (clamp, also for diagonal and trace), plus the
    damping, since a Hessian is not positive. With ``labels: model`` the loss is the cross-entropy with the model's own
    probabilities: its Hessian is the exact Fisher matrix (Gauss-Newton), which has no negative part, while that with
    given labels also contains the network's own curvature, which `block-fisher` neglects. Weights are not updated.
    Cost: a forward and backward pass, and ``probes`` x ``groups`` products, each about two backward passes; all of it
    again for each set of layers whose blocks, weights x block_size numbers (trace and diagonal: weights), fit in
    ``memory_gb``. With 64 probes a ViT-Ti/16 takes about 50 times as long as `obd` on the same images (extrapolated
    from timed products on a CPU): ViTs need a GPU. The error of an entry falls with the square root of the probes.
    Needs labels, unless they are the model's. Higher = keep.
    Sources: Hutchinson, A stochastic estimator of the trace of the influence matrix (1989); Bekas, Kokiopoulou, Saad,
    An estimator for the diagonal of a matrix (2007), with Hadamard vectors; trace: Dong et al., HAWQ-V2 (NeurIPS
    2020); obs: Hassibi and Stork, Optimal Brain Surgeon (1992).
    """

    registered: ClassVar[str] = "block-hessian"
    needs_data: ClassVar[bool] = True

    saliency: Literal["obs", "diagonal", "trace"] = param("obs", doc="score: obs, diagonal or trace")
    labels: Literal["given", "model"] = param(
        "given", doc="targets of the loss: given labels, or the model's own output"
    )
    samples: int = param(128, doc="number of images to use, starting with the first; at least 1")
    probes: int = param(64, doc="number of Hessian-vector products for each block; at least 1")
    groups: int = param(1, doc="number of sets that the blocks are split into, probed one after the other; at least 1")
    block_size: int = param(16, doc="weights per block, in flat order inside each parameter; at least 1")
    positive: Literal["absolute", "clamp"] = param(
        "absolute", doc="what becomes of negative curvature: its absolute value, or zero (clamp)"
    )
    damping: float = param(0.01, doc="added to the eigenvalues, as a fraction of the parameter's mean |H_qq|; above 0")
    draw_seed: int = param(0, doc="seed of the drawn signs")
    memory_gb: float = param(
        4.0, doc="GiB that the blocks may take at a time; if they need more, all passes are repeated", identity=False
    )
    allocation: Allocation = param("global", doc=ALLOCATION_DOC, scores=False)

    def problem(self) -> str | None:
        """Refuse numbers out of range."""
        for name in ("samples", "probes", "groups", "block_size"):
            if getattr(self, name) < 1:
                return f"{name} must be at least 1"
        for name in ("damping", "memory_gb"):
            if not 0 < getattr(self, name) < float("inf"):
                return f"{name} must be above 0 and finite"
        return None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse batch norms without running statistics: their outputs mix samples."""
        from pruningbench_hessian.fisher import unsuited

        return unsuited(network)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: products with the Hessian, for each set of layers whose blocks fit."""
        from pruningbench_hessian.costs import probing_cost

        size = self.block_size if self.saliency == "obs" else 1
        return probing_cost(outline, self.samples, size, self.probes * self.groups, self.memory_gb)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return float64 scores >= 0."""
        from pruningbench_hessian.probing import Probes, Scoring, saliencies

        how = Scoring(
            self.registered, self.saliency, self.samples, labels=self.labels == "given",
            clamp=self.positive == "clamp", damping=self.damping, memory_gb=self.memory_gb,
        )  # fmt: skip
        return saliencies(context, how, Probes(self.probes, self.groups, self.block_size, self.draw_seed))
