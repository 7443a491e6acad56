"""Figures for print: PDFs with vectors and embedded fonts, colours for all readers, labels that do not collide."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from kit.boards import record, write_run
from kit.figures import conditions, make_run
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from pruningbench.leaderboard import draw_figures
from pruningbench.leaderboard.figures import _drawn
from pruningbench.leaderboard.style import COLOURS
from pruningbench.plugins import load_registry
from pruningbench.store.runfolder import RunFolder

SIMULATED = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What colour-blind readers see of linear RGB: Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1."""


def few(folder: Path) -> Path:
    """A run with a figure of curves and one of boxes."""
    return make_run(folder, conditions(pruners=("a",), recipes=("none",)), tasks=("finding",))


def pdfs(run: Path) -> list[Path]:
    return sorted((run / "figures").glob("*.pdf"))


def test_a_pdf_has_vectors_and_embedded_fonts_whatever_the_settings_are(tmp_path: Path) -> None:
    runs = [few(tmp_path / name) for name in ("one", "two")]
    with matplotlib.rc_context({"pdf.fonttype": 3, "pdf.use14corefonts": True}):
        paths = [draw_figures(run, pdf=True) for run in runs]
    assert [path.name for path in paths[0]] == ["curves-finding.png", "boxes-finding-net-none.png"]
    for first, second in zip(*paths, strict=True):
        content = first.with_suffix(".pdf").read_bytes()
        assert content.startswith(b"%PDF-") and content == second.with_suffix(".pdf").read_bytes()
        assert b"CreationDate" not in content and b"/Type3" not in content and b"/Type1" not in content
        fonts = content.count(b"/FontDescriptor /")
        assert fonts >= 1 and content.count(b"/FontFile2") == fonts
        pictures = re.findall(rb"/Subtype /Image\s[^>]*/Width (\d+) /Height (\d+)", content)
        if first.name.startswith("curves"):
            assert not pictures
        else:
            height, width = matplotlib.image.imread(first).shape[:2]
            assert [tuple(map(int, sides)) for sides in pictures] == [(2 * width, 2 * height)]


def test_pdfs_are_drawn_if_wanted_and_then_kept_up_to_date(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", exhibits=False, tasks=("finding",))
    draw_figures(run)
    assert not pdfs(run)
    png = run / "figures" / "curves-finding.png"
    before = png.read_bytes()
    draw_figures(run, pdf=True)
    assert [path.stem for path in pdfs(run)] == ["curves-finding"]
    assert png.read_bytes() == before
    stamps = {path: path.stat().st_mtime_ns for path in pdfs(run)}
    draw_figures(run)
    assert {path: path.stat().st_mtime_ns for path in pdfs(run)} == stamps
    pdfs(run)[0].unlink()
    draw_figures(run)
    assert len(pdfs(run)) == 1
    (run / "results.jsonl").unlink()
    write_run(run, [record("new", task="sorting")])
    draw_figures(run)
    assert [path.stem for path in pdfs(run)] == ["curves-sorting"], "old ones are removed, and new ones have a PDF"
    assert json.loads((run / "figures" / "figures.json").read_text())["pdf"] is True


@pytest.mark.parametrize("sight", SIMULATED)
def test_colour_blind_readers_can_tell_the_colours_apart(sight: str) -> None:
    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SIMULATED[sight]).T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)[None])[0]
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(len(COLOURS), 1)]
    assert apart.min() > 15, "differences of 2 or 3 are just seen"


def test_texts_of_grids_lie_inside_and_apart(tmp_path: Path) -> None:
    where = conditions(
        models=("a-model-with-a-rather-long-name/resnet50.a1_in1k-and-more-of-it",),
        pruners=tuple(f"pruner-{i}(allocation=something-long,batches={i},scores=those-of-another)" for i in range(3)),
        recipes=("finetune(epochs=3,lr=0.01,schedule=cosine)",),
        sparsities=(0.5, 0.98, 0.995, 0.9995),
    )
    run = make_run(tmp_path / "run", where, tasks=("looking", "finding"))
    drawn = [figure for name, figure in _drawn(RunFolder(run), load_registry(), []) if not name.startswith("curves")]
    assert len(drawn) == 3
    for figure in drawn:
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
        assert len(boxes) >= 20
        for i, one in enumerate(boxes):
            assert figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= one.y0 and one.y1 <= figure.bbox.y1
            assert not any(one.overlaps(other) for other in boxes[i + 1 :])
