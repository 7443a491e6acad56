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
from pruningbench.base.text import displayable, displayable_lines
from pruningbench.contract.reporting import Drawing, ExhibitDrawer, ReportedRun, ShownExhibit
from pruningbench.errors import PruningBenchError, UnknownComponentError
from pruningbench.leaderboard.exhibits import exhibited
from pruningbench.leaderboard.labels import safe_name
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registration, Registry, load_registry
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWING = 3
"""Version of the drawings; figures of another version are drawn again."""
LISTING = "figures.json"
_OWN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.png")
"""Names of figures; they never lead outside the folder."""


def draw_figures(run_folder: str | os.PathLike[str], *, registry: Registry | None = None) -> list[Path]:
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

    Returns:
        The figures' paths in the order in which they were made; an empty list if there are no results.

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
    if before and before["drawing"] == DRAWING and before["results_sha256"] == digest:
        paths = [run.figures / name for name in before["figures"]]
        if all(path.is_file() for path in paths):
            return paths
    made: dict[str, None] = {}
    failed: list[str] = []
    try:
        for name, figure in _drawn(run, registry or load_registry(), failed):
            unique = _unique(name, made)
            content = figure_png(unique, figure, failed)
            if content is not None:
                write_whole(run.figures / unique, content)
                made[unique] = None
        for text in failed:
            warnings.warn(f"{run.figures}: {text}; the numbers are complete without it", stacklevel=2)
        for name in before["figures"] if before else []:
            if name not in made:
                (run.figures / name).unlink(missing_ok=True)
        if made or before:
            shown = None if failed else digest
            listing = {"drawing": DRAWING, "results_sha256": shown, "figures": list(made)}
            write_whole(run.figures / LISTING, (json.dumps(listing, indent=1) + "\n").encode())
    except OSError as error:
        raise PruningBenchError(f"{run.figures}: figures cannot be written ({error.strerror})") from error
    return [run.figures / name for name in made]


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
        return {"drawing": listing["drawing"], "results_sha256": listing["results_sha256"], "figures": names}
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
        failed.append(f"{registration.what} cannot be drawn ({_reason(error)})")


def _unique(name: str, taken: dict[str, None]) -> str:
    """Return a file name that no other figure has, even where file names ignore case."""
    folded = {other.lower() for other in taken}
    file, count = f"{name}.png", 1
    while file.lower() in folded:
        count += 1
        file = f"{name}-{count}.png"
    return file


def figure_png(name: str, figure: Figure, failed: list[str]) -> bytes | None:
    """Return a figure as PNG with all text drawn literally; None, with a line in `failed`, if it cannot be drawn."""
    import io

    from matplotlib.text import Text

    buffer = io.BytesIO()
    try:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)  # noqa: S101 - findobj returns only Text
            text.set_parse_math(False)  # a name such as "$x_{" is not a formula
            text.set_usetex(False)  # and not TeX code, whatever a matplotlibrc says
            text.set_text(displayable_lines(text.get_text()))
        figure.savefig(buffer, format="png", metadata={"Software": None})
    except Exception as error:  # noqa: BLE001 - third-party data; the numbers do not depend on it
        failed.append(f"{name} cannot be drawn ({_reason(error)})")
        return None
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    text = displayable(error).strip()
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
