"""Random state: seeded inside a block, restored after it, and never changed silently."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pruningbench.base.identity import derive_seed

if TYPE_CHECKING:
    import torch


@contextmanager
def isolated_randomness(*parts: object) -> Iterator[int]:
    """Seed Python, NumPy and torch from `parts` inside the block and restore their states after it.

    This makes third-party code that draws from the global generators reproducible, and the caller's
    own random streams continue as if the block had not run.

    Yields:
        The seed derived from `parts`, in [0, 2**63).
    """
    import numpy as np
    import torch

    seed = derive_seed(*parts)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield seed
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def generator_for(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded from `parts`; the same parts give the same stream on any device."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))
