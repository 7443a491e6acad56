"""Sorting and filtering of the site's table, in a real browser, against Python."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.browser import Browser
from kit.smallruns import small_run

from pruningbench.site import build_site

VALUES = [0.0, -0.5, 0.5, 0.8, 0.8000000001, 0.9, 1e-3, 12.0, None]
NAMES = ["magnitude", "magnitude(allocation=erk)", "Random", "obd", "a2", "a10", "=a", ""]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("order")
    return build_site([small_run(folder / "small")], folder / "out").folder


def passing(browser: Browser, site: Path, kind: str, filters: list[str]) -> list[list[int] | None]:
    """Return the rows that pass each filter of a column of `VALUES` or `NAMES`; None where the filter is not valid."""
    with browser.open(site / "table.html") as visit:
        visit.page.wait_for_selector(".grid tbody th")
        return visit.page.evaluate(
            """([kind, filters, values, names]) => {
              const { numberColumn, textColumn, filtered, validFilter } = PB.order;
              const column = kind === "number" ? numberColumn(Float64Array.from(values, (v) => v === null ? NaN : v), String)
                : textColumn(Int32Array.from(names, (_, i) => i), names);
              return filters.map((filter) => validFilter(column, filter)
                ? [...filtered(kind === "text" ? names.length : values.length,
                    { one: column }, { one: filter }, "")] : null);
            }""",
            [kind, filters, VALUES, NAMES],
        )


NUMBERS: dict[str, Callable[[float], bool] | None] = {
    ".8": lambda v: abs(v - 0.8) < 1e-9,
    "=.8": lambda v: abs(v - 0.8) < 1e-9,
    "80%": lambda v: abs(v - 0.8) < 1e-9,
    "80 %": lambda v: abs(v - 0.8) < 1e-9,
    "!=.8": lambda v: abs(v - 0.8) >= 1e-9,
    "> .5": lambda v: v > 0.5,
    ">=.5": lambda v: v >= 0.5,
    "≥ 0.5": lambda v: v >= 0.5,
    "<.5": lambda v: v < 0.5,
    "<= .5": lambda v: v <= 0.5,
    "-.5": lambda v: v == -0.5,
    "−.5": lambda v: v == -0.5,
    "1e-3": lambda v: v == 1e-3,
    ".5...9": lambda v: 0.5 <= v <= 0.9,
    ".5..0.9": lambda v: 0.5 <= v <= 0.9,
    ".5 to .9": lambda v: 0.5 <= v <= 0.9,
    "50%..90%": lambda v: 0.5 <= v <= 0.9,
    "x5": None,
    ">": None,
    "a..b": None,
    "1 2": None,
}  # fmt: skip


def test_filters_of_numbers_mean_what_they_say(browser: Browser, site: Path) -> None:
    found = passing(browser, site, "number", list(NUMBERS))
    for (text, wanted), rows in zip(NUMBERS.items(), found, strict=True):
        known = [(i, v) for i, v in enumerate(VALUES) if v is not None]
        assert rows == (None if wanted is None else [i for i, v in known if wanted(v)]), text


def test_filters_of_names_mean_what_they_say(browser: Browser, site: Path) -> None:
    filters = {
        "MAGN": [0, 1], "erk": [1], "=magnitude": [0], "!magnitude": [2, 3, 4, 5, 6, 7], "=": [7], "random": [2],
        "=random": [], "==a": [6], "!": list(range(8)), " a1 ": [5],
    }  # fmt: skip
    assert dict(zip(filters, passing(browser, site, "text", list(filters)), strict=True)) == filters


def test_rows_are_sorted_stably_and_empty_cells_are_last(browser: Browser, site: Path) -> None:
    draw = random.Random(1)
    cases = [[draw.choice([None, 0, 1, 2, 3, -1.5]) for _ in range(draw.randrange(40))] for _ in range(60)]
    with browser.open(site / "table.html") as visit:
        visit.page.wait_for_selector(".grid tbody th")
        found = visit.page.evaluate(
            """(cases) => cases.map((values) => [false, true].map((descending) => [...PB.order.sorted(
                 Uint32Array.from(values, (_, i) => i),
                 PB.order.numberColumn(Float64Array.from(values, (v) => v === null ? NaN : v), String), descending)]))""",
            cases,
        )
        names = visit.page.evaluate(
            """(names) => [...PB.order.sorted(Uint32Array.from(names, (_, i) => i),
                 PB.order.textColumn(Int32Array.from(names, (_, i) => i), names), false)].map((i) => names[i])""",
            NAMES[:-1],
        )
    for values, (up, down) in zip(cases, found, strict=True):
        keys = [math.inf if v is None else v for v in values]
        assert up == sorted(range(len(values)), key=lambda i: keys[i])
        back = [math.inf if v is None else -v for v in values]
        assert down == sorted(range(len(values)), key=lambda i: back[i])
    assert (
        names.index("a2") < names.index("a10") < names.index("magnitude") < names.index("obd") < names.index("Random")
    )
