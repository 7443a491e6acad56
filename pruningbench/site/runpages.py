"""Pages of runs: suite, environment, data, what is stale or failed, and the command that repeats one cell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.scrubbing import scrubbed
from pruningbench.base.text import displayable
from pruningbench.errors import PruningBenchError
from pruningbench.leaderboard.labels import elide
from pruningbench.site.about import facts
from pruningbench.site.components import suite_of, suite_text
from pruningbench.site.data import data_file
from pruningbench.site.files import File
from pruningbench.site.html import Content, Html, Page, e, pre
from pruningbench.site.links import page_of, slug
from pruningbench.site.parts import percent
from pruningbench.site.runfacts import (
    data_rows,
    distinct,
    distributions,
    environment_facts,
    failures,
    read_environment,
    remarks,
    state_facts,
)
from pruningbench.site.subjects import STYLES, Site, picture_links, plain_table, title_of, trail
from pruningbench.site.tables import LONGEST
from pruningbench.store.origins import Origin
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.schema import load_suite

if TYPE_CHECKING:
    import pandas as pd

LISTED = 50
"""Most failures and most remarks on a page."""
LONGEST_SUITE = 100_000
"""Most characters of a suite on a page."""
AXES = ("model", "pruner", "recipe", "sparsity", "seed")


def pages(site: Site) -> Iterator[Page | File]:
    """Yield a page for each run; runs of the same name share one."""
    folders: dict[str, list[Path]] = {}
    for folder, name in zip(site.source.runs, site.source.run_names, strict=True):
        folders.setdefault(name, []).append(folder)
    for name, listed in folders.items():
        yield from _run(site, name, listed)


def _run(site: Site, name: str, folders: Sequence[Path]) -> Iterator[Page | File]:
    results = site.results_of(name)
    data = f"run-{slug(name)}"
    cells = _cells(results)
    suite = _suite_argument(site, RunFolder(folders[0]))
    submitted = [origin for origin in site.source.origins if origin.folder in folders and origin.digest]
    body: list[Content] = [facts([*_size(results), *state_facts(results), *map(_submission, submitted)])]
    if cells:
        yield data_file(data, {**_choices(cells), "suite": suite, "tasks": _labels(results, "task")})
        body.append(_repeat(cells, results, suite))
    body += [_failed(results), _remarks(results), picture_links([p for p in site.pictures if p.run == name])]
    body.append(_data(site, results))
    for folder in folders:
        body += _recorded(RunFolder(folder), results, len(folders) > 1)
    yield Page(
        address=page_of("run", name),
        title=title_of(name),
        intro="A run: one suite, measured on one machine.",
        body=e("div", body),
        scripts=("assets/run.js",) if cells else (),
        data=(data,) if cells else (),
        styles=STYLES,
        trail=trail("run"),
    )


def _size(results: pd.DataFrame) -> Iterator[tuple[str, str]]:
    suites = [elide(str(suite), LONGEST) for suite in results["suite"].unique()]
    yield "Suite", ", ".join(suites)
    values = int((results["status"] == "ok").sum())
    seeds = elide(", ".join(_labels(results, "seed")), LONGEST)
    yield "Size", f"{results['cell'].nunique():,} cells, {values:,} values, seeds {seeds}"


def _submission(origin: Origin) -> tuple[str, Content]:
    """Return by what a submission is known: the digest that its verification names, and the revision that holds it."""
    revision = f", revision {elide(origin.revision, LONGEST)}" if origin.revision else ""
    return "Submission", [e("code", origin.digest), revision]


def _labels(results: pd.DataFrame, kind: str) -> list[str]:
    return [displayable(str(name)) for name in results[kind].unique()]


def _cells(results: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the labels of each cell as filters take them, in the order of `AXES`; pruned cells first."""
    found = dict.fromkeys(
        (str(m["model"]), str(m["pruner"]), str(m["recipe"]), f"{float(m['sparsity']):g}", str(m["seed"]))
        for m in distinct(results, *AXES)
    )
    return sorted(found, key=lambda cell: cell[3] == "0")


def _choices(cells: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Return the labels of each axis, and each cell as places among them."""
    places: list[dict[str, int]] = [{} for _ in AXES]
    listed = [[places[i].setdefault(label, len(places[i])) for i, label in enumerate(cell)] for cell in cells]
    labels = {axis: [displayable(label) for label in places[i]] for i, axis in enumerate(AXES)}
    return {"labels": labels, "cells": listed}


def _suite_argument(site: Site, run: RunFolder) -> str:
    """Return what `pruningbench run` takes for the suite of a run: its name if it is shipped unchanged, else a file."""
    suite = suite_of(run, site.source.registry)
    if suite is not None and suite.name in site.source.registry.names("suite"):
        try:
            if load_suite(suite.name, site.source.registry).digest == suite.digest:
                return suite.name
        except PruningBenchError:
            pass  # a shipped suite that does not load is not the one that was run
    return "suite.yaml"


def _repeat(cells: Sequence[tuple[str, ...]], results: pd.DataFrame, suite: str) -> Html:
    """Return the choice of a cell and the command that measures it again."""
    choices = _choices(cells)["labels"]
    first = dict(zip(AXES, cells[0], strict=True))
    selects = [
        e("div",
          e("label", axis, for_=f"only-{axis}"),
          e("select", [e("option", _option(axis, label), value=i) for i, label in enumerate(choices[axis])],
            id=f"only-{axis}", autocomplete="off"),
          class_="field")
        for axis in AXES
    ]  # fmt: skip
    tasks = ["all tasks", *_labels(results, "task")]
    selects.append(
        e("div", e("label", "task", for_="only-task"),
          e("select", [e("option", elide(task, LONGEST), value=i - 1) for i, task in enumerate(tasks)], id="only-task",
            autocomplete="off"), class_="field")
    )  # fmt: skip
    command = command_of(suite, first)
    where = "" if suite != "suite.yaml" else " Save the suite below as suite.yaml first."
    return e(
        "section", e("h2", "Repeat one cell"),
        e("div", selects, class_="controls"),
        e("div", pre(command, id="command", class_="wrap"), e("button", "Copy", type="button", data_copy="command"),
          class_="command"),
        e("p", "The dense reference is measured with it. ", where, class_="note"),
        e("p", "", class_="note", id="nocell", role="status"),
    )  # fmt: skip


def _option(axis: str, label: str) -> str:
    return percent(float(label)) if axis == "sparsity" else elide(label, LONGEST)


def command_of(suite: str, chosen: dict[str, str]) -> str:
    """Return the command that runs one cell of a suite into a folder of its own, for a POSIX shell."""
    filters = " ".join(f"--only {shlex.quote(f'{kind}={displayable(label)}')}" for kind, label in chosen.items())
    return f"pruningbench run {shlex.quote(suite)} {filters} --out again"


def _failed(results: pd.DataFrame) -> Html | None:
    count = int((results["status"] != "ok").sum())
    if not count:
        return None
    rows = [
        [
            elide(str(m["model"]), LONGEST),
            elide(f"{m['pruner']} {percent(float(m['sparsity']))} {m['recipe']}", LONGEST),
            str(m["seed"]),
            elide(" ".join(str(m[kind]) for kind in ("task", "variant", "metric") if m[kind]), LONGEST),
            str(m["status"]), why,
        ]
        for m, why in failures(results, LISTED)
    ]  # fmt: skip
    caption = f"{count:,} failures" + (f"; the first {LISTED}" if count > LISTED else "")
    heads = ["model", "condition", "seed", "task", "status", "last line of the error"]
    return e("section", e("h2", "Failures"), plain_table(heads, rows, label="failures", caption=caption))


def _remarks(results: pd.DataFrame) -> Html | None:
    listed = remarks(results)
    if not listed:
        return None
    rows: list[list[Content]] = [[words, f"{count:,}"] for words, count in listed[:LISTED]]
    more = (
        e("p", f"{len(listed) - LISTED} further notes are left out.", class_="note") if len(listed) > LISTED else None
    )
    return e("section", e("h2", "Notes"), plain_table(["note", "rows"], rows, label="notes"), more)


def _data(site: Site, results: pd.DataFrame) -> Html | None:
    rows: list[list[Content]] = [
        [
            e("a", elide(task, LONGEST), href=f"../{page_of('task', task)}"), elide(data, 300),
            e("code", elide(fingerprint, LONGEST)), samples,
        ]
        for task, data, fingerprint, samples in data_rows(results, site.catalogue)
    ]  # fmt: skip
    if not rows:
        return None
    heads = ["task", "data sets (licence)", "fingerprint", "samples"]
    return e("section", e("h2", "Data"), plain_table(heads, rows, label="data"))


def _recorded(run: RunFolder, results: pd.DataFrame, several: bool) -> list[Content]:
    """Return the environment, the distributions and the suite that a run folder holds."""
    environment = read_environment(run)
    made = distributions(environment, results)
    try:
        text = scrubbed(suite_text(run))
    except (OSError, UnicodeDecodeError):
        text = ""
    shown = text if len(text) <= LONGEST_SUITE else f"{text[:LONGEST_SUITE]}\n…"
    place = f"suite-{slug(str(run.path))}" if several else "suite"
    copy = e("button", "Copy", type="button", data_copy=place)
    heads = ["distribution", "version", "plugins"]
    known = facts(list(environment_facts(environment))) or e("p", "None was recorded.")
    block = e("div", pre(shown, id=place, class_="suite"), copy, class_="command")
    return [
        e("section", e("h2", "Distributions"), plain_table(heads, made, label="distributions")) if made else None,
        e("section", e("h2", "Environment"), known),
        e("section", e("h2", "Suite"), block) if text else None,
    ]
