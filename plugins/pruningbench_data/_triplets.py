"""Read THINGS and NIGHTS: tables of triplets and the images that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from pruningbench.contract import DataError, HumanOddOneOut, HumanTwoAlternatives, one_line, read_text
from pruningbench_data._csv import read_table
from pruningbench_data._disk import unlabelled_files
from pruningbench_data._layouts import SUFFIXES, inside, readable
from pruningbench_data._names import THINGS_CONCEPTS as CONCEPTS

if TYPE_CHECKING:
    from pruningbench.contract import Samples

COLUMNS = ("id", "votes", "right_vote", "ref_path", "left_path", "right_path", "split")
Triplet = tuple[str, str, str]
Select = Callable[[Sequence[str]], Sequence[int]]
"""Returns the positions of the keys that a data set uses."""


def open_things(folder: Path, trials_file: str, *, select: Select, remedy: str) -> Samples:
    """Return the photographs shown in the chosen trials, and the trials.

    Raises:
        DataError: if a line is not a triplet of objects, or an object has no photograph.
    """
    objects = [line.strip() for line in read_text(folder / CONCEPTS).splitlines() if line.strip()]
    path = folder / trials_file
    trials = [_trial(line, objects, f"{path}, line {n}") for n, line in enumerate(_lines(path), start=1)]
    if not trials:
        raise DataError(f"{path}: holds no trials")
    selected = [trials[i] for i in select([f"{n} {trial}" for n, trial in enumerate(trials)])]
    objects_shown, triplets = _shared(selected)
    files = [_photograph(folder, name) for name in objects_shown]
    human = HumanOddOneOut(triplets, torch.full((len(selected),), 2, dtype=torch.int64))
    return unlabelled_files(folder, files, objects_shown, human, remedy)


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip()]


def _trial(line: str, objects: Sequence[str], where: str) -> Triplet:
    try:
        a, b, c = (objects[_place(word)] for word in line.replace(",", " ").split())
    except (ValueError, IndexError, OverflowError):
        raise DataError(f"{where}: {line[:80]!r} does not hold three object numbers in 0..{len(objects) - 1}") from None
    return a, b, c


def _place(word: str) -> int:
    place = int(float(word))
    if place < 0 or place != float(word):
        raise ValueError(word)
    return place


def _photograph(folder: Path, name: str) -> str:
    """Return the path below `folder` of the photograph of an object that the experiment showed."""
    place = inside(folder / "object_images", name, str(folder / CONCEPTS))
    if (place / f"{name}_01b.jpg").exists():
        return f"object_images/{name}/{name}_01b.jpg"
    photographs = sorted(p.name for p in place.glob("*") if p.suffix.lower() in SUFFIXES)
    if not photographs:
        raise DataError(f"{place}: holds no photograph of the object ({name}_01b.jpg)")
    return f"object_images/{name}/{readable(place, photographs[0])}"


def open_nights(
    folder: Path, split: str, votes: int, images: Literal["all", "imagenet", "other"], *, select: Select, remedy: str
) -> Samples:
    """Return the images of the chosen triplets, and which of two is closer according to people.

    Raises:
        DataError: naming file and column, if a column is missing or a value is not a number, and if no triplet
            is left.
    """
    path = folder / "data.csv"
    header, table = read_table(path)
    for column in (*COLUMNS, *(("is_imagenet",) if images != "all" else ())):
        if column not in header:
            raise DataError(f"{path}: there is no column {column!r}; the columns are: {one_line(', '.join(header))}")
    rows = [row for _, row in table if row["split"] == split]
    rows = [row for row in rows if _is_selected(votes, images, row, f"{path}, triplet {row['id']}")]
    if not rows:
        raise DataError(f"{path}: no triplet of split {split!r} has {votes} votes or more")
    selected = [rows[i] for i in select([row["id"] for row in rows])]
    for row in selected:
        for column in ("ref_path", "left_path", "right_path"):
            inside(folder, row[column], f"{path}, triplet {row['id']}: column {column!r}")
    paths, triplets = _shared([(row["ref_path"], row["left_path"], row["right_path"]) for row in selected])
    right = torch.tensor([_number(row, "right_vote", f"{path}, triplet {row['id']}") for row in selected])
    if bool(((right < 0) | (right > 1)).any()):
        raise DataError(f"{path}: column 'right_vote' must hold shares in [0, 1]")
    return unlabelled_files(folder, paths, paths, HumanTwoAlternatives(triplets, right), remedy)


def _is_selected(votes: int, images: str, row: dict[str, str], where: str) -> bool:
    if _number(row, "votes", where) < votes:
        return False
    if images == "all":
        return True
    return (row["is_imagenet"].strip().lower() in ("true", "1")) == (images == "imagenet")


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = nan
    if not isfinite(value):
        raise DataError(f"{where}: column {column!r} holds {row[column][:80]!r}, which is not a number")
    return value


def _shared(triplets: Sequence[Triplet]) -> tuple[list[str], torch.Tensor]:
    """Return all named images, sorted, and the (T, 3) int64 positions of each triplet's images among them."""
    names = sorted({name for triplet in triplets for name in triplet})
    place = {name: i for i, name in enumerate(names)}
    return names, torch.tensor([[place[name] for name in triplet] for triplet in triplets], dtype=torch.int64)
