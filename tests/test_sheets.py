"""Sheets of concepts: rows that line up, what is undefined, many conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pruningbench.contract import Exhibit, ShownExhibit
from pruningbench.leaderboard.exhibits import _read
from pruningbench.leaderboard.sheets import sheets
from pruningbench.store.samples import write_exhibit


def shown(
    folder: Path, pruner: str, sparsity: float, rows: dict[str, int], level: float = 0.5, recipe: str = "none"
) -> ShownExhibit:
    """Return the exhibit of a cell with that many crops in each row, as it is read back."""
    keys = [f"{row}/{i}" for row, count in rows.items() for i in range(count)]
    captions = [f"caption of {key.rpartition('/')[0]} at {sparsity}" for key in keys]
    file = folder / f"{pruner}-{sparsity}.npz"
    write_exhibit(
        file, Exhibit("concepts", torch.full((len(keys), 3, 6, 6), level), tuple(keys), captions=tuple(captions))
    )
    kind, samples = _read(file)
    assert kind == "concepts"
    return ShownExhibit("net", pruner, recipe, sparsity, kind, samples)


def words(figure: object) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]  # type: ignore[attr-defined]


def test_pruned_concepts_stand_beside_the_dense_ones(tmp_path: Path) -> None:
    rows = {"sea / shore 1": 3, "sea / shore 2": 2, "dog 1": 3}
    dense = shown(tmp_path, "dense", 0.0, rows, level=0.25)
    pruned = shown(tmp_path, "snip", 0.5, {"dog 1": 1, "sea / shore 1": 3}, level=0.75)
    ((names, draw),) = sheets(["concepts", "", "net"], [dense, pruned])
    assert names == ["concepts", "concepts", "net", "snip", "none"]
    figure = draw()
    said = words(figure)
    assert said[0] == "concepts · net · snip · recipe none"
    assert [w for w in said if ("pruned" in w and "%" in w) or w == "dense"] == ["dense", "50% pruned"]
    assert [w for w in said if w in ("sea / shore", "dog")] == ["sea / shore", "dog"]
    assert said.count("undefined") == 1  # the second concept has no partner
    captions = [w for w in said if w.startswith("caption")]
    assert captions == [
        "caption of sea / shore 1 at 0.0", "caption of sea / shore 1 at 0.5", "caption of sea / shore 2 at 0.0",
        "caption of dog 1 at 0.0", "caption of dog 1 at 0.5",
    ]  # fmt: skip
    (axes,) = figure.axes
    (picture,) = axes.images
    pixels = np.asarray(picture.get_array())
    side = 120 * 120  # pixels of a crop
    assert (pixels == 64).all(axis=2).sum() == 8 * side
    assert (pixels == 191).all(axis=2).sum() == 4 * side


def test_texts_lie_inside_and_apart(tmp_path: Path) -> None:
    rows = {f"{'a long name of a class ' * 3}{c} {i}": 6 for c in range(3) for i in range(1, 6)}
    cells = [shown(tmp_path, "dense" if not s else "p", s / 10, rows) for s in range(10)]
    ((_, draw),) = sheets(["concepts", "a variant", "net"], cells)
    figure = draw()
    figure.canvas.draw()
    assert len(rows) == 15 and words(figure).count("dense") == 1
    assert sum("pruned" in w and "%" in w for w in words(figure)) == 3  # spread over the nine
    boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1 and one.y0 >= figure.bbox.y0
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_dense_alone_and_many_rows(tmp_path: Path) -> None:
    rows = {f"c{i} 1": 9 for i in range(20)}
    first, second = (draw() for _, draw in sheets(["concepts", "", "net"], [shown(tmp_path, "dense", 0.0, rows)]))
    assert [sum(w.startswith("c") and w[1:].isdigit() for w in words(f)) for f in (first, second)] == [15, 5]


@pytest.mark.parametrize("sparsities", [(0.0, 0.5), (0.5,)])
def test_a_sheet_for_each_pruner_and_recipe(tmp_path: Path, sparsities: tuple[float, ...]) -> None:
    cells = [
        shown(tmp_path, pruner if s else "dense", s, {"a 1": 2}, recipe=recipe)
        for pruner, recipe in (("b", "none"), ("a", "tune"))
        for s in sparsities
    ]
    assert [names[3:] for names, _ in sheets(["t", "", "net"], cells)] == [["a", "tune"], ["b", "none"]]
