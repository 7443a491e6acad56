"""A hub that takes publications, and submissions to publish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants

from kit.hubserver import HubServer
from kit.submissions import edited, forge
from pruningbench.publishing import hub as writing

REPO = "someone/results"
TOKEN = "hf_" + "planted" * 5


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub whose client has a token to write for `someone`, and hardly waits between two tries."""
    monkeypatch.setattr(writing, "PAUSE", 0.01)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    with HubServer() as server:
        server.point_client_here(monkeypatch, tmp_path / "hf")
        server.writes.tokens = {TOKEN: {"someone"}}
        yield server


@pytest.fixture
def one(tmp_path: Path, members: Mapping[str, bytes]) -> Path:
    """A folder with one submission."""
    (tmp_path / "one").mkdir()
    forge(tmp_path / "one" / "a.pbsub.zip", members, name="first")
    return tmp_path / "one"


@pytest.fixture
def other(tmp_path: Path, members: Mapping[str, bytes]) -> Path:
    """A folder with another submission, made from other code."""
    (tmp_path / "other").mkdir()

    def relabel(row: dict[str, object]) -> None:
        row["artifact"] = "0" * 16

    forge(tmp_path / "other" / "b.pbsub.zip", members, edited(members, relabel), name="second")
    return tmp_path / "other"
