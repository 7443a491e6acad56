"""Published results as a source: pinned revisions, work without a network, and hubs that lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants
from kit.hubserver import HubServer
from kit.publishing import REPO, TOKEN, hub, one, other
from kit.submissions import digest_of, edited, finished, forge, members
from pytest import CaptureFixture, MonkeyPatch

import pruningbench as pb
from pruningbench.cli.main import cli, guarded
from pruningbench.errors import FetchError, PruningBenchError, UsageError
from pruningbench.store import hub as reading
from pruningbench.store.origins import origins, pinned
from pruningbench.store.trust import VALUES

__all__ = ["finished", "hub", "members", "one", "other"]  # fixtures of the kit

Members = Mapping[str, bytes]


def content(folder: Path) -> bytes:
    return next(folder.iterdir()).read_bytes()


def commit(hub: HubServer, *folders: Path) -> str:
    return hub.commit("dataset", REPO, {f"submissions/{f.name}.pbsub.zip": content(f) for f in folders})


def call(*arguments: object) -> int:
    return guarded(lambda: cli.main([str(a) for a in arguments], prog_name="pruningbench", standalone_mode=False))


def test_revisions_are_recorded_and_pinned(hub: HubServer, one: Path, other: Path) -> None:
    first = commit(hub, one)
    second = commit(hub, one, other)
    for address, expected in ((REPO, second), (f"{REPO}@main", second), (f"{REPO}@{first}", first)):
        table = pb.load_results(f"hub:{address}", details=True)
        assert set(table["revision"]) == {expected}
    assert {origin.revision for origin in origins(f"hub:{REPO}@{first}")} == {first}
    assert pinned([f"hub:{REPO}", one]) == [f"hub:{REPO}@{second}", one]
    assert "revision" not in pb.load_results(f"hub:{REPO}") and set(pb.load_results(one, details=True)["revision"]) == {
        ""
    }


def test_a_fetched_commit_needs_no_network(hub: HubServer, one: Path) -> None:
    revision = commit(hub, one)
    table = pb.load_results(f"hub:{REPO}")
    hub.down = True
    before = len(hub.requests)
    assert pb.load_results(f"hub:{REPO}@{revision}").equals(table)
    assert len(hub.requests) == before
    with pytest.raises(FetchError, match=f"{REPO}: the hub has a problem"):
        pb.load_results(f"hub:{REPO}")
    notes = reading._notes(REPO, revision)
    for damaged in (b"", b"[]", b'{"submissions/one.pbsub.zip": 3}', b'{"submissions/one.pbsub.zip": ["x", "y"]}'):
        notes.write_bytes(damaged)
        with pytest.raises(FetchError, match="the hub has a problem"):
            pb.load_results(f"hub:{REPO}@{revision}")


def test_compare_reads_one_commit_even_if_the_branch_moves(
    hub: HubServer, one: Path, members: Members, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    from pruningbench.leaderboard import comparing

    commit(hub, one)
    really_load = comparing.load_results

    def load_while_it_moves(*args: object, **more: object) -> object:
        table = really_load(*args, **more)  # type: ignore[arg-type]
        forge(one / "a.pbsub.zip", members, name=f"moved{len(hub.requests)}")
        commit(hub, one)
        return table

    monkeypatch.setattr(comparing, "load_results", load_while_it_moves)
    contrast = pb.compare(f"hub:{REPO}", f"hub:{REPO}")
    assert contrast.changes and all(change.same for change in contrast.changes) and not contrast.incomparable


def test_published_results_are_compared(hub: HubServer, one: Path, members: Members, tmp_path: Path) -> None:
    before = commit(hub, one)
    rows = [json.loads(line) for line in members["results.jsonl"].splitlines()]
    last = rows[-1]["cell"]
    fewer = b"".join(json.dumps(row).encode() + b"\n" for row in rows if row["cell"] != last)
    assert fewer
    contrast = pb.compare(f"hub:{REPO}@{before}", one / "a.pbsub.zip")
    assert all(change.same for change in contrast.changes) and contrast.failure("any") == ""
    assert contrast.before_name == f"hub:{REPO}@{before}"


def test_it_is_a_source_of_all_commands(hub: HubServer, one: Path, tmp_path: Path, capsys: CaptureFixture[str]) -> None:
    revision = commit(hub, one)
    assert call("leaderboard", f"hub:{REPO}") == 0
    assert "toy-pruner" in capsys.readouterr().out
    assert call("compare", f"hub:{REPO}", f"hub:{REPO}@{revision[:40]}") == 0
    assert call("site", f"hub:{REPO}@{revision}", "--out", tmp_path / "site") == 0
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_verification_in_the_data_set_does_not_count(hub: HubServer, one: Path) -> None:
    revision = commit(hub, one)
    (origin,) = origins(f"hub:{REPO}")
    (snapshot,) = (Path(constants.HF_HUB_CACHE)).rglob("snapshots/*/submissions")
    word = {"submission": digest_of(one / "a.pbsub.zip"), "pruningbench": "1", "format": "pruningbench-verification",
            "schema_version": 1, "checks": [{"name": VALUES, "passed": True, "detail": ""}], "rerun": None}  # fmt: skip
    (snapshot / "one.verified.json").write_text(json.dumps(word))
    (one / "a.verified.json").write_text(json.dumps(word))
    assert origins(one / "a.pbsub.zip")[0].trust == "checked"
    assert origin.trust == origins(f"hub:{REPO}@{revision}")[0].trust == "self-reported"


# hubs that lie


def test_other_content_than_listed_is_refused_and_removed(hub: HubServer, one: Path, tmp_path: Path) -> None:
    commit(hub, one)
    name = "submissions/one.pbsub.zip"
    hub.swaps[name] = bytes(len(content(one)))
    with pytest.raises(FetchError, match=f"{REPO}: {name} has another size or hash than the hub says"):
        pb.load_results(f"hub:{REPO}")
    assert not [path for path in (tmp_path / "hf").rglob("blobs/*") if path.is_file()]
    hub.swaps.clear()
    assert len(pb.load_results(f"hub:{REPO}"))


def test_only_submissions_are_fetched(hub: HubServer, one: Path) -> None:
    good = content(one)
    names = ["submissions/../up.pbsub.zip", "submissions/a/b.pbsub.zip", "x.pbsub.zip", "submissions/a.zip",
             "submissions/.a.pbsub.zip", "submissions/a b.pbsub.zip", "submissions/\x1b.pbsub.zip",
             f"submissions/{'x' * 200}.pbsub.zip", "measurements/first.parquet"]  # fmt: skip
    hub.commit("dataset", REPO, {"submissions/good.pbsub.zip": good, **dict.fromkeys(names, b"no submission")})
    assert {run.rpartition("-")[0] for run in pb.load_results(f"hub:{REPO}")["run"]} == {"first"}
    assert {r.path.rpartition("/")[2] for r in hub.requests if "/resolve/" in r.path} == {"good.pbsub.zip"}


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("LARGEST_FILE", 100, "submissions/one.pbsub.zip is larger than 100 bytes"),
        ("MOST_FILES", 1, "holds 2 submissions, at most 1 are read"),
        ("MOST_BYTES", 1000, "at most 1,000 are read"),
    ],
)
def test_too_much_is_refused_before_it_is_fetched(
    hub: HubServer, one: Path, other: Path, monkeypatch: MonkeyPatch, limit: str, value: int, words: str
) -> None:
    commit(hub, one, other)
    monkeypatch.setattr(reading, limit, value)
    with pytest.raises(FetchError, match=words):
        pb.load_results(f"hub:{REPO}")
    assert not any("/resolve/" in request.path for request in hub.requests)


def test_damaged_submissions_are_named_by_data_set_and_file(hub: HubServer, one: Path, members: Members) -> None:
    hub.commit("dataset", REPO, {"submissions/a.pbsub.zip": content(one), "submissions/b.pbsub.zip": b"PK\x03\x04"})
    with pytest.raises(UsageError, match=rf"^hub:{REPO}: b.pbsub.zip: "):
        pb.load_results(f"hub:{REPO}")
    new = forge(one / "a.pbsub.zip", members, schema_version=99)
    hub.commit("dataset", REPO, {"submissions/a.pbsub.zip": new.read_bytes()})
    with pytest.raises(UsageError, match=rf"^hub:{REPO}: a.pbsub.zip: .*update pruningbench"):
        pb.load_results(f"hub:{REPO}")


@pytest.mark.parametrize(
    "address",
    ["", "x", "a/b/c", "../b", "a/..", "a/b@", "a/b@../c", "a/b@-x", "a/b@" + "x" * 200, "a/b@x y", "a/b\x1b"],
)
def test_addresses_are_checked_before_anything_is_asked(hub: HubServer, address: str) -> None:
    with pytest.raises(UsageError, match="must be hub:OWNER/NAME or hub:OWNER/NAME@REVISION") as error:
        pb.load_results(f"hub:{address}")
    assert "\x1b" not in str(error.value) and not hub.requests


def test_what_is_missing_is_said_without_the_token(hub: HubServer, one: Path, monkeypatch: MonkeyPatch) -> None:
    cases = {
        "nobody/nothing": "the hub has no such data set, or it is private",
        f"{REPO}@{'0' * 40}": "there is no such commit or branch",
        "someone/empty": r"has no submissions \(submissions/\*.pbsub.zip\)",
    }
    commit(hub, one)
    hub.commit("dataset", "someone/empty", {"README.md": b"x"})
    for address, words in cases.items():
        with pytest.raises(PruningBenchError, match=words) as error:
            pb.load_results(f"hub:{address}")
        assert TOKEN not in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="the hub cannot be reached"):
        pb.load_results(f"hub:{REPO}")
    with pytest.raises(UsageError, match=r"no scheme 'hub2'; did you mean 'hub'\?"):
        pb.load_results("hub2:a/b")


def test_edited_rows_change_the_published_values(hub: HubServer, one: Path, members: Members) -> None:
    def lower(row: dict[str, object]) -> None:
        row["value"] = 0.125

    forge(one / "a.pbsub.zip", members, edited(members, lower, only=0), name="first")
    commit(hub, one)
    assert 0.125 in set(pb.load_results(f"hub:{REPO}")["value"])
