"""Publishing on a loopback hub: what lands there, concurrent pushes, refusals, and that tokens are never shown."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from huggingface_hub import constants
from kit.hubserver import HubServer
from kit.publishing import REPO, TOKEN, hub, one, other
from kit.submissions import finished, forge, members
from pytest import CaptureFixture, MonkeyPatch

import pruningbench as pb
from pruningbench.cli.main import cli, guarded
from pruningbench.errors import PruningBenchError, PublishError, RunFolderError, UsageError
from pruningbench.plugins import Registry
from pruningbench.publishing import hub as writing
from pruningbench.publishing.dataset import Item, without_superseded
from pruningbench.publishing.publishing import Pushed, publish

__all__ = ["finished", "hub", "members", "one", "other"]  # fixtures of the kit

Members = Mapping[str, bytes]


def files_of(hub: HubServer, kind: str, repo: str = REPO) -> dict[str, bytes]:
    found = hub.repos[kind, repo]
    return found.commits[found.refs["main"]]


def card_of(files: Mapping[str, bytes]) -> tuple[dict[str, object], str]:
    _, front, text = files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_publication_is_one_commit_a_repository_and_reads_back(
    hub: HubServer, one: Path, other: Path, toy_registry: Registry
) -> None:
    shutil.copy(other / "b.pbsub.zip", one)
    dataset, space = publish(one, REPO, toy_registry)
    assert [(kind, status) for kind, _, _, status in hub.writes.commits] == [("dataset", 200), ("space", 200)]
    files = files_of(hub, "dataset")
    assert hub.repos["dataset", REPO].refs["main"] == dataset.commit and dataset.page == f"{hub.url}/datasets/{REPO}"
    submissions = [name for name in files if name.startswith("submissions/")]
    assert {re.sub(r"-[0-9a-f]{8}", "", name) for name in files} == {
        ".gitattributes", "README.md", "tables/leaderboard.md", "tables/leaderboard.csv",
        "submissions/first.pbsub.zip", "submissions/second.pbsub.zip", "measurements/first.parquet",
        "measurements/second.parquet",
    }  # fmt: skip
    assert {files[name] for name in submissions} == {path.read_bytes() for path in one.iterdir()}
    table = pb.load_results(f"hub:{REPO}", details=True)
    local = pb.load_results(one, details=True)
    assert set(table["revision"]) == {dataset.commit} and set(table["trust"]) == {"self-reported"}
    assert table.drop(columns=["revision"]).equals(local.drop(columns=["revision"]))
    metadata, text = card_of(files)
    assert metadata["license"] == "cc-by-4.0" and metadata["configs"] == [
        {"config_name": "measurements", "data_files": "measurements/*.parquet"}
    ]
    assert files["tables/leaderboard.md"].decode().strip() in text and "first-" in text and "second-" in text
    parquet = [pyarrow.parquet.read_table(io.BytesIO(files[n])) for n in files if n.endswith(".parquet")]
    assert parquet[0].schema == parquet[1].schema
    rows = sum(part.num_rows for part in parquet)
    assert rows == len(table) and parquet[0]["value"].to_pylist() == [*local["value"][: parquet[0].num_rows]]
    assert json.loads(parquet[0]["made_of"][0].as_py()) == local["made_of"][0]
    pages = files_of(hub, "space")
    metadata, _ = card_of(pages)
    assert (metadata["sdk"], metadata["app_file"], metadata["datasets"]) == ("static", "index.html", [REPO])
    assert {"index.html", "site.json"} <= pages.keys() and space.sizes.keys() == pages.keys() - {".gitattributes"}


def test_the_same_again_makes_no_commit(hub: HubServer, one: Path, toy_registry: Registry) -> None:
    first = publish(one, REPO, toy_registry)
    made = len(hub.writes.commits)
    again = publish(one, REPO, toy_registry)
    assert len(hub.writes.commits) == made and [p.commit for p in again] == [p.commit for p in first]


def test_a_dry_run_lists_sizes_without_network_and_token(
    hub: HubServer, one: Path, toy_registry: Registry, monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    for pushed in publish(one, REPO, toy_registry, dry_run=True):
        assert pushed.commit == "" and len(pushed.sizes) > 4 and all(size > 0 for size in pushed.sizes.values())
    monkeypatch.setattr("pruningbench.cli.publish.registry_with_warnings", lambda: toy_registry)
    assert call("publish", one, "--repo", REPO, "--dry-run", "--no-site") == 0
    out = capsys.readouterr().out
    size = next(one.iterdir()).stat().st_size
    assert re.search(rf"^ +{size:,}  submissions/first-[0-9a-f]{{8}}.pbsub.zip$", out, re.MULTILINE)
    assert "space" not in out and "nothing was sent" in out
    assert not hub.requests


def test_two_publishers_at_the_same_time_lose_nothing(
    hub: HubServer, one: Path, other: Path, toy_registry: Registry
) -> None:
    publish(one, REPO, toy_registry)  # both repositories exist, so that both publishers start from the same commits
    meeting = threading.Barrier(2, timeout=60)
    met: set[tuple[str, int]] = set()

    def meet(kind: str, _repo: str) -> None:
        me = (kind, threading.get_ident())
        if sum(seen == kind for seen, _ in met) < 2:  # the first commits to a repository wait for each other
            met.add(me)
            meeting.wait()

    hub.writes.before_commit = meet
    hub.writes.commits.clear()
    third = other.with_name("third")
    third.mkdir()
    done: dict[str, list[Pushed]] = {}
    (name,) = other.iterdir()
    members_of = name.read_bytes()
    (third / "c.pbsub.zip").write_bytes(members_of)
    rename(third / "c.pbsub.zip", "third")

    def work(folder: Path) -> None:
        done[folder.name] = publish(folder, REPO, toy_registry)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in (other, third)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.keys() == {"other", "third"}
    for kind in ("dataset", "space"):
        statuses = [status for commit_kind, _, _, status in hub.writes.commits if commit_kind == kind]
        assert statuses.count(412) >= 1, statuses
        assert chain(hub, kind)[0] == hub.repos[kind, REPO].refs["main"]
    for pushed in (done["other"][0], done["third"][0]):
        assert pushed.commit in chain(hub, "dataset")
    runs = {name.rpartition("-")[0] for name in pb.load_results(f"hub:{REPO}")["run"]}
    assert runs == {"first", "second", "third"}
    assert published_runs(hub) == runs
    _, text = card_of(files_of(hub, "dataset"))
    assert all(f"| {run}-" in text for run in runs)
    pages = b"".join(content for name, content in files_of(hub, "space").items() if name.endswith((".js", ".html")))
    assert all(f"{run}-".encode() in pages for run in runs)


def rename(path: Path, name: str) -> None:
    """Give a submission another name, so that it is another one."""
    import zipfile

    with zipfile.ZipFile(path) as file:
        content = {info: file.read(info) for info in file.namelist()}
    forge(path, content, name=name)


def chain(hub: HubServer, kind: str) -> list[str]:
    """Return the commits of a repository from the newest to the first."""
    found = hub.repos[kind, REPO]
    commits = [found.refs["main"]]
    while commits[-1] in found.parents:
        commits.append(found.parents[commits[-1]])
    return commits


@pytest.mark.parametrize("status", [409, 412])
def test_a_commit_is_tried_again_when_the_branch_has_moved(
    hub: HubServer, one: Path, toy_registry: Registry, status: int, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "TRIES", 3)
    hub.writes.statuses = [status, status]
    publish(one, REPO, toy_registry, with_site=False)
    assert [commit[-1] for commit in hub.writes.commits] == [status, status, 200]
    hub.writes.statuses = [status] * 99
    with pytest.raises(PublishError, match="others have committed to this data set during each of 3 tries"):
        publish(one, REPO, toy_registry)
    assert len(hub.writes.commits) == 3 + writing.TRIES


def test_what_a_new_submission_holds_is_removed_only_if_asked_for(
    hub: HubServer, tmp_path: Path, one: Path, other: Path, members: Members, toy_registry: Registry
) -> None:
    (tmp_path / "again").mkdir()
    forge(tmp_path / "again" / "x.pbsub.zip", members, name="again")  # the values of `one`
    publish(one, REPO, toy_registry, with_site=False)
    publish(other, REPO, toy_registry, with_site=False)
    publish(tmp_path / "again", REPO, toy_registry, with_site=False)
    assert published_runs(hub) == {"first", "second", "again"}
    (dataset,) = publish(tmp_path / "again", REPO, toy_registry, with_site=False, replace=True)
    assert published_runs(hub) == {"second", "again"} and len(dataset.deleted) == 2
    assert not any("first" in name for name in files_of(hub, "dataset"))


def test_an_earlier_state_is_a_subset_of_values(tmp_path: Path) -> None:
    def item(name: str, *values: int) -> Item:
        made = Item(tmp_path, name)
        vars(made)["values"] = frozenset((value,) for value in values)
        return made

    old = [item("a", 1), item("b", 1, 2), item("c", 1, 3), item("d", 1, 2, 4)]
    assert [kept.run for kept in without_superseded(old, [item("d", 1, 2, 4)])] == ["c", "d"]


def published_runs(hub: HubServer) -> set[str]:
    names = {Path(name).name for name in files_of(hub, "dataset") if name.startswith("submissions/")}
    return {name.rpartition("-")[0] for name in names}


# refusals


def call(*arguments: object) -> int:
    return guarded(lambda: cli.main([str(a) for a in arguments], prog_name="pruningbench", standalone_mode=False))


@pytest.mark.parametrize(
    ("trouble", "words", "code"),
    [
        ("no token", "publishing needs an account on the hub: run `hf auth login`, or set HF_TOKEN", 2),
        ("wrong token", "the hub does not accept the token", 1),
        ("not the owner", "the token may not write here", 1),
        ("413", "for its size or the account's quota", 1),
        ("402", "for its size or the account's quota", 1),
        ("403 quota", "for its size or the account's quota", 1),
        ("429", "too many requests", 1),
        ("500", "the hub has a problem", 1),
        ("400", "the hub refuses it", 1),
        ("down", "the hub has a problem", 1),
        ("unreachable", "the hub cannot be reached", 1),
        ("public", "exists and is public; make it private", 1),
    ],
)
def test_refusals_are_one_line_without_the_token(
    hub: HubServer, one: Path, toy_registry: Registry, monkeypatch: MonkeyPatch, capsys: CaptureFixture[str],
    trouble: str, words: str, code: int,
) -> None:  # fmt: skip
    hub.writes.secret = "you sent Bearer {token} {token}"
    options = []
    if trouble == "no token":
        monkeypatch.delenv("HF_TOKEN")
    elif trouble == "wrong token":
        monkeypatch.setenv("HF_TOKEN", TOKEN + "x")
    elif trouble == "not the owner":
        hub.writes.tokens = {TOKEN: {"anyone"}}
        hub.commit("dataset", REPO, {})
    elif trouble == "down":
        hub.down = True
    elif trouble == "unreachable":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif trouble == "public":
        hub.commit("dataset", REPO, {})
        options = ["--private"]
    else:
        hub.writes.statuses = [int(trouble[:3])]
        hub.writes.secret += " storage limit reached" * ("quota" in trouble)
    monkeypatch.setattr("pruningbench.cli.publish.registry_with_warnings", lambda: toy_registry)
    assert call("publish", one, "--repo", REPO, "--no-site", *options) == code
    shown = capsys.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1, shown.err
    assert "planted" not in shown.err + shown.out


def test_private_repositories_are_private(hub: HubServer, one: Path, toy_registry: Registry) -> None:
    publish(one, REPO, toy_registry, private=True)
    publish(one, REPO, toy_registry, private=True)
    assert all(hub.repos[kind, REPO].private for kind in ("dataset", "space"))


@pytest.mark.parametrize(
    "repo", ["results", "a/b/c", "../x", "a/b\n", "a/..", "https://x/y", "a/b@main", "a/b.git/.", ""]
)
def test_names_of_repositories_are_checked_first(hub: HubServer, one: Path, toy_registry: Registry, repo: str) -> None:
    with pytest.raises(UsageError, match="must be OWNER/NAME"):
        publish(one, repo, toy_registry)
    assert not hub.requests


def test_nothing_to_publish_is_said(hub: HubServer, tmp_path: Path, one: Path, toy_registry: Registry,
                                    monkeypatch: MonkeyPatch) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no run, no submission"):
        publish(tmp_path / "empty", REPO, toy_registry)
    with pytest.raises(UsageError, match="licence 'Own Words' must be an identifier"):
        publish(one, REPO, toy_registry, licence="Own Words")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.pbsub.zip").write_bytes(b"no zip")
    with pytest.raises(UsageError, match=r"x.pbsub.zip: is not a submission"):
        publish(tmp_path / "bad", REPO, toy_registry)
    monkeypatch.setattr("pruningbench.publishing.dataset.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install pruningbench\[hub\]$"):
        publish(one, REPO, toy_registry)
    assert not hub.requests


def test_a_run_folder_is_published_as_its_submission(
    hub: HubServer, finished: Path, tmp_path: Path, toy_registry: Registry
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "runs" / "tiny"))
    publish(run.parent, REPO, toy_registry, with_site=False)
    table = pb.load_results(f"hub:{REPO}")
    assert list(table["value"]) == list(pb.load_results(run)["value"])
    assert not any(str(tmp_path).encode() in content for content in files_of(hub, "dataset").values())
    (run / "results.jsonl").write_bytes(b"".join((run / "results.jsonl").read_bytes().splitlines(keepends=True)[:-3]))
    with pytest.raises(UsageError, match="is not finished"):
        publish(run, REPO, toy_registry)


def test_a_site_is_published_as_it_is(hub: HubServer, one: Path, tmp_path: Path, toy_registry: Registry) -> None:
    from pruningbench.site import build_site

    site = build_site([next(one.iterdir())], tmp_path / "site", registry=toy_registry).folder
    (pushed,) = publish(site, REPO, toy_registry)
    assert pushed.kind == "space" and ("dataset", REPO) not in hub.repos
    files = files_of(hub, "space")
    assert files["index.html"] == (site / "index.html").read_bytes() and "README.md" in files
    (site / "data" / "more.js").write_bytes(b"more")
    (site / "index.html").write_bytes(b"new")
    publish(site, REPO, toy_registry)
    assert files_of(hub, "space")["index.html"] == b"new"
    (site / "data" / "more.js").unlink()
    (pushed,) = publish(site, REPO, toy_registry)
    assert pushed.deleted == ("data/more.js",) and "data/more.js" not in files_of(hub, "space")
    (site / "link.html").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match=r"link.html: is a link"):
        publish(site, REPO, toy_registry)


def test_what_is_there_but_damaged_stops_the_publication(hub: HubServer, one: Path, toy_registry: Registry) -> None:
    hub.commit("dataset", REPO, {"submissions/x.pbsub.zip": b"no zip"})
    with pytest.raises(PruningBenchError, match=r"x.pbsub.zip: is not a submission"):
        publish(one, REPO, toy_registry, with_site=False)
    assert not hub.writes.commits
    with pytest.raises(RunFolderError):
        pb.load_results(one.parent / "nowhere")
