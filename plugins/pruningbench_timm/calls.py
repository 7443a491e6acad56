"""Call a user's function that builds a network."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pruningbench.contract import (
    Preprocessing,
    PruningBenchError,
    UsageError,
    did_you_mean,
    expanded,
    imagenet_classes,
    isolated_randomness,
)


def build(name: str, args: Mapping[str, Any], seed: int | None) -> nn.Module:
    """Return the network that a function builds.

    Args:
        name: ``package.module:function`` or ``path/to/file.py:function``.
        args: its keyword arguments.
        seed: seed of its weights; None to draw from the generator's current state.

    Raises:
        UsageError: if it cannot be imported or called, or does not return a network.
    """
    return _call(_function(name), name, args, seed)


def _call(function: Callable[..., Any], name: str, args: Mapping[str, Any], seed: int | None) -> nn.Module:
    try:
        if seed is None:
            built = function(**args)
        else:
            with isolated_randomness(seed, "initial weights"):
                built = function(**args)
    except Exception as error:  # a user's code may raise anything
        raise UsageError(f"{name}({_shown(args)}) failed: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise UsageError(f"{name} returned a {type(built).__name__}, not a torch.nn.Module")
    return built


def on_meta(name: str, args: Mapping[str, Any], input_size: tuple[int, int, int]) -> nn.Module | None:
    """Return the network without weights on the meta device; None if the function needs real tensors."""
    try:
        function = _function(name)  # before: a module may compute something while it is imported
        with torch.device("meta"):
            network: Any = _call(function, name, args, None)
    except UsageError as error:
        if isinstance(error.__cause__, RuntimeError):
            return None
        raise
    if not hasattr(network, "default_cfg") and input_size[1]:
        network.default_cfg = {"input_size": input_size}
    built: nn.Module = network
    return built.eval()


def _shown(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in args.items())


def _function(name: str) -> Callable[..., Any]:
    where, _, wanted = name.rpartition(":")
    module = _from_file(where) if where.endswith(".py") else _from_path(where)
    function = getattr(module, wanted, None)
    if not callable(function):
        callables = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise UsageError(f"{where} has no function {wanted!r}{did_you_mean(wanted, callables)}")
    found: Callable[..., Any] = function
    return found


def _from_path(where: str) -> Any:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not (where == error.name or where.startswith(f"{error.name}.")):
            raise UsageError(f"{where}: it imports {error.name!r}, which is not installed") from error
        raise UsageError(
            f"no module {where!r} on Python's path; add its folder to PYTHONPATH, or give path/to/file.py:function"
        ) from error
    except Exception as error:  # a user's code may raise anything
        raise UsageError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error


def _from_file(where: str) -> Any:
    path = expanded(where)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    name = f"pruningbench_own_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the file's dataclasses and pickles look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's code may raise anything
        del sys.modules[name]
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def is_of_timm(network: nn.Module) -> bool:
    """Whether a network has the timm methods from which its views are read."""
    return all(callable(getattr(network, m, None)) for m in ("forward_features", "forward_head", "get_classifier"))


def classes_of(
    network: nn.Module, declared: Sequence[str] | Literal["imagenet"], preprocessing: Preprocessing, name: str
) -> tuple[str, ...]:
    """Return the declared label space, after counting the logits of one blank image.

    Without a declaration, the classes are the logit numbers.

    Raises:
        UsageError: if the network refuses such images, does not return (B, classes) logits, or returns a
            different number of them.
    """
    parameter = next(network.parameters(), None)
    if parameter is None:
        raise UsageError(f"{name} returned a network without parameters")
    side = preprocessing.size or 224
    blank = parameter.new_zeros(1, len(preprocessing.mean), side, side)
    try:
        with torch.no_grad():
            logits = network(blank)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{name}: the network refuses images of {tuple(blank.shape[1:])}: {reason}") from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UsageError(f"{name}: the network returns {got} for one image, not (1, classes) logits")
    classes = imagenet_classes() if declared == "imagenet" else tuple(declared)
    if classes and len(classes) != logits.shape[1]:
        raise UsageError(f"{name}: {len(classes)} classes are named, but the network has {logits.shape[1]} logits")
    if not bool(torch.isfinite(logits).all()):
        raise PruningBenchError(f"{name}: the network returns NaN or infinity for a blank image")
    return classes or tuple(map(str, range(logits.shape[1])))
