"""Turns scores into masks, in one step or within the masks of an earlier round, and records what ties decided."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from pruningbench.contract import Pruner, PruningContext, ScorePruner, check_scores
from pruningbench.contract.pruner import UNDECIDED
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.ties import ties, zero_norms

KEYS = ("ties", "zeros", "undecided")
"""Keys in the provenance of masks: the two shares of `pruningbench.pruning.ties.Ties`, and a remark."""


def threshold(pruner: ScorePruner, scores: Mapping[str, Tensor], sparsity: float, within: Masks | None = None) -> Masks:
    """Turn scores into masks, and measure how much ties decided."""
    masks = pruner.threshold(scores, sparsity)
    if isinstance(masks, Masks) and all(name in scores and scores[name].shape == masks[name].shape for name in masks):
        tied = ties(scores, masks, jointly=pruner.allocate_by() == "global", within=within)
        return masks.with_provenance(ties=tied.share, zeros=tied.zeros)
    return masks


def prune_within(pruner: Pruner, context: PruningContext, sparsity: float, within: Masks | None) -> Masks:
    """Prune, or prune further; weights that `within` prunes are zero in the network and stay pruned.

    Raises:
        PruningBenchError: if the pruner revives one of them.
    """
    only_scores = isinstance(pruner, ScorePruner) and type(pruner).prune is ScorePruner.prune
    if within is None and not only_scores:
        return pruner.prune(context, sparsity)
    if isinstance(pruner, ScorePruner):
        scores = check_scores(pruner.score(context), context.parameters)
        masks = threshold(pruner, scores, sparsity, within)
        if within is None or not _revived(masks, within):
            return masks
        # some scores, such as random ones, do not rank zeros last: rank pruned weights below all others
        lowest = min(float(score.min()) for score in scores.values()) - 1
        lowered = {n: s.masked_fill((~within[n]).to(s.device), lowest) for n, s in scores.items()}
        masks = threshold(pruner, lowered, sparsity, within)
    else:
        masks = pruner.prune(context, sparsity)
    assert within is not None  # noqa: S101 - None has returned above
    revived = _revived(masks, within)
    if revived:
        raise PruningBenchError(
            f"this pruner revives {revived} weights that an earlier round pruned: it cannot be used in rounds"
        )
    return masks


def _revived(masks: Masks, within: Masks) -> int:
    return sum(int((masks[name] & ~mask).sum()) for name, mask in within.items() if name in masks)


def note_ties(masks: Masks, network: nn.Module, within: Masks | None = None, remedy: str = "") -> Masks:
    """Return the masks with provenance that says whether they, or those of an earlier round, are undecided, and why.

    Args:
        masks: new masks; their provenance gives the share of ties if their pruner counts them.
        network: the network that was scored.
        within: masks of an earlier round.
        remedy: what the model says about norms that start at zero (`Model.zero_norms_remedy`).
    """
    recorded = ties_of(masks)
    if recorded > UNDECIDED:
        zeros = masks.provenance.get("zeros")
        zeros = zeros if isinstance(zeros, float) else 0.0
        masks = masks.with_provenance(undecided=_remark(recorded, zeros, network, remedy))
    if within is not None and ties_of(within) > (0.0 if math.isnan(recorded) else recorded):
        # decisions that an earlier round left to ties remain so
        masks = masks.with_provenance(**{key: within.provenance[key] for key in KEYS if key in within.provenance})
    return masks


def ties_of(masks: Masks) -> float:
    """Return the share of the pruning decision that ties made; NaN if the pruner does not count ties."""
    share = masks.provenance.get("ties")
    return share if isinstance(share, float) else math.nan


def _remark(share: float, zeros: float, network: nn.Module, remedy: str) -> str:
    sentence = f"undecided scores: {share:.0%} of the decision is by ties, broken by position"
    norms = zero_norms(network)
    if norms and zeros:
        return (
            f"{sentence}; {zeros:.0%} of the scores are 0, as are the scales of {len(norms)} norms, which stop "
            f"gradients, the first {norms[0]!r}: start them at one" + (f" ({remedy})" if remedy else "")
        )
    longer = f"{sentence}; {zeros:.0%} of the scores are 0" if zeros else sentence
    return f"{longer}: score more data, or choose scores that tie less"
