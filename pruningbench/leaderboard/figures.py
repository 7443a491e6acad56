"""The figures of a run: what to draw, and whether it is drawn already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import write_whole
from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard.board import build
from pruningbench.leaderboard.labels import safe_name
from pruningbench.leaderboard.results import load_results
from pruningbench.store.runfolder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWING = 2
"""Version of the drawings: figures of another version are drawn again."""
LISTING = "figures.json"


def draw_figures(run_folder: str | os.PathLike[str]) -> list[Path]:
    """Draw the figures of a run into its folder ``figures/``, unless they are there and up to date.

    ``curves-TASK[-VARIANT].png``: sparsity against each metric, a line a pruner and recipe.
    ``profiles-TASK[-VARIANT]-MODEL-RECIPE.png``: the curves behind metrics, a line a sparsity.
    ``maps-TASK[-VARIANT]-MODEL-RECIPE.png`` and ``boxes-...``: the same images from dense to sparse.
    ``figures.json`` remembers which results they show; figures that it lists and that are not made
    any more are removed. The bytes of a figure depend on the results and the version of matplotlib only.

    Args:
        run_folder: the folder of a run.

    Returns:
        The figures' paths in the order in which they were made; none when there are no results.

    Warns:
        UserWarning: for a sample file that is missing or damaged; the figure goes without it.

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
        for name, figure in _drawn(run):
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


def _drawn(run: RunFolder) -> Iterator[tuple[str, Figure]]:
    frame = load_results(run.path, details=True)
    boards = [board for board in build(frame) if board.rows]
    if not boards:
        return
    from pruningbench.leaderboard.curves import curves
    from pruningbench.leaderboard.grids import grids
    from pruningbench.leaderboard.profiles import profiles

    for board in boards:
        for parts, figure in curves(board):
            yield safe_name(["curves", *parts]), figure
    for names, figure in profiles(run, frame):
        yield safe_name(names), figure
    for names, figure in grids(run, frame):
        yield safe_name(names), figure


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
