"""The suites that come with pruningbench: the quickstart, the three papers, and small forms of them."""

from __future__ import annotations

from pathlib import Path

from pruningbench.contract import RegisterFile, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_suites(register: RegisterFile) -> None:
    """Register every suite file of this folder under its name."""
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        register(path.stem, path)
