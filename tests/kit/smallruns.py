"""Small runs for the tests of the site, with per-sample values, and one whose names are hostile."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

from kit.boards import failure, record, write_run
from kit.paired import correct, dense, measured, write
from pruningbench.contract.statistics import Floats
from pruningbench.store.records import Record

MODELS = ("tiny-resnet", "tiny-vit")
PRUNERS = ("magnitude", "magnitude(allocation=erk)", "random")
RECIPES = ("none", "finetune")
SPARSITIES = (0.5, 0.8, 0.95)
COLUMNS: Mapping[tuple[str, str, str], dict[str, object]] = {
    ("classification", "", "accuracy"): {"dimension": "accuracy", "chance": 0.1},
    ("discovery", "", "corloc"): {"dimension": "discovery", "ceiling": 0.95},
    ("maps", "saliency", "gini"): {"dimension": "interpretability"},
    ("maps", "rise", "deletion"): {"dimension": "interpretability", "higher_is_better": False},
}
"""Task, variant and metric, and what else their records say."""
LOSSES = {"magnitude": 0.25, "magnitude(allocation=erk)": 0.1, "random": 0.85}
"""How much each pruner loses at 100 %; the loss grows with the square of the sparsity."""
HOSTILE = (
    '<script>document.title="owned"</script>', "<img src=x onerror=alert(1)>", "javascript:alert(1)", "'\"><b>bold",
    "=HYPERLINK(1)", "\u202eesrever", "long " + "x" * 10_000, "</script><script>alert(2)</script>", "../../etc/passwd",
    "line\nbreak\u2028end", "${alert(3)} `x` \\u003c", "&lt;b&gt; &amp;",
)  # fmt: skip
"""Names that a plugin could choose."""


def small_run(folder: Path) -> Path:
    """Write a run of two models, three pruners, two recipes and three sparsities, with all per-sample values.

    At 80 % on the ViT, ``magnitude(allocation=erk)`` is the best at discovery by far.
    """
    made: list[tuple[Record, Floats]] = []
    for m, model in enumerate(MODELS):
        for recipe in RECIPES:
            for place, ((task, variant, metric), more) in enumerate(COLUMNS.items()):
                fields = {"model": model, "recipe": recipe, "task": task, "variant": variant, "metric": metric, **more}
                kept = 0.9 - 0.05 * m - 0.02 * place + 0.02 * (recipe == "finetune")
                made.append(dense(_values(kept, place, more), **_tested(fields)))
                for pruner in PRUNERS:
                    for sparsity in SPARSITIES:
                        share = kept * (1 - LOSSES[pruner] * sparsity**2)
                        own = {"pruner": pruner, "sparsity": sparsity, **fields}
                        made.append(measured(_values(share, place, more), **_tested(own, share)))
    write(folder, *made)
    return folder


def _values(share: float, place: int, more: Mapping[str, object]) -> Floats:
    return correct(share if more.get("higher_is_better", True) else 1 - share, place)


def _tested(fields: dict[str, object], share: float = 1.0) -> dict[str, object]:
    return {**fields, "chance_p": 0.5 if share < 0.3 else 1e-9} if "chance" in fields else fields


def hostile_run(folder: Path, names: tuple[str, ...] = HOSTILE) -> Path:
    """Write a run in which every name, unit and error is one of `names`."""
    records = []
    for i, name in enumerate(names):
        other = names[(i + 1) % len(names)]
        more = {"model": name, "task": other, "variant": name, "metric": other, "unit": name, "recipe": other,
                "dimension": name, "suite": name}  # fmt: skip
        records.append(record("dense", value=0.9, sparsity=0.0, **more))
        records += [record(name, value=0.6 - 0.01 * i, sparsity=sparsity, **more) for sparsity in (0.5, 0.9)]
        records.append(failure(other, error=name, **{**more, "metric": "", "variant": "", "seed": 7}))
    return write_run(folder, records)


def many_values(script: bytes, count: int) -> bytes:
    """Return the data file of a board with its rows and values repeated until it has `count` values."""
    head, _, text = script.decode("ascii").partition("]=")
    board = json.loads(text.rstrip(";\n"))
    values, rows = board["values"], board["rows"]
    own, lines = len(values["row"]), len(rows["model"])
    copies = -(-count // own)
    draw = random.Random(0)
    board["rows"] = {name: listed * copies for name, listed in rows.items()}
    board["values"] = {name: (listed * copies)[:count] for name, listed in values.items()}
    board["values"]["row"] = [place + lines * (i // own) for i, place in enumerate(board["values"]["row"])]
    board["values"]["value"] = [round(draw.random(), 6) for _ in range(count)]
    return f"{head}]={json.dumps(board)};\n".encode("ascii")
