"""The suites that come with pruningbench: the quickstart and the three papers, also in small forms; a claim."""

from __future__ import annotations

from pathlib import Path

from pruningbench.contract import RegisterFile, RegisterFunction, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_suites(register: RegisterFile) -> None:
    """Register every suite file of this folder under its name."""
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        register(path.stem, path)


@hookimpl
def pruningbench_register_statements(register: RegisterFunction) -> None:
    """Register the claims on sweet spots, which concern tasks of several plugins."""
    register("sweet-spot-claims", "pruningbench_suites.statements:sweet_spot_claims")
