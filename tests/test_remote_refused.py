"""URLs at which no run can be kept: each is refused in one line, before anything is measured or imported for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.objectstore import object_store
from kit.toysuite import Command

from pruningbench.plugins import Registry
from pruningbench.store.mirroring import remote_run
from pruningbench.store.remote import IN_MEMORY, ON_THIS_MACHINE, ONLY_READ

Log = Callable[[], list[str]]
Refused = Callable[..., str]


@pytest.fixture
def refused(pruningbench: Command, suite_file: Callable[..., Path], toy_log: Log) -> Refused:
    """Return what a run at a URL says, which is one line, after which nothing was measured."""

    def run(url: str, **extra: str) -> str:
        done = pruningbench("run", suite_file(), "--device", "cpu", "--out", url, check=2, **extra)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert url in line
        assert toy_log() == []
        return str(line)

    return run


def test_memory_ends_with_the_command_so_no_command_takes_it(refused: Refused, pruningbench: Command) -> None:
    said = "error: memory://bucket/x: is in the memory of this command only, and lost when it ends; give a path, or"
    assert refused("memory://bucket/x").startswith(said)
    for arguments in (
        ("plan", "toy-suite", "--out", "memory://bucket/x"),
        ("leaderboard", "memory://bucket/x"),
        ("merge", "memory://bucket/x", "memory://bucket/y", "--out", "merged"),
        ("site", "memory://bucket/x", "--out", "site"),
    ):
        assert pruningbench(*arguments, check=2).stderr.startswith(said)
    assert remote_run("memory://bucket/x", 30.0) is not None, "in Python, the process may go on"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/run", "a run cannot be written with http; give a path, or the URL of a folder in a store"),
        ("zip://runs.zip", "a run cannot be written with zip; give a path"),
        ("file://runs/x", "must be absolute, such as file:///folder/run; or give the path alone"),
        ("sx3://bucket/x", "cannot be used as a URL (Protocol not known: sx3); give a path"),
        ("file:///dev/null/x", "cannot be read or written (Not a directory); check the path and its permissions"),
    ],
)
def test_places_that_cannot_hold_a_run(url: str, says: str, refused: Refused) -> None:
    assert says in refused(url)


def test_a_file_is_no_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("something else")
    assert "cannot be read or written (Not a directory)" in refused(f"file://{tmp_path}/there")
    assert (tmp_path / "there").read_text() == "something else"


def test_stores_without_credentials_bucket_or_server(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with object_store() as store:
        said = refused("s3://nobody/run", **store.environment)
        assert "cannot be found (The specified bucket does not exist); check the bucket" in said
        nameless = {**store.environment, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        assert "access is refused" in refused("s3://bucket/run", **nameless)
        gone = {**store.environment, "AWS_ENDPOINT_URL": nobody}
    assert "cannot be reached" in refused("s3://bucket/run", **gone)


def test_schemes_are_those_that_fsspec_knows() -> None:
    from fsspec.registry import known_implementations

    assert known_implementations.keys() >= ONLY_READ | ON_THIS_MACHINE | IN_MEMORY


def test_the_request_is_refused_before_the_plan(toy_registry: Registry, toy_log: Log) -> None:
    from pruningbench.errors import UsageError
    from pruningbench.harness.run import RunOptions, prepare

    with pytest.raises(UsageError, match="a run cannot be written with https"):
        prepare(None, toy_registry, "https://example.org/run", RunOptions())  # type: ignore[arg-type]
    assert toy_log() == []
