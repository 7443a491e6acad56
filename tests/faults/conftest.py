"""What the tests of faults share: the table of a quiet run, and runs to disturb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kit.faulty import CELLS, EXECUTORS, SUITE, Runs, comparable

Begin = Callable[..., Runs]


@pytest.fixture(scope="package")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of a run that nothing disturbs."""
    place = tmp_path_factory.mktemp("quiet")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CACHE", "cache"), ("DATA", "data")):
            patch.setenv(f"PRUNINGBENCH_{name}", str(place / value))
        patch.setenv("TOY_LOG", str(place / "toy.log"))
        patch.setenv("OMP_NUM_THREADS", "1")
        (place / "suite.yaml").write_text(SUITE.format(fields="seconds: 0.05"))
        runs = Runs(place, place / "suite.yaml", ())
        code, said = runs.finish()
    assert code == 0, said
    table = comparable(place / "run")
    assert table["cell"].nunique() == CELLS
    return table


@pytest.fixture()
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def make(executor: str, fields: str = "seconds: 0.05", *more: str) -> Runs:
        (tmp_path / "suite.yaml").write_text(SUITE.format(fields=fields))
        return Runs(tmp_path, tmp_path / "suite.yaml", (*EXECUTORS[executor], *more))

    return make
