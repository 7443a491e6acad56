"""`pruningbench.evaluate`: the tasks on a network at hand, with masks or without, and no suite to write."""

from __future__ import annotations

import copy
import itertools
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pruningbench.api import Run, shown_in_notebooks
from pruningbench.base.text import last_line
from pruningbench.contract import Pruner, PruningContext, param
from pruningbench.contract.component import BUILT_IN, ComponentRef
from pruningbench.errors import MaskError, PruningBenchError, UsageError
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.plugins import Plugin, Registry, load_registry
from pruningbench.suite.dense import built_in_that
from pruningbench.suite.examples import required_fields
from pruningbench.suite.labels import LONGEST
from pruningbench.suite.schema import suite_from_text
from pruningbench.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from pruningbench.pruning.masks import Masks

_NETWORKS: dict[int, nn.Module] = {}
_MASKS: dict[int, Masks] = {}
_numbers = itertools.count(1)
_SET = ("network", "args")
"""Fields of the model that `evaluate` sets itself."""


@dataclass(frozen=True, repr=False)
class Evaluation(Run):
    """The results of a network: a `Run`, whose folder is removed with this object unless `evaluate` was given one."""

    pruned: bool = field(default=False, kw_only=True)

    def values(self) -> dict[str, float]:
        """Return the values of the network, with its masks if it has any: ``task.metric`` or ``task.variant.metric``.

        Metrics that are undefined are NaN; failed tasks are left out (`not_ok` names them).
        """
        table = self.results()
        rows = table[(table["sparsity"] > 0) if self.pruned else (table["sparsity"] == 0)]
        rows = rows[(rows["status"] == "ok") & (rows["metric"] != "")]
        names = (".".join(filter(None, row)) for row in zip(rows["task"], rows["variant"], rows["metric"], strict=True))
        return dict(zip(names, map(float, rows["value"]), strict=True))


@dataclass(frozen=True)
class GivenMasks(Pruner):
    """The masks that `pruningbench.evaluate` was given."""

    exact: ClassVar[bool] = False

    number: int = param(doc="which masks")

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return the masks, which `evaluate` has checked; parameters without a mask stay whole."""
        from pruningbench.pruning.masks import Masks

        return Masks({**Masks.ones(context.parameters), **_MASKS[self.number]})


def given_network(number: int) -> nn.Module:
    """Return a copy of the network that `evaluate` was given."""
    return copy.deepcopy(_NETWORKS[number])


def evaluate(
    network: nn.Module,
    tasks: Sequence[str | Mapping[str, Any]],
    *,
    data: ComponentRef | None = None,
    masks: Masks | None = None,
    metrics: Sequence[ComponentRef] = (),
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 128,
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
    observer: object | None = None,
    **fields: Any,
) -> Evaluation:
    """Run tasks on a network at hand.

    The values are those of a suite with the model `python` and the same fields, bit for bit.

    Args:
        network: maps normalised (B, C, H, W) images to (B, classes) logits; it is copied and stays unchanged.
        tasks: names, or items of a suite's ``tasks:`` (``{"use": "classification", "data": ...}``).
        data: the data set of each task that is given by name, such as
            ``{"use": "folder", "path": "photos"}``; tasks that train take its ``train`` split for that.
        masks: also evaluate the network with these masks applied, and compare it with the network as it is.
            Parameters without a mask stay whole.
        metrics: metrics to add, as in a suite's ``metrics:``.
        seed: seed of everything that tasks draw.
        limit: number of samples to use from each data set.
        batch_size: largest batch.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        out: folder for the results; without one they last as long as the returned object.
        observer: as in `run`.
        fields: how images are prepared and where views are read, as the model `python` takes it: mean, std, size,
            crop, interpolation, classes, features, head, prefix_tokens.

    Raises:
        UsageError: for a wrong task, data set or field; nothing has run.
        MaskError: for a mask that fits no prunable parameter.
        PruningBenchError: if no task could be evaluated, with the reason of the first.
    """
    _check(network, tasks, masks, fields)
    with _held(network, masks) as number:
        registry = _registry()
        values = {
            "models": [_model(network, number, fields, registry)],
            "tasks": [_task(task, data, registry) for task in tasks],
            "metrics": list(metrics),
            "seeds": [seed],
            "batch_size": batch_size,
            **({} if limit is None else {"limit": limit}),
        }
        sparsity = 1 - masks.kept / masks.total if masks is not None else 0.0
        suite = suite_from_text(_yaml(values, number, sparsity), registry, source="evaluate")
        folder = Path(tempfile.mkdtemp(prefix="pruningbench-")) if out is None else Path(out)
        try:
            options = RunOptions(device, no_cache=True)
            prepared = prepare(suite, registry, folder / "run" if out is None else folder, options)
            with shown_in_notebooks(registry):
                summary = execute(prepared, registry, observer)
        except BaseException:
            if out is None:
                _remove(folder)
            raise
    evaluation = Evaluation(**vars(summary), folder=prepared.folder.path, pruned=bool(sparsity))
    if out is None:
        weakref.finalize(evaluation, _remove, folder)
    _raise_if_nothing_worked(evaluation)
    return evaluation


def _check(network: Any, tasks: Any, masks: Any, fields: Mapping[str, Any]) -> None:
    from torch import nn

    from pruningbench.pruning.masks import Masks
    from pruningbench.pruning.scope import prunable_parameters

    if not isinstance(network, nn.Module):
        raise UsageError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    if masks is not None and not isinstance(masks, Masks):
        raise UsageError(f"masks must be pruningbench.Masks, got {type(masks).__name__}")
    shapes = {name: tuple(p.shape) for name, p in prunable_parameters(network).items()} if masks else {}
    for name, mask in (masks or {}).items():
        if shapes.get(name) != tuple(mask.shape):
            there = f"that of the network is {shapes[name]}" if name in shapes else "the network has none"
            raise MaskError(f"mask {name!r} is {tuple(mask.shape)}, and {there}")
    if isinstance(tasks, (str, Mapping)) or not isinstance(tasks, Sequence) or not tasks:
        raise UsageError(f"tasks must be a list of names or dictionaries with at least one item, got {tasks!r}")
    for name in set(_SET) & fields.keys():
        raise UsageError(f"evaluate sets {name!r} itself: give the network, built")


@contextmanager
def _held(network: nn.Module, masks: Masks | None) -> Iterator[int]:
    """Keep a network and its masks where the suite's components find them."""
    number = next(_numbers)
    _NETWORKS[number] = network
    if masks is not None:
        _MASKS[number] = masks
    try:
        yield number
    finally:
        del _NETWORKS[number]
        _MASKS.pop(number, None)


def _registry() -> Registry:
    """Return the installed components and `given-masks`, which no suite of a user can name."""
    registry = load_registry().copy()
    registry.add("pruner", "given-masks", GivenMasks, Plugin("evaluate", BUILT_IN, __version__))
    return registry


def _model(network: nn.Module, number: int, fields: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Return the item of ``models:``, labelled with the network's class."""
    label = re.sub(r"[^A-Za-z0-9._-]", "-", type(network).__name__)[:LONGEST] or "network"
    model: dict[str, Any] = {"use": built_in_that(registry, "model", "from_function"), "as": label}
    model |= {"network": f"{__name__}:{given_network.__name__}", "args": {"number": number}}
    return model | {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _task(task: Any, data: ComponentRef | None, registry: Registry) -> dict[str, Any]:
    """Return an item of ``tasks:``; a task given by name gets `data` where it needs a data set."""
    given = {"use": task} if isinstance(task, str) else task
    if not isinstance(given, Mapping):
        raise UsageError(f"a task is a name or a dictionary such as {{'use': 'classification'}}, got {task!r}")
    if data is None or not isinstance(given.get("use"), str):
        return dict(given)
    reference = {"use": data} if isinstance(data, str) else dict(data)
    component = registry.entry("task", given["use"]).load()
    return {**given, **required_fields(registry, component, reference, without=given)}


def _raise_if_nothing_worked(evaluation: Evaluation) -> None:
    """Raise the first failure if no task has a value; where some have, `Run.not_ok` names the others."""
    table = evaluation.results()
    if len(table) and not (table["status"] == "ok").any():
        reason = re.sub(r"^[\w.]+Error: ", "", last_line(str(table["error"].iloc[0])))
        raise PruningBenchError(f"nothing could be evaluated: {reason}")


def _yaml(values: Mapping[str, Any], number: int, sparsity: float) -> str:
    """Return the text of a suite that measures a network as it is, and with its masks if they prune anything."""
    import yaml

    suite = {
        "name": "evaluation",
        "pruners": [{"use": "given-masks", "as": "masks", "number": number}],
        "sparsities": [0, sparsity] if sparsity else [0],
        **values,
    }
    try:
        return yaml.safe_dump(suite, sort_keys=False)
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"tasks, data, metrics and fields hold plain values only: {reason}") from None


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
