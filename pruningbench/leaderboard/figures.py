"""The figures of a run: what to draw, and whether it is already drawn."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import read_plain, write_whole
from pruningbench.contract.reporting import Drawing, ExhibitDrawer, ReportedRun, ShownExhibit
from pruningbench.errors import PruningBenchError, UnknownComponentError
from pruningbench.leaderboard.exhibits import exhibited
from pruningbench.leaderboard.labels import safe_name
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.saving import figure_contents, reason
from pruningbench.plugins import Registration, Registry, load_registry
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWING = 4
"""Version of the drawings; figures of another version are drawn again."""
LISTING = "figures.json"
_OWN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.png")
"""Names of figures; they never lead outside the folder."""


def draw_figures(
    run_folder: str | os.PathLike[str], *, registry: Registry | None = None, pdf: bool = False
) -> list[Path]:
    """Draw the figures of a run into its folder ``figures/``, unless they exist and are up to date.

    ``curves-TASK[-VARIANT].png``: each metric against sparsity, one line per pruner and recipe.
    ``profiles-TASK[-VARIANT]-MODEL-RECIPE.png``: the curves behind metrics, one line per sparsity.
    ``maps-TASK[-VARIANT]-MODEL-RECIPE.png`` and ``boxes-...``: the same images from dense to sparse.
    ``figures.json`` records which results they show; listed figures that are no longer made
    are removed. The bytes of a figure depend only on the results and the version of matplotlib.
    Names appear as plain text in figures, even if they contain TeX markup. A figure that cannot be drawn is left out,
    and the next call tries it again.

    Args:
        run_folder: the folder of a run.
        registry: whose figures and exhibits are drawn; the installed plugins by default.
        pdf: also write each figure as PDF, for print: lines and text are vectors, fonts are embedded, and pictures
            have twice the pixels of a PNG. It is optional because it takes twice as long as the PNGs and, for
            pictures, three times the space. Figures that have a PDF keep it, and it is drawn again with them.

    Returns:
        The paths of the PNGs in the order in which they were made; an empty list if there are no results.

    Warns:
        UserWarning: for a missing or damaged sample file, which figures then leave out, and for
            figures that cannot be drawn.

    Raises:
        RunFolderError: if the folder holds no run, or its journal is damaged.
        PruningBenchError: if the figures cannot be written.
    """
    run = RunFolder(run_folder)
    digest = _digest(run.results)
    before = _read_listing(run.figures)
    pdf = pdf or bool(before and before["pdf"])
    if before and before["drawing"] == DRAWING and before["results_sha256"] == digest:
        paths = [run.figures / name for name in before["figures"]]
        if all(file.is_file() for path in paths for file in _files(path)[: 1 + pdf]):
            return paths
    made: dict[str, None] = {}
    failed: list[str] = []
    try:
        for name, figure in _drawn(run, registry or load_registry(), failed):
            unique = _unique(name, made)
            contents = figure_contents(unique, figure, failed, pdf=pdf)
            for file, content in zip(_files(run.figures / unique), contents, strict=False):
                write_whole(file, content)
                made[unique] = None
        for text in failed:
            warnings.warn(f"{run.figures}: {text}; the numbers are complete without it", stacklevel=2)
        for name in before["figures"] if before else []:
            if name not in made:
                for file in _files(run.figures / name):
                    file.unlink(missing_ok=True)
        if made or before:
            shown = None if failed else digest
            listing = {"drawing": DRAWING, "results_sha256": shown, "pdf": pdf, "figures": list(made)}
            write_whole(run.figures / LISTING, (json.dumps(listing, indent=1) + "\n").encode())
    except OSError as error:
        raise PruningBenchError(f"{run.figures}: figures cannot be written ({error.strerror})") from error
    return [run.figures / name for name in made]


def _files(picture: Path) -> tuple[Path, Path]:
    """Return the files that a figure may have: its PNG and its PDF."""
    return picture, picture.with_suffix(".pdf")


def _digest(results: Path) -> str | None:
    try:
        return hashlib.sha256(read_plain(results)).hexdigest()
    except OSError:
        return None  # reading the results will report the error


def _read_listing(figures: Path) -> dict[str, Any] | None:
    """Read which figures were drawn from which results; None if unknown. Names that lead outside are dropped."""
    try:
        listing = json.loads(read_plain(figures / LISTING))
        names = [name for name in listing["figures"] if _OWN.fullmatch(name)]
        pdf = listing.get("pdf") is True
        return {
            "drawing": listing["drawing"], "results_sha256": listing["results_sha256"], "pdf": pdf, "figures": names
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _drawn(run: RunFolder, registry: Registry, failed: list[str]) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of a run by name; add figures that cannot be drawn to `failed` and continue with the next."""
    frame = load_results(run.path, details=True)
    if not (frame["status"] == "ok").any():
        return
    reported = ReportedRun(run.path, frame)
    for registration in registry.registrations("figure"):
        yield from _contained(registration, lambda draw: draw(reported), failed)
    for (task, variant), model, shown in exhibited(run, frame):
        yield from drawn_exhibits(registry, [task, variant, model], shown, failed)


def drawn_exhibits(
    registry: Registry, names: Sequence[str], shown: Sequence[ShownExhibit], failed: list[str]
) -> Iterator[tuple[str, Figure]]:
    """Yield the figures that the plugin of a kind of exhibit draws, by name; add what cannot be drawn to `failed`.

    Args:
        registry: where the drawer is looked up.
        names: task, variant and model.
        shown: the exhibits of one model, all of one kind.
        failed: gets one line for each problem.
    """
    try:
        registration = registry.entry("exhibit", shown[0].kind)
    except UnknownComponentError as error:
        failed.append(str(error))
        return
    yield from _contained(registration, partial(_draw_exhibit, names, shown), failed)


def _draw_exhibit(names: Sequence[str], shown: Sequence[ShownExhibit], draw: ExhibitDrawer) -> Iterator[Drawing]:
    return draw(names, shown)


def _contained(
    registration: Registration, call: Callable[[Any], Iterator[Drawing]], failed: list[str]
) -> Iterator[tuple[str, Figure]]:
    """Draw the figures of one registration; a failure loses only its own figures."""
    try:
        for names, draw in call(registration.load()):
            yield safe_name(names), draw()
    except Exception as error:  # noqa: BLE001 - third-party figure and data; the numbers do not depend on it
        failed.append(f"{registration.what} cannot be drawn ({reason(error)})")


def _unique(name: str, taken: dict[str, None]) -> str:
    """Return a file name that no other figure has, even where file names ignore case."""
    folded = {other.lower() for other in taken}
    file, count = f"{name}.png", 1
    while file.lower() in folded:
        count += 1
        file = f"{name}-{count}.png"
    return file
