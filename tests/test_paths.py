"""Paths as users and suites write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruningbench.base.files import data_folder, expanded


def test_a_suite_names_a_file_in_the_folder_of_all_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path))
    assert expanded("$PRUNINGBENCH_DATA/weights/a.safetensors") == tmp_path / "weights/a.safetensors"
    assert expanded("$PRUNINGBENCH_DATA") == tmp_path
    monkeypatch.delenv("PRUNINGBENCH_DATA")
    assert expanded("$PRUNINGBENCH_DATA/a") == data_folder() / "a"
    assert data_folder().is_absolute()


@pytest.mark.parametrize(
    "path", ["$HOME/a", "$PRUNINGBENCH_DATASETS/a", "x/$PRUNINGBENCH_DATA", "${PRUNINGBENCH_DATA}/a"]
)
def test_no_other_variable_is_expanded(path: str) -> None:
    assert expanded(path) == Path(path)


def test_a_variable_that_names_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_DATA", "$PRUNINGBENCH_DATA/x")
    assert not str(expanded("$PRUNINGBENCH_DATA/a")).startswith("$")
