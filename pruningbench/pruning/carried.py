"""All batches go through a network together, layer by layer: what a layer-wise pruner needs in one pass.

A layer-wise pruner changes a layer once it has seen the layer's inputs for all images, and the layers after it must
see the changed layer. Instead of starting again from the images for each layer, every batch has a forward pass of its
own, in a thread of its own, which stops where it calls a watched layer. When all have stopped there, the layer is
changed, and they go on with it. Only one thread runs at a time, in the order of the batches, so that results do not
depend on timing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.preservation import preserved
from pruningbench.pruning.weight_inputs import Recorder, Sink, watch_inputs

MOST_CARRIED = 4 << 30
"""Bytes that the stopped passes may hold together; more images than that are run again for each layer."""
HELD = 3
"""Activations as wide as the widest input of a layer that a stopped pass holds: its input, a residual, a branch."""


def probe(
    network: nn.Module, parameters: Mapping[str, Tensor], batches: Sequence[Tensor], pruner: str
) -> tuple[list[str], int]:
    """Learn from one image in which order a network uses its layers, and how much all images would hold.

    Args:
        network: any module; left unchanged.
        parameters: the parameters to watch, by name.
        batches: (B, C, H, W) each; the first image is run.
        pruner: name for messages.

    Returns:
        The parameters in the order in which a forward pass completes their inputs, repeated if they are used again;
        and about how many bytes the passes of all batches hold when they stop at the widest layer.

    Raises:
        PruningBenchError: if no linear map or convolution uses one of the parameters.
    """
    order: list[str] = []
    widest = 0

    def measure(_name: str, _first: int, _groups: int, columns: Tensor) -> None:
        nonlocal widest
        widest = max(widest, columns.numel() * columns.element_size())

    watch_inputs(network, parameters, [batches[0][:1]], measure, pruner=pruner, per_channel=True, complete=order.append)
    return order, HELD * widest * sum(map(len, batches))


def carry(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    batches: Sequence[Tensor],
    sink: Sink,
    complete: Callable[[str], None],
) -> None:
    """Run all batches through the network in eval mode; stop at each watched parameter until `complete` has run.

    Args:
        network: any module that uses each parameter once. It is left unchanged: at the end, parameters have the
            values that they had.
        parameters: the parameters to watch, by name.
        batches: (B, C, H, W) each.
        sink: receives the inputs of a parameter, batch by batch, as in `watch_inputs`.
        complete: called with a parameter's name when `sink` has its inputs of all batches; it may change the values
            of the parameter in place, and the passes go on with these.

    Raises:
        PruningBenchError: if the passes call the layers in different orders.
    """
    with isolated_randomness("inputs"), preserved(network):
        network.eval()
        passes = [_Pass(network, batch, parameters, sink) for batch in batches]
        try:
            while True:
                places = {one.go_on() for one in passes}
                if len(places) > 1:
                    there = " and ".join(sorted(map(str, places)))
                    raise PruningBenchError(f"batches meet the layers of the network in different orders, here {there}")
                (name,) = places
                if name is None:
                    return
                complete(name)
        finally:
            for one in passes:
                one.stop()


class _Stopped(BaseException):
    """Ends the thread of a pass whose result nobody needs any more."""


class _Pass:
    """The forward pass of one batch, in a thread that runs only while `go_on` waits for it."""

    def __init__(self, network: nn.Module, batch: Tensor, parameters: Mapping[str, Tensor], sink: Sink) -> None:
        self._network, self._batch = network, batch
        self._watched = {id(parameter): name for name, parameter in parameters.items()}
        self._sink = sink
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._place: str | None = None
        self._error: BaseException | None = None
        self._ended = self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go_on(self) -> str | None:
        """Run up to the next watched parameter, and return its name; None at the end of the pass.

        Raises:
            BaseException: whatever the pass raised.
        """
        if not self._ended:
            self._turn.release()
            self._back.acquire()
        if self._error is not None:
            raise self._error
        return None if self._ended else self._place

    def stop(self) -> None:
        """End the thread, wherever the pass is."""
        self._stopping = True
        self._turn.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._wait()
            recorder = Recorder(self._watched, self._sink, per_channel=False, complete=self._arrive)
            with torch.no_grad(), recorder:
                self._network(self._batch)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the pass is waited for
            self._error = error
        finally:
            self._ended = True
            self._back.release()

    def _arrive(self, name: str) -> None:
        self._place = name
        self._back.release()
        self._wait()

    def _wait(self) -> None:
        self._turn.acquire()
        if self._stopping:
            raise _Stopped
