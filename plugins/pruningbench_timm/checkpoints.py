"""Local weight files: read them without running their code, and fit them to a network."""

from __future__ import annotations

import fnmatch
import pickle
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruningbench.contract import MissingDataError, PruningBenchError, UsageError, one_line
from pruningbench_timm.guards import check_file, check_tensors, damaged

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Keys under which training scripts store the weights, alongside optimizers and counters."""
SHOWN = 4
LONGEST_NAME = 120
State = dict[str, Tensor]


def read_checkpoint(path: Path) -> State:
    """Return the named tensors of a safetensors or PyTorch file, on the CPU.

    A PyTorch file is read with ``weights_only=True``: code in it is refused, never run. If it holds a whole
    training state, the weights are found under one of `WRAPPERS`.

    Raises:
        MissingDataError: if there is no such file.
        PruningBenchError: if the file is damaged, holds code, asks for more memory than its size, or holds no
            weights.
    """
    if path.is_dir() or not path.exists():
        raise MissingDataError(f"{path}: no such checkpoint" + ("; it is a folder" if path.is_dir() else ""))
    check_file(path)
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _unwrapped(stored)
    if not state:
        held = _some(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
        raise PruningBenchError(
            f"{path}: holds no weights (found: {held}); save `network.state_dict()`, or a dictionary with it "
            f"under one of {', '.join(WRAPPERS)}"
        )
    check_tensors(path, state)
    return state


def _read_safetensors(path: Path) -> State:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # its reader raises other errors too, for types that this torch version does not have
        raise damaged(path, error) from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_zip(path):
            raise PruningBenchError(
                f"{path}: holds more than weights ({_unsafe(path)}), which is never run; if you trust it, load it "
                "yourself and save `network.state_dict()` with torch.save or as safetensors"
            ) from error
        raise damaged(path, error) from error
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise damaged(path, error) from error


def _is_zip(path: Path) -> bool:
    """Whether a file begins like a file of ``torch.save`` or a pickle."""
    with path.open("rb") as file:
        start = file.read(4)
    return start[:2] == b"PK" or start[:1] == b"\x80"


def _unsafe(path: Path) -> str:
    """Name the code that a file asks for, as far as PyTorch can tell."""
    ask = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    try:
        named = list(ask(str(path))) if callable(ask) else []
    except Exception:  # noqa: BLE001 - a bare or damaged pickle: no names are available
        named = []
    return f"it would import {one_line(', '.join(named[:SHOWN]))}" if named else "it would run code"


def _unwrapped(stored: Any) -> State:
    """Return the weights in the contents of a file; empty if there are none."""
    pending, seen = [stored], set()
    while pending:
        held = pending.pop()
        if not isinstance(held, Mapping) or id(held) in seen:  # a pickled dictionary can contain itself
            continue
        seen.add(id(held))
        tensors = {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, Tensor)}
        if tensors:
            return tensors
        pending += [held.get(key) for key in reversed(WRAPPERS)]
    return {}


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], source: str, *, prefix: str = "", ignore: Sequence[str] = ()
) -> None:
    """Load named tensors into a network; their names have to match the network's exactly.

    Names may have a prefix that the network's names do not have (``module.``, ``backbone.``); it is detected
    automatically. Batch counters (``num_batches_tracked``) may be missing, since older files do not have them.

    Args:
        network: the network to load into; unchanged if the tensors do not fit.
        state: the tensors.
        source: file or address, for messages.
        prefix: the prefix, if several fit; all names without it are left out.
        ignore: shell patterns of names, after the prefix, that are left out.

    Raises:
        UsageError: if `prefix` or a pattern of `ignore` matches nothing, or several prefixes fit.
        PruningBenchError: if the tensors do not fit, listing those missing, unexpected or of another shape.
    """
    own = network.state_dict()
    named = _without_prefix(own, state, source, prefix)
    for pattern in ignore:
        matched = fnmatch.filter(named, pattern)
        if not matched:
            raise UsageError(f"{source}: ignore pattern {pattern!r} matches none of the names, {_some(named)}")
        named = {name: tensor for name, tensor in named.items() if name not in matched}
    problem = misfit(own, named)
    if problem:
        raise PruningBenchError(
            f"{source} does not fit {type(network).__name__}: {problem}; it may be of another architecture; "
            "extra weights can be left out with `ignore`"
        )
    network.load_state_dict(named, strict=False)


def misfit(own: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> str:
    """Return how tensors differ from a network's: missing, unexpected, other shapes; empty if they do not."""
    missing = [name for name in own if name not in named and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in named if name not in own]
    shapes = [
        f"{name} is {tuple(named[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in named and named[name].shape != own[name].shape
    ]
    parts = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
        if names
    ]
    return ", ".join(parts)


def _some(names: Iterable[str]) -> str:
    listed = list(islice(names, SHOWN + 1))
    short = (one_line(name, LONGEST_NAME) for name in listed[:SHOWN])
    return ", ".join(short) + (", ..." if len(listed) > SHOWN else "")


def _without_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, prefix: str) -> State:
    """Return the tensors under their names in the network, without the prefix if removing it makes more of them fit."""
    if prefix:
        chosen = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if not chosen:
            raise UsageError(f"{source}: no name begins with {prefix!r}; they are {_some(state)}")
        return chosen
    candidates = {name[: -len(known)] for known in own for name in state if name.endswith(known)}
    fits = {p: sum(p + name in state and state[p + name].shape == own[name].shape for name in own) for p in candidates}
    best = max(fits.values(), default=0)
    winners = sorted((p for p, count in fits.items() if count == best), key=lambda p: (len(p), p))
    if best == 0 or "" in winners:
        return dict(state)
    if len(winners) > 1:
        raise UsageError(
            f"{source}: names under {' and under '.join(map(repr, winners[:SHOWN]))} fit equally; choose with `prefix`"
        )
    return {name.removeprefix(winners[0]): tensor for name, tensor in state.items()}
