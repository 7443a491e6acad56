"""Records: one measurement, as the journal stores it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

SCHEMA = 1
"""Version of the journal's lines that this version reads; a line names its own in ``schema`` if it is not 1. Fields may
be added without a new version, because readers drop the ones that they do not know."""
Status = Literal["ok", "failed", "skipped", "crashed", "timeout", "oom"]

NUMBERS = (
    "value", "ci_low", "ci_high", "sparsity_achieved", "sparsity_total", "peak_memory_mb", "ceiling",
    "chance", "chance_p", "ties",
)  # fmt: skip
INTEGERS = ("seed", "n", "undefined", "batch_size", "attempts", "degenerate", "limit", "part", "parts")
TIMES = ("seconds", "prepare_seconds")


@dataclass(frozen=True)
class Record:
    """One journal line: a measurement, or the failure of a task.

    Attributes:
        suite: name of the suite.
        cell: key of the cell.
        model, pruner, recipe: labels.
        sparsity: target sparsity; `sparsity_achieved` and `sparsity_total` are measured on the network over the
            prunable and over all parameters. All are in [0, 1].
        seed: seed of the cell.
        task, variant, metric: what was measured; the metric is "" if the task failed.
        dimension: the ability that the task measures; "" in records of versions that did not store it, and of tasks
            that were never started.
        value: the statistic; `ci_low` and `ci_high` are its 95 % bootstrap interval over samples.
        n: number of samples on which the metric is defined; `undefined`: number of samples on which it is NaN.
        unit, higher_is_better: of the metric; `ceiling`: the value that people reach on the same samples; `chance`: the
            value of the best answer that ignores the input; `chance_p`: for the task's main metric only, the
            one-sided p-value that the network is no better than chance. NaN where these have no meaning.
        degenerate: number of samples whose output carries no information about them.
        inapplicable: requested metrics that apply to nothing that the task yields, comma-separated.
        ties: share of the pruning decision that was made by ties of scores; NaN if unknown.
        status: "ok", or why there is no value; `error` then holds the traceback.
        seconds: time of the whole task on this cell; `prepare_seconds`: time of pruning and training.
        peak_memory_mb: peak memory of the device, or of the process on a CPU.
        device, batch_size: the device used, and the batch size that fitted.
        attempts: how often the task has been tried on this cell.
        pruningbench_version, plugin, plugin_version: version of the core; name and version of the task's plugin.
        data_fingerprint: fingerprint of the task's data.
        notes: which component changed what it borrowed, and how, if this record was the first to see it; else "".
        plan: plan key of the task on the cell: what was requested, independent of versions.
        artifact: artifact key of the measurement: `plan` and all of `made_of` that can change this value.
        made_of: what it was actually made from, part by part (see `pruningbench.harness.artifacts`); empty in
            records of versions that did not store it.
        accepted: the current parts at the time when ``--accept-changed`` kept this measurement, although it was made
            from other parts; `stale` then says what differs.
        limit: number of samples of each data set that a rehearsal was limited to; 0 for all.
        remarks: what a reader should know about this value: that its pruner's scores left the decision to ties, which
            outputs are degenerate, and what is likely to help; else "".
        part, parts: position (from 1) among the lines of this task, and the number of these lines; a task
            is finished when all its lines exist.
    """

    suite: str
    cell: str
    model: str
    pruner: str
    recipe: str
    sparsity: float
    seed: int
    task: str
    sparsity_achieved: float = math.nan
    sparsity_total: float = math.nan
    variant: str = ""
    metric: str = ""
    dimension: str = ""
    value: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    n: int = 0
    undefined: int = 0
    unit: str = ""
    higher_is_better: bool | None = None
    ceiling: float = math.nan
    chance: float = math.nan
    chance_p: float = math.nan
    degenerate: int = 0
    inapplicable: str = ""
    ties: float = math.nan
    status: Status = "ok"
    error: str = ""
    seconds: float = 0.0
    prepare_seconds: float = 0.0
    peak_memory_mb: float = math.nan
    device: str = ""
    batch_size: int = 0
    attempts: int = 1
    pruningbench_version: str = ""
    plugin: str = ""
    plugin_version: str = ""
    data_fingerprint: str = ""
    notes: str = ""
    plan: str = ""
    artifact: str = ""
    made_of: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)
    stale: str = ""
    limit: int = 0
    remarks: str = ""
    part: int = 1
    parts: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; NaN becomes null and infinity becomes text, because JSON has neither."""
        values = {**vars(self), "made_of": dict(self.made_of), "accepted": dict(self.accepted)}
        for name in NUMBERS:
            number = values[name]
            if math.isnan(number):
                values[name] = None
            elif math.isinf(number):
                values[name] = "inf" if number > 0 else "-inf"
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """Read what `to_json` wrote; drop unknown keys, which a later version may have added.

        Raises:
            TypeError, ValueError, OverflowError: if a key is missing, or a value has the wrong type or is out of
                range.
        """
        arguments = {name: value for name, value in values.items() if name in _NAMES}
        for name in NUMBERS:
            if name in arguments:
                arguments[name] = math.nan if arguments[name] is None else float(arguments[name])
        record = cls(**arguments)
        own = vars(record)
        for name, types in _TYPES.items():
            value = own[name]
            if not isinstance(value, types) or (value.__class__ is bool and name != "higher_is_better"):
                raise TypeError(f"{name} has the wrong type: {value!r}")
        for parts in (record.made_of, record.accepted):
            if not all(isinstance(text, str) for pair in parts.items() for text in pair):
                raise TypeError(f"parts must be text, got {parts!r}")
        if record.status not in _STATUSES or not 1 <= record.part <= record.parts:
            raise ValueError("not a record")
        if not 0 <= record.sparsity < 1 or not all(-(2**63) <= own[name] < 2**63 for name in INTEGERS):
            raise ValueError("a sparsity or a whole number is out of range")
        if not all(math.isfinite(own[name]) for name in TIMES):
            raise ValueError("a time is not a finite number")
        return record

    @property
    def group(self) -> tuple[str, str, int]:
        """The task run that this line belongs to: (cell, task, attempt)."""
        return (self.cell, self.task, self.attempts)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool | None": (bool, type(None)),
    "Status": (str,),
    "Mapping[str, str]": (dict,),
}
_TYPES = {f.name: _TYPES[str(f.type)] for f in fields(Record)}
_NAMES = frozenset(_TYPES)
_STATUSES = frozenset(get_args(Status))
