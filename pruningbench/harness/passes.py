"""How a network's forward passes are made: the memory format and the batch size that are fastest on this device.

On a CPU the choice decides over a factor of up to nine (EfficientNet-Lite0): a large batch of large images spends its
time on memory. The
choice may move the last bits of a result, so it is made once for a model and device, recorded with each value, and
taken from the record or the cache when work is repeated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from pruningbench.base.machine import device_name
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import VisionModel
from pruningbench.contract.precision import FULL, computed_in
from pruningbench.harness.measure import is_out_of_memory
from pruningbench.store.attempts import Attempt
from pruningbench.store.cache import Cache
from pruningbench.store.records import Record

SETTING = "passes"
"""Name of the recorded setting; see `pruningbench.harness.artifacts.chosen`."""
SMALLEST_SIDE = 96
"""Networks for smaller images are not calibrated: their passes take too little time to matter."""
CANDIDATES = (4, 8, 16, 32, 64, 128, 256, 512)
GAIN = 1.03
"""A larger batch is chosen only if it is faster per image by this factor."""
LONGEST = 2.0
"""No candidate is tried whose pass would take longer than this, in seconds."""
_WRITTEN = re.compile(r"channels-(first|last), batches of ([1-9]\d{0,8})")


@dataclass(frozen=True)
class Passes:
    """A choice.

    Attributes:
        batch_size: largest batch.
        channels_last: whether weights of convolutions, and so activations, have their channels last in memory.
    """

    batch_size: int
    channels_last: bool = False

    def __str__(self) -> str:
        """The form in records."""
        return f"channels-{'last' if self.channels_last else 'first'}, batches of {self.batch_size}"

    @classmethod
    def parse(cls, text: str) -> Passes | None:
        """Return what `str` wrote, or None."""
        match = _WRITTEN.fullmatch(text)
        return cls(int(match[2]), match[1] == "last") if match else None

    def prepare(self, network: nn.Module) -> None:
        """Give the weights of a network this memory format, in place; values stay the same."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)


def recorded_passes(records: Iterable[Record | Attempt]) -> dict[str, Passes]:
    """Return the first recorded choice of each model, by label."""
    found: dict[str, Passes] = {}
    for record in records:  # of up to a million, so only those of models without a choice are parsed
        text = record.made_of.get(f"setting {SETTING}") if record.model not in found else None
        passes = Passes.parse(text) if text else None
        if passes is not None:
            found[record.model] = passes
    return found


def passes_of(model: VisionModel, most: int, cache: Cache, precision: str = FULL) -> Passes | None:
    """Return the fastest choice for a model on its device, from the cache or by a calibration of a few seconds.

    Args:
        model: the model; its weights do not matter, and are left unchanged.
        most: largest batch size that the suite allows.
        cache: keeps the choice for later runs on this machine.
        precision: of the passes.

    Returns:
        None for a model whose images have no fixed size or are small: it is used as it is.
    """
    side = model.preprocessing.size
    if side is None or side < SMALLEST_SIDE:
        return None
    shape = (len(model.preprocessing.mean), side, side)
    identity = {
        "network": [
            type(model.network).__qualname__,
            *((n, tuple(p.shape)) for n, p in model.network.named_parameters()),
        ],
        "images": shape,
        "device": device_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "most": most,
        **({} if precision == FULL else {"precision": precision}),
    }

    def make() -> dict[str, torch.Tensor]:
        twin = model.clone()
        with computed_in(precision, twin.network):
            found = calibrate(twin, shape, most)
        if twin.device.type == "cuda":
            torch.cuda.empty_cache()  # of the largest batch: others may share the GPU
        return {"batch_size": torch.tensor(found.batch_size), "channels_last": torch.tensor(found.channels_last)}

    stored = cache.tensors("passes", identity, make)
    return Passes(int(stored["batch_size"]), bool(stored["channels_last"]))


def calibrate(model: VisionModel, shape: tuple[int, ...], most: int) -> Passes:
    """Time forward passes of random images in both memory formats and batches of up to `most`; return the fastest.

    A format is given up as soon as a larger batch is not faster, would take too long, or does not fit.
    """
    convolves = any(isinstance(module, nn.Conv2d) for module in model.network.modules())
    best, least = Passes(min(most, CANDIDATES[0])), float("inf")
    for channels_last in (False, True) if convolves else (False,):
        Passes(1, channels_last).prepare(model.network)
        previous = float("inf")
        for size in dict.fromkeys(min(most, size) for size in CANDIDATES):
            if previous < float("inf") and previous * size > LONGEST:
                break
            try:
                seconds = seconds_of(model, (size, *shape)) / size
            except (MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    break
                raise
            if seconds * GAIN < least:
                best, least = Passes(size, channels_last), seconds
            if seconds * GAIN > previous:
                break
            previous = seconds
    return best


@torch.no_grad()
def seconds_of(model: VisionModel, shape: tuple[int, ...]) -> float:
    """Return the shorter of two timed forward passes, after one that is not timed."""
    with isolated_randomness("calibration"):
        images = torch.randn(shape).to(model.device)
    took = []
    for timed in (False, True, True):
        _finish(model.device)
        begun = time.perf_counter()
        model.network(images)
        _finish(model.device)
        if timed:
            took.append(time.perf_counter() - begun)
    return min(took)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Choices:
    """The choices of a run, by the labels of its models, and the batches that fitted the memory.

    Args:
        recorded: the choices in the run's records.
    """

    def __init__(self, recorded: Mapping[str, Passes | None]) -> None:
        self.known: dict[str, Passes | None] = dict(recorded)
        self._fitted: dict[tuple[str, str], int] = {}

    def prepare(self, label: str, dense: VisionModel, most: int, cache: Cache, precision: str = FULL) -> None:
        """Choose how a model computes, as recorded or as `passes_of` says, and prepare its network for it."""
        if label not in self.known:
            self.known[label] = passes_of(dense, most, cache, precision)
        passes = self.known[label]
        if passes is not None:
            passes.prepare(dense.network)

    def largest(self, label: str, task: str, most: int) -> int:
        """Return the batch size to begin with: the model's own, or what has fitted the memory for this task."""
        passes = self.known.get(label)
        size = most if passes is None else min(most, passes.batch_size)
        return min(size, self._fitted.get((label, task), size))

    def fitted(self, label: str, task: str, size: int) -> None:
        """Note a batch size that fitted the memory."""
        self._fitted[label, task] = size

    def settings(self, label: str) -> dict[str, str]:
        """Return the choice for a model as a setting of a record."""
        passes = self.known.get(label)
        return {} if passes is None else {SETTING: str(passes)}
