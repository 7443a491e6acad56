"""`pruningbench doctor` on plugins whose components cannot be imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kit.toysuite import Command, toy_environment

PLUGIN = """\
from pruningbench import hookimpl

@hookimpl
def pruningbench_register_pruners(register):
    register("half-good", "half_parts:Good")
    register("half-bad", "{target}")
"""
GOOD = '''\
from dataclasses import dataclass
from pathlib import Path

from pruningbench import Pruner

Path("imported").touch()
print("a stranger's greeting")

@dataclass(frozen=True)
class Good(Pruner):
    """Prunes well."""

    def prune(self, context, sparsity):
        raise NotImplementedError

class Bare(Pruner):
    """Is no dataclass."""
'''
OWN = "update the plugin (pip install --upgrade half-dist) or tell its authors; its other components work"


def lay_out(folder: Path, target: str, bad: str) -> str:
    """Install a plugin with a component that works and one that does not; return the path to find it on."""
    (folder / "half_plugin.py").write_text(PLUGIN.format(target=target))
    (folder / "half_parts.py").write_text(GOOD)
    (folder / "half_bad.py").write_text(bad)
    info = folder / "half_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pruningbench]\nhalf = half_plugin\n")
    return os.pathsep.join([str(folder), toy_environment()["PYTHONPATH"]])


@pytest.mark.parametrize(
    ("target", "bad", "reason", "remedy"),
    [
        ("half_bad:Bad", "import no_such_package.sub", "ModuleNotFoundError: No module named 'no_such_package'",
         "install the package that provides 'no_such_package' (try: pip install no_such_package)"),
        ("half_parts:Gone", "", "AttributeError: module 'half_parts' has no attribute 'Gone'", OWN),
        ("half_nowhere:Bad", "", "ModuleNotFoundError: No module named 'half_nowhere'", OWN),
        ("half_bad:Bad", "raise SystemExit('no\\nlicence')", "SystemExit: no licence", OWN),
        ("half_bad:Bad", "class Bad: pass", "is <class 'half_bad.Bad'>, not a Component class", OWN),
        ("half_parts:Bare", "", "Bare lacks @dataclass(frozen=True)", OWN),
    ],
)  # fmt: skip
def test_components_that_cannot_be_imported_are_named(
    target: str, bad: str, reason: str, remedy: str, tmp_path: Path, pruningbench: Command
) -> None:
    path = lay_out(tmp_path, target, bad)
    done = pruningbench("doctor", check=1, PYTHONPATH=path)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("problem")]
    assert line.startswith("problem      pruner 'half-bad' of plugin half (half-dist 1.0)")
    assert reason in line
    assert line.endswith(remedy)
    assert "half (half-dist 1.0): 2 registered" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 problem(s)"
    assert "greeting" not in done.stdout


def test_nothing_else_imports_components(tmp_path: Path, pruningbench: Command) -> None:
    path = lay_out(tmp_path, "half_bad:Bad", "raise ImportError('broken')")
    for arguments in (["--help"], ["list"], ["list", "pruners"]):
        done = pruningbench(*arguments, check=0, PYTHONPATH=path)
        assert "broken" not in done.stdout + done.stderr
        assert not (tmp_path / "imported").exists()
    pruningbench("doctor", check=1, PYTHONPATH=path)
    assert (tmp_path / "imported").exists()
