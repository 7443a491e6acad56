"""The Python interface: run a suite, load results, or just prune or score a network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Pruner, PruningContext, ScorePruner, Use, check_scores, check_weights
from pruningbench.contract.precision import FULL, kernels
from pruningbench.errors import CollapseWarning, UsageError, did_you_mean
from pruningbench.harness.driver import Summary
from pruningbench.harness.notebook import NotebookProgress, in_notebook
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.leaderboard.comparing import compare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import load_registry
from pruningbench.store.mirroring import EVERY
from pruningbench.store.weights import load_weights
from pruningbench.suite.binding import bind
from pruningbench.suite.schema import load_suite, suite_from_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from pruningbench.plugins import Registry
    from pruningbench.pruning.masks import Masks
    from pruningbench.pruning.scope import Scope
    from pruningbench.suite.schema import Suite

__all__ = ["Run", "compare", "load_results", "load_weights", "prune", "run", "score"]

Batch = tuple["Tensor", "Tensor | None"]


@dataclass(frozen=True, repr=False)
class Run(Summary):
    """A finished run: its `Summary`, and the run folder with all results.

    Attributes:
        folder: the run folder.
    """

    folder: Path = field(kw_only=True)

    def results(self) -> pd.DataFrame:
        """Return the measurements as a table (see `load_results`)."""
        return load_results(self.folder)

    def figures(self, *, pdf: bool = False) -> list[Path]:
        """Draw the figures, if they are not up to date, and return their PNGs.

        Args:
            pdf: also write each as PDF of the same name, for print.
        """
        from pruningbench.leaderboard import draw_figures

        return list(draw_figures(self.folder, pdf=pdf))

    def table(self, format: str = "table") -> str:
        """Return the leaderboard as text, in any format of `pruningbench leaderboard` but parquet."""
        from pruningbench.leaderboard import build, render

        return render(build(load_results(self.folder, details=True), [self.folder]), format)

    def plot(self, metric: str) -> Figure:
        """Draw a metric over sparsity with its intervals, a line for each pruner and recipe, a panel for each model.

        Args:
            metric: ``metric``, ``task.metric`` or ``task.variant.metric``; the first one that is so called.

        Raises:
            UsageError: if the run has no such metric.
        """
        from pruningbench.leaderboard import build
        from pruningbench.leaderboard.curves import curve

        return curve(build(load_results(self.folder, details=True), [self.folder]), metric)

    def __repr__(self) -> str:
        """One line: what ran and what failed; tracebacks are in the journal (`results`)."""
        failed = f", {len(self.not_ok)} task runs not ok" if self.not_ok else ""
        done = f"{self.computed} task runs computed, {self.resumed} done before{failed}"
        left = f", {self.pending} left" if self.pending else ""
        return f"<{type(self).__name__} {os.fspath(self.folder)!r}: {self.cells} cells, {done}{left}>"

    def _repr_html_(self) -> str:
        """The leaderboard for notebooks; all text is escaped."""
        from html import escape

        return f"<p>{escape(repr(self))}</p><pre>{escape(self.table())}</pre>"


def run(
    suite: str | os.PathLike[str] | Mapping[str, Any],
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
    address: str | None = None,
    task_timeout: float | None = None,
    memory: int | None = None,
    budget: float | None = None,
    accept_changed: bool = False,
    no_cache: bool = False,
    verify_data: bool = False,
    observer: object | None = None,
    observers: Sequence[str] = (),
    upload_every: float = EVERY,
    progress: bool = True,
) -> Run:
    """Run a suite, or resume it: what the run folder already holds is not computed again.

    Args:
        suite: path of a suite file, the name of a shipped suite, or a suite as a dictionary.
        out: run folder; ``runs/NAME`` by default. A URL such as ``s3://bucket/folder`` must be text.
        settings: changes to the suite, ``"KEY=VALUE"`` (as ``--set``).
        only: filters ``"KIND=LABEL"`` for what to include (as ``--only``).
        without: filters ``"KIND=LABEL"`` for what to leave out (as ``--not``).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        shard: (i, n) to run only part i of n, counted from 1.
        retry_failed: retry what is not ok.
        executor: name of a registered executor.
        workers: processes that the executor may use.
        address: the Ray cluster that ``executor="ray"`` uses; by default it starts one on this machine.
        task_timeout: seconds that a task, or making a cell's model, may take without a sign of progress (an event or
            a progress note); it is then killed and recorded as ``timeout``. None for no limit.
        memory: bytes that a task may hold for its samples and what it makes of them; tasks with more go in parts, with
            the same values. None for 4 GiB.
        budget: seconds after which nothing is started any more, nor what is likely to take longer; what is most
            informative runs first. None for no limit.
        accept_changed: keep finished rows even if weights, data or code have changed since, and mark them.
        no_cache: neither read nor fill the cache of this machine.
        verify_data: read all weights and data again, even if no file seems to have changed.
        observer: an object with observing hooks (methods marked with `hookimpl`, such as
            ``pruningbench_cell_done``), called in addition to those of the installed plugins.
        observers: names of registered observers (as ``--observer``), such as ``tensorboard``.
        upload_every: seconds between two uploads if `out` is a URL.
        progress: show a bar in notebooks.

    Raises:
        UsageError: if the request is wrong; nothing ran and nothing was written.
    """
    registry = load_registry()
    loaded = _suite(suite, registry, settings)
    options = RunOptions(
        device=device,
        executor=executor,
        workers=workers,
        address=address,
        shard=shard,
        retry_failed=retry_failed,
        only=tuple(only),
        without=tuple(without),
        accept_changed=accept_changed,
        no_cache=no_cache,
        verify_data=verify_data,
        task_timeout=task_timeout,
        memory=memory,
        budget=budget,
        observers=tuple(observers),
        upload_every=upload_every,
    )
    prepared = prepare(loaded, registry, out, options)
    with shown_in_notebooks(registry, progress=progress):
        summary = execute(prepared, registry, observer)
    return Run(**vars(summary), folder=prepared.folder.path)


def shown_in_notebooks(registry: Registry, *, progress: bool = True) -> AbstractContextManager[None]:
    """Show the progress of runs in a notebook, for the duration of a block."""
    shown = NotebookProgress() if progress and in_notebook() else None
    return registry.door.admitted("progress in a notebook", shown)


def _suite(suite: Any, registry: Registry, settings: Sequence[str]) -> Suite:
    """Return the suite that the argument of `run` means."""
    if isinstance(suite, Mapping):
        import yaml

        try:
            text = yaml.safe_dump(dict(suite), sort_keys=False)
        except yaml.YAMLError as error:
            raise UsageError(f"the suite must hold plain values only: {str(error).splitlines()[0]}") from None
        return suite_from_text(text, registry, source="the suite", settings=settings)
    if not isinstance(suite, (str, os.PathLike)):
        raise UsageError(f"suite must be a path, a name or a dictionary, got {type(suite).__name__}")
    return load_suite(os.fspath(suite), registry, settings)


def prune(
    network: nn.Module,
    name: str | Pruner,
    sparsity: float,
    batches: Iterable[Batch] | None = None,
    *,
    seed: int = 0,
    scope: Scope | Mapping[str, Any] | None = None,
    **params: Any,
) -> Masks:
    """Return the masks that any registered pruner gives for any network; the network is left unchanged.

    Args:
        network: any module; its weights stay unchanged (apply the masks yourself). For a pruner that also
            updates the weights it keeps, this gives only the masks; in a suite the updates count.
        name: a registered pruner, or your own, which need not be registered.
        sparsity: share of the prunable weights to prune, in [0, 1); exactly
            ``round(sparsity * prunable)`` weights are pruned.
        batches: (images, labels) pairs for pruners that need data; labels may be None for pruners that
            need none.
        seed: seed for pruners that draw random numbers.
        scope: which parameters may be pruned; a `Scope`, or its fields as a dictionary.
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

    label = name if isinstance(name, str) else type(name).__name__
    emptied = collapse(masks, float(sparsity))
    if emptied:
        warnings.warn(f"pruner {label!r}: {emptied}; see pruningbench.diagnose", CollapseWarning, stacklevel=2)
    return masks.with_provenance(pruner=label, sparsity=float(sparsity), seed=seed, fields=dict(params))


def score(
    network: nn.Module,
    name: str | Pruner,
    batches: Iterable[Batch] | None = None,
    *,
    seed: int = 0,
    scope: Scope | Mapping[str, Any] | None = None,
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
    name: str | Pruner,
    batches: Iterable[Batch] | None,
    seed: int,
    scope: Scope | Mapping[str, Any] | None,
    params: dict[str, Any],
) -> Iterator[tuple[Pruner, PruningContext]]:
    """Yield a pruner and its context; network and random state are restored afterwards."""
    from torch import nn

    from pruningbench.base.randomness import isolated_randomness
    from pruningbench.pruning.preservation import preserved
    from pruningbench.pruning.scope import prunable_parameters

    if not isinstance(network, nn.Module):
        raise UsageError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    use = _use_of(name, params)
    pruner, name = use.component, use.name
    assert isinstance(pruner, Pruner)  # noqa: S101 - binding checked the kind
    checked = _checked(name, batches)
    if pruner.needs_data and not checked:
        raise UsageError(f"pruner {name!r} needs data: give batches=[(images, labels), ...]")
    reason = pruner.refuses(network)
    if reason:
        raise UsageError(f"pruner {name!r} cannot prune this {type(network).__name__}: {reason}")
    parameters = prunable_parameters(network, _scope(scope))
    check_weights(network)
    context = PruningContext(network, parameters, seed, (lambda: iter(checked)) if checked else None)
    if checked:
        _check_images(network, checked[0][0])
    with isolated_randomness("prune", seed, use.identity()), kernels(FULL), preserved(network):
        network.eval()
        yield pruner, context


def _check_images(network: nn.Module, images: Tensor) -> None:
    """Refuse images that the network cannot compute, before a pruner fails on them in torch's words."""
    import torch

    from pruningbench.base.randomness import isolated_randomness
    from pruningbench.pruning.preservation import preserved

    try:
        with isolated_randomness("images"), preserved(network), torch.no_grad():
            network.eval()
            network(images[:2])
    except Exception as error:  # a network may raise anything
        shape, reason = tuple(images.shape), str(error).strip().partition("\n")[0]
        raise UsageError(f"{type(network).__name__} cannot take images {shape}: {reason}") from error


def _use_of(pruner: Any, params: Mapping[str, Any]) -> Use:
    """Return a registered pruner with its fields, or somebody's own instance."""
    if isinstance(pruner, str):
        return bind(load_registry(), "pruner", {"use": pruner, **params})
    if isinstance(pruner, type) and issubclass(pruner, Pruner):
        raise UsageError(f"give an instance, {pruner.__name__}(...), or the name of a registered pruner")
    if not isinstance(pruner, Pruner):
        raise UsageError(f"name must be the name of a pruner or a Pruner, got {type(pruner).__name__}")
    if params:
        raise UsageError(f"{type(pruner).__name__} has its fields already; give {', '.join(params)} when it is made")
    problem = pruner.problem()
    if problem:
        raise UsageError(f"pruner {type(pruner).__name__!r}: {problem}")
    return Use(type(pruner).__name__, pruner)


def _scope(scope: Any) -> Scope | None:
    from pruningbench.pruning.scope import Scope

    if not isinstance(scope, Mapping):
        if scope is None or isinstance(scope, Scope):
            return scope
        raise UsageError(f"scope must be a Scope or a dictionary, got {type(scope).__name__}")
    unknown = sorted(set(scope) - {"head", "exclude"})
    if unknown:
        raise UsageError(f"scope has no {unknown[0]!r}{did_you_mean(str(unknown[0]), ['head', 'exclude'])}")
    exclude = scope.get("exclude", ())
    return Scope(bool(scope.get("head", True)), (exclude,) if isinstance(exclude, str) else tuple(exclude))


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
