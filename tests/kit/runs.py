"""Runs of the toy suite in this process, for the tests of the harness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from kit.toysuite import TOY_SUITE
from pruningbench.harness.driver import Summary
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.hookspecs import hookimpl
from pruningbench.plugins import Registry
from pruningbench.suite.schema import suite_from_text


def run(text: str, registry: Registry, out: Path, **options: object) -> Summary:
    prepared = prepare(suite_from_text(text, registry), registry, out, RunOptions(device="cpu", **options))  # type: ignore[arg-type]
    return execute(prepared, registry)


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """Return what has to be equal between two runs of the same suite."""
    varying = ["run", "seconds", "prepare_seconds", "peak_memory_mb"]
    return table.drop(columns=varying, errors="ignore").sort_values(
        ["cell", "task", "variant", "metric"], ignore_index=True
    )


@pytest.fixture()
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let all processes have as many threads: the order of sums, and so the last bits, depend on their number."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_task(fields: str, text: str = TOY_SUITE) -> str:
    old = "{use: toy-task, data: {use: toy-data, split: test}}"
    assert old in text
    return text.replace(old, f"{{use: toy-task, data: {{use: toy-data, split: test}}, {fields}}}")


@dataclass
class Said:
    """A run: its summary, and what it said to a person."""

    summary: Summary
    warnings: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.warnings)

    @property
    def changes(self) -> list[str]:
        """The warnings of what changed since something was finished, without those of degenerate outputs."""
        return [line for line in self.warnings if "one predicted class in " not in line]


def said(text: str, registry: Registry, out: Path, *, stop_after: int | None = None, **options: object) -> Said:
    """Run a suite and keep what is said; ``stop_after`` task runs it is interrupted, without a summary."""
    warnings: list[str] = []

    class Listening:
        done = 0

        @hookimpl
        def pruningbench_warning(self, message: str) -> None:
            warnings.append(message)

        @hookimpl
        def pruningbench_task_done(self) -> None:
            self.done += 1
            if self.done == stop_after:
                raise KeyboardInterrupt

    prepared = prepare(suite_from_text(text, registry), registry, out, RunOptions(device="cpu", **options))  # type: ignore[arg-type]
    try:
        return Said(execute(prepared, registry, Listening()), warnings)
    except KeyboardInterrupt:
        return Said(Summary(0, 0, 0, ()), warnings)
