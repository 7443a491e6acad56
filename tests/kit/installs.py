"""Distributions laid out as an installer would."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from pruningbench.plugins import ENTRY_POINTS

GOOD = """
    from pruningbench.hookspecs import hookimpl

    @hookimpl
    def pruningbench_register_pruners(register):
        register("{name}", "{module}_parts:Good")
"""
PARTS = '''
    from dataclasses import dataclass
    from pruningbench.contract import Pruner

    @dataclass(frozen=True)
    class Good(Pruner):
        """Prunes well.

        And more.
        """

        def prune(self, context, sparsity):
            raise NotImplementedError
'''
Install = Callable[..., list[EntryPoint]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay out a distribution as an installer would, and return its entry points."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def lay_out(
        module: str, source: str, *, version: str = "1.2", metadata: bool = True, parts: str = PARTS
    ) -> list[EntryPoint]:
        (tmp_path / f"{module}.py").write_text(
            textwrap.dedent(source).format(name=module.replace("_", "-"), module=module)
        )
        (tmp_path / f"{module}_parts.py").write_text(textwrap.dedent(parts))
        info = tmp_path / f"{module}_dist-{version}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{module} = {module}\n")
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}-dist\nVersion: {version}\n")
        importlib.invalidate_caches()
        return [
            point
            for distribution in distributions(path=[str(tmp_path)])
            for point in distribution.entry_points
            if point.group == ENTRY_POINTS
        ]

    yield lay_out
    for name in set(sys.modules) - before:
        if name.startswith("toy"):
            del sys.modules[name]
