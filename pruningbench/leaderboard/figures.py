"""The figures of a run: what to draw, and whether it is drawn already."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import write_whole
from pruningbench.contract.reporting import Drawing, ExhibitDrawer, ReportedRun, ShownExhibit
from pruningbench.errors import PruningBenchError, UnknownComponentError
from pruningbench.leaderboard.exhibits import exhibited
from pruningbench.leaderboard.labels import safe_name
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registration, Registry, load_registry
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWING = 2
"""Version of the drawings: figures of another version are drawn again."""
LISTING = "figures.json"


def draw_figures(run_folder: str | os.PathLike[str], *, registry: Registry | None = None) -> list[Path]:
    """Draw the figures of a run into its folder ``figures/``, unless they are there and up to date.

    ``curves-TASK[-VARIANT].png``: sparsity against each metric, a line a pruner and recipe.
    ``profiles-TASK[-VARIANT]-MODEL-RECIPE.png``: the curves behind metrics, a line a sparsity.
    ``maps-TASK[-VARIANT]-MODEL-RECIPE.png`` and ``boxes-...``: the same images from dense to sparse.
    ``figures.json`` remembers which results they show; figures that it lists and that are not made
    any more are removed. The bytes of a figure depend on the results and the version of matplotlib only.

    Args:
        run_folder: the folder of a run.
        registry: whose figures and exhibits are drawn; the installed plugins by default.

    Returns:
        The figures' paths in the order in which they were made; none when there are no results.

    Warns:
        UserWarning: for a sample file that is missing or damaged, which the figure goes without, and for a
            plugin whose figure fails.

    Raises:
        RunFolderError: if the folder holds no run, or its journal is damaged.
        PruningBenchError: if the figures cannot be written.
    """
    run = RunFolder(run_folder)
    digest = _digest(run.results)
    before = _read_listing(run.figures)
    if before and before["drawing"] == DRAWING and before["results_sha256"] == digest:
        paths = [run.figures / name for name in before["figures"]]
        if all(path.is_file() for path in paths):
            return paths
    made: dict[str, None] = {}
    try:
        for name, figure in _drawn(run, registry or load_registry()):
            unique = _unique(name, made)
            write_whole(run.figures / unique, _png(figure))
            made[unique] = None
        for name in before["figures"] if before else []:
            if name not in made:
                (run.figures / name).unlink(missing_ok=True)
        if made or before:
            listing = {"drawing": DRAWING, "results_sha256": digest, "figures": list(made)}
            write_whole(run.figures / LISTING, (json.dumps(listing, indent=1) + "\n").encode())
    except OSError as error:
        raise PruningBenchError(f"{run.figures}: figures cannot be written ({error.strerror})") from error
    return [run.figures / name for name in made]


def _digest(results: Path) -> str | None:
    try:
        return hashlib.sha256(results.read_bytes()).hexdigest()
    except OSError:
        return None  # reading the results will say why


def _read_listing(figures: Path) -> dict[str, Any] | None:
    """Read which figures were drawn of what; None if unknown, and never a name that leaves the folder."""
    try:
        listing = json.loads((figures / LISTING).read_text("utf-8"))
        names = [name for name in listing["figures"] if Path(name).name == name and name.endswith(".png")]
        return {"drawing": listing["drawing"], "results_sha256": listing["results_sha256"], "figures": names}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _drawn(run: RunFolder, registry: Registry) -> Iterator[tuple[str, Figure]]:
    frame = load_results(run.path, details=True)
    if not (frame["status"] == "ok").any():
        return
    reported = ReportedRun(run.path, frame)
    for registration in registry.registrations("figure"):
        yield from _contained(run, registration, lambda draw: draw(reported))
    for (task, variant), model, shown in exhibited(run, frame):
        names = [task, variant, model]
        try:
            registration = registry.entry("exhibit", shown[0].kind)
        except UnknownComponentError as error:
            warnings.warn(f"{run.path}: {error}; figures go without it", stacklevel=3)
            continue
        yield from _contained(run, registration, partial(_draw_exhibit, names, shown))


def _draw_exhibit(names: Sequence[str], shown: Sequence[ShownExhibit], draw: ExhibitDrawer) -> Iterator[Drawing]:
    return draw(names, shown)


def _contained(
    run: RunFolder, registration: Registration, call: Callable[[Any], Iterator[Drawing]]
) -> Iterator[tuple[str, Figure]]:
    """Draw the figures of one registration; one that fails costs its own figures only."""
    try:
        for names, draw in call(registration.load()):
            yield safe_name(names), draw()
    except Exception as error:  # noqa: BLE001 - anybody's figure
        what = f"{registration.what} failed: {type(error).__name__}: {error}"
        warnings.warn(f"{run.path}: {what}; figures go without it", stacklevel=3)


def _unique(name: str, taken: dict[str, None]) -> str:
    """Return a file name that no other figure has, also where names are the same but for their case."""
    folded = {other.lower() for other in taken}
    file, count = f"{name}.png", 1
    while file.lower() in folded:
        count += 1
        file = f"{name}-{count}.png"
    return file


def _png(figure: Figure) -> bytes:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
