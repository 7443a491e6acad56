"""Weights from a file, read as data: code in it is refused, never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pruningbench.contract import MissingDataError, PruningBenchError, check_regular, one_line
from torch import Tensor, nn

SHOWN = 3


def load_checkpoint(network: nn.Module, path: Path) -> None:
    """Load a state dict from a safetensors file, or from one of ``torch.save`` with ``weights_only``.

    It may lie under ``state_dict``, and its names may begin with ``module.``, as training with DataParallel writes
    them; the names and shapes of the rest have to be the network's, but for batch counters.

    Raises:
        MissingDataError: if there is no such file.
        PruningBenchError: if it cannot be read without running code, or does not fit; the network is then unchanged.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: no such checkpoint")
    check_regular(path)
    state = _named(_read(path))
    own = network.state_dict()
    lacking = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    strange = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and state[name].shape != own[name].shape]
    for what, names in (("lacks", lacking), ("has in addition", strange), ("has in another shape", shapes)):
        if names:
            shown = ", ".join(one_line(name) for name in names[:SHOWN])
            raise PruningBenchError(
                f"{path}: does not fit: it {what} {shown} ({len(names)} in all); "
                "check `depth`, `shortcut` and `classes`"
            )
    network.load_state_dict(state, strict=False)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise nearly anything for damaged files
        reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise PruningBenchError(
            f"{path}: no weights can be read without running code from it ({reason}); save `network.state_dict()`"
        ) from error


def _named(stored: Any) -> dict[str, Tensor]:
    inner = stored.get("state_dict", stored) if isinstance(stored, Mapping) else {}
    named = inner.items() if isinstance(inner, Mapping) else ()
    return {str(name).removeprefix("module."): value for name, value in named if isinstance(value, Tensor)}
