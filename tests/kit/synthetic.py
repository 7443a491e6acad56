"""Run folders of any size, written quickly, for benchmarks and for tests of large tables."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from pruningbench.store.records import Record

PRUNERS = (
    "random",
    "magnitude",
    "magnitude(allocation=erk)",
    "taylor",
    "wanda",
    "snip",
    "grasp",
    "synflow",
    "obs",
    "fo",
)
RECIPES = ("none", "finetune")
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.98, 0.99)
TASKS = (("classification", "", ("accuracy", "loss")),
         ("transfer", "knn", ("accuracy",)), ("transfer", "linear-probe", ("accuracy",)),
         *(("interpretability", method, ("gini", "relevance-mass", "relevance-rank", "deletion", "insertion", "road"))
           for method in ("saliency", "integrated-gradients", "grad-cam", "attention", "lime")),
         ("discovery", "", ("corloc", "best-iou")),
         ("alignment", "triplets", ("odd-one-out",)), ("alignment", "similarity", ("rsa", "cka")))  # fmt: skip
"""A task, a variant and the metrics of it: 39 columns in all."""
LINE = Record(
    suite="synthetic", cell="", model="", pruner="", recipe="", sparsity=0.0, seed=0, task="", n=500, unit="fraction",
    prepare_seconds=9.2, peak_memory_mb=917.0, device="cpu", batch_size=128, pruningbench_version="0.1.0",
    plugin="pruningbench", plugin_version="0.1.0",
).to_json()  # fmt: skip
MADE_OF = {
    "weights": "8cf91cac6842ea42", "preprocessing": "f5b39da4485b5b6c", "libraries": "timm 1.0.31",
    "task data": "7a5db39115a118ae", "model": "pruningbench 0.1.0 v1 12ce65be22289442",
    "pruner": "pruningbench 0.1.0 v1 7be22289442e1234", "recipe": "pruningbench 0.1.0 v1 2289442e123456ab",
    "task": "pruningbench 0.1.0 v1 1474bc3a271d3942",
}  # fmt: skip


def write_synthetic(folder: Path, rows: int, *, seeds: int = 3, models: int | None = None) -> int:
    """Write a run folder whose journal has about `rows` measurements; return how many.

    Every line looks like one of a real run: 1.4 kB, with its keys and what it was made from. The values follow from a
    fixed seed; there are no per-sample values.

    Args:
        folder: the run folder to make.
        rows: number of measurements, at least; whole cells are written.
        seeds: number of seeds of each condition.
        models: number of models; by default as many as the rows need with ten pruners, two recipes, ten sparsities.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = sum(len(metrics) for _, _, metrics in TASKS)
    per_model = (1 + len(PRUNERS) * len(RECIPES) * len(SPARSITIES)) * seeds * columns
    models = models or -(-rows // per_model)
    written = 0
    with (folder / "results.jsonl").open("w", encoding="utf-8") as file:
        for cell, (model, pruner, recipe, sparsity, seed) in enumerate(_conditions(models, seeds)):
            if written >= rows:
                break
            for line in _lines(cell, model, pruner, recipe, sparsity, seed):
                file.write(line)
                written += 1
    return written


def _conditions(models: int, seeds: int) -> Iterator[tuple[str, str, str, float, int]]:
    for number in range(models):
        model = f"network-{number}"
        yield from ((model, "dense", "none", 0.0, seed) for seed in range(seeds))
        for pruner in PRUNERS:
            for recipe in RECIPES:
                for sparsity in SPARSITIES:
                    yield from ((model, pruner, recipe, sparsity, seed) for seed in range(seeds))


def _lines(cell: int, model: str, pruner: str, recipe: str, sparsity: float, seed: int) -> Iterator[str]:
    """Yield the lines of a cell: those of a task together, as a run writes them."""
    draw = random.Random(cell)
    hashes = [f"{draw.getrandbits(64):016x}" for _ in range(3)]
    for task in dict.fromkeys(task for task, _, _ in TASKS):
        pairs = [(variant, metric) for name, variant, metrics in TASKS if name == task for metric in metrics]
        seconds = draw.random()
        for part, (variant, metric) in enumerate(pairs, start=1):
            value = draw.random() * (1 - sparsity / 2)
            tested = task == "classification" and metric == "accuracy"
            line = {
                **LINE, "cell": f"{cell:016x}", "model": model, "pruner": pruner, "recipe": recipe, "sparsity": sparsity,
                "seed": seed, "task": task, "dimension": task, "sparsity_achieved": sparsity,
                "sparsity_total": sparsity * 0.9, "variant": variant, "metric": metric, "value": value,
                "ci_low": value - draw.random() / 9, "ci_high": value + draw.random() / 9,
                "higher_is_better": {"gini": None, "loss": False, "deletion": False}.get(metric, True),
                "chance": 0.1 if tested else None, "chance_p": 1e-9 if tested else None, "seconds": seconds,
                "data_fingerprint": f"{task}-7a5db391:6fce91d4", "plan": hashes[0],
                "artifact": f"{draw.getrandbits(64):016x}",
                "made_of": {
                    **MADE_OF, f"metric {metric}": "pruningbench 0.1.0 v1 1474bc3a271d3942", "network": hashes[1]
                },
                "part": part, "parts": len(pairs),
            }  # fmt: skip
            yield json.dumps(line, separators=(",", ":")) + "\n"
