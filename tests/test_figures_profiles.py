"""Profiles: the curves behind metrics, from the samples that runs keep to the lines on the figure."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.boards import record, write_run
from kit.figures import conditions, is_picture

from pruningbench.contract import Curve, Metric, Predictions
from pruningbench.errors import PluginError
from pruningbench.harness.joining import Variant
from pruningbench.harness.measure import Measured, _apply, _store
from pruningbench.leaderboard import draw_figures
from pruningbench.leaderboard.profiles import profiles
from pruningbench.leaderboard.results import load_results
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_arrays

X = (0.1, 0.5, 0.9)


def make_run(folder: Path, where: list[dict[str, object]], metrics: tuple[str, ...] = ("faith",)) -> Path:
    """Write a run of the task `looking` with curves that fall from 1 - sparsity, one sample of three undefined."""
    records = [
        record(metric=metric, value=0.5, task="looking", variant="grad", unit="fraction", **one)
        for one in where
        for metric in (*metrics, "plain")
    ]
    write_run(folder, records)
    for one in records:
        curve = np.outer([1.0, 3.0, np.nan], (1 - one.sparsity) * (1 - np.array(X)) + 0.1 * one.seed)
        arrays = {f"grad|{metric}": curve[:, 0] for metric in (*metrics, "plain")}
        for metric in metrics:
            arrays[f"grad|{metric}|curve"] = curve.astype(np.float32)
            arrays[f"grad|{metric}|x"] = np.array(X)
            arrays[f"grad|{metric}|x label"] = np.asarray("share removed")
        write_arrays(RunFolder(folder).samples_file(one.cell, "looking"), arrays)
    return folder


def drawn(folder: Path) -> list[tuple[list[str], object]]:
    return list(profiles(RunFolder(folder), load_results(folder)))


def test_lines_are_means_over_defined_samples_and_seeds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",), recipes=("none",), seeds=(0, 1)))
    ((names, figure),) = drawn(run)
    assert names == ["profiles", "looking", "grad", "net", "none"]
    (axes,) = figure.axes
    assert axes.get_xlabel() == "share removed"
    assert axes.get_ylabel() == "faith ↑\n(fraction)"
    assert axes.get_title(loc="left") == "a"
    by_start = {line.get_ydata()[0]: line for line in axes.lines}
    for sparsity in (0.0, 0.5, 0.9):
        expected = 2 * ((1 - sparsity) * (1 - np.array(X)) + 0.05)
        found = by_start[min(by_start, key=lambda start: abs(start - expected[0]))]
        np.testing.assert_allclose(found.get_ydata(), expected, rtol=1e-6)
        assert tuple(found.get_xdata()) == X
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dense", "50%", "90%"]
    assert len({line.get_color() for line in axes.lines}) == 3


def test_pruners_stand_side_by_side_and_metrics_below_each_other(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", conditions(pruners=("a", "b(how=erk)"), recipes=("none", "tune")), ("faith", "loss")
    )
    found = drawn(run)
    assert [names[-1] for names, _ in found] == ["none", "tune"]
    for _, figure in found:
        assert len(figure.axes) == 4
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b(erk)", "", ""]
        assert all(len(axes.lines) == 3 for axes in figure.axes)


def test_figures_of_profiles_are_drawn_with_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",), recipes=("none",)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw_figures(run)
    assert [path.name for path in paths] == ["curves-looking-grad.png", "profiles-looking-grad-net-none.png"]
    assert is_picture(paths[1])


def test_dense_alone_and_many_sparsities(tmp_path: Path) -> None:
    (_, alone), = drawn(make_run(tmp_path / "dense", conditions(pruners=())))  # fmt: skip
    assert len(alone.axes) == 1 and len(alone.axes[0].lines) == 1
    many = tuple(i / 20 for i in range(1, 20))
    ((_, figure),) = drawn(make_run(tmp_path / "many", conditions(pruners=("a",), recipes=("none",), sparsities=many)))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(shown) == 8 and shown[0] == "dense" and shown[-1] == "95%"


def test_missing_and_damaged_samples_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", conditions(pruners=("a",), recipes=("none",)))
    cells = dict(load_results(run)[["sparsity", "cell"]].itertuples(index=False))
    RunFolder(run).samples_file(cells[0.0], "looking").unlink()
    RunFolder(run).samples_file(cells[0.9], "looking").write_bytes(b"no zip file")
    with pytest.warns(UserWarning, match="is damaged"):
        ((_, figure),) = drawn(run)
    assert len(figure.axes[0].lines) == 1
    for cell in cells.values():
        file = RunFolder(run).samples_file(cell, "looking")
        write_arrays(
            file,
            {"grad|faith|curve": np.zeros((2, 4)), "grad|faith|x": np.zeros(3), "grad|faith|x label": np.asarray("")},
        )
    assert drawn(run) == []


# what the harness keeps


@dataclass(frozen=True)
class Bent(Metric):
    """A metric with a curve of `points` points."""

    consumes = Predictions
    points: int = 3

    def values(self, outputs: Predictions) -> torch.Tensor:
        return outputs.scores[:, 0]

    def curve(self, outputs: Predictions) -> Curve:
        return Curve(X, "share removed", torch.ones(outputs.count, self.points))


def test_the_harness_keeps_curves_beside_the_values() -> None:
    outputs, measured, seen = (
        Predictions(torch.rand(4, 2), torch.zeros(4, dtype=torch.int64)),
        Measured(),
        Variant(False),
    )
    _apply(Bent(), "bent", outputs, seen)
    _store(Bent(), "bent", "v", seen, measured, main=False, shared=False)
    assert set(measured.samples) == {"v|bent", "v|bent|curve", "v|bent|x", "v|bent|x label"}
    assert measured.samples["v|bent|curve"].shape == (4, 3)
    assert tuple(measured.samples["v|bent|x"]) == X
    assert str(measured.samples["v|bent|x label"]) == "share removed"
    with pytest.raises(PluginError, match=r"metric 'bent': a curve of \(4, 2\) for 4 samples, 3 points"):
        _apply(Bent(points=2), "bent", outputs, Variant(False))
