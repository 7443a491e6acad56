"""Loading plugins: 50 third-party distributions, none of whose modules is imported before."""

from __future__ import annotations

import importlib
import sys
import textwrap
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pruningbench.plugins import ENTRY_POINTS, build_registry

COUNT = 50
SOURCE = """
    from pruningbench.hookspecs import hookimpl

    @hookimpl
    def pruningbench_register_pruners(register):
        register("{name}", "{module}_parts:Good")

    @hookimpl
    def pruningbench_register_metrics(register):
        register("{name}", "{module}_parts:Value")
"""


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Lay out the distributions as an installer would."""
    monkeypatch.syspath_prepend(tmp_path)
    for number in range(COUNT):
        module = f"bench_plugin_{number}"
        source = textwrap.dedent(SOURCE).format(name=module.replace("_", "-"), module=module)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{module} = {module}\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    importlib.invalidate_caches()
    found = distributions(path=[str(tmp_path)])
    return [point for distribution in found for point in distribution.entry_points if point.group == ENTRY_POINTS]


def test_fifty_plugins(benchmark: BenchmarkFixture, points: list[EntryPoint]) -> None:
    """The bar is half a second for all."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("bench_plugin_")]:
            del sys.modules[name]

    registry = benchmark.pedantic(lambda: build_registry(points), setup=forget, rounds=10)
    assert len(registry.names("pruner")) == len(registry.names("metric")) == COUNT
    assert not registry.broken
    assert not registry.contained
