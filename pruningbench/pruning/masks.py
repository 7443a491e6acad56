"""Masks: which weights a pruner keeps, as a value that lives outside the network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from pruningbench.base.files import write_whole
from pruningbench.base.html import html_table
from pruningbench.errors import MaskError

FORMAT = "pruningbench-masks-1"


@dataclass(frozen=True)
class LayerDensity:
    """Density of one masked parameter: its name, shape, total weights, and kept weights."""

    name: str
    shape: tuple[int, ...]
    total: int
    kept: int

    @property
    def density(self) -> float:
        """Share of weights kept, in [0, 1]."""
        return self.kept / self.total if self.total else 0.0


class Masks(Mapping[str, Tensor]):
    """Immutable masks of a network's parameters: ``{parameter name: bool tensor, True = kept}``.

    Masks are keyed by parameter, not by module, so they cover fused projections; they change no
    state-dict key. Equality and `digest` depend only on the bits, not on the provenance.

    Args:
        masks: parameter name -> bool tensor of the parameter's shape. Copied to the CPU.
        provenance: plain JSON values that say where the masks come from (pruner, sparsity, seed).
    """

    def __init__(self, masks: Mapping[str, Tensor], provenance: Mapping[str, Any] | None = None) -> None:
        for name, mask in masks.items():
            if mask.dtype != torch.bool:
                raise MaskError(f"mask of {name!r} must be bool, got {mask.dtype}")
        self._masks = {name: mask.detach().to("cpu", copy=True) for name, mask in masks.items()}
        self._provenance = dict(provenance or {})

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the masks come from; see `with_provenance`."""
        return MappingProxyType(self._provenance)

    def with_provenance(self, **more: Any) -> Masks:
        """Return the same masks with values added to or replaced in their provenance."""
        return type(self)(self._masks, {**self._provenance, **more})

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Masks({len(self)} parameters, {self.total:,} weights, sparsity {self.sparsity:.4f})"

    def _repr_html_(self) -> str:
        """A table of the layers, for notebooks."""
        rows = [(layer.name, "×".join(map(str, layer.shape)), layer.total, layer.kept, layer.density)
                for layer in self.layers()]  # fmt: skip
        return html_table(repr(self), ("parameter", "shape", "weights", "kept", "density"), rows)

    @classmethod
    def ones(cls, parameters: Mapping[str, Tensor]) -> Masks:
        """Return masks that keep every weight of `parameters`."""
        return cls({name: torch.ones(p.shape, dtype=torch.bool) for name, p in parameters.items()})

    @property
    def total(self) -> int:
        """Number of masked (prunable) weights."""
        return sum(mask.numel() for mask in self.values())

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return sum(int(mask.sum()) for mask in self.values())

    @property
    def sparsity(self) -> float:
        """Share of the masked weights that is pruned, in [0, 1]."""
        return 1 - self.kept / self.total if self.total else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 of names, shapes and bits, as 64 hex digits; independent of the order of names."""
        sha = hashlib.sha256()
        for name in sorted(self):
            sha.update(json.dumps([name, list(self[name].shape)]).encode())
            sha.update(_pack(self[name]).tobytes())
        return sha.hexdigest()

    def layers(self) -> list[LayerDensity]:
        """Describe each parameter's density, in the order of the masks."""
        return [LayerDensity(n, tuple(m.shape), m.numel(), int(m.sum())) for n, m in self.items()]

    def packed(self) -> dict[str, Tensor]:
        """Return the bits, eight to a byte: parameter name -> (ceil(weights / 8),) uint8."""
        return {name: torch.from_numpy(_pack(mask)) for name, mask in self.items()}

    @classmethod
    def from_packed(
        cls,
        packed: Mapping[str, Tensor],
        shapes: Mapping[str, Sequence[int]],
        provenance: Mapping[str, Any] | None = None,
    ) -> Masks:
        """Undo `packed`, in the order of `shapes`.

        Raises:
            MaskError: if a name is missing or the number of bytes does not fit its shape.
        """
        try:
            return cls({name: _unpack(packed[name].numpy(), shape) for name, shape in shapes.items()}, provenance)
        except (KeyError, ValueError) as error:
            raise MaskError(f"packed masks do not fit the parameters ({error})") from error

    def intersect(self, other: Masks) -> Masks:
        """Return masks that keep a weight if both do; a name that only one has is taken unchanged."""
        merged = dict(self.items())
        for name, mask in other.items():
            own_mask = merged.get(name)
            if own_mask is not None and own_mask.shape != mask.shape:
                raise MaskError(f"masks of {name!r} differ in shape: {_dims(own_mask)} and {_dims(mask)}")
            merged[name] = mask if own_mask is None else own_mask & mask
        return Masks(merged, {"intersection": [self.provenance, other.provenance]})

    def apply(self, network: nn.Module) -> None:
        """Set the pruned weights of `network` to exactly zero, in place.

        Uses ``masked_fill_``, so NaN and infinite weights are zeroed as well, in any dtype and on any
        device.

        Raises:
            MaskError: if a name or shape does not fit the network; nothing is changed in that case.
        """
        with torch.no_grad():
            for parameter, drop in self._pairs(network):
                parameter.masked_fill_(drop, 0)

    @contextmanager
    def kept_during(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[MaskKeeper]:
        """Keep pruned weights at exactly zero through the training loop inside the block.

        After each ``optimizer.step()`` the pruned weights and their optimizer moments are set to zero
        again, so neither momentum nor weight decay can revive a weight. The hook is removed on exit.
        The yielded keeper accepts other masks during training.
        """
        self.apply(network)
        keeper = MaskKeeper(network, optimizer, self)
        handle = optimizer.register_step_post_hook(lambda _optimizer, _args, _kwargs: keeper.enforce())
        try:
            yield keeper
        finally:
            handle.remove()

    def _pairs(self, network: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
        """Return (parameter, drop mask on its device) for each name, or raise MaskError."""
        parameters = dict(network.named_parameters(remove_duplicate=False))
        compiled = getattr(network, "_orig_mod", None)  # what torch.compile wraps, under its own names
        if isinstance(compiled, nn.Module):
            parameters.update(compiled.named_parameters(remove_duplicate=False))
        pairs = []
        for name, mask in self.items():
            parameter = parameters.get(name)
            if parameter is None:
                raise MaskError(f"{type(network).__name__} has no parameter {name!r} to mask")
            if parameter.shape != mask.shape:
                raise MaskError(f"mask of {name!r} is {_dims(mask)} but the parameter is {_dims(parameter)}")
            pairs.append((parameter, (~mask).to(parameter.device)))
        return pairs

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the masks, eight to a byte, as safetensors; return the digest.

        The file appears complete or not at all: it is written next to its destination and moved there.
        """
        meta = {
            "format": FORMAT,
            "digest": self.digest,
            "shapes": json.dumps({name: list(mask.shape) for name, mask in self.items()}),
            "provenance": json.dumps(self._provenance, sort_keys=True),
        }
        write_whole(Path(path), save_tensors(self.packed(), meta))
        return meta["digest"]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Masks:
        """Read masks written by `save`.

        Raises:
            MaskError: if the file is not a mask file, is damaged, or does not match its own digest.
        """
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                meta = file.metadata() or {}
                if meta.get("format") != FORMAT:
                    raise MaskError(f"{path}: not a mask file of pruningbench (format {meta.get('format')!r})")
                shapes: dict[str, list[int]] = json.loads(meta["shapes"])
                masks = {name: _unpack(file.get_tensor(name).numpy(), shape) for name, shape in shapes.items()}
            loaded = cls(masks, json.loads(meta.get("provenance", "{}")))
        except MaskError:
            raise
        except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise MaskError(f"{path}: damaged mask file ({error})") from error
        if loaded.digest != meta.get("digest"):
            raise MaskError(f"{path}: the masks do not match the digest in the file; delete it and prune again")
        return loaded


class MaskKeeper:
    """Keeps masks in force while an optimizer trains; see `Masks.kept_during`."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, masks: Masks) -> None:
        self._network, self._optimizer = network, optimizer
        self.masks = masks
        self._drops = masks._pairs(network)

    def change(self, masks: Masks) -> None:
        """Put other masks in force at once: the weights that they prune and their moments become zero.

        A weight that comes back starts from its current value, zero unless something set it, without momentum.
        """
        self._drops = masks._pairs(self._network)
        self.masks = masks
        self.enforce()

    def enforce(self) -> None:
        """Set the pruned weights and their optimizer moments to zero."""
        with torch.no_grad():
            for parameter, drop in self._drops:
                parameter.masked_fill_(drop, 0)
                for value in self._optimizer.state.get(parameter, {}).values():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        value.masked_fill_(drop, 0)


def measured_sparsity(network: nn.Module, names: Mapping[str, object]) -> tuple[float, float]:
    """Count zeros in the network itself; a pruner's own claim is never trusted.

    Args:
        network: the pruned network.
        names: the prunable parameters' names.

    Returns:
        Shares of exact zeros, in [0, 1], over the named parameters and over all parameters.
    """
    zeros = total = all_zeros = all_total = 0
    for name, parameter in network.named_parameters():
        zero = parameter.numel() - int(torch.count_nonzero(parameter))
        all_zeros, all_total = all_zeros + zero, all_total + parameter.numel()
        if name in names:
            zeros, total = zeros + zero, total + parameter.numel()
    return (zeros / total if total else 0.0), (all_zeros / all_total if all_total else 0.0)


def _pack(mask: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.packbits(mask.numpy().reshape(-1))


def _unpack(packed: np.ndarray[Any, np.dtype[np.uint8]], shape: Sequence[int]) -> Tensor:
    count = int(np.prod(shape, dtype=np.int64))
    if packed.size != (count + 7) // 8:
        raise ValueError(f"{packed.size} bytes for {count} bits")
    return torch.from_numpy(np.unpackbits(packed, count=count).astype(bool).reshape(shape))


def _dims(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
