"""Whatever stands in a journal or a suite, its reader ends in a result or in one line.

The short cases run each time and are the same each time; the long ones (marker `slow`, ``make test-fuzz``) look on.
"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kit.boards import failure, record, write_run
from kit.hostile import harmless

from pruningbench.base.text import displayable
from pruningbench.base.yamlsource import parse_yaml
from pruningbench.errors import PruningBenchError, RunFolderError
from pruningbench.leaderboard import FORMATS, build, draw_figures, render, render_failures
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.store.journal import Journal, read_journal
from pruningbench.store.records import Record
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

SHORT = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
LONG = settings(SHORT, max_examples=20_000)

TEXT = st.text(st.characters(blacklist_categories=()), max_size=12) | st.sampled_from(
    [
        "",
        "ok",
        "failed",
        "none",
        "dense",
        "source",
        "target-x",
        "$x_{$",
        "inf",
        "nan",
        "a|b",
        "../x",
        "\ud800",
        "9" * 5000,
    ]
)
NUMBERS = (
    st.integers(-(10**400), 10**400) | st.integers(-3, 3) | st.floats() | st.sampled_from([2**63, 2**64, 1e308, 5e-324])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXT, part, max_size=4), max_leaves=12,
)  # fmt: skip
FIELDS = sorted(Record.__dataclass_fields__)
GOOD = [record("dense", sparsity=0.0), record("a"), record("a", "loss", math.inf, seed=1), failure("b", "E: no"),
        record("a", variant="source", recipe="tune"), record("a", variant="target-x", recipe="tune")]  # fmt: skip
LINES = st.builds(
    lambda one, changes: json.dumps({**one.to_json(), **changes}).encode() + b"\n",
    st.sampled_from(GOOD), st.dictionaries(st.sampled_from([*FIELDS, "new"]), JSON, max_size=3),
)  # fmt: skip
NOISE = (
    st.binary(max_size=40)
    | JSON.map(lambda value: json.dumps(value).encode() + b"\n")
    | st.sampled_from(
        [b"[" * 100_000 + b"\n", b"\xff\n", b"\n", b"{}\n", b'{"seed": ' + b"9" * 9999 + b"}\n", b"\x00" * 99]
    )
)
JOURNALS = st.lists(LINES | LINES | LINES | NOISE, max_size=8).map(b"".join)


def one_line(error: BaseException) -> bool:
    shown = displayable(error)
    return bool(shown) and harmless(shown) and len(shown) < 12_000


def read_a_journal(folder: Path, content: bytes, *, drawn: bool = False) -> None:
    """Read it as `leaderboard` and a resumed run do; only errors that say something may come of it."""
    folder.mkdir(exist_ok=True)
    path = folder / "results.jsonl"
    path.write_bytes(content)
    try:
        records, good = read_journal(path)
    except RunFolderError as error:
        assert str(error).startswith(f"{path}:") and one_line(error)
        return
    assert 0 <= good <= len(content) and len(records) <= content.count(b"\n")
    boards = build(load_results(folder, details=True), [folder])
    for format_ in FORMATS:
        assert harmless(render(boards, format_), keep="\n\t")
    assert harmless(render_failures(boards), keep="\n\t")
    if drawn:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draw_figures(folder)
    Journal(path).close()
    assert path.stat().st_size == good
    assert repr(read_journal(path)[0]) == repr(records)


@SHORT
@given(JOURNALS)
@example(json.dumps({**GOOD[1].to_json(), "sparsity": 1.0}).encode() + b"\n")
@example(json.dumps({**GOOD[1].to_json(), "seed": 2**63}).encode() + b"\n")
@example(json.dumps({**GOOD[1].to_json(), "value": 10**400}).encode() + b"\n")
@example(json.dumps({**GOOD[1].to_json(), "seconds": math.inf}).encode() + b"\n")
@example(json.dumps({**GOOD[1].to_json(), "model": "\ud800"}).encode() + b"\n")
def test_any_journal_ends_in_tables_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    read_a_journal(tmp_path_factory.mktemp("fuzz"), content)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@LONG
@given(JOURNALS)
def test_any_journal_ends_in_tables_figures_or_one_line(tmp_path: Path, content: bytes) -> None:
    read_a_journal(tmp_path / "run", content, drawn=True)


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"seed": ' + b"9" * 9999 + b"}",
     json.dumps({**GOOD[1].to_json(), "value": 10**400}).encode(), json.dumps({**GOOD[1].to_json(), "n": 2**63}).encode(),
     json.dumps({**GOOD[1].to_json(), "sparsity": math.nan}).encode(), json.dumps({**GOOD[1].to_json(), "sparsity": 1}).encode()],
)  # fmt: skip
def test_lines_beyond_measure_are_named(line: bytes, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", GOOD) / "results.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(RunFolderError, match=r"results\.jsonl:1: damaged line; remove it"):
        load_results(tmp_path / "run")


SUITES = [one.load().read_text("utf-8") for one in load_registry().registrations("suite")]
PIECES = st.sampled_from(
    ["&a ", "*a", "!!python/name:os.system ", "<<: ", "? ", "- ", "[", "]", "{", "}", ": ", "\n", "  ", "\t", "'", '"', "|", ">",
     "%YAML 9.9\n---\n", "0x", "1e999", ".nan", "-", "~", "9" * 200, '"\\ud800"', '"\\UFFFFFFFF"', "\x00", "\ufeff", "#", "@", "`",
     "use", "name", "models", "[" * 500, "null", "sparsities: [0x" + "f" * 300 + "]\n", "é", "\u202e", "\x1b"],
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A shipped suite with pieces cut out, doubled, or put in."""
    text = draw(st.sampled_from(SUITES))
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(text))), draw(st.integers(0, 30))
        what = draw(PIECES | TEXT | JSON.map(str) | st.just(text[at : at + size] * 2))
        text = f"{text[:at]}{what}{text[at + size :]}"
    return text


VALUES = st.dictionaries(
    st.sampled_from(["name", "models", "pruners", "sparsities", "recipes", "seeds", "tasks", "metrics", "data", "scope", "batch_size", "x"])
    | TEXT, JSON, max_size=8,
).map(json.dumps)  # fmt: skip


def read_a_suite(text: str, registry: Registry) -> None:
    """Read it as `plan` does before it asks any model."""
    try:
        parse_yaml(text, "s.yaml")
        plan = make_plan(suite_from_text(text, registry, source="s.yaml"), registry)
    except PruningBenchError as error:
        assert one_line(error), str(error)[:300]
        return
    again = suite_from_text(plan.suite.to_yaml(), registry)
    assert again.digest == plan.suite.digest


@SHORT
@given(text=mutated() | VALUES | TEXT)
@example(text='name: "\\UFFFFFFFF"')
@example(text="%YAML " + "9" * 5000 + ".1\n--- a")
@example(text="seeds: [0x" + "f" * 5000 + "]")
@example(text="name: a\nseeds: [0x" + "f" * 5000 + "]")
@example(text="[" * 10_000)
@example(text='{"a": ' * 2000)
@example(text='name: "\\ud800"')
def test_any_suite_ends_in_a_plan_or_one_line(text: str, toy_registry: Registry) -> None:
    read_a_suite(text, toy_registry)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@LONG
@given(
    text=mutated() | VALUES | TEXT | st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))
)
def test_any_suite_ends_in_a_plan_or_one_line_for_long(text: str, toy_registry: Registry) -> None:
    read_a_suite(text, toy_registry)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


@SHORT
@given(JSON)
def test_the_reader_says_what_json_says_or_why_not(value: Any) -> None:
    """JSON is YAML, but for numbers and halves of surrogate pairs that no suite needs."""
    text = json.dumps(value)
    try:
        read = parse_yaml(text, "s").value
    except PruningBenchError as error:
        assert one_line(error)
        return
    if "Infinity" not in text and "NaN" not in text and "e" not in text:
        assert same(read, json.loads(text))
