"""Tiny components that are fast, deterministic, and fail on request."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pruningbench.contract import (
    ArraySamples,
    Context,
    Dataset,
    DatasetRef,
    Exhibit,
    Metric,
    Model,
    Outputs,
    Predictions,
    Preprocessing,
    PruningContext,
    ScorePruner,
    Task,
    VisionModel,
    param,
)
from pruningbench.pruning.masks import Masks


def log(line: str) -> None:
    """Append a line to the file named by TOY_LOG: what really ran, whatever the journal says."""
    path = os.environ.get("TOY_LOG")
    if path:
        with Path(path).open("a") as file:
            file.write(line + "\n")


@dataclass(frozen=True)
class ToyData(Dataset):
    """Two classes of noise with different means."""

    split: str = param("train", doc="train or test")
    count: int = param(64, doc="number of samples")
    absent: bool = param(False, doc="pretend that it has to be fetched")

    def load(self, context: Context) -> ArraySamples:
        log(f"data {self.split}")
        generator = torch.Generator().manual_seed({"train": 1, "test": 2}[self.split])
        labels = torch.arange(self.count) % 2
        noise = torch.randint(0, 120, (self.count, 1, 6, 6), generator=generator)
        images = (noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
        return ArraySamples(images, labels, classes=("dark", "bright"))

    def missing(self) -> str | None:
        return "not here; fetch it with `toy fetch`" if self.absent else None


class ToyVision(VisionModel):
    def embed(self, images: Tensor) -> Tensor:
        return self.network[:4](images)


@dataclass(frozen=True)
class ToyModel(Model):
    """A small convolutional network with random weights."""

    training_data: ClassVar[Any] = "toy-data"
    width: int = param(8, doc="channels")
    broken: bool = param(False, doc="fail to load")
    train_seconds: float = param(0.0, doc="pretend to train for so long, with progress notes")

    def load(self, context: Context) -> ToyVision:
        log("model")
        if self.broken:
            raise RuntimeError("these weights are gone")

        def make() -> dict[str, Tensor]:
            for i in range(int(self.train_seconds * 10)):
                time.sleep(0.1)
                context.report(f"epoch {i}")
            torch.manual_seed(3)
            return dict(self.build().state_dict())

        network = self.build()
        network.load_state_dict(context.cache.tensors("weights", {"toy": self.width}, make))
        return ToyVision(network.to(context.device), Preprocessing((0.5,), (0.5,)), classes=("dark", "bright"),
                         head=("4.weight", "4.bias"))  # fmt: skip

    def build(self) -> nn.Sequential:
        w = self.width
        return nn.Sequential(nn.Conv2d(1, w, 3), nn.BatchNorm2d(w), nn.ReLU(), nn.Flatten(), nn.Linear(16 * w, 2))


@dataclass(frozen=True)
class ToyPruner(ScorePruner):
    """Scores by magnitude, counts its passes, and can fail."""

    shift: float = param(0.0, doc="added to all scores")
    nan: bool = param(False, doc="give a NaN score")
    allocation: str = param("global", doc="global or uniform", scores=False)
    lie: str = param("", doc="prune nothing, too much, or another parameter", scores=False)

    def threshold(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        if self.lie == "other":
            return Masks({"1.weight": torch.zeros(8, dtype=torch.bool)})
        return super().threshold(scores, {"nothing": 0.0, "more": 0.95}.get(self.lie, sparsity))

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        log("score")
        scores = {name: p.detach().abs() + self.shift for name, p in context.parameters.items()}
        if self.nan:
            next(iter(scores.values())).view(-1)[0] = float("nan")
        return scores


def toy_predictions(model: VisionModel, context: Context, data: Any) -> tuple[Tensor, Tensor]:
    """Return scores and labels of all samples."""
    samples = context.open_dataset(data)
    with torch.no_grad():
        batches = list(model.batches(samples, context.batch_size))
        return torch.cat([model.logits(b.images) for b in batches]), torch.cat([b.labels for b in batches])


@dataclass(frozen=True)
class ToyTask(Task):
    """Predicts; can fail, die, run out of memory, or meddle with the model."""

    metrics: ClassVar[tuple[str, ...]] = ("toy-accuracy",)
    data: DatasetRef = param(doc="what to predict")
    fail_at: float = param(-1.0, doc="raise when the model has this share of zeros (rounded to .1)")
    die_at: float = param(-1.0, doc="kill the process then")
    exit_at: float = param(-1.0, doc="leave the process without a word then")
    exit_code: int = param(1, doc="with this status")
    quit_at: float = param(-1.0, doc="raise SystemExit then")
    fits: int = param(1000, doc="largest batch that fits into memory")
    meddle: bool = param(False, doc="change the model's weights")
    noise: bool = param(False, doc="add draws from the global random state to the scores")
    seconds: float = param(0.0, doc="pretend to work for so long")
    twice: bool = param(False, doc="yield one variant twice")
    strange: str = param("", doc="yield a variant or an exhibit that is none")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        weights = torch.cat([p.detach().flatten() for n, p in model.network.named_parameters() if p.ndim > 1])
        zeros = round(float((weights == 0).double().mean()), 1)
        log(f"task {zeros}")
        time.sleep(self.seconds)
        if zeros == self.fail_at:
            raise ValueError(f"cannot stand {zeros} zeros")
        if zeros == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if zeros == self.exit_at:
            os._exit(self.exit_code)
        if zeros == self.quit_at:
            raise SystemExit(3)
        if context.batch_size > self.fits:
            raise torch.OutOfMemoryError("out of memory")
        samples = context.open_dataset(self.data)
        with torch.no_grad():
            batches = list(model.batches(samples, context.batch_size))
            scores = torch.cat([model.logits(batch.images) for batch in batches])
            if self.meddle:
                for parameter in model.network.parameters():
                    parameter.zero_()
        if self.noise:
            scores = scores + torch.randn(scores.shape)
        exhibit = Exhibit("maps", [1, 2], ("a",)) if self.strange == "exhibit" else None
        outputs = Predictions(scores, torch.cat([b.labels for b in batches]), exhibit=exhibit)
        yield 3 if self.strange == "variant" else "", outputs
        if self.twice:
            yield "", outputs


@dataclass(frozen=True)
class ToyAccuracy(Metric):
    """Share of right predictions."""

    consumes: ClassVar[type[Outputs]] = Predictions
    unit: ClassVar[str] = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def values(self, outputs: Predictions) -> Tensor:
        return (outputs.scores.argmax(1) == outputs.labels).float()


@dataclass(frozen=True)
class ToyMargin(Metric):
    """Score of the true class less the other's; undefined where both are equal."""

    consumes: ClassVar[type[Outputs]] = Predictions
    scale: float = param(1.0, doc="factor")
    short: bool = param(False, doc="leave out half of the samples")

    def values(self, outputs: Predictions) -> Tensor:
        rows = torch.arange(len(outputs.labels))
        margin = outputs.scores[rows, outputs.labels] - outputs.scores[rows, 1 - outputs.labels]
        values = torch.where(margin == 0, torch.nan, margin * self.scale)
        return values[::2] if self.short else values


@dataclass(frozen=True)
class ToyMedian(ToyMargin):
    """Median of the margins: a statistic that is not a mean."""

    rerun_tolerance: ClassVar[float] = 0.0

    def aggregate(self, values: Any) -> float:
        return float(np.median(values))
