"""The one GPU on which tests marked ``gpu`` run, and what stands in for it in a rehearsal."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from kit.standin import standing_in

REHEARSAL = "PRUNINGBENCH_GPU_REHEARSAL"
"""Set to 1, this lets the tests run on a machine without a GPU, see `kit.standin`."""


def rehearsing() -> bool:
    """Whether a stand-in takes the place of the GPU."""
    return os.environ.get(REHEARSAL) == "1"


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The GPU, or in a rehearsal its stand-in; a test of a GPU that ran on neither has not passed."""
    if rehearsing():
        with standing_in():
            yield torch.device("cuda", 0)
        return
    assert torch.cuda.is_available(), f"these tests need an NVIDIA GPU, and torch sees none ({REHEARSAL}=1 rehearses)"
    yield torch.device("cuda", 0)
