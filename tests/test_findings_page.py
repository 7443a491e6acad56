"""docs/findings.md: the numbers of its tables, and all its intervals, are those of the published results."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pruningbench.leaderboard import build
from pruningbench.leaderboard.longform import LONG_FORM, long_form
from pruningbench.leaderboard.results import load_measurements
from pruningbench.plugins import load_registry

ROOT = Path(__file__).resolve().parents[1]
SPEC: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "data/findings.yaml").read_text())
PAGE = (ROOT / "docs/findings.md").read_text().replace("−", "-").replace("**", "")
NUMBER = r"[-+]?\d*\.\d+|[-+]?\d+"
VALUE = re.compile(rf"^({NUMBER})(?: \[({NUMBER}), ({NUMBER})\])?( ▼)?( †)?$")
INTERVAL = re.compile(rf"({NUMBER})\s\[({NUMBER}),\s({NUMBER})\]")
Line = dict[str, Any]


class Table(NamedTuple):
    """A table of the page: the heading above it, its place below it, and its cells by row and column."""

    heading: str
    place: int
    columns: list[str]
    rows: dict[str, list[str]]


@cache
def published(suite: str) -> list[Line]:
    """Return one line for each value of a published suite, with its difference to the dense network."""
    sources = [ROOT / f"leaderboard/results/{suite}.pbsub.zip"]
    boards = build(load_measurements(sources), sources, registry=load_registry())
    return [dict(zip(LONG_FORM, line, strict=False)) for line in long_form(boards)]


def tables() -> Iterator[Table]:
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        for place, block in enumerate(re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)):
            lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
            rows = {cells[0]: cells[1:] for cells in lines[2:]}
            assert len(rows) == len(lines) - 2, f"{heading}: a row is twice in table {place}"
            yield Table(heading, place, lines[0][1:], rows)


def spec_of(table: Table) -> dict[str, Any] | None:
    found = [s for s in SPEC["tables"] if (s["heading"], s.get("table", 0)) == (table.heading, table.place)]
    assert len(found) <= 1
    return found[0] if found else None


def line_of(suite: str, wanted: dict[str, Any]) -> Line:
    """Return the one published value, of the first seed or the mean over seeds, that has these fields."""
    fields = {name: value for name, value in wanted.items() if name != "field"}
    found = [line for line in published(suite) if all(line[name] == value for name, value in fields.items())]
    assert len(found) == 1, f"{len(found)} published values of {suite} have {fields}"
    return found[0]


def is_written(text: str, number: float | None) -> bool:
    """Whether a text is a number rounded to the digits that it has."""
    if number is None or math.isnan(number):
        return False
    digits = len(text.partition(".")[2])
    return abs(float(text) - number) <= 0.5 * 10**-digits + 1e-9


def problem(text: str, suite: str, wanted: dict[str, Any], *, marks: bool = True) -> str | None:
    """Return what is wrong with a cell of a table, or None; `marks`: whether the table says what is significant."""
    found = VALUE.match(text)
    if not found:
        return f"{text!r} is no number"
    value, low, high, worse, _ = found.groups()
    line = line_of(suite, wanted)
    names = {
        "difference": ("difference", "difference_low", "difference_high"), "value": ("value", "ci_low", "ci_high"),
        "plain": ("value", "ci_low", "ci_high"),
    }[wanted.get("field", "value")]  # fmt: skip
    for shown, name in zip((value, low, high), names, strict=True):
        if shown is not None and not is_written(shown, line[name]):
            return f"{text!r} is published as {name} {line[name]}"
    if marks and "field" not in wanted and bool(worse) != (line["verdict"] == "worse"):
        return f"{text!r} is published as {line['verdict'] or 'not significant'}"
    return None


def test_every_table_of_numbers_is_compared() -> None:
    left = [t.heading for t in tables() if not spec_of(t)]
    assert left == SPEC["tables of words"]
    assert len(SPEC["tables"]) == sum(1 for t in tables() if spec_of(t))


@pytest.mark.parametrize("table", [t for t in tables() if spec_of(t)], ids=lambda t: f"{t.heading[:30]}-{t.place}")
def test_a_table_has_the_published_values(table: Table) -> None:
    spec = spec_of(table)
    assert spec is not None
    beside = spec.get("beside", {})
    columns = list(spec["columns"].values())
    names = [name for name in table.columns if name not in beside.get("columns", ())]
    assert [name.removesuffix(" 2") for name in spec["columns"]] == names
    rows = {name: cells for name, cells in table.rows.items() if name not in beside.get("rows", ())}
    assert rows.keys() == spec["rows"].keys()
    kept = [i for i, name in enumerate(table.columns) if name not in beside.get("columns", ())]
    problems, compared = [], 0
    for row, cells in rows.items():
        for column, cell in zip(columns, (cells[i] for i in kept), strict=True):
            several = column if isinstance(column, list) else [column]
            texts = cell.split(", ") if isinstance(column, list) else [cell]
            for text, fields in zip(texts, several, strict=True):
                if text not in ("", "†"):
                    wanted = {**spec.get("fields", {}), **fields, **spec["rows"][row]}
                    problems.append((row, problem(text, spec["suite"], wanted, marks=spec.get("marks", True))))
                    compared += 1
    assert compared > 0
    wrong = [f"{row}: {found}" for row, found in problems if found]
    assert not wrong, wrong


def test_every_interval_is_published() -> None:
    """A value with its two limits, as a value or as a difference to the dense network; the list says which are not."""
    triples = {
        tuple(line[name] for name in names)
        for suite in SPEC["suites"]
        for line in published(suite)
        for names in (("value", "ci_low", "ci_high"), ("difference", "difference_low", "difference_high"))
    }
    known = [t for t in triples if not any(number is None for number in t)]
    shown = [found.groups() for found in INTERVAL.finditer(PAGE)]
    assert len(shown) > 30
    missing = [
        f"{value} [{low}, {high}]"
        for value, low, high in shown
        if not any(is_written(value, a) and is_written(low, b) and is_written(high, c) for a, b, c in known)
    ]
    assert missing == SPEC["intervals beside"], missing


def test_the_comparison_finds_a_wrong_number() -> None:
    wanted = {"pruner": "magnitude", "recipe": "none", "sparsity": 0.3, "task": "classification", "metric": "accuracy"}
    assert problem(".818", "imagenet-boxes", wanted) is not None  # significantly worse, which is not said
    assert problem(".818 ▼", "imagenet-boxes", wanted) is None
    assert "published as value" in str(problem(".817 ▼", "imagenet-boxes", wanted))
    assert "no number" in str(problem("most", "imagenet-boxes", wanted))
