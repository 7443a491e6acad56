"""The contract of pruningbench, as checks that name the problem and the remedy."""

from collections.abc import Callable

import pytest
from pruningbench.testing import checks_of


@pytest.mark.parametrize("keeps_the_contract", checks_of("pruningbench-lrp"))
def test_contract(keeps_the_contract: Callable[[], None]) -> None:
    """Each component raises one error that lists all findings."""
    keeps_the_contract()
