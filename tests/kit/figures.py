"""Runs with exhibits, for the tests of figures."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.image import imread

from kit.boards import record, write_run
from pruningbench.contract import Exhibit
from pruningbench.store.records import Record
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_exhibit

SPARSITIES = (0.5, 0.9)


def conditions(
    models: tuple[str, ...] = ("net",),
    pruners: tuple[str, ...] = ("a", "b(how=erk)"),
    recipes: tuple[str, ...] = ("none", "tune"),
    sparsities: tuple[float, ...] = SPARSITIES,
    seeds: tuple[int, ...] = (0,),
) -> list[dict[str, object]]:
    found = []
    for model in models:
        for seed in seeds:
            common = {"model": model, "seed": seed}
            found.append({**common, "pruner": "dense", "recipe": "none", "sparsity": 0.0})
            found += [
                {**common, "pruner": pruner, "recipe": recipe, "sparsity": sparsity}
                for pruner in pruners
                for recipe in recipes
                for sparsity in sparsities
            ]
    return found


TASKS = ("sorting", "looking", "finding")


def make_run(
    folder: Path,
    where: list[dict[str, object]] | None = None,
    *,
    exhibits: bool = True,
    tasks: tuple[str, ...] = TASKS,
) -> Path:
    """Write a run with up to three tasks: `sorting`, `looking` (maps, two variants) and `finding` (boxes)."""
    run: list[Record] = []
    for i, one in enumerate(conditions() if where is None else where):
        value = 0.9 - 0.6 * float(one["sparsity"]) ** 3 + 0.01 * (i % 5)  # type: ignore[arg-type]
        run += [record(value=value, **one), record(metric="loss", value=1 - value, higher_is_better=False, **one)]
        run += [record(metric="mass", value=value, task="looking", variant=v, **one) for v in ("grad", "ig")]
        run += [record(metric="corloc", value=value, task="finding", **one)]
    run = [one for one in run if one.task in tasks]
    write_run(folder, run)
    if exhibits:
        for one in run:
            if one.task != "sorting":
                show(folder, one)
    return folder


def show(folder: Path, one: Record, **other: object) -> None:
    """Write the exhibit of a measurement: four images with maps, or with boxes."""
    images = torch.linspace(0, 1, 4 * 24 * 24).reshape(4, 1, 24, 24)
    keys = tuple(f"image-{i}" for i in range(4))
    if one.task == "looking":
        maps = torch.rand((4, 24, 24), generator=torch.Generator().manual_seed(0)) + one.sparsity
        fields = {"maps": maps, "captions": tuple(f"{i}/{i}" for i in range(4))}
        exhibit = Exhibit("maps", images, keys, **{**fields, **other})  # type: ignore[arg-type]
    else:
        boxes = [torch.tensor([[2.0, 3.0, 12.0, 15.0]])] * 3 + [torch.zeros((0, 4))]
        truth = [torch.tensor([[2.0, 2.0, 10.0, 14.0], [14.0, 14.0, 20.0, 22.0]])] * 4
        exhibit = Exhibit("boxes", images, keys, predicted=boxes, truth=truth)
    write_exhibit(RunFolder(folder).exhibit_file(one.cell, one.task, one.variant), exhibit)


def is_picture(path: Path) -> bool:
    """Whether a PNG has content all over: at least one percent of it is not white."""
    pixels = imread(path)[..., :3]
    return bool((pixels < 0.9).any(axis=2).mean() > 0.01) and min(pixels.shape[:2]) > 200
