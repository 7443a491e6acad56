"""What a further process of a training does: it computes the gradients of its share of each batch, and nothing else."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn

from pruningbench.base.identity import derive_seed
from pruningbench.base.processes import die_with
from pruningbench.base.randomness import seed_cpu
from pruningbench.contract import VisionModel
from pruningbench.training.errors import ExchangeError
from pruningbench.training.exchange import add_up, connected, copy_from_first, receive
from pruningbench.training.modes import train_mode
from pruningbench.training.norms import together
from pruningbench.training.objective import prepared
from pruningbench.training.settings import FitSettings
from pruningbench.training.sharing import Piece, descend

READY, DONE, FAILED = "ready", "done", "failed"
CONTACT, MEMORY, OTHER = "contact", "memory", "other"
"""Why a member has failed: it has lost the others, its memory has run out, or something else."""


@dataclass(frozen=True)
class Membership:
    """What a member is told when it starts.

    Attributes:
        rank: its number, in [1, size).
        size: number of processes of the training, with the one that it helps.
        device: where it computes.
        threads: number of its threads of torch.
        seed: seed of the training.
        settings: how to train.
        backend: backend of torch.compile.
        place: path of the file by which the processes find each other.
        files: modules of the network's code that were loaded from files, and these files.
        model: the model, as torch saves it.
    """

    rank: int
    size: int
    device: str
    threads: int
    seed: int
    settings: FitSettings
    backend: str
    place: str
    files: Mapping[str, str]
    model: bytes


@dataclass(frozen=True)
class Step:
    """What a member is told in each step.

    Attributes:
        epoch, step: where the training is.
        pieces: the member's pieces, as positions among the samples that it is sent.
        count: samples in the whole batch.
        images, labels: shapes of what it is sent.
        soft: whether labels are float32 probabilities, not int64 classes.
    """

    epoch: int
    step: int
    pieces: Sequence[Piece]
    count: int
    images: Sequence[int]
    labels: Sequence[int]
    soft: bool


@dataclass(frozen=True)
class Answer:
    """What a member says when its gradients are there: its part of the loss, and which weights have gradients."""

    loss: float
    touched: Sequence[bool]


def serve(connection: Connection, parent: int) -> None:
    """Receive a membership and then steps until None arrives; what fails is said in one line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's, which then ends this one
    die_with(parent)
    if sys.stderr is not None:
        os.dup2(2, 1)  # standard output belongs to the command
    try:
        _serve(connection, pickle.loads(connection.recv_bytes()))  # noqa: S301 - from the process that started this one
    except EOFError:
        return  # the first process is gone or has ended the training
    except ExchangeError as error:
        _fail(connection, CONTACT, error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        _fail(connection, MEMORY, error)
    except Exception as error:  # noqa: BLE001 - third-party networks may raise anything: the first process says it
        _fail(connection, OTHER, error)


def _fail(connection: Connection, why: str, error: Exception) -> None:
    first = (str(error).strip().splitlines() or [""])[0]
    connection.send((FAILED, (why, f"{type(error).__name__}: {first}" if why != CONTACT else first)))


def _serve(connection: Connection, told: Membership) -> None:
    torch.set_num_threads(told.threads)
    device = torch.device(told.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _load_modules(told.files)
    model: VisionModel = torch.load(io.BytesIO(told.model), map_location=device, weights_only=False)
    with prepared(model, told.settings, told.backend) as objective:
        train_mode(model.network, freeze_norm=told.settings.freeze_norm)
        connection.send((READY, None))
        connection.recv()  # all are ready
        with connected(told.place, told.rank, told.size, device):
            region = partial(together, synchronise=told.settings.sync_norm)
            while (step := connection.recv()) is not None:
                copy_from_first(exchanged(model.network))
                images = receive(step.images, torch.float32, device)
                labels = receive(step.labels, torch.float32 if step.soft else torch.int64, device)
                _seed(told, step, device)
                model.network.zero_grad(set_to_none=True)
                loss = descend(images, labels, step.pieces, step.count, objective, region)
                answer = Answer(float(loss), touched(model.network))
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                connection.send((DONE, answer))
                add_up(gradients(model.network))


def _seed(told: Membership, step: Step, device: torch.device) -> None:
    """Seed what a network draws, such as dropout, by the place in the training: nothing has to be stored for it."""
    seed = derive_seed(told.seed, "process", told.rank, step.epoch, step.step)
    seed_cpu(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def exchanged(network: nn.Module) -> list[Tensor]:
    """Return what all processes get from the first before a step: trained weights, and all buffers."""
    return [*trained(network), *network.buffers()]


def trained(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def touched(network: nn.Module) -> list[bool]:
    """Return for each trained parameter whether it has a gradient."""
    return [parameter.grad is not None for parameter in trained(network)]


def gradients(network: nn.Module) -> list[Tensor]:
    """Return the gradients of all trained parameters; those without one get zeros."""
    found = []
    for parameter in trained(network):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        found.append(parameter.grad)
    return found


def files_of(model: VisionModel) -> dict[str, str]:
    """Return the modules of Python in which the classes of a model are defined, and their files, if they have one."""
    names = {type(module).__module__ for module in [model, *model.network.modules()]}
    found = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(names)}
    return {name: file for name, file in found.items() if file}


def _load_modules(files: Mapping[str, str]) -> None:
    """Import modules; load those that Python does not find by their names from their files."""
    for name, file in files.items():
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is None or spec.loader is None:
                raise
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
