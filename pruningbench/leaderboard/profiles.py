"""Profiles: the curve behind a metric, such as accuracy while pixels are removed, one line per sparsity."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pruningbench.contract.reporting import Drawing, ReportedRun, percent
from pruningbench.leaderboard.exhibits import UNREADABLE
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.references import References
from pruningbench.leaderboard.style import FAINT, INK, new_figure, plain_axes, text_width
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Line = NDArray[np.float64]

PANEL = (2.9, 1.95)
"""Width and height of a panel in inches, without its labels."""
LEFT, GAP, BELOW, TOP, BOTTOM = 0.9, 0.3, 0.75, 0.8, 0.6
"""Space in inches: on the left, between panels side by side, between panels one below another, above and below all."""
MOST_PRUNERS, MOST_METRICS, MOST_SPARSITIES = 4, 5, 8
"""Most panels side by side, panels one below another, and lines in a panel."""
MOST = 64
"""Largest number of figures drawn for one run."""


@dataclass(frozen=True)
class _Profile:
    """The curves of one metric: the mean over samples and seeds, by pruner and sparsity."""

    name: str
    x: Line
    x_label: str
    lines: Mapping[tuple[str, float], Line]


@dataclass(frozen=True)
class _Page:
    """The content of one figure; every pruner's panel shows the dense model's lines."""

    title: str
    profiles: Sequence[_Profile]
    pruners: Mapping[str, str]
    sparsities: Sequence[float]


def profile_figures(run: ReportedRun) -> Iterator[Drawing]:
    """Draw the curves behind metrics."""
    for names, figure in profiles(RunFolder(run.folder), run.results):
        yield names, partial(_made, figure)


def _made(figure: Figure) -> Figure:
    return figure


def profiles(run: RunFolder, frame: pd.DataFrame) -> Iterator[tuple[list[str], Figure]]:
    """Draw a figure for each task, variant, model and recipe with metrics whose curves are stored.

    Rows are metrics and columns are pruners; lines go from the dense model (black) to the sparsest (light).

    Yields:
        The figure's name in parts, and the figure.
    """
    drawn = 0
    for names, page in _pages(run, frame):
        for first in range(0, len(page.profiles), MOST_METRICS):
            if drawn == MOST:
                warnings.warn(f"{run.path}: only the first {MOST} figures of profiles are drawn", stacklevel=3)
                return
            drawn += 1
            part = page.profiles[first : first + MOST_METRICS]
            yield names, _figure(_Page(page.title, part, page.pruners, page.sparsities))


def _pages(run: RunFolder, frame: pd.DataFrame) -> Iterator[tuple[list[str], _Page]]:
    measured = frame[frame["status"] == "ok"]
    for task, of_task in measured.groupby("task", sort=False):
        stored = {cell: curves for cell in of_task["cell"].unique() if (curves := _curves_of(run, cell, str(task)))}
        if not stored:
            continue
        kept = of_task[of_task["cell"].isin(list(stored))]
        for (variant, model), group in kept.groupby(["variant", "model"], sort=False):
            references, pruned = References(group.to_dict("records")), group[group["sparsity"] > 0]
            recipes = list(dict.fromkeys(pruned["recipe"])) or [""]
            for recipe in recipes:
                rows = pruned[pruned["recipe"] == recipe]
                own = references.of(str(model), recipe)
                dense = group[(group["sparsity"] == 0) & (group["recipe"] == own)]
                pruners = list(dict.fromkeys(rows["pruner"]))[:MOST_PRUNERS] or ["dense"]
                maybe = [
                    _profile(str(metric), str(variant), stored, [*_records(dense, metric), *_records(rows, metric)])
                    for metric in dict.fromkeys(group["metric"])
                ]
                found = [profile for profile in maybe if profile]
                if found:
                    shown = _spread(sorted({s for profile in found for _, s in profile.lines}))
                    label = compact(recipes)[recipe] if len(recipes) > 1 else ""
                    title = " · ".join(filter(None, (str(task), str(variant), str(model), label and f"recipe {label}")))
                    names = ["profiles", *filter(None, (str(task), str(variant), str(model), recipe))]
                    yield names, _Page(title, found, compact(pruners), shown)


def _records(rows: pd.DataFrame, metric: Any) -> list[dict[Any, Any]]:
    records: list[dict[Any, Any]] = rows[rows["metric"] == metric].to_dict("records")
    return records


def _curves_of(run: RunFolder, cell: str, task: str) -> dict[str, Any]:
    """Read the curves of a cell by ``variant|metric|curve`` etc.; empty if there are none or they are damaged."""
    from pruningbench.store.samples import read_arrays

    file = run.samples_file(cell, task)
    try:
        arrays = read_arrays(file)
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        warnings.warn(f"{file}: is damaged ({error}); figures go without it", stacklevel=4)
        return {}
    return {name: array for name, array in arrays.items() if name.count("|") == 2}


def _profile(
    metric: str, variant: str, stored: Mapping[str, dict[str, Any]], records: Sequence[dict[Any, Any]]
) -> _Profile | None:
    import numpy as np

    key = f"{variant}|{metric}"
    by_line: dict[tuple[str, float], list[Line]] = {}
    axis: tuple[Line, str] | None = None
    for record in records:
        arrays = stored[record["cell"]]
        curve, x, label = (arrays.get(f"{key}|{part}") for part in ("curve", "x", "x label"))
        if curve is None or x is None or label is None or curve.ndim != 2 or curve.shape[1:] != x.shape:
            continue
        axis = axis or (x, str(label))
        defined = curve[~np.isnan(curve).any(axis=1)].astype(np.float64)
        if len(defined) and np.array_equal(axis[0], x):
            by_line.setdefault((record["pruner"], record["sparsity"]), []).append(defined.mean(axis=0))
    if axis is None or not by_line:
        return None
    unit = next((record["unit"] for record in records if record["unit"]), "")
    arrow = {True: " ↑", False: " ↓"}.get(records[0]["higher_is_better"], "")
    name = f"{elide(metric, 34)}{arrow}" + (f"\n({unit})" if unit else "")
    return _Profile(name, *axis, {line: np.mean(curves, axis=0) for line, curves in by_line.items()})


def _spread(sparsities: list[float]) -> list[float]:
    """Choose evenly spaced sparsities to draw, including the first and the last."""
    if len(sparsities) <= MOST_SPARSITIES:
        return sparsities
    last = len(sparsities) - 1
    return [sparsities[round(i * last / (MOST_SPARSITIES - 1))] for i in range(MOST_SPARSITIES)]


def _figure(page: _Page) -> Figure:
    legend = 1.15
    width = LEFT + len(page.pruners) * (PANEL[0] + GAP) + legend
    height = TOP + len(page.profiles) * (PANEL[1] + BELOW) - BELOW + BOTTOM
    width, height = max(width, 5.6), max(height, TOP + 0.19 * (len(page.sparsities) + 1) + 0.2)
    figure = new_figure(width, height)
    looks = _looks(page.sparsities)
    for i, profile in enumerate(page.profiles):
        first: Axes | None = None
        for j, (pruner, label) in enumerate(page.pruners.items()):
            corner = LEFT + j * (PANEL[0] + GAP), TOP + PANEL[1] + i * (PANEL[1] + BELOW)
            box = (corner[0] / width, 1 - corner[1] / height, PANEL[0] / width, PANEL[1] / height)
            axes = figure.add_axes(box, sharey=first)
            _panel(axes, profile, pruner, looks)
            if first is None:
                axes.set_ylabel(profile.name, fontsize=9, color=INK)
            else:
                axes.tick_params(labelleft=False)
            if i == 0:
                axes.set_title(elide(label, 40), fontsize=9.5, color=INK, loc="left")
            first = first or axes
    title = elide(page.title, max(20, int((width - 0.3) / text_width("x", 11))))
    figure.text(0.15 / width, 1 - 0.13 / height, title, fontsize=11, fontweight="bold", va="top", color=INK)
    figure.text(0.15 / width, 1 - 0.35 / height, "mean over samples", fontsize=7.5, va="top", color=FAINT)
    _draw_legend(figure, looks, 1 - legend / width, 1 - TOP / height)
    return figure


def _looks(sparsities: Sequence[float]) -> dict[float, dict[str, Any]]:
    """Return a line style for each sparsity: black for the dense model, then dark to light."""
    import matplotlib

    shades = matplotlib.colormaps["plasma"]
    pruned = [sparsity for sparsity in sparsities if sparsity]
    looks: dict[float, dict[str, Any]] = {0.0: {"color": INK, "linewidth": 1.8, "linestyle": (0, (4, 1.4))}}
    for i, sparsity in enumerate(pruned):
        looks[sparsity] = {"color": shades(0.05 + 0.8 * i / max(len(pruned) - 1, 1)), "linewidth": 1.4}
    return {sparsity: looks[sparsity] for sparsity in sparsities}


def _panel(axes: Axes, profile: _Profile, pruner: str, looks: Mapping[float, dict[str, Any]]) -> None:
    marked = "o" if len(profile.x) <= 20 else ""
    for (whose, sparsity), line in sorted(profile.lines.items(), key=lambda item: -item[0][1]):
        if sparsity in looks and (whose == pruner or sparsity == 0):
            axes.plot(profile.x, line, marker=marked, markersize=3, **looks[sparsity])
    axes.set_xlabel(elide(profile.x_label, 52), fontsize=8, color=INK)
    plain_axes(axes)


def _draw_legend(figure: Figure, looks: Mapping[float, dict[str, Any]], left: float, top: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=percent(sparsity) if sparsity else "dense", **look) for sparsity, look in looks.items()
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(left, top), fontsize=8.5, frameon=False,
        borderaxespad=0, handlelength=2.4, labelcolor=INK,
    )  # fmt: skip
