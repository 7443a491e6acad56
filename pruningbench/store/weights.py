"""Weights of pruned networks in a run folder, stored if the suite says `keep: weights`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.base.files import expanded, write_whole
from pruningbench.base.identity import tensors_digest
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor


def write_weights(path: Path, weights: Mapping[str, Tensor], label: str) -> None:
    """Write all tensors of a network, with a digest and the label of the cell."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    write_whole(path, save(tensors, {"digest": tensors_digest(tensors), "cell": label}))


def load_weights(run: str | os.PathLike[str], cell: str) -> dict[str, Tensor]:
    """Return the stored weights of a pruned network from a run folder, on the CPU.

    ``network.load_state_dict(load_weights("runs/my-suite", "0123456789abcdef"))`` loads them into a network.

    Args:
        run: a run folder whose suite says ``keep: weights``.
        cell: key of the cell, as in the column ``cell`` of `load_results`.

    Raises:
        UsageError: if the folder has no weights of this cell, or they are damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = RunFolder(run).weights_file(cell)
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            meta = file.metadata() or {}
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        cells = sorted(p.stem for p in (expanded(run) / "weights").glob("*.safetensors"))
        hint = did_you_mean(cell, cells) or "; write `keep: weights` in the suite and run it again"
        raise UsageError(f"{run}: keeps no weights of cell {cell!r}{hint}") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: damaged ({error}); remove it and run the suite again") from None
    if meta.get("digest") != tensors_digest(weights):
        raise UsageError(f"{path}: damaged (wrong digest); remove it and run the suite again")
    return weights
