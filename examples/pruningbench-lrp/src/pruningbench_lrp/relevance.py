"""Relevance of the units and weights of a network: one forward and backward pass in which layers follow LRP rules.

Functions are watched where they are called, so networks need not consist of modules: shortcuts, pooling and reshapes
written in `forward` are understood. A batch norm directly behind a convolution or linear map is folded into it first
(canonisation), so that the rules see the map that the two compute together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pruningbench.contract import UsageError
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pruningbench_lrp.rules import Rule, propagating

MAPS: dict[Any, int] = {functional.linear: -1, torch.conv1d: 1, torch.conv2d: 1, torch.conv3d: 1}
"""Functions that follow a rule -> the dimension of their output that counts the units."""
ACTIVATIONS = ("gelu", "silu", "hardswish", "mish", "tanh", "elu", "selu", "celu", "relu6", "hardtanh")
"""Functions f with f(0) = 0 that are passed: the relevance of f(x) is that of x."""
OWN_GRADIENT = frozenset(
    """
    relu leaky_relu rrelu max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d mean sum amax max add iadd radd
    sub isub rsub neg mul imul rmul div truediv itruediv batch_norm dropout dropout1d dropout2d dropout3d
    alpha_dropout flatten unflatten view view_as reshape permute transpose movedim contiguous pad cat concat stack
    getitem squeeze unsqueeze to type float double half clone chunk split narrow expand expand_as interpolate
    upsample pixel_shuffle channel_shuffle roll flip get
    """.split()
)
"""Functions whose own gradient carries relevance, because they are linear or scale with their input."""

Start = Literal["one", "logit"]


@dataclass
class Layer:
    """A linear map or convolution as it was called, with the batch norm that was folded into it.

    Attributes:
        weight: name of the weight.
        shift: tensors with one entry per unit that make a unit without weights output something else than zero.
        fixed_norm: whether a folded norm has no scale and shift, so that no unit can be silenced.
        output: (B, ...) pre-activations with their graph.
        dim: dimension of `output` that counts the units.
    """

    weight: str
    output: Tensor
    dim: int
    shift: list[Tensor] = field(default_factory=list)
    fixed_norm: bool = False


@dataclass(frozen=True)
class Relevance:
    """Relevances of one batch.

    Attributes:
        logits: (B, classes), unchanged by the rules.
        inputs: relevance of the inputs, of their shape.
        units: weight name -> (B, units), summed over positions, and over calls of a shared layer.
        weights: weight name -> relevance that flows through each weight, summed with its sign over the batch.
        layers: the layers in the order of their calls.
    """

    logits: Tensor
    inputs: Tensor
    units: dict[str, Tensor]
    weights: dict[str, Tensor]
    layers: list[Layer]


def relevance(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    rules: Callable[[Sequence[str]], Mapping[str, Rule]],
    *,
    start: Start = "one",
    through: Mapping[str, Tensor] | None = None,
) -> Relevance:
    """Propagate relevance from the logits of `targets` to units, inputs and weights.

    Args:
        network: in eval mode; its parameters' `requires_grad` is changed, which the caller restores.
        images: (B, ...) inputs.
        targets: (B,) positions of the logits that start.
        rules: from the names of the weights in the order of their calls, to each weight's rule.
        start: relevance of the target's logit: 1, or the logit itself.
        through: weights for which `Relevance.weights` is wanted.

    Raises:
        UsageError: if the network calls a function that no rule covers, or does not return (B, classes).
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    through = through or {}
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad(), _Rules(names, None) as plain:
        network(images)
    for weight in through.values():
        weight.requires_grad_(True)
    images = images.detach().clone().requires_grad_(True)
    with torch.enable_grad(), _Rules(names, rules([layer.weight for layer in plain.layers])) as ruled:
        logits = network(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UsageError(f"LRP needs outputs (B, classes), but {type(network).__name__} gives {_shape(logits)}")
    if not ruled.layers:
        raise UsageError(f"LRP finds no convolution or linear map that {type(network).__name__} calls")
    chosen = logits.gather(1, targets[:, None])
    first = torch.ones_like(chosen) if start == "logit" else _inverse(chosen)
    wanted = [images, *(layer.output for layer in ruled.layers), *through.values()]
    seed = torch.zeros_like(logits).scatter(1, targets[:, None], first.detach())
    gradients = torch.autograd.grad(logits, wanted, seed, allow_unused=True)
    found = [torch.zeros_like(w) if g is None else w.detach() * g for w, g in zip(wanted, gradients, strict=True)]
    units: dict[str, Tensor] = {}
    for layer, at_layer in zip(ruled.layers, found[1:], strict=False):
        of_units = at_layer.movedim(layer.dim, 1).flatten(2).sum(2) if at_layer.ndim > 2 else at_layer
        units[layer.weight] = units.get(layer.weight, 0) + of_units
    weights = dict(zip(through, found[1 + len(ruled.layers) :], strict=True))
    return Relevance(logits.detach(), found[0], units, weights, ruled.layers)


def _inverse(logits: Tensor) -> Tensor:
    """Return 1 / logit, 0 where a logit is 0: no function of the inputs could share its relevance."""
    return (1 / logits).where(logits != 0, 0)


def _shape(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


class _Rules(TorchFunctionMode):
    """Lets the functions that are called inside follow rules; without rules it only lists the layers."""

    def __init__(self, names: Mapping[int, str], rules: Mapping[str, Rule] | None) -> None:
        super().__init__()
        self.names, self.rules = names, rules
        self.layers: list[Layer] = []
        self._unfolded: dict[int, tuple[Tensor, int, Callable[[Tensor, Tensor | None], Tensor]]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function, as its rule says."""
        kwargs = kwargs or {}
        if func in MAPS:
            return self._map(func, *args, **kwargs)
        if func is functional.batch_norm:
            return self._norm(func, *args, **kwargs)
        inputs = [a for a in (*_tensors(args), *_tensors(list(kwargs.values()))) if a.requires_grad]
        output = func(*args, **kwargs)
        if self.rules is not None and inputs and _tensors([output]):
            return self._checked(func, inputs, output)
        return output

    def _checked(self, func: Any, inputs: list[Tensor], output: Any) -> Any:
        """Return the output of a function that carries relevance, or say that none of the rules covers it."""
        name = getattr(func, "__name__", str(func)).strip("_")
        if name in ACTIVATIONS:
            x = inputs[0]
            if x is output:
                raise UsageError(f"LRP: the activation {name!r} is computed in place: set `inplace=False`")
            return x * (output.detach() / x.detach()).where(x.detach() != 0, 0)
        product = name in ("mul", "imul", "div", "truediv", "itruediv") and len(inputs) > 1
        if name not in OWN_GRADIENT or product or not all(t.requires_grad for t in _tensors([output])):
            what = f"the {name} of two activations" if product else f"the function {name!r}"
            raise UsageError(
                f"LRP has no rule for {what}: it explains networks of convolutions, linear maps, batch norms, "
                "activations, pooling and sums, but no attention, gates or layer norms"
            )
        return output

    def _map(
        self, func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **more: Any
    ) -> Tensor:
        """Apply a rule, and keep what a batch norm behind the layer needs to be folded into it."""
        name = self.names.get(id(weight))
        apply = functools.partial(_apply, func, rest, more)
        rule = None if self.rules is None or name is None else self.rules[name]
        if rule is None or not (input.requires_grad or weight.requires_grad):
            made = apply(input, weight, bias)
        else:
            made = propagating(rule, apply, input, weight, bias)
        if name is None:
            return made
        layer = Layer(name, made, MAPS[func], [] if bias is None else [bias])
        self.layers.append(layer)
        made = made.clone()  # what is computed in place later must not change the recorded output

        def folded(scale: Tensor, shift: Tensor) -> Tensor:
            rows = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            offset = shift if bias is None else shift + bias * scale
            return apply(input, rows, offset) if rule is None else propagating(rule, apply, input, rows, offset)

        self._unfolded[id(made)] = (made, len(self.layers) - 1, folded)  # type: ignore[assignment]
        return made

    def _norm(
        self, func: Any, input: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Any:  # fmt: skip
        """Fold a batch norm into the layer whose untouched output it normalises; any other one is linear itself."""
        if training or mean is None or variance is None:
            raise UsageError("LRP needs batch norms with running statistics, in eval mode")
        made, at, folded = self._unfolded.get(id(input), (None, 0, None))
        if made is not input or made._version or folded is None:
            return func(input, mean, variance, weight, bias, training, momentum, eps)
        scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
        output = folded(scale, (0 if bias is None else bias) - mean * scale)
        layer = self.layers[at]
        layer.output, layer.fixed_norm = output, layer.fixed_norm or bias is None
        layer.shift += [tensor for tensor in (weight, bias) if tensor is not None]
        return output.clone()


def _apply(func: Any, rest: Any, more: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = func(input, weight, bias, *rest, **more)
    return made


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    """Return the tensors among values and lists of values."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found
