"""Training on several processes: each computes its share of every batch, and the first takes the steps."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pruningbench.contract import VisionModel
from pruningbench.training import compiling
from pruningbench.training.crew import Crew
from pruningbench.training.errors import ExchangeError, TrainingError
from pruningbench.training.exchange import abandon, add_up, connected, copy_from_first, finish, send
from pruningbench.training.member import Answer, Membership, Step, exchanged, files_of, gradients, touched, trained
from pruningbench.training.norms import together
from pruningbench.training.settings import FitSettings
from pruningbench.training.sharing import Piece, descend, share_out


class Team:
    """Computes the gradients of batches together with other processes.

    Before each step all processes get the first one's weights and buffers. Each computes the gradients of its pieces of
    the batch, weighted by their number of samples, and the first adds them up: its gradients are then those of the mean
    loss of the whole batch. Optimizer, masks, moving average and stored states are the first process's alone.

    Args:
        model: the model in training.
        settings: how to train.
        crew: the other processes.
        now: returns the epoch and the step in which the training is.
    """

    def __init__(
        self, model: VisionModel, settings: FitSettings, crew: Crew, now: Callable[[], tuple[int, int]]
    ) -> None:
        self._network, self._crew, self._now = model.network, crew, now
        self._processes = settings.processes
        self._region = partial(together, synchronise=settings.sync_norm)

    def gradients(
        self, images: Tensor, labels: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], parts: int
    ) -> Tensor:
        """Give the weights the gradients of the mean loss of a batch; return that loss, a scalar without gradients.

        Args:
            images: (B, C, H, W) normalised float32.
            labels: (B,) int64, or (B, classes) float32.
            loss_of: maps images and labels to their mean loss, in this process.
            parts: parts of the batch whose gradients are summed one after the other, >= 1.

        Raises:
            TrainingError: if another process fails or dies.
        """
        own, *others = share_out(len(images), parts, self._processes)
        try:
            shares = [(_taken(images, pieces), _taken(labels, pieces)) for pieces in others]
            self._crew.tell(
                [self._step(pieces, *share, len(images)) for pieces, share in zip(others, shares, strict=True)]
            )
            copy_from_first(exchanged(self._network))
            sending = [one for rank, share in enumerate(shares, 1) for one in send(share, rank)]
            loss = descend(images, labels, own, len(images), loss_of, self._region)
            finish(sending)
            answers: list[Answer] = self._crew.answers()
            self._add_up(answers)
        except ExchangeError as error:
            raise self._crew.lost(error) from error
        return loss + sum(answer.loss for answer in answers)

    def _step(self, pieces: list[Piece], images: Tensor, labels: Tensor, count: int) -> Step:
        epoch, step = self._now()
        return Step(
            epoch, step, _moved(pieces), count, tuple(images.shape), tuple(labels.shape), labels.is_floating_point()
        )

    def _add_up(self, answers: list[Answer]) -> None:
        """Sum the gradients; a weight that no process has used gets none, as in a single process."""
        used = [any(of_one) for of_one in zip(touched(self._network), *(a.touched for a in answers), strict=True)]
        add_up(gradients(self._network))
        for parameter, any_has in zip(trained(self._network), used, strict=True):
            if not any_has:
                parameter.grad = None


@contextmanager
def team_of(
    model: VisionModel, settings: FitSettings, seed: int, now: Callable[[], tuple[int, int]]
) -> Iterator[Team | None]:
    """Start the processes that a training asks for, and end them after the block; None if it asks for no others.

    On CPUs the threads of torch are divided among the processes inside the block.

    Raises:
        TrainingError: if there are not enough devices, or the model cannot be sent to another process.
    """
    if settings.processes == 1:
        yield None
        return
    devices = devices_of(model.device, settings.processes)
    threads = max(1, torch.get_num_threads() // settings.processes)
    with ExitStack() as inside:
        folder = inside.enter_context(tempfile.TemporaryDirectory(prefix="pruningbench-"))
        place = str(Path(folder) / "processes")
        crew = _crew(model, settings, seed, devices, threads, place)
        inside.callback(crew.kill)
        if model.device.type == "cuda":
            crew.watch(abandon)  # NCCL waits for ever for a process that is gone
        else:
            inside.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        crew.tell([None] * (settings.processes - 1))
        try:
            inside.enter_context(connected(place, 0, settings.processes, devices[0]))
        except ExchangeError as error:
            raise crew.lost(error) from error
        yield Team(model, settings, crew, now)
        crew.dismiss()


def _crew(
    model: VisionModel, settings: FitSettings, seed: int, devices: list[torch.device], threads: int, place: str
) -> Crew:
    """Start the processes but the first; each gets the model as it is now."""
    plain = FitSettings(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(FitSettings)})
    shared = (threads, seed, plain, compiling.BACKEND, place, files_of(model), _saved(model))
    others = list(enumerate(map(str, devices)))[1:]
    return Crew([Membership(rank, settings.processes, device, *shared) for rank, device in others])


def devices_of(first: torch.device, processes: int) -> list[torch.device]:
    """Return the devices of so many processes: the CPU for each, or a GPU for each, beginning with `first`.

    Raises:
        TrainingError: if there are too few GPUs, or it is another kind of device.
    """
    if first.type == "cpu":
        return [first] * processes
    if first.type != "cuda":
        raise TrainingError(f"processes: a training on {first.type} has one process; set processes: 1")
    count = torch.cuda.device_count()
    if processes > count:
        raise TrainingError(
            f"processes is {processes}, each on its own GPU, but this process sees {count} GPU{'s' * (count != 1)}"
        )
    start = torch.cuda.current_device() if first.index is None else first.index
    return [torch.device("cuda", (start + rank) % count) for rank in range(processes)]


def _saved(model: VisionModel) -> bytes:
    """Return the model as bytes, without what gradients do not need."""
    lean = copy.copy(model)
    lean.fresh = lean.augment = None
    content = io.BytesIO()
    try:
        torch.save(lean, content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TrainingError(
            f"processes: this {type(model.network).__name__} cannot be sent to another process ({error}); define its "
            "classes at the top of a module, or set processes: 1"
        ) from error
    return content.getvalue()


def _taken(samples: Tensor, pieces: list[Piece]) -> Tensor:
    """Return the samples of some pieces, one after the other."""
    return torch.cat([samples[:0], *(samples[piece.start : piece.stop] for piece in pieces)])


def _moved(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces as positions among their own samples."""
    moved: list[Piece] = []
    for piece in pieces:
        start = moved[-1].stop if moved else 0
        moved.append(Piece(start, start + len(piece), piece.shared))
    return moved
