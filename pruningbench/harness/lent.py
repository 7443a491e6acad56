"""Tensors that components are lent besides networks: data sets, scores, and the outputs that metrics consume.

Each is compared with a copy when it comes back, and restored in place, because the next component uses it too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pruningbench.contract import Outputs, Samples
from pruningbench.errors import PluginError
from pruningbench.harness.lending import same_bits

LARGEST_GUARDED = 2**25
"""Largest number of elements of an image array that is compared after each loan; larger ones are read as copies."""
_LARGEST_COPIED = 2**27
"""Largest number of elements of a tensor of outputs that is copied; of larger ones, only the version is compared."""


class LentTensors:
    """Guards tensors that are shared with others.

    Args:
        tensors: what is lent; copied now.
        words: what a change is called.
    """

    def __init__(self, tensors: Sequence[Tensor], words: str) -> None:
        self._kept, self._words = [(tensor, tensor.clone()) for tensor in tensors], words

    def collect(self) -> list[str]:
        """Restore in place what a borrower changed; return it in words."""
        if all(same_bits(tensor, copy) for tensor, copy in self._kept):
            return []
        with torch.inference_mode():  # in which tensors made under it can be written to, too
            for tensor, copy in self._kept:
                if same_bits(tensor, copy):
                    continue
                if (tensor.shape, tensor.dtype, tensor.device) == (copy.shape, copy.dtype, copy.device):
                    tensor.data.copy_(copy)  # in place: there may be views of it
                else:
                    tensor.data = copy.clone()
        return [self._words]


class LentSamples:
    """Guards what every component can reach of an open data set: labels, boxes, masks, human answers, images in memory.

    Args:
        samples: the data set; its reachable arrays are copied.
    """

    _SAID = ("keys", "human", "images", "boxes", "masks", "_labels")

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._tensors = LentTensors(list(_reachable(samples)), "labels, boxes or images of a data set were changed")
        self._said = {name: value for name, value in vars(samples).items() if name in self._SAID}
        self._identity = (samples.fingerprint, samples.classes)

    def collect(self) -> list[str]:
        """Restore in place what a borrower changed; return it in words."""
        found = []
        if any(vars(self.samples).get(name) is not value for name, value in self._said.items()):
            found.append("an attribute of a data set was replaced")
            vars(self.samples).update(self._said)
        if (self.samples.fingerprint, self.samples.classes) != self._identity:
            found.append("the fingerprint or classes of a data set were changed")
            self.samples.fingerprint, self.samples.classes = self._identity
        return found + self._tensors.collect()


def _reachable(samples: Samples) -> Iterator[Tensor]:
    if isinstance(samples.labels, Tensor):
        yield samples.labels
    for name in ("images", "masks", "boxes"):
        for tensor in _tensors(getattr(samples, name, None)):
            if tensor.numel() <= LARGEST_GUARDED:
                yield tensor
    for tensor in _tensors(samples.human):
        if tensor.numel() <= LARGEST_GUARDED:
            yield tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value: in the fields of dataclasses, and in lists, tuples and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


class LentOutputs:
    """Guards the outputs that the metrics of a task consume one after another.

    Args:
        outputs: what a task yielded.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._fields = [(owner, dict(vars(owner))) for owner in _dataclasses(outputs)]
        tensors = list({id(tensor): tensor for tensor in _tensors(outputs)}.values())
        small = [tensor for tensor in tensors if tensor.numel() <= _LARGEST_COPIED]
        self._small = LentTensors(small, "its outputs were changed")
        self._large = [(t, _version(t)) for t in tensors if t.numel() > _LARGEST_COPIED]

    def collect(self) -> list[str]:
        """Restore what a metric changed; return it in words.

        Raises:
            PluginError: if it changed a tensor that is too large for a copy.
        """
        found = self._small.collect()
        for owner, before in self._fields:
            names = {field.name for field in dataclasses.fields(owner)}
            replaced = [name for name in names if getattr(owner, name) is not before[name]]
            for name in replaced:
                object.__setattr__(owner, name, before[name])
            if replaced:
                found.append("a field of its outputs was replaced")
        if any(_version(tensor) != version for tensor, version in self._large):
            raise PluginError("a metric changed outputs in place that are too large to be restored")
        return found


def _dataclasses(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _dataclasses(getattr(value, field.name))


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)
