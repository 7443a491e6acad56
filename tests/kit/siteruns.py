"""Runs for tests of the site: one with all kinds of pictures, and one in which everything is hostile."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from kit.boards import failure, record, write_run
from kit.figures import conditions, make_run
from kit.sites import HOSTILE
from pruningbench.contract import Exhibit, Metric, Predictions, param
from pruningbench.plugins import Registry
from pruningbench.plugins.registration import Plugin
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_exhibit

EVIL = (
    "Values </p><script>alert(2)</script> of ``<b>code</b>`` and javascript:alert(3), see https://example.org/a?b=<c>."
)


@dataclass(frozen=True)
class Evil(Metric):
    __doc__ = (
        f"{EVIL}\n\n{'x' * 9000}\n\n* <i>item</i>\n* \u202eitem\n\nSource: <a href='javascript:alert(4)'>paper</a>."
    )
    consumes: ClassVar[type] = Predictions
    unit: ClassVar[str] = "<u>\u202e"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    how: str = param("<script>", doc="<img src=x onerror=alert(5)> \x1b[31m")

    def values(self, outputs: object) -> torch.Tensor:
        return torch.zeros(0)


def hostile_run(folder: Path) -> Path:
    """Write a run in which every name, text and file is hostile."""
    records = []
    for i, name in enumerate(HOSTILE):
        where = {
            "model": name,
            "task": f"t{name}",
            "variant": name,
            "suite": name,
            "unit": name,
            "plugin": name,
            "cell": f"c{i}",
        }
        for sparsity, pruner in ((0.0, "dense"), (0.5, f"p{name}")):
            cell = {**where, "pruner": pruner, "recipe": name, "sparsity": sparsity, "cell": f"c{i}-{sparsity}"}
            records.append(
                record(metric="evil" if i else name, notes=name, remarks=name, data_fingerprint=name, **cell)
            )
            records.append(failure(error=f"Traceback\n  {name}\nValueError: {name}", **cell, metric=""))
    write_run(folder, records)
    run = RunFolder(folder)
    run.suite.write_text(f"name: {json.dumps(HOSTILE[0])}\nmodels: [</pre><script>alert(6)</script>]\n\u202e: 1\n")
    environment = {
        "python": HOSTILE[1],
        "packages": {HOSTILE[0]: HOSTILE[2]},
        "plugins": [{"name": HOSTILE[0]}, 7],
        "resumed": [1],
    }
    run.environment.write_text(json.dumps(environment))
    for one in records:
        if one.status == "ok":
            maps = Exhibit("maps", torch.rand(2, 3, 8, 8), HOSTILE[:2], maps=torch.rand(2, 8, 8), captions=HOSTILE[2:4])
            write_exhibit(run.exhibit_file(one.cell, one.task, one.variant), maps)
    return folder


def hostile_registry() -> Registry:
    registry = Registry()
    registry.add("metric", "evil", Evil, Plugin("<p>", "<script>alert(7)</script>", "\u202e1"))
    return registry


def plain_run(folder: Path) -> Path:
    """Write a run with known and unknown components, maps, boxes, concepts, a failure, and unreliable rows."""
    run = make_run(folder, conditions(models=("digits-vit",), pruners=("magnitude(allocation=erk)", "unheard-of")))
    others = [
        record("random", "accuracy", 0.1, model="digits-vit", task="guessing", chance=0.1, chance_p=0.6, degenerate=90, remarks="all alike",
               data_fingerprint="d1", ceiling=0.97),
        failure("random", "Traceback\n  File /home/jo/secret/plug.py\nOSError: /home/jo/secret/data.csv is gone",
                model="digits-vit", task="finding"),
    ]  # fmt: skip
    rows = ("cat 1/0", "cat 1/1", "cat 2/0")
    for sparsity, pruner in ((0.0, "dense"), (0.5, "random")):
        one = record(pruner, "purity", 0.5, model="digits-vit", task="concepts", sparsity=sparsity)
        crops = Exhibit("concepts", torch.rand(3, 3, 16, 16), rows, captions=("importance .9", "importance .9", "rare"))
        write_exhibit(RunFolder(run).exhibit_file(one.cell, "concepts", ""), crops)
        others.append(one)
    write_run(run, others)
    RunFolder(run).environment.write_text(json.dumps({"python": "3.12.1", "platform": "/home/jo/bin/x", "plugins": [
        {"name": "core", "distribution": "pruningbench", "version": "9.9"}]}))  # fmt: skip
    RunFolder(run).suite.write_text("name: plain\n# <not a tag>\n")
    return run
