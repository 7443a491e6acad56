"""The Python interface: run a suite, load results, or just prune or score a network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Pruner, PruningContext, ScorePruner, check_scores, check_weights
from pruningbench.errors import CollapseWarning, UsageError
from pruningbench.harness.driver import Summary
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import load_registry
from pruningbench.store.weights import load_weights
from pruningbench.suite.binding import bind
from pruningbench.suite.schema import load_suite

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks
    from pruningbench.pruning.scope import Scope

__all__ = ["Run", "load_results", "load_weights", "prune", "run", "score"]

Batch = tuple["Tensor", "Tensor | None"]


@dataclass(frozen=True)
class Run(Summary):
    """A finished run: its `Summary`, and the run folder with all results.

    Attributes:
        folder: the run folder.
    """

    folder: Path = field(kw_only=True)

    def results(self) -> pd.DataFrame:
        """Return the measurements as a table (see `load_results`)."""
        return load_results(self.folder)

    def figures(self) -> list[Path]:
        """Draw the figures, if they are not up to date, and return their files."""
        from pruningbench.leaderboard import draw_figures

        return list(draw_figures(self.folder))


def run(
    suite: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    settings: Sequence[str] = (),
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    device: str = "auto",
    shard: tuple[int, int] | None = None,
    retry_failed: bool = False,
    executor: str = "serial",
    workers: int = 1,
    accept_changed: bool = False,
    no_cache: bool = False,
    verify_data: bool = False,
    observer: object | None = None,
) -> Run:
    """Run a suite, or resume it: what the run folder already holds is not computed again.

    Args:
        suite: path of a suite file, or the name of a shipped suite.
        out: run folder; ``runs/NAME`` by default.
        settings: changes to the suite, ``"KEY=VALUE"`` (as ``--set``).
        only: filters ``"KIND=LABEL"`` for what to include (as ``--only``).
        without: filters ``"KIND=LABEL"`` for what to leave out (as ``--not``).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        shard: (i, n) to run only part i of n, counted from 1.
        retry_failed: retry what is not ok.
        executor: name of a registered executor.
        workers: processes that the executor may use.
        accept_changed: keep finished rows even if weights, data or code have changed since, and mark them.
        no_cache: neither read nor fill the cache of this machine.
        verify_data: read all weights and data again, even if no file seems to have changed.
        observer: an object with observing hooks (methods marked with `hookimpl`, such as
            ``pruningbench_cell_done``), called in addition to those of the installed plugins.

    Raises:
        UsageError: if the request is wrong; nothing ran and nothing was written.
    """
    registry = load_registry()
    loaded = load_suite(os.fspath(suite), registry, settings)
    options = RunOptions(
        device,
        executor,
        workers,
        shard,
        retry_failed,
        tuple(only),
        tuple(without),
        accept_changed,
        no_cache,
        verify_data,
    )
    prepared = prepare(loaded, registry, out, options)
    summary = execute(prepared, registry, observer)
    return Run(**vars(summary), folder=prepared.folder.path)


def prune(
    network: nn.Module,
    name: str,
    sparsity: float,
    batches: Iterable[Batch] | None = None,
    *,
    seed: int = 0,
    scope: Scope | None = None,
    **params: Any,
) -> Masks:
    """Return the masks that any registered pruner gives for any network; the network is left unchanged.

    Args:
        network: any module; its weights stay unchanged (apply the masks yourself). For a pruner that also
            updates the weights it keeps, this gives only the masks; in a suite the updates count.
        name: a registered pruner.
        sparsity: share of the prunable weights to prune, in [0, 1); exactly
            ``round(sparsity * prunable)`` weights are pruned.
        batches: (images, labels) pairs for pruners that need data; labels may be None for pruners that
            need none.
        seed: seed for pruners that draw random numbers.
        scope: which parameters may be pruned.
        params: fields of the pruner.

    Raises:
        UsageError: for an unknown pruner or field, a sparsity out of range, missing data, or a network that the
            pruner cannot prune.
        ScoreError: for scores that are NaN or infinite, naming the parameter.

    Warns:
        CollapseWarning: if the masks leave no weight in a parameter.
    """
    with _pruning(network, name, batches, seed, scope, params) as (pruner, context):
        if isinstance(sparsity, bool) or not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
            raise UsageError(f"sparsity must be a number in [0, 1), got {sparsity!r}")
        masks = pruner.prune(context, float(sparsity))
    from pruningbench.pruning.diagnostics import collapse

    emptied = collapse(masks, float(sparsity))
    if emptied:
        warnings.warn(f"pruner {name!r}: {emptied}; see pruningbench.diagnose", CollapseWarning, stacklevel=2)
    return masks.with_provenance(pruner=name, sparsity=float(sparsity), seed=seed, fields=dict(params))


def score(
    network: nn.Module,
    name: str,
    batches: Iterable[Batch] | None = None,
    *,
    seed: int = 0,
    scope: Scope | None = None,
    **params: Any,
) -> dict[str, Tensor]:
    """Return a score pruner's scores for any network: parameter name -> tensor, higher = keep.

    Arguments and errors are those of `prune`; a pruner that gives no scores raises a UsageError.
    """
    with _pruning(network, name, batches, seed, scope, params) as (pruner, context):
        if not isinstance(pruner, ScorePruner):
            raise UsageError(f"pruner {name!r} gives masks, not scores: use prune()")
        return check_scores(pruner.score(context), context.parameters)


@contextmanager
def _pruning(
    network: nn.Module,
    name: str,
    batches: Iterable[Batch] | None,
    seed: int,
    scope: Scope | None,
    params: dict[str, Any],
) -> Iterator[tuple[Pruner, PruningContext]]:
    """Yield a pruner and its context; network and random state are restored afterwards."""
    from torch import nn

    from pruningbench.base.randomness import isolated_randomness
    from pruningbench.pruning.preservation import preserved
    from pruningbench.pruning.scope import prunable_parameters

    if not isinstance(network, nn.Module):
        raise UsageError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    use = bind(load_registry(), "pruner", {"use": name, **params})
    pruner = use.component
    assert isinstance(pruner, Pruner)  # noqa: S101 - binding checked the kind
    checked = _checked(name, batches)
    if pruner.needs_data and not checked:
        raise UsageError(f"pruner {name!r} needs data: give batches=[(images, labels), ...]")
    reason = pruner.refuses(network)
    if reason:
        raise UsageError(f"pruner {name!r} cannot prune this {type(network).__name__}: {reason}")
    parameters = prunable_parameters(network, scope)
    check_weights(network)
    context = PruningContext(network, parameters, seed, (lambda: iter(checked)) if checked else None)
    with isolated_randomness("prune", seed, use.identity()), preserved(network):
        network.eval()
        yield pruner, context


def _checked(pruner: str, batches: Iterable[Batch] | None) -> list[Batch]:
    """Return the batches that hold images.

    Raises:
        UsageError: for batches that are not (images, labels) pairs of finite images and one class number per image.
    """
    import torch

    integers = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    checked = []
    for number, batch in enumerate(batches if batches is not None else (), 1):
        where = f"pruner {pruner!r}: batch {number}"
        if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[0], torch.Tensor):
            raise UsageError(f"{where} is not an (images, labels) pair; labels may be None if the pruner needs none")
        images, labels = batch
        if labels is not None:
            if not isinstance(labels, torch.Tensor) or labels.ndim != 1 or labels.dtype not in integers:
                raise UsageError(f"{where}: labels must be a (B,) tensor of class numbers")
            labels = labels.long()
            if len(labels) != len(images):
                raise UsageError(f"{where} has {len(images)} images but {len(labels)} labels")
        if not bool(torch.isfinite(images).all()):
            raise UsageError(f"{where}: images hold NaN or infinite values")
        if len(images):
            checked.append((images, labels))
    return checked
