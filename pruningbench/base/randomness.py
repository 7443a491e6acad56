"""Random state: seeded inside a block, restored after it, and never changed silently."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pruningbench.base.identity import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor


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
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            torch.manual_seed(seed)
        else:  # torch would note, with a stack trace, to seed a device that there is not
            torch.default_generator.manual_seed(seed)
        try:
            yield seed
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def seed_cpu(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch on the CPU; quick enough for every image.

    For blocks in a process that does other work, see `isolated_randomness`, which draws the same.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def generator_for(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded from `parts`; the same parts give the same stream on any device."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))


def random_state() -> dict[str, Tensor]:
    """Return the states of all global generators, of Python, NumPy and torch, as tensors with names ``random/...``."""
    import numpy as np
    import torch

    _, python, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state()
    state = {
        "random/python": torch.tensor(python, dtype=torch.int64),
        "random/python gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "random/numpy": torch.tensor([*map(int, keys), place, has_gauss], dtype=torch.int64),
        "random/numpy gauss": torch.tensor([cached], dtype=torch.float64),
        "random/torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state |= {f"random/cuda {i}": one for i, one in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Set all global generators to the states that `random_state` returned, except those of devices that are gone."""
    import numpy as np
    import torch

    gauss = state["random/python gauss"].tolist()
    random.setstate((3, tuple(state["random/python"].tolist()), gauss[0] if gauss else None))
    *keys, place, has_gauss = state["random/numpy"].tolist()
    cached = float(state["random/numpy gauss"][0])
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, has_gauss, cached))
    torch.set_rng_state(state["random/torch"])
    for name, one in state.items():
        if name.startswith("random/cuda ") and int(name.rpartition(" ")[2]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(one, int(name.rpartition(" ")[2]))
