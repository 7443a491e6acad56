"""What a pruning has cut off: empty layers, dead units, and kept weights that no signal reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pruningbench.base.html import html_table
from pruningbench.pruning.footprint import input_shape as told_shape
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.reachability import NotPathLikeError, reached_weights


@dataclass(frozen=True)
class LayerDiagnosis:
    """What is left of one masked parameter.

    Attributes:
        name, shape: of the parameter.
        total, kept: number of weights, and of kept weights.
        units: output units (rows, output channels); `dead` of them have no kept incoming weight.
        inputs: input units (columns, input channels of all groups); `unread` of them are read by no kept weight of
            this parameter.
        on_path: kept weights that lie on a path from the input to the output; None if not measured.
    """

    name: str
    shape: tuple[int, ...]
    total: int
    kept: int
    units: int
    dead: int
    inputs: int
    unread: int
    on_path: int | None = None

    @property
    def density(self) -> float:
        """Share of weights kept, in [0, 1]."""
        return self.kept / self.total if self.total else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """What masks leave of a network.

    Attributes:
        layers: each masked parameter, in the order of the masks.
        connected: whether any signal gets from the input to the output; None if not measured.
        outputs_reached: share of the network's outputs that a signal reaches, in [0, 1]; None if not measured.
        no_paths: why paths were not measured; "" if they were.
    """

    layers: tuple[LayerDiagnosis, ...]
    connected: bool | None = None
    outputs_reached: float | None = None
    no_paths: str = ""

    @property
    def empty(self) -> tuple[str, ...]:
        """Names of the parameters without any kept weight."""
        return tuple(layer.name for layer in self.layers if layer.total and not layer.kept)

    @property
    def dead_units(self) -> int:
        """Output units without a kept incoming weight, over all parameters."""
        return sum(layer.dead for layer in self.layers)

    @property
    def unread_inputs(self) -> int:
        """Input units that no kept weight of their parameter reads, over all parameters."""
        return sum(layer.unread for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of masked weights that is pruned, in [0, 1]."""
        total = sum(layer.total for layer in self.layers)
        return 1 - sum(layer.kept for layer in self.layers) / total if total else 0.0

    @property
    def disconnected(self) -> int | None:
        """Kept weights on no path from the input to the output; None if paths were not measured."""
        if self.no_paths:
            return None
        return sum(layer.kept - (layer.on_path or 0) for layer in self.layers)

    @property
    def effective_sparsity(self) -> float | None:
        """Share of masked weights that is pruned or lies on no path, in [0, 1]; at least `sparsity`.

        Source: Vysogorets and Kempe, Connectivity matters: neural network pruning through the lens of
        effective sparsity (JMLR 2023), section 3.
        """
        if self.no_paths:
            return None
        total = sum(layer.total for layer in self.layers)
        return 1 - sum(layer.on_path or 0 for layer in self.layers) / total if total else 0.0

    def _repr_html_(self) -> str:
        """A table of the layers, for notebooks."""
        head = ("parameter", "weights", "kept", "density", "dead units", "unread inputs", "kept on a path")
        rows = [(layer.name, layer.total, layer.kept, layer.density, layer.dead, layer.unread, layer.on_path)
                for layer in self.layers]  # fmt: skip
        paths = f"paths were not measured: {self.no_paths}" if self.no_paths else f"connected: {self.connected}"
        return html_table(f"sparsity {self.sparsity:.4f}, {paths}", head, rows)

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            **_counts(self.layers),
            "unread_inputs": self.unread_inputs,
            "connected": self.connected,
            "effective_sparsity": self.effective_sparsity,
            "no_paths": self.no_paths,
        }


def diagnose(
    network: nn.Module, masks: Masks, input_shape: Sequence[int] | None = None, *, paths: bool = True
) -> Diagnosis:
    """Report what masks leave of a network: densities, empty layers, dead units and disconnected weights.

    Paths are measured in the network itself, not in a graph drawn by hand. A signal of ones is sent through the
    kept weights, all set to one; biases, tokens and position embeddings are zero, activations (ReLU, GELU, tanh
    and the like) and norms pass their input unchanged, and maxima become sums. A weight lies on a path if a signal
    from the input reaches it and a signal from it reaches the output. Branches that are added or concatenated are
    alternatives: one open branch is enough, and a shortcut without weights is always open. Factors that are
    multiplied must all be open. Positions count: the outer entries of a kernel that only ever meet padding lie on
    no path. Paths are not defined through softmax (attention) and sigmoid gates, which emit a signal even if none
    comes in; for such networks only the figures of single layers are given, and `Diagnosis.no_paths` says why.

    Args:
        network: the network that the masks are for; only its structure counts, not its weights. Left unchanged.
        masks: masks of any of its parameters; all others are dense.
        input_shape: shape of one input, without the batch, such as (3, 32, 32); by default from the network's
            ``pretrained_cfg`` or ``default_cfg``, which timm's networks have.
        paths: whether to measure paths, which takes a forward and a backward pass of one input.

    Raises:
        MaskError: if the masks do not fit the network.
    """
    masks._pairs(network)  # raises if a mask does not fit
    layouts = _layouts(network)
    layers = {name: _layer(name, mask, *layouts.get(name, (1, False))) for name, mask in masks.items()}
    shape = input_shape or told_shape(network)
    reason = "" if paths else "not requested"
    if paths and shape is None:
        reason = "the shape of an input is unknown: give input_shape"
    if reason or shape is None:
        return Diagnosis(tuple(layers.values()), no_paths=reason)
    try:
        reached, outputs = reached_weights(network, masks, shape)
    except NotPathLikeError as error:
        return Diagnosis(tuple(layers.values()), no_paths=str(error))
    return Diagnosis(
        tuple(_with_paths(layer, int(reached[name].sum())) for name, layer in layers.items()),
        connected=bool(outputs.any()),
        outputs_reached=float(outputs.double().mean()),
    )


def mask_summary(masks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return figures computed from masks alone, as plain JSON values; cheap enough to be kept with all masks.

    Units are the rows of each parameter; for a transposed convolution these are its inputs.
    """
    return _counts([_layer(name, mask, 1, transposed=False) for name, mask in masks.items()])


def collapse(masks: Mapping[str, Tensor], sparsity: float) -> str | None:
    """Return a line that names the first parameter without any kept weight; None if there is none."""
    empty = [name for name, mask in masks.items() if mask.numel() and not bool(mask.any())]
    if not empty:
        return None
    return f"sparsity {sparsity:g} leaves no weight in {len(empty)} of {len(masks)} parameters, the first {empty[0]!r}"


def _counts(layers: Sequence[LayerDiagnosis]) -> dict[str, Any]:
    empty = [layer.name for layer in layers if layer.total and not layer.kept]
    return {
        "parameters": len(layers),
        "empty": empty,
        "lowest_density": min((layer.density for layer in layers), default=0.0),
        "units": sum(layer.units for layer in layers),
        "dead_units": sum(layer.dead for layer in layers),
    }


def _layouts(network: nn.Module) -> dict[str, tuple[int, bool]]:
    """Return (groups, whether rows are inputs) for the weights of convolutions, under every name."""
    layouts = {}
    for prefix, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, nn.modules.conv._ConvNd):
            name = f"{prefix}.weight" if prefix else "weight"
            layouts[name] = (module.groups, module.transposed)
    return layouts


def _layer(name: str, mask: Tensor, groups: int, transposed: bool) -> LayerDiagnosis:
    rows = mask.shape[0] if mask.ndim else 1
    columns = mask.shape[1] if mask.ndim > 1 else 1
    kernel = math.prod(mask.shape[2:])
    # (groups, rows per group, columns, kernel): columns belong only to the rows of their own group
    kept = mask.reshape(groups, rows // groups, columns, kernel).any(3)
    by_row, by_column = kept.any(2), kept.any(1)
    outputs, inputs = (by_column, by_row) if transposed else (by_row, by_column)
    return LayerDiagnosis(
        name, tuple(mask.shape), mask.numel(), int(mask.sum()),
        units=outputs.numel(), dead=int((~outputs).sum()), inputs=inputs.numel(), unread=int((~inputs).sum()),
    )  # fmt: skip


def _with_paths(layer: LayerDiagnosis, on_path: int) -> LayerDiagnosis:
    return LayerDiagnosis(**{**vars(layer), "on_path": on_path})
