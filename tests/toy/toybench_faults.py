"""A task that does to its process what third-party code may do, at some sparsities of one pruner."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from toybench_parts import log, toy_predictions

from pruningbench.contract import Context, DatasetRef, Outputs, Predictions, Task, VisionModel, param


@dataclass(frozen=True)
class ToyFault(Task):
    """Predicts; at the shares of zeros in `at`, does the fault at the same place in `faults` first."""

    metrics: ClassVar[tuple[str, ...]] = ("toy-accuracy",)
    data: DatasetRef = param(doc="what to predict")
    faults: tuple[str, ...] = param((), doc="segfault, exit, hang, print, nan, fork, linger, once")
    at: tuple[float, ...] = param((), doc="shares of zeros, rounded to .01")
    seconds: float = param(0.0, doc="pretend to work for so long")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        weights = torch.cat([p.detach().flatten() for n, p in model.network.named_parameters() if p.ndim > 1])
        zeros = round(float((weights == 0).double().mean()), 2)
        log(f"fault-task {zeros} {os.getpid()}")
        time.sleep(self.seconds)
        fault = dict(zip(self.at, self.faults, strict=True)).get(zeros, "")
        do(fault)
        scores, labels = toy_predictions(model, context, self.data)
        yield "", Predictions(torch.full_like(scores, torch.nan) if fault == "nan" else scores, labels)


def do(fault: str) -> Any:
    """Do a fault to this process."""
    if fault == "segfault":
        ctypes.string_at(0)
    elif fault == "exit":
        os._exit(0)
    elif fault == "hang" and first("hung"):
        time.sleep(3600)
    elif fault == "print":
        sys.stdout.write("x" * 2**20 + "\n")
    elif fault == "fork":  # both come back, into the harness
        os.fork()
    elif fault == "linger" and os.fork() == 0:  # one stays and keeps every open file
        time.sleep(4)
        os._exit(0)
    elif fault == "once" and first("died"):
        ctypes.string_at(0)


def first(name: str) -> bool:
    """Whether this is the first call with a name, of all processes."""
    try:
        Path(os.environ["TOY_LOG"]).with_name(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
