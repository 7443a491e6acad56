"""Strips of pictures: what their frames show, how they are stored, and what is left out."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from kit.boards import record, write_run
from kit.figures import conditions, make_run, show
from matplotlib.figure import Figure
from PIL import Image
from pruningbench_discovery.iou import best_iou

from pruningbench.contract import Exhibit
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.plugins.registration import Plugin
from pruningbench.site import strips
from pruningbench.site.frames import iou, overlap_text
from pruningbench.site.images import LEVELS, Images, overlay, palette, photo, sheet
from pruningbench.site.links import page_of, slug
from pruningbench.site.strips import Pictures, pictures_of
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_exhibit

PICTURE = re.compile(r"img/[0-9a-f]{20}\.(webp|png)")


def pictures(folder: Path, images: Images | None = None, registry: Registry | None = None) -> list[Pictures]:
    frame = load_results(folder)
    return list(pictures_of(RunFolder(folder), folder.name, frame, registry or load_registry(), images or Images()))


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGBA"))


def one_cell(folder: Path, exhibit: Exhibit, task: str = "looking") -> Path:
    """Write a run with a dense and a pruned cell that both show the same exhibit."""
    where = conditions(pruners=("a",), recipes=("none",), sparsities=(0.5,))
    records = [record(metric="mass", task=task, **one) for one in where]
    write_run(folder, records)
    for one in records:
        write_exhibit(RunFolder(folder).exhibit_file(one.cell, task, ""), exhibit)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("strips") / "run")


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, Pictures]:
    return {one.task: one for one in pictures(folder)}


def test_a_strip_goes_from_the_dense_reference_through_all_sparsities(shown: dict[str, Pictures]) -> None:
    page = shown["looking"]
    assert (page.kind, page.model, page.sparsities) == ("maps", "net", (0.0, 0.5, 0.9))
    assert [sample.key for sample in page.samples] == [f"image-{i}" for i in range(4)]
    for sample in page.samples:
        named = [(strip.variant, strip.recipe, strip.pruner) for strip in sample.strips]
        assert named == sorted(named) and len(named) == 2 * 2 * 2  # variants, recipes, pruners
        for strip in sample.strips:
            assert [frame.sparsity for frame in strip.frames] == [0.0, 0.5, 0.9]
            assert {frame.state for frame in strip.frames} == {"shown"}


def test_captions_say_the_strength_of_a_map_relative_to_the_dense_one(tmp_path: Path) -> None:
    folder = one_cell(tmp_path / "run", Exhibit("maps", torch.zeros(1, 1, 4, 4), ("i",), maps=torch.ones(1, 4, 4)))
    pruned = load_results(folder).query("sparsity == 0.5")["cell"].iloc[0]
    quarter = Exhibit("maps", torch.zeros(1, 1, 4, 4), ("i",), maps=torch.full((1, 4, 4), 0.25), captions=("cat",))
    write_exhibit(RunFolder(folder).exhibit_file(pruned, "looking", ""), quarter)
    ((page,),) = [pictures(folder)]
    assert [frame.caption for frame in page.samples[0].strips[0].frames] == ["", "cat · strength .25\u00a0×\u00a0dense"]


def test_boxes_are_shares_of_the_picture_with_their_overlap_in_words(shown: dict[str, Pictures]) -> None:
    page = shown["finding"]
    frame = page.samples[0].strips[0].frames[0]
    assert frame.predicted == ((2 / 24, 3 / 24, 12 / 24, 15 / 24),)
    assert len(frame.truth) == 2
    assert frame.caption == f"IoU .{round(100 * 88 / (120 + 96 - 88))}"  # 8 x 11 shared of 10 x 12 and 8 x 12
    assert page.samples[3].strips[0].frames[0].caption == "no box found"
    assert {strip.address for sample in page.samples for strip in sample.strips} == {""}


BOX = st.tuples(*(st.floats(0, 1, width=16) for _ in range(4))).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@given(BOX, st.lists(BOX, min_size=1, max_size=4))
def test_overlap_is_that_of_the_metric(box: tuple[float, ...], truth: list[tuple[float, ...]]) -> None:
    expected = float(best_iou(torch.tensor([box], dtype=torch.float64), [torch.tensor(truth, dtype=torch.float64)])[0])
    best = max(iou(box, other) for other in truth)  # type: ignore[arg-type]
    assert best == pytest.approx(expected, abs=1e-12)
    assert 0 <= best <= 1 and overlap_text([box], truth).startswith("IoU ")  # type: ignore[list-item, arg-type]


def test_concepts_are_rows_of_crops_below_each_other(tmp_path: Path) -> None:
    keys = ("cat 1/0", "cat 1/1", "cat 2/0")
    exhibit = Exhibit("concepts", torch.rand(3, 3, 8, 8), keys, captions=("first", "first", "second"))
    images = Images()
    ((page,),) = [pictures(one_cell(tmp_path / "run", exhibit, "concepts"), images)]
    assert [sample.key for sample in page.samples] == ["cat 1", "cat 2"]
    first = page.samples[0]
    assert first.size == (2 * 100 - 4, 96)  # two crops of 96 pixels and a gap
    (strip,) = first.strips
    content = next(file.content for file in images.files() if file.address == strip.address)
    assert pixels(content).shape[:2] == (2 * 96, 2 * 100 - 4)  # dense above pruned
    assert [frame.caption for frame in strip.frames] == ["first", "first"]


def test_places_in_an_overlay_are_the_maps_in_order_and_alpha_follows_the_value() -> None:
    ramp = np.linspace(0, 1, 6 * 5).reshape(6, 5)
    strip = pixels(overlay([ramp, None, np.full((6, 5), np.nan)], (6, 5), signed=False))
    assert strip.shape == (6, 15, 4)
    colours = palette(signed=False)
    assert len(colours) == LEVELS and colours[0, 3] == 0 and colours[-1, 3] == 255
    opaque = strip[:, :5, 3].ravel().astype(int)
    assert (np.diff(opaque) >= 0).all() and opaque[-1] == 255
    assert (strip[:, 5:10, 3] == 0).all()  # nothing is drawn where there is no map
    assert (strip[:, 10:, :3] == 128).all()  # undefined pixels are grey
    expected = colours[np.round(ramp * (LEVELS - 1)).astype(int)]
    visible = expected[..., 3] > 0
    assert (strip[:, :5][visible] == expected[visible]).all()  # stored without loss


def test_signed_maps_use_both_ends_of_a_palette_that_colour_blind_readers_can_tell_apart() -> None:
    low, high = pixels(overlay([np.array([[-1.0, 1.0]])], (1, 2), signed=True))[0]
    assert low[2] > low[0] and high[0] > high[2]  # blue below, red above: they also differ in the blue channel
    colours = palette(signed=True)
    assert colours[0, 3] == colours[-1, 3] == 255 and colours[LEVELS // 2, 3] < 40


def test_small_pictures_are_stored_without_loss_and_sheets_stack() -> None:
    picture = np.random.default_rng(0).random((7, 9, 3))
    assert (pixels(photo(picture))[..., :3] == np.round(picture * 255)).all()
    stacked = pixels(sheet([picture, None], (7, 9)))
    assert stacked.shape[:2] == (14, 9) and (stacked[7:, :, :3] == 128).all()


def test_equal_pictures_are_one_file_with_a_name_from_their_content(folder: Path, shown: dict[str, Pictures]) -> None:
    images = Images()
    pictures(folder, images)
    files = images.files()
    assert all(PICTURE.fullmatch(file.address) for file in files)
    assert len({file.address for file in files}) == len({file.content for file in files}) == len(files)
    assert images.files() == []
    used = {strip.address for page in shown.values() for s in page.samples for strip in s.strips if strip.address}
    used |= {sample.image for page in shown.values() for sample in page.samples}
    assert used == {file.address for file in files}


def test_pictures_of_a_site_are_limited_and_the_page_says_so(folder: Path) -> None:
    images = Images(largest=2000)
    made = pictures(folder, images)
    assert sum(len(file.content) for file in images.files()) <= 2000 and images.refused
    assert any("limited in size" in note for page in made for note in page.notes)


def test_more_samples_conditions_and_sparsities_than_a_page_holds_are_named(tmp_path: Path) -> None:
    count, steps = strips.SAMPLES + 3, strips.SPARSITIES + 6
    where = conditions(
        pruners=tuple(f"p{i}" for i in range(strips.CONDITIONS + 1)), recipes=("none",), sparsities=(0.5,)
    )
    where += conditions(pruners=("p0",), recipes=("none",), sparsities=tuple(i / 64 for i in range(1, steps + 1)))[1:]
    records = list({one.cell: one for one in (record(metric="mass", task="looking", **one) for one in where)}.values())
    write_run(tmp_path / "run", records)
    maps = Exhibit("maps", torch.zeros(count, 1, 2, 2), tuple(map(str, range(count))), maps=torch.ones(count, 2, 2))
    for one in records:
        write_exhibit(RunFolder(tmp_path / "run").exhibit_file(one.cell, "looking", ""), maps)
    ((page,),) = [pictures(tmp_path / "run")]
    assert len(page.samples) == strips.SAMPLES and len(page.sparsities) == strips.SPARSITIES
    assert len(page.samples[0].strips) == strips.CONDITIONS
    known = steps + 1 + (0.5 not in [i / 64 for i in range(1, steps + 1)])
    assert page.notes == (
        f"Shown: {strips.SAMPLES} of {count} stored samples.",
        "Not shown: 1 further combinations of variant, pruner and recipe.",
        f"Shown: {strips.SPARSITIES} of {known} sparsities.",
    )


def test_missing_and_blank_maps_are_told_apart(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", tasks=("looking",))
    frame = load_results(folder)
    gone = frame.query("sparsity == 0.9 and pruner == 'a' and recipe == 'none'")["cell"].iloc[0]
    flat = frame.query("sparsity == 0.5 and pruner == 'a' and recipe == 'none'")["cell"].iloc[0]
    for variant in ("grad", "ig"):
        RunFolder(folder).exhibit_file(gone, "looking", variant).unlink()
    blank = record(task="looking", cell=flat, sparsity=0.5, variant="grad")
    show(folder, blank, maps=torch.zeros(4, 24, 24))
    with pytest.warns(UserWarning, match="is missing"):
        ((page,),) = [pictures(folder)]
    strip = next(s for s in page.samples[0].strips if (s.variant, s.pruner, s.recipe) == ("grad", "a", "none"))
    assert [frame.state for frame in strip.frames] == ["shown", "blank", "missing"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"kind": np.array("maps"), "images": np.zeros((1, 1, 0, 0)), "maps": np.zeros((1, 0, 0))},
        {"kind": np.array("maps"), "images": np.zeros((1, 1, 4, 4)), "maps": np.array([[["a"]]])},
        {"kind": np.array("maps"), "images": np.full((1, 3, 4, 4), np.nan), "maps": np.full((1, 9, 2), np.inf)},
        {"kind": np.array("boxes"), "images": np.zeros((1, 1, 4, 4)), "predicted": np.full((1, 4), np.nan),
         "predicted_counts": np.array([1])},
        {"kind": np.array("<b>"), "images": np.zeros((1, 1, 4, 4))},
    ],
)  # fmt: skip
def test_arrays_of_strangers_never_stop_a_site(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    folder = one_cell(tmp_path / "run", Exhibit("maps", torch.zeros(1, 1, 2, 2), ("i",), maps=torch.ones(1, 2, 2)))
    for file in (folder / "exhibits").iterdir():
        np.savez(file, keys=np.array(["i"]), captions=np.array(["c"]), **arrays)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for page in pictures(folder):
            for sample in page.samples:
                for frame in (frame for strip in sample.strips for frame in strip.frames):
                    assert not frame.predicted  # a box that is no number is not drawn
                    assert frame.state in ("shown", "blank")


def drawing(names: list[str], shown: list[object]) -> Iterator[tuple[list[str], object]]:
    """Draw nothing on three figures, the second of which fails."""

    def fail() -> Figure:
        raise RuntimeError("no ink")

    yield ["one"], lambda: Figure((1, 1))
    yield ["two"], fail
    yield ["three"], lambda: Figure((1, 1))


def test_other_kinds_are_drawn_by_their_plugin(tmp_path: Path) -> None:
    registry = Registry()
    registry.add("exhibit", "bars", drawing, Plugin("p", "strangers", "1"))
    folder = one_cell(tmp_path / "run", Exhibit("bars", torch.zeros(1, 1, 4, 4), ("i",)))
    images = Images()
    with pytest.warns(UserWarning, match="no ink"):
        ((page,),) = [pictures(folder, images, registry)]
    ((variant, address),) = page.drawings
    assert variant == "" and address.endswith(".png") and "no ink" in page.notes[0]
    (file,) = images.files()
    assert file.content.startswith(b"\x89PNG")
    with pytest.warns(UserWarning, match="unknown exhibit"):
        ((page,),) = [pictures(folder, registry=Registry())]
    assert not page.drawings and "unknown exhibit" in page.notes[0]


@given(st.text(), st.text())
@example("Net", "net")
@example("a-b", "a b")
@example("net", "net\u200b")
def test_addresses_are_harmless_and_differ_where_names_do(one: str, other: str) -> None:
    first, second = (page_of("model", name) for name in (one, other))
    assert re.fullmatch(r"model/[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?\.html", first)
    assert (first == second) == (one == other)
    assert slug(one, readable=other).endswith(slug(one, readable=""))


def test_there_are_no_pages_of_other_kinds() -> None:
    with pytest.raises(ValueError, match="kinds are: model"):
        page_of("../etc", "x")  # type: ignore[arg-type]
