"""Runs at URLs: in a store of objects, through kill -9, from several machines, and what is refused."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from click.testing import CliRunner
from kit.objectstore import ObjectStore, eventually, files, object_store, put, read
from kit.runs import measured, run, said
from kit.toysuite import COMMAND, TOY_SUITE, Command, toy_environment

from pruningbench.cli.main import cli
from pruningbench.errors import RemoteError, RunFolderError, UsageError
from pruningbench.harness.merging import merge
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.hookspecs import hookimpl
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store import mirroring
from pruningbench.store.lease import LEASE, Holder, LostLeaseError
from pruningbench.store.mirroring import RemoteRun
from pruningbench.suite.schema import suite_from_text

SMALL = TOY_SUITE.replace("recipes: [none, {use: finetune, epochs: 1}]", "recipes: [none]")
SLOW = SMALL.replace("{use: toy-task, ", "{use: toy-task, noise: true, seconds: 0.7, ").replace(
    "0.5, 0.9", "0.5, 0.7, 0.9"
)
MEMORY = "memory://bucket/runs/toy"


@pytest.fixture(scope="module")
def running() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture
def store(running: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store of objects that all clients of this test use."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    return running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mirroring, "SHORTEST", 0.01)
    fsspec.filesystem("memory").store.clear()
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Go to another machine: it has a cache of its own."""
    return lambda name: monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / name))


def journal_at(url: str) -> list[str]:
    return read(f"{url}/results.jsonl").decode().splitlines()


def holder(host: str, renewed: float, every: float = 0.2) -> bytes:
    return json.dumps(vars(Holder(host, host, host, 7, renewed - 60, renewed, every))).encode()


def test_kill_and_resume_on_another_machine(
    store: ObjectStore, suite_file: Callable[..., Path], toy_registry: Registry, tmp_path: Path, pruningbench: Command,
    on_machine: Callable[[str], None],
) -> None:  # fmt: skip
    url, path = "s3://bucket/runs/killed", suite_file(SLOW)
    arguments = ["run", str(path), "--device", "cpu", "--upload-every", "1", "--out", url]
    on_machine("one")
    process = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=toy_environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    assert eventually(lambda: process.poll() is not None or len(journal_at(url)) >= 4, 200)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == -9, errors.decode()
    there, names = journal_at(url), files(url).keys()
    assert all(f"samples/{json.loads(line)['cell']}.toy-task.npz" in names for line in there)
    on_machine("two")
    done = pruningbench(*arguments, check=0)
    assert "has given no sign of life since" in done.stderr
    assert f"uploaded to  {url}" in done.stdout
    assert journal_at(url)[: len(there)] == there, "what was uploaded is not measured again"
    assert LEASE not in files(url)
    assert any(name.startswith("figures/") for name in files(url))

    run(SLOW, toy_registry, tmp_path / "whole")
    whole, killed = load_results(tmp_path / "whole"), load_results(url)
    pd.testing.assert_frame_equal(measured(whole), measured(killed), check_exact=True)
    shown = CliRunner().invoke(cli, ["leaderboard", url])
    assert "toy-accuracy" in shown.output


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return MEMORY
    request.getfixturevalue("store")
    return f"s3://bucket/runs/{time.monotonic_ns()}"


def test_a_second_driver_is_told_and_stops(
    url: str, toy_registry: Registry, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    on_machine("one")
    first = RemoteRun(url, every=0.4)
    first.fill(pytest.fail)
    first.folder.lock()
    with first.kept(pytest.fail):
        on_machine("two")
        with pytest.raises(
            RunFolderError, match=r"node7 \(process \d+, since 20\d\d-\d\d-\d\d .*choose another --out"
        ) as error:
            run(TOY_SUITE, toy_registry, url)  # type: ignore[arg-type]
        with pytest.raises(RunFolderError, match="a run is writing it"):
            merge([url, url + "-2"], "merged")
    first.folder.unlock()
    assert "\n" not in str(error.value)
    assert files(url) == {}
    assert run(SMALL, toy_registry, url).computed == 5  # type: ignore[arg-type]
    assert len(journal_at(url)) == 10


def test_a_stale_lease_is_taken_over_with_a_warning(url: str, toy_registry: Registry) -> None:
    put(f"{url}/{LEASE}", holder("node7", time.time() - 100))
    heard = said(SMALL, toy_registry, url)  # type: ignore[arg-type]
    assert heard.summary.computed == 5
    assert [line for line in heard.warnings if "node7" in line and "taking over" in line]
    put(f"{url}/{LEASE}", holder("node8", time.time() - 1e5, every=600))
    begun = time.monotonic()
    heard = said(TOY_SUITE, toy_registry, url)  # type: ignore[arg-type]
    assert time.monotonic() - begun < 60, "nobody waits for what is long abandoned"
    assert [line for line in heard.warnings if "node8" in line and "taking over" in line]


def test_after_a_kill_the_same_machine_waits_for_nothing(toy_registry: Registry) -> None:
    killed = RemoteRun(MEMORY, every=600)
    killed.fill(pytest.fail)
    killed.folder.lock()
    killed.kept(pytest.fail).__enter__()
    killed.folder.unlock()
    assert LEASE in files(MEMORY)
    heard = said(SMALL, toy_registry, MEMORY)  # type: ignore[arg-type]
    assert heard.summary.computed == 5
    assert "sign of life" not in heard.text
    assert LEASE not in files(MEMORY)


def test_who_was_taken_over_stops_and_uploads_nothing_more(toy_registry: Registry) -> None:
    at: list[list[str]] = []

    class TakesOver:
        @hookimpl
        def pruningbench_task_done(self) -> None:
            at.append(journal_at(MEMORY))
            if len(at) == 2:
                put(f"{MEMORY}/{LEASE}", holder("node7", time.time(), 30))
                time.sleep(2)  # an upload that has begun before may end; then the loss is noticed
                at.append(journal_at(MEMORY))

    prepared = prepare(
        suite_from_text(TOY_SUITE, toy_registry), toy_registry, MEMORY, RunOptions(device="cpu", upload_every=0.1)
    )
    with pytest.raises(LostLeaseError, match="node7.*has taken over"):
        execute(prepared, toy_registry, TakesOver())
    assert journal_at(MEMORY) == at[2]
    assert json.loads(files(MEMORY)[LEASE])["host"] == "node7"


def test_shards_at_urls_are_merged(toy_registry: Registry, tmp_path: Path, on_machine: Callable[[str], None]) -> None:
    for number in (1, 2):
        on_machine(f"node{number}")
        run(SMALL, toy_registry, f"{MEMORY}-{number}", shard=(number, 2))  # type: ignore[arg-type]
    on_machine("head")
    merge([f"{MEMORY}-1", f"{MEMORY}-2"], tmp_path / "merged")
    run(SMALL, toy_registry, tmp_path / "whole")
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "merged")), measured(load_results(tmp_path / "whole")), check_exact=True
    )
    assert set(load_results([f"{MEMORY}-1", f"{MEMORY}-2"])["run"]) == {"toy-1", "toy-2"}


def test_a_finished_run_asks_nothing_of_the_lease_and_uploads_what_a_kill_left(
    toy_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pruningbench.store.mirror.Mirror.upload", lambda _mirror: None)  # as if killed before
        run(SMALL, toy_registry, MEMORY)  # type: ignore[arg-type]
    assert files(MEMORY) == {}
    assert run(SMALL, toy_registry, MEMORY).computed == 0  # type: ignore[arg-type]
    assert len(journal_at(MEMORY)) == 10
    put(f"{MEMORY}/{LEASE}", holder("node7", time.time(), 600))
    assert run(SMALL, toy_registry, MEMORY).computed == 0  # type: ignore[arg-type]


def test_wrong_places_and_no_credentials(
    store: ObjectStore, toy_registry: Registry, monkeypatch: pytest.MonkeyPatch, suite_file: Callable[..., Path]
) -> None:
    with pytest.raises(RemoteError, match=r"s3://nobody/run: cannot be found \(The specified bucket does not exist"):
        run(TOY_SUITE, toy_registry, "s3://nobody/run")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a URL must be given as text"):
        run(TOY_SUITE, toy_registry, Path("s3://bucket/run"))
    with pytest.raises(UsageError, match="--upload-every 0: must be at least"):
        run(TOY_SUITE, toy_registry, MEMORY, upload_every=0)  # type: ignore[arg-type]
    with pytest.raises(RunFolderError, match=r"has no results\.jsonl"):
        load_results("s3://bucket/empty")
    refused = CliRunner().invoke(cli, ["merge", "s3://bucket/a", "s3://bucket/b", "--out", "s3://bucket/merged"])
    assert refused.exit_code == 2
    assert "s3://bucket/merged is a URL; give a path on this machine" in refused.output
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match="access is refused .*credentials") as caught:
        run(TOY_SUITE, toy_registry, "s3://bucket/run")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
