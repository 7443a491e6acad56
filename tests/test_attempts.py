"""What a journal says of its finished tasks: the same as its records say, without keeping them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.cases import cases
from kit.runs import run
from kit.toysuite import TOY_SUITE

from pruningbench.errors import RunFolderError
from pruningbench.harness import resume
from pruningbench.harness.artifacts import METRIC, code_parts, differences
from pruningbench.harness.resume import assess
from pruningbench.plugins import Registry
from pruningbench.store.attempts import Attempt, attempts_of, last_attempts, read_attempts
from pruningbench.store.journal import Journal, encoded, latest, read_journal
from pruningbench.store.lines import parse_record
from pruningbench.store.madeof import packing_parser
from pruningbench.store.mending import mend
from pruningbench.store.records import Record
from pruningbench.suite.cells import Cell, TaskRun
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

SUMMARY = [
    "group", "plan", "model", "pruner", "recipe", "device", "stale", "status", "seconds", "prepare_seconds", "metrics",
    "failed", "some_ok", "peak_memory_mb", "made_of", "made_of_ok", "accepted", "compared", "knows_parts", "lines",
]  # fmt: skip
NAMES = st.sampled_from(["a", "b", "network", 'x"network', '"network":"1'])
TEXTS = st.sampled_from(["1", "2", "12ab", "é", "\ud800", '"network":"2"'])
PARTS = st.dictionaries(NAMES, TEXTS, max_size=4)


def summary(attempts: Iterable[Attempt]) -> list[str]:
    return [repr([getattr(attempt, name) for name in SUMMARY]) for attempt in attempts]


@st.composite
def tasks(draw: st.DrawFn) -> list[Record]:
    base = Record(
        "suite", draw(st.sampled_from("cde")), "model", draw(st.sampled_from("pq")), "none", 0.5, 0, "t",
        attempts=draw(st.integers(1, 3)), plan=draw(st.sampled_from(["", "k"])), stale=draw(st.sampled_from(["", "s"])),
    )  # fmt: skip
    common = draw(PARTS)
    return [
        replace(
            base, metric=f"m{i}", value=draw(st.floats()), status=draw(st.sampled_from(["ok", "ok", "failed"])),
            made_of=common if draw(st.booleans()) else draw(PARTS), accepted=draw(st.sampled_from([{}, {"a": "3"}])),
            peak_memory_mb=draw(st.sampled_from([math.nan, 1.0, 2.5])), seconds=draw(st.floats(0, 9)),
        )
        for i in range(draw(st.integers(1, 3)))
    ]  # fmt: skip


def written(path: Path, groups: list[list[Record]]) -> Path:
    journal = Journal(path)
    for group in groups:
        journal.append(group)
    journal.close()
    return path


@cases(150)
@given(st.lists(tasks(), max_size=5), st.data())
def test_attempts_say_what_the_records_say(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Record]], data: st.DataObject
) -> None:
    """Also of a journal that is damaged, cut, or written by a later version: both readers say the same, or refuse it."""
    path = written(tmp_path_factory.mktemp("journal") / "r.jsonl", groups)
    lines = path.read_bytes().splitlines(keepends=True)
    whole = list(lines)
    for _ in range(data.draw(st.integers(0, 2)) if lines else 0):
        where = data.draw(st.integers(0, len(lines) - 1))
        values = json.loads(whole[where])
        changed = [
            lines[where][: data.draw(st.integers(0, len(lines[where])))], b"", b'{"a": 1}\n', b"\xff\n",
            json.dumps({**values, "value": "inf", "new": 1}).encode() + b"\n",
            json.dumps({**values, "made_of": {"a": data.draw(st.sampled_from(["x", 1, None]))}}).encode() + b"\n",
            json.dumps({**values, "accepted": data.draw(st.sampled_from([[], {"b": "y"}, {"b": {}}]))}).encode() + b"\n",
            json.dumps({**values, "schema": 9}).encode() + b"\n",
            json.dumps(values, indent=None, separators=(" ,\t", ": ")).encode() + b"\n",
            json.dumps(values, indent=1).encode() + b"\n", lines[where][:-1] + lines[where], lines[where] + b"\n",
            lines[where].replace(b",", b",\r\n", 1), b" " + lines[where], lines[where] * 2,
        ]  # fmt: skip
        lines[where] = data.draw(st.sampled_from(changed))
    path.write_bytes(b"".join(lines))

    def outcome(read: Any) -> tuple[list[str], int] | str:
        try:
            found, size = read(path)
        except RunFolderError as error:
            return str(error)
        if found and isinstance(found[0], Record):
            groups = []
            for record in found:  # two finished attempts may have the same number
                groups += [[]] if record.part == 1 else []
                groups[-1].append(record)
            found = [attempt for group in groups for attempt in attempts_of(group)]
        return summary(found), size

    assert outcome(read_attempts) == outcome(read_journal)


@cases(100)
@given(st.lists(tasks(), max_size=6))
def test_the_last_attempts_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Record]]
) -> None:
    path = written(tmp_path_factory.mktemp("journal") / "r.jsonl", groups)
    attempts, _ = read_attempts(path)
    expected: dict[tuple[str, str], list[Record]] = {}
    for record in latest(read_journal(path)[0]):
        expected.setdefault((record.cell, record.task), []).append(record)
    found = last_attempts(attempts)
    assert {key: [repr(r) for r in a.lines] for key, a in found.items()} == {
        key: [repr(r) for r in records] for key, records in expected.items()
    }
    assert {key: (a.failed, a.some_ok) for key, a in found.items()} == {
        key: (any(r.status != "ok" for r in rs), any(r.status == "ok" for r in rs)) for key, rs in expected.items()
    }


def test_what_attempts_share_cannot_be_changed_through_one_of_them(tmp_path: Path) -> None:
    base = Record("suite", "c", "model", "pruner", "none", 0.5, 0, "t", made_of={"a": "1"}, accepted={"b": "2"})
    path = written(tmp_path / "r.jsonl", [[base], [replace(base, cell="d")]])
    one, other = read_attempts(path)[0]
    assert one.parts[0] is other.parts[0] and one.parts[1][0] is other.parts[1][0]
    for name in ("made_of", "made_of_ok", "accepted", "compared"):
        getattr(one, name)["a"] = "changed"
    one.lines[0].made_of["a"] = "changed"  # type: ignore[index]
    assert (one.made_of, other.made_of, one.lines[0].made_of) == ({"a": "1"},) * 3
    assert (one.compared, other.accepted) == ({"a": "1", "b": "2"}, {"b": "2"})


def test_records_of_a_journal_that_has_changed_since_are_refused(tmp_path: Path) -> None:
    base = Record("suite", "c", "model", "pruner", "none", 0.5, 0, "t")
    path = written(tmp_path / "r.jsonl", [[base], [replace(base, cell="d")]])
    first, second = read_attempts(path)[0]
    assert [r.cell for r in second.lines] == ["d"]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[1] + lines[0])
    for attempt in (first, second):
        with pytest.raises(RunFolderError, match="was changed while it was read"):
            _ = attempt.lines
    path.write_bytes(lines[0][:20])
    with pytest.raises(RunFolderError, match="was changed while it was read"):
        _ = first.lines
    path.unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        _ = first.lines


def test_a_mended_journal_has_other_places(tmp_path: Path) -> None:
    base = Record("suite", "c", "model", "pruner", "none", 0.5, 0, "t")
    path = written(tmp_path / "r.jsonl", [[base], [replace(base, cell="d")]])
    path.write_bytes(b"garbage\n" + path.read_bytes())
    assert mend(path, tmp_path / "aside")
    journal = Journal(path)
    assert [a.lines[0].cell for a in journal.attempts] == ["c", "d"]
    added = journal.append([replace(base, cell="e", metric="m"), replace(base, cell="e", metric="n")])
    assert (added.metrics, [r.metric for r in added.lines]) == (("m", "n"), ["m", "n"])
    assert journal.attempts[-1] is added
    journal.close()


@cases(200)
@given(PARTS, PARTS, PARTS, st.lists(st.sampled_from("xyz"), max_size=2, unique=True), st.lists(st.sampled_from("xyz")))
def test_the_quick_comparison_is_the_careful_one(
    made_of: dict[str, str], now: dict[str, str], accepted: dict[str, str], asked: list[str],
    measured: list[str],
) -> None:  # fmt: skip
    use: Any = SimpleNamespace()
    cell, task = Cell(use, use, use, 0.5, 0), use
    asking = TaskRun("t", task, tuple(SimpleNamespace(label=name) for name in asked))  # type: ignore[arg-type]
    parts = made_of | {f"{METRIC}{name}": "1" for name in measured}
    base = Record("suite", "c", "m", "p", "none", 0.5, 0, "t", made_of=parts, accepted=accepted)
    (attempt,) = attempts_of([base])
    quick = resume._Now(lambda _cell, _run: now).has_all(cell, asking, attempt)
    careful = not differences(attempt.compared, now) and all(f"{METRIC}{m.label}" in parts for m in asking.metrics)
    assert not (quick and not careful)
    compared = any(name in now for name in parts)
    assert quick == (careful and not accepted and compared)


def test_a_run_is_assessed_alike_with_and_without_the_quick_comparison(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    records, _ = read_journal(tmp_path / "run" / "results.jsonl")
    groups = [list(lines) for _, lines in groupby(records, key=lambda record: record.group)]
    old = [replace(line, made_of={**line.made_of, "pruner": "old"}) for line in groups[0]]
    metric = [
        replace(line, made_of={n: t for n, t in line.made_of.items() if n != METRIC + line.metric})
        for line in groups[1]
    ]
    taken = [replace(line, accepted={"model": line.made_of["model"]}) for line in groups[2]]
    failed = [replace(line, status="failed") for line in groups[3]]
    bare = [replace(line, made_of={}) for line in groups[4]]
    plan = make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry)
    for changed in (records, [*old, *metric, *taken, *failed, *bare, *(r for g in groups[6:] for r in g)]):
        quick = assess(plan, attempts_of(changed), code_parts)
        with monkeypatch.context() as patch:
            patch.setattr(resume, "_is_done", lambda *_: False)
            careful = assess(plan, attempts_of(changed), code_parts)
        assert [repr(job) for job in quick.jobs] == [repr(job) for job in careful.jobs]
        assert [(s.cell.key, s.run.label, s.changed) for s in quick.stale] == [
            (s.cell.key, s.run.label, s.changed) for s in careful.stale
        ]
        assert quick.unknown == careful.unknown
    assert quick.jobs and quick.unknown == 1


@cases(300)
@given(
    PARTS,
    st.lists(st.one_of(st.none(), TEXTS), min_size=2, max_size=9),
    st.booleans(),
    st.sampled_from(["", '"network":"2"', '"a":"5"']),
)
@example({}, ["2", "1"], True, '"network":"2"')
@example({"a": "1"}, ["1", "é"], True, "")
@example({'x"network': "1"}, [None, "2", None], True, "")
def test_packed_parts_are_those_of_the_json(
    rest: dict[str, str], digests: list[str | None], compact: bool, more: str
) -> None:
    """Also where names occur twice, in texts, or where one form of many digests is used again."""
    parse = packing_parser({})
    base = Record("suite", "c", "model", "pruner", "none", 0.5, 0, "t")
    for digest in digests:
        one = {**rest, **({} if digest is None else {"network": digest})}
        text = json.dumps(one)
        if more:
            text = text[:-1] + (", " if one else "") + more + "}"
        if compact:
            text = text.replace('": "', '":"')
        line = encoded([base]).replace(b'"made_of":{}', b'"made_of":' + text.encode())
        found, expected = parse(line), parse_record(line)
        assert found is not None
        assert expected is not None
        packed = found.made_of
        assert (packed if isinstance(packed, dict) else dict(zip(*packed, strict=True))) == dict(expected.made_of)
        assert isinstance(packed, dict) or packed[0] == tuple(expected.made_of)


def test_a_name_that_begins_like_the_digest_s_is_its_own() -> None:
    parse = packing_parser({})
    base = encoded([Record("suite", "c", "model", "pruner", "none", 0.5, 0, "t")])
    for text, expected in (
        (b'{ "network":"1"}', (("network",), ("1",))),
        (b'{ "networkXYZ":""}', (("networkXYZ",), ("",))),
    ):
        found = parse(base.replace(b'"made_of":{}', b'"made_of":' + text))
        assert found is not None
        assert found.made_of == expected
