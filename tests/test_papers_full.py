"""The papers' full suites run from end to end, with random networks of their architectures on stand-in data.

Everything that costs hours is reduced: images, epochs, rounds and sparsities. What the suites say of data sets, tasks,
methods, scopes and recipes stays as it is shipped. Slow: run by hand and nightly.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pruningbench_suites
import pytest
import yaml
from kit.runs import run

from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import load_registry

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3


def shorten(recipe: dict[str, Any]) -> None:
    """Train for one epoch of three images, in float32."""
    if recipe["use"] != "none":
        recipe.update(epochs=1, batch_size=LIMIT, mixed_precision=False)
    if "rounds" in recipe:
        recipe["rounds"] = 2


def cassano(suite: dict[str, Any]) -> None:
    assert [model["as"] for model in suite["models"]] == ["resnet18", "resnet50", "vit-b32", "vit-b16", "swin-v2-t"]
    assert all(model["norm_init"] == "one" and not model["pretrained"] for model in suite["models"])
    suite["sparsities"] = [0, 0.36]
    task = {task["use"]: task for task in suite["tasks"]}
    task["interpretability"].update(steps=2, count=2)
    assert len(task["model-vs-human"]["data"]) == 17
    if suite["pruners"] == ["magnitude"]:  # the other suite has the same experiments, and fewer trainings
        task["model-vs-human"].update(data=task["model-vs-human"]["data"][::4])
    else:  # and the same networks
        suite["models"] = suite["models"][::2]


def suwal(suite: dict[str, Any]) -> None:
    suite["sparsities"] = [0, 0.1, 0.2]
    suite["recipes"][0]["levels"] = [0.1, 0.2]
    maps, concepts = suite["tasks"][1:]
    assert maps["samples"] == concepts["samples"] == "correct"
    maps.update(samples="all", steps=2)  # three epochs of three images teach nothing
    concepts.update(samples="all", concepts=2, designs=4)


def iurada(suite: dict[str, Any]) -> None:
    suite["sparsities"] = [0, 0.36]
    suite["models"] = [
        {**suite["models"][0], "as": label, "model": {"use": "timm", "name": name, "pretrained": False}}
        for label, name in (("headed-resnet50", "resnet50.tv_in1k"), ("headed-dino", "vit_base_patch16_224.dino"))
    ]
    for pruner in suite["pruners"][2:]:
        pruner.update(samples=2)
    task = suite["tasks"][0]
    for field in ("target_train", "target_test"):
        assert len(task[field]) == 9
        task[field] = task[field][:2]


SUITES: dict[str, Callable[[dict[str, Any]], None]] = {
    "cassano2025": cassano,
    "cassano2025-snip": cassano,
    "suwal2025": suwal,
    "iurada2025": iurada,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("stand_in_data", ROOT / "examples/stand_in_data.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("data") / "stand-ins"
    script.main(str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SUITES)
def test_a_full_suite_runs_in_a_reduced_form(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(data))
    suite = yaml.safe_load((Path(pruningbench_suites.__file__).parent / f"{name}.yaml").read_text("utf-8"))
    SUITES[name](suite)
    for recipe in suite["recipes"]:
        shorten(recipe)
    suite["batch_size"] = LIMIT
    if name != "iurada2025":  # every class of a ridge head needs images, and there are few
        suite["limit"] = LIMIT
    summary = run(yaml.safe_dump(suite, sort_keys=False), load_registry(), tmp_path / "run")
    assert summary.ok, [f"{record.model} {record.task}: {record.error}" for record in summary.not_ok][:5]
    table = load_results(tmp_path / "run")
    tasks = {task["use"] for task in suite["tasks"]}
    assert {task.partition("-voc")[0].partition("-coco")[0] for task in table["task"]} >= tasks
    for model, rows in table.groupby("model"):
        assert set(rows["sparsity"]) == set(suite["sparsities"]), model
        assert rows[rows["status"] == "ok"]["value"].notna().mean() > 0.5, model
