"""The samples that a run stored for figures, as far as they can be read."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pruningbench.contract.reporting import ShownExhibit, ShownSample
from pruningbench.leaderboard.references import References

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from pruningbench.store.runfolder import RunFolder

    Array = NDArray[np.float32]

UNREADABLE = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged .npz may raise."""
CELL = ["model", "pruner", "recipe", "sparsity", "seed", "cell"]


def dense_beside(shown: Sequence[ShownExhibit]) -> Callable[[str], dict[float, dict[str, ShownSample]]]:
    """Return a function from a recipe to the samples, under key 0, of the dense model that its rows are compared with.

    Args:
        shown: the exhibits of one model.
    """
    references = References(map(vars, shown))
    dense = {one.recipe: one.samples for one in shown if one.sparsity == 0}

    def beside(recipe: str) -> dict[float, dict[str, ShownSample]]:
        own = references.of(shown[0].model, recipe)
        return {0.0: dense[own]} if own in dense else {}

    return beside


def exhibited(run: RunFolder, frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], str, list[ShownExhibit]]]:
    """Read the exhibits of a run, one task, variant and model at a time.

    If there are several seeds, the lowest seed that has an exhibit is shown.

    Yields:
        ((task, variant), model, exhibits in the order of the results).
    """
    cells = frame[frame["status"] == "ok"][["task", "variant", *CELL]].drop_duplicates()
    for named, of_task in cells.groupby(["task", "variant"], sort=False):
        task, variant = map(str, named)
        files = {cell: run.exhibit_file(cell, task, variant) for cell in of_task["cell"]}
        if not any(file.is_file() for file in files.values()):
            continue  # a task that shows nothing
        for model, of_model in of_task.groupby("model", sort=False):
            shown: dict[tuple[str, str, float], ShownExhibit] = {}
            for row in of_model.sort_values("seed", kind="stable").to_dict("records"):
                key = (row["pruner"], row["recipe"], row["sparsity"])
                if key not in shown:
                    try:
                        kind, samples = _read(files[row["cell"]])
                    except UNREADABLE as error:
                        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
                        warnings.warn(f"{files[row['cell']]}: {reason}; figures go without it", stacklevel=4)
                        continue
                    shown[key] = ShownExhibit(str(model), *key, kind, samples)
            for kind in dict.fromkeys(one.kind for one in shown.values()):
                yield (task, variant), str(model), [one for one in shown.values() if one.kind == kind]


def _read(file: Any) -> tuple[str, dict[str, ShownSample]]:
    """Read an exhibit and split it into samples; raise one of `UNREADABLE` if its arrays do not match."""
    from pruningbench.store.samples import read_exhibit

    exhibit = read_exhibit(file)
    images, keys = exhibit["images"], exhibit["keys"]
    if images.ndim != 4 or len(images) != len(keys):
        raise ValueError(f"{len(keys)} keys for images of shape {images.shape}")
    captions: Sequence[str] = exhibit["captions"] or [""] * len(keys)
    if exhibit["kind"] == "maps":
        maps = exhibit["maps"]
        if maps.ndim != 3:
            raise ValueError(f"maps of shape {maps.shape}")
        parts: list[tuple[Array | None, Array | None, Array | None]] = [(map_, None, None) for map_ in maps]
    elif exhibit["kind"] == "boxes":
        predicted, truth = (_boxes(exhibit.get(name), len(keys)) for name in ("predicted", "truth"))
        parts = [(None, *pair) for pair in zip(predicted, truth, strict=True)]
    else:
        parts = [(None, None, None)] * len(keys)
    further = exhibit["arrays"]
    if any(len(array) != len(keys) for array in further.values()):
        raise ValueError(f"{len(keys)} keys for arrays of {[len(array) for array in further.values()]} samples")
    own = [{name: array[i] for name, array in further.items()} for i in range(len(keys))]
    rows = zip(keys, images, captions, parts, own, strict=True)
    return exhibit["kind"], {
        key: ShownSample(image, caption, *part, arrays) for key, image, caption, part, arrays in rows
    }


def _boxes(boxes: Sequence[Array] | None, count: int) -> Sequence[Array]:
    import numpy as np

    return [np.zeros((0, 4), np.float32)] * count if boxes is None else boxes
