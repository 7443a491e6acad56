"""Figures: which are drawn, what is on them, and when they are drawn again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from kit.boards import failure, record, write_run
from kit.figures import conditions, is_picture, make_run, show
from matplotlib.collections import LineCollection

from pruningbench.contract import Exhibit
from pruningbench.errors import PruningBenchError, RunFolderError
from pruningbench.leaderboard import build, draw_figures
from pruningbench.leaderboard.curves import curves
from pruningbench.leaderboard.figures import _drawn
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.tiles import GREY, fit, image_tile, map_tile
from pruningbench.plugins import load_registry
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_exhibit


def test_all_figures_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(models=("net", "vit/16")))
    settings = dict(matplotlib.rcParams)
    paths = draw_figures(run)
    assert [path.name for path in paths] == [
        "curves-sorting.png", "curves-looking-grad.png", "curves-looking-ig.png", "curves-finding.png",
        *(f"maps-looking-{v}-{m}-{r}.png" for v in ("grad", "ig") for m in ("net", "vit-16") for r in ("none", "tune")),
        *(f"boxes-finding-{m}-{r}.png" for m in ("net", "vit-16") for r in ("none", "tune")),
    ]  # fmt: skip
    assert all(path.parent == run / "figures" and is_picture(path) for path in paths)
    assert all(20_000 < path.stat().st_size < 1_500_000 for path in paths)
    assert dict(matplotlib.rcParams) == settings


def test_drawing_again_is_only_done_when_results_change(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",)), tasks=("sorting", "finding"))
    paths = draw_figures(run)
    before = {path: path.stat().st_mtime_ns for path in paths}
    code = (
        "import sys; from pruningbench.leaderboard import draw_figures\n"
        f"print(len(draw_figures({str(run)!r})), [m for m in ('matplotlib', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{len(paths)} []"
    assert {path: path.stat().st_mtime_ns for path in paths} == before
    paths[0].unlink()
    assert draw_figures(run) == paths and paths[0].is_file()
    write_run(run, [record("new", value=0.1)])
    draw_figures(run)
    assert paths[0].stat().st_mtime_ns != before[paths[0]]


def test_figures_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    where = conditions(pruners=("a",), recipes=("none",))
    first, second = (draw_figures(make_run(tmp_path / name, where)) for name in ("one", "two"))
    assert len(first) == 4 + 3
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]


def test_only_own_old_figures_are_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", exhibits=False, tasks=("sorting",))
    draw_figures(run)
    figures = run / "figures"
    outside, mine, old = tmp_path / "precious.png", figures / "mine.png", figures / "old.png"
    for path in (outside, mine, old):
        path.write_bytes(b"x")
    listing = json.loads((figures / "figures.json").read_text())
    listing["figures"] += ["old.png", "../../precious.png", str(outside), "figures.json"]
    listing["results_sha256"] = "other"
    (figures / "figures.json").write_text(json.dumps(listing))
    draw_figures(run)
    assert not old.exists() and outside.exists() and mine.exists()
    assert "old.png" not in (figures / "figures.json").read_text()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"figures": 3}', '{"drawing": 0, "results_sha256": "", "figures": []}']
)
def test_a_damaged_listing_is_made_again(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path / "run", exhibits=False, tasks=("sorting",))
    (run / "figures").mkdir()
    (run / "figures" / "figures.json").write_text(damage)
    assert len(draw_figures(run)) == 1
    assert json.loads((run / "figures" / "figures.json").read_text())["figures"][0] == "curves-sorting.png"


def test_without_results_nothing_is_drawn(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [failure("a"), failure("b")])
    assert draw_figures(run) == []
    assert not (run / "figures").exists()
    with pytest.raises(RunFolderError, match="is not a run folder"):
        draw_figures(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", exhibits=False, tasks=("sorting",))
    (run / "figures").write_text("in the way")
    with pytest.raises(PruningBenchError, match="figures cannot be written"):
        draw_figures(run)


def test_missing_and_damaged_exhibits_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tasks=("looking",))
    looking = sorted((run / "exhibits").glob("*looking.grad*"))
    looking[0].unlink()
    looking[1].write_bytes(b"no zip file")
    looking[2].write_bytes(looking[3].read_bytes()[:200])
    np.savez(looking[3], kind=np.array("maps"), images=np.zeros((2, 1, 4, 4)), keys=np.array(["x"]), captions=[""])
    np.savez(looking[4], kind=np.array("sounds"), images=np.zeros((1, 1, 4, 4)), keys=np.array(["x"]), captions=[""])
    with pytest.warns(UserWarning) as caught:
        paths = draw_figures(run)
    messages = [str(w.message) for w in caught if "without it" in str(w.message)]
    assert len(messages) == 5
    assert sum("is missing" in m for m in messages) == 1 and sum("is damaged" in m for m in messages) == 3
    assert sum("unknown exhibit 'sounds'" in m for m in messages) == 1
    assert all(is_picture(path) for path in paths)


def test_no_exhibits_no_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(draw_figures(make_run(tmp_path / "run", exhibits=False))) == 4


def only_figure(folder: Path, kind: str) -> object:
    (found,) = figures_of(folder, kind)
    return found


def figures_of(folder: Path, kind: str) -> list[object]:
    return [figure for name, figure in _drawn(RunFolder(folder), load_registry(), []) if name.startswith(f"{kind}-")]


def words(figure: object) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]  # type: ignore[attr-defined]


def test_a_grid_has_a_block_for_each_pruner(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("b(how=erk)", "a"), recipes=("tune",)))
    (figure, _) = figures_of(run, "maps")
    said = words(figure)
    assert said[0] == "looking · grad · net · recipe tune"
    assert [w for w in said if w in ("a", "b(erk)")] == ["a", "b(erk)"]
    heads = ["image", "dense", "50%", "90%"]
    assert [w for w in said if w in heads] == heads * 2
    assert [w for w in said if "/" in w] == ["0/0"] * 3 + ["1/1"] * 3 + ["2/2"] * 3 + ["0/0"] * 3 + ["1/1"] * 3 + [
        "2/2"
    ] * 3


def test_a_block_has_only_the_sparsities_that_its_pruner_was_measured_at(tmp_path: Path) -> None:
    cells = conditions(pruners=("a", "b"), recipes=("none",))
    run = make_run(tmp_path / "run", [c for c in cells if (c["pruner"], c["sparsity"]) != ("b", 0.5)])
    said = words(only_figure(run, "boxes"))
    assert [w for w in said if w in ("a", "b", "dense", "50%", "90%")] == [
        "a",
        "dense",
        "50%",
        "90%",
        "b",
        "dense",
        "90%",
    ]
    assert "not kept" not in said


def test_dense_alone_is_drawn_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=()))
    paths = draw_figures(run)
    assert [p.name for p in paths[-2:]] == ["maps-looking-ig-net.png", "boxes-finding-net.png"]


def test_maps_without_signal_are_grey_and_say_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",), recipes=("none",)), exhibits=False)
    for one in load_results(run).query("task == 'looking' and variant == 'grad'").to_dict("records"):
        maps = torch.rand(4, 24, 24)
        if one["sparsity"] == 0.9:
            maps = torch.stack([torch.zeros(24, 24), torch.full((24, 24), math.nan), maps[2], maps[3]])
        show(
            run, record(**{k: one[k] for k in ("model", "pruner", "recipe", "sparsity", "task", "variant")}), maps=maps
        )
    assert words(only_figure(run, "maps")).count("no signal") == 2


def test_images_that_a_cell_did_not_keep_are_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",), recipes=("none",)))
    cell = load_results(run).query("sparsity == 0.9").iloc[0]["cell"]
    file = RunFolder(run).exhibit_file(cell, "finding", "")
    other = Exhibit(
        "boxes", torch.ones(1, 3, 8, 8), ("image-2",), predicted=[torch.zeros(0, 4)], truth=[torch.zeros(0, 4)]
    )
    write_exhibit(file, other)
    assert words(only_figure(run, "boxes")).count("not kept") == 3  # of four images, one is there
    heads = [w for w in words(only_figure(run, "boxes")) if w == "image"]
    assert not heads


def test_boxes_are_where_they_belong(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",), recipes=("none",)))
    figure = only_figure(run, "boxes")
    (axes,) = figure.axes  # type: ignore[attr-defined]
    collections = [c for c in axes.collections if isinstance(c, LineCollection)]
    true, found = (c.get_segments() for c in (collections[1], collections[3]))
    assert len(true) == 3 * 4 * 2 and len(found) == 3 * 3
    tile, pixel = 0.8, 0.8 / 24
    corner = np.array(found[0][0]) - [2 * pixel, 3 * pixel]
    np.testing.assert_allclose(found[0][2] - corner, [12 * pixel, 15 * pixel], atol=1e-9)
    np.testing.assert_allclose(true[0][0] - corner, [2 * pixel, 2 * pixel], atol=1e-9)
    (picture,) = axes.images
    pixels = np.asarray(picture.get_array())
    x, y = np.round(corner * 240).astype(int)
    side = round(tile * 240)
    assert (pixels[y : y + side, x : x + side].max(), pixels[y - 3, x - 3].min()) == (64, 255)  # a quarter of 0..1
    width, height = figure.get_size_inches()  # type: ignore[attr-defined]
    assert pixels.shape == (round(height * 240), round(width * 240), 3)
    assert picture.get_extent() == [0, width, height, 0]


def test_many_conditions_are_spread_over_figures(tmp_path: Path) -> None:
    pruners, sparsities = tuple(f"p{i}" for i in range(10)), tuple(i / 10 for i in range(1, 10))
    where = conditions(pruners=pruners, recipes=("none",), sparsities=sparsities)
    run = make_run(tmp_path / "run", where, tasks=("finding",))
    names = [path.name for path in draw_figures(run)]
    assert names == ["curves-finding.png", "boxes-finding-net-none.png", "boxes-finding-net-none-2.png"]
    pages = figures_of(run, "boxes")
    assert [sum(w.startswith("p") for w in words(page)) for page in pages] == [8, 2]
    assert words(pages[0])[2:9] == ["p0", "dense", "20%", "40%", "50%", "70%", "90%"]


def test_curves_show_the_values(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(models=("net", "vit"), seeds=(0, 1)), exhibits=False)
    (board,) = build(load_results(run))
    (name, figure), *_ = curves(board)
    assert name == ("sorting",) and len(figure.axes) == 4
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["accuracy (fraction) ↑", "", "loss (fraction) ↓", ""]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["net", "vit", "", ""]
    axes = figure.axes[0]
    rows = [r for r in board.rows if r.model == "net" and (r.pruner, r.recipe) in {("a", "tune"), ("dense", "none")}]
    expected = [r.cells[("sorting", "", "accuracy")].value for r in rows]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 4
    assert [list(line.get_xdata()) for line in lines] == [[1.0, 0.5, pytest.approx(0.1)]] * 4
    assert any(list(line.get_ydata()) == expected for line in lines)
    assert [tick.get_text() for tick in figure.axes[2].get_xticklabels()] == ["90", "50", "0"]
    left, right = axes.get_xlim()
    assert left > 1 and right < 0.1  # dense on the left
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "a", "b(erk)", "recipe none", "recipe tune", "dense", "95 % interval",
    ]  # fmt: skip


def test_panels_and_texts_of_curves_do_not_overlap(tmp_path: Path) -> None:
    where = conditions(
        models=tuple(f"a-model-with-a-rather-long-name-{i}/resnet50.a1_in1k-and-more" for i in range(2)),
        pruners=tuple(f"pruner-{i}(allocation=something-long,batches={i})" for i in range(12)),
        sparsities=(0.1, 0.2, 0.5, 0.6, 0.8, 0.9, 0.98, 0.99, 0.995, 0.999),
        recipes=("none",),
    )
    (board,) = build(load_results(make_run(tmp_path / "run", where, exhibits=False, tasks=("sorting",))))
    _, figure = next(iter(curves(board)))
    figure.savefig(tmp_path / "x.png")
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [figure.legends[0].get_window_extent()]
    boxes += [text.get_window_extent() for text in figure.texts]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 and one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    ticks = [label.get_window_extent() for label in figure.axes[-1].get_xticklabels()]
    assert not any(a.overlaps(b) for i, a in enumerate(ticks) for b in ticks[i + 1 :])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_odd_values_and_single_points_are_drawn(tmp_path: Path, value: float) -> None:
    run = [record("a", value=value, n=0), record("a", "loss", 0.5), record("b", "loss", 0.2, sparsity=0.9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (path,) = draw_figures(write_run(tmp_path / "run", run))
    assert path.stat().st_size > 10_000


def test_tiles() -> None:
    up = fit(np.arange(4.0).reshape(2, 2, 1).repeat(3, axis=2), 4)
    assert up[..., 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    down = fit(np.arange(16.0).reshape(4, 4, 1).repeat(3, axis=2), 2)
    assert down[..., 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert fit(np.zeros((10, 5, 3)), 20).shape == (20, 10, 3)
    colour = np.zeros((3, 2, 2), np.float32)
    colour[0] = 1
    assert image_tile(colour, 2)[0, 0].tolist() == [1, 0, 0]
    assert image_tile(np.full((1, 2, 2), 0.5, np.float32), 2)[0, 0].tolist() == [0.5] * 3
    assert image_tile(np.full((2, 2, 2), np.nan, np.float32), 2).tolist() == np.zeros((2, 2, 3)).tolist()


def test_map_tiles() -> None:
    assert map_tile(np.zeros((4, 4), np.float32), 4, signed=False) is None
    assert map_tile(np.full((4, 4), np.nan, np.float32), 4, signed=False) is None
    values = np.zeros((20, 20), np.float32)
    values[0, 0], values[0, 1] = 5.0, np.nan
    tile = map_tile(values, 20, signed=False)  # its 99th percentile is zero: the maximum scales it
    assert tile is not None
    inferno = matplotlib.colormaps["inferno"]
    assert tile[0, 0].tolist() == list(inferno(1.0)[:3]) and tile[5, 5].tolist() == list(inferno(0.0)[:3])
    assert tile[0, 1].tolist() == [GREY] * 3
    ramp = np.arange(400, dtype=np.float32).reshape(20, 20) * 7
    scaled, same = (map_tile(r, 20, signed=False) for r in (ramp, ramp / 1000))
    assert scaled is not None and same is not None and np.array_equal(scaled[-1, -1], inferno(1.0)[:3])
    np.testing.assert_allclose(scaled, same, atol=0.02)
    signed = map_tile(np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32), 2, signed=True)
    assert signed is not None and signed[0, 0, 2] > signed[0, 0, 0] and signed[1, 0, 0] > signed[1, 0, 2]
