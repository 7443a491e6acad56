"""The paper's claims, in reduced form (see `reduced`): few samples, no retraining, whole units."""

from __future__ import annotations

import pytest
from reduced import Residual, accuracy, at_random, baseline, curve, norms, plain, relative_norms, trained

from pruningbench_lrp.pruners import Lrp

SPARSITIES = (0.2, 0.3, 0.4)


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


@pytest.mark.parametrize("make", [Residual, plain])
def test_relevance_prunes_units_better_than_chance_and_magnitude(make: type[Residual]) -> None:
    """The margins measured are .61 and .25 over chance, and more over magnitude."""
    network = trained(make, 0)
    dense = accuracy(network)
    relevance = mean(curve(network, Lrp(), SPARSITIES))
    assert dense > 0.94
    assert relevance > mean(at_random(network, SPARSITIES)) + 0.1
    assert relevance > max(mean(baseline(network, score, SPARSITIES)) for score in (norms, relative_norms)) + 0.1
    assert mean(curve(network, Lrp(), (0.1, 0.2))) > dense - 0.06
    assert mean(curve(network, Lrp(samples_per_class=1), SPARSITIES)) > relevance - 0.15


def test_relevances_near_zero_go_first() -> None:
    """Removing the most negative relevances first, as the name suggests, is worse (section 4.2 of the paper)."""
    network = trained(Residual, 0)
    assert mean(curve(network, Lrp(), SPARSITIES)) > mean(curve(network, Lrp(order="signed"), SPARSITIES)) + 0.1
