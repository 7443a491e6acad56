"""The one GPU on which tests marked ``gpu`` run, and what stands in for it in a rehearsal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

REHEARSAL = "PRUNINGBENCH_GPU_REHEARSAL"
"""Set to 1, this lets the tests run on a machine without a GPU, see `kit.standin`."""


def rehearsing() -> bool:
    """Whether a stand-in takes the place of the GPU."""
    return os.environ.get(REHEARSAL) == "1"


if rehearsing():
    from kit.standin import prepare, standing_in  # needs torch 2.9, and pruningbench runs with older ones

    prepare()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The GPU, or in a rehearsal its stand-in; a test of a GPU that ran on neither has not passed.

    Convolutions use cuDNN's deterministic algorithms, so that a repeat can be compared bit by bit.
    """
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    if rehearsing():
        with standing_in():
            yield torch.device("cuda", 0)
        return
    assert_found()
    yield torch.device("cuda", 0)
    torch.cuda.set_per_process_memory_fraction(1.0)


def assert_found() -> None:
    """Fail without a GPU: a skipped test would look like one that passed."""
    assert torch.cuda.is_available(), f"these tests need an NVIDIA GPU, and torch sees none ({REHEARSAL}=1 rehearses)"


def only_on_a_gpu(true: bool) -> bool:
    """Return whether something holds that only a real GPU can show; a rehearsal takes it as given."""
    return true or rehearsing()


@contextmanager
def little_memory(free: int) -> Iterator[None]:
    """Leave this process so many more bytes of the GPU's memory than it has now; a rehearsal has no memory to run out."""
    if rehearsing():
        yield
        return
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(0) + free) / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
