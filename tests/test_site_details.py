"""Detail pages: what they say, that every link leads somewhere, and that names stay text."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import record, write_run
from kit.figures import conditions, make_run
from kit.hostile import harmless
from kit.siteruns import hostile_registry, hostile_run, plain_run
from kit.sites import HOSTILE, active_content, broken_links, pages_of, parsed

from pruningbench.base.text import displayable
from pruningbench.contract import Metric, Predictions
from pruningbench.plugins import Registry, load_registry
from pruningbench.plugins.registration import Plugin
from pruningbench.site import build_site
from pruningbench.site.about import prose
from pruningbench.site.components import licence_of, links_in
from pruningbench.site.html import join
from pruningbench.site.links import PAGE_KINDS, page_of
from pruningbench.site.runfacts import distributions
from pruningbench.site.runpages import command_of
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.filters import parse_filters


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    build_site([hostile_run(folder / "run <b>")], folder / "site", registry=hostile_registry())
    return folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site of a run with known components, several kinds of pictures, a failure, and unreliable rows."""
    folder = tmp_path_factory.mktemp("plain")
    run = plain_run(folder / "plain")
    build_site([run], folder / "site")
    return folder / "site"


def text_of(site: Path, kind: str, name: str) -> str:
    return parsed(site / page_of(kind, name)).words  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_every_link_leads_to_a_page_or_a_file(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    assert len(pages_of(folder)) > 15
    web = [line for line in broken_links(folder) if "https://example.org/a" not in line]
    assert web == []


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_no_page_can_run_or_load_what_the_site_did_not_bring(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    found = [line for line in active_content(folder) if "https://example.org/a?b=" not in line]
    assert found == []
    for page in pages_of(folder):
        text = page.read_text("utf-8")
        assert "Content-Security-Policy" in text and harmless(text, keep="\n")


def test_every_name_has_its_page(hostile: Path) -> None:
    for name in HOSTILE:
        for kind, label in (("model", name), ("pruner", f"p{name}"), ("recipe", name), ("task", f"t{name}")):
            page = hostile / page_of(kind, label)  # type: ignore[arg-type]
            assert page.is_file()
            assert "no page can be" not in parsed(page).text
    listed = parsed(hostile / "pages.html").text
    assert displayable(HOSTILE[0]) in listed and "javascript:alert(1)" in listed
    assert all(path.relative_to(hostile).parts[0] in (*PAGE_KINDS, "assets", "data", "img", "pictures", "vendor") or
               len(path.relative_to(hostile).parts) == 1 for path in hostile.rglob("*") if path.is_file())  # fmt: skip


def test_a_docstring_is_text_and_only_its_web_addresses_are_links(hostile: Path) -> None:
    page = parsed(hostile / page_of("metric", "evil"))
    assert "<script>alert(2)</script>" in page.text and "<b>code</b>" in page.text
    assert "https://example.org/a?b=" in page.links
    assert not any(":" in link for link in page.links if not link.startswith("https://example.org/"))
    assert max(map(len, page.text.split())) < 4100  # 9,000 characters are cut
    raw = (hostile / page_of("metric", "evil")).read_text()
    assert 'rel="noopener noreferrer nofollow"' in raw


@given(st.text(max_size=200))
def test_prose_keeps_all_text_and_makes_no_element_of_it(text: str) -> None:
    html = join(prose(text))
    assert "<script" not in html
    words = "".join(piece for piece, _ in links_in(text))
    assert words == text
    for _, address in links_in(text):
        assert not address or address.startswith(("http://", "https://"))


def test_what_no_plugin_knows_is_shown_from_the_records(site: Path) -> None:
    said = text_of(site, "pruner", "unheard-of")
    assert "What it is cannot be said here: unknown pruner 'unheard-of'" in said
    assert "sorting · accuracy (fraction, higher is better)" in said and "digits-vit" in said
    metric = text_of(site, "metric", "loss")
    assert "unknown metric 'loss'" in metric and "Direction lower is better" in metric


def test_a_component_page_has_docstring_formula_source_licence_and_fields(site: Path) -> None:
    said = text_of(site, "pruner", "magnitude(allocation=erk)")
    for part in ("Prune the smallest weights", "|w|", "Sources Han et al.", "licence MIT", "pruningbench/magnitude"):
        assert part in said
    assert "allocation" in said and "how the sparsity is shared between layers" in said and '"global"' in said


def test_a_metric_page_has_direction_unit_range_levels_and_unreliable_rows(site: Path) -> None:
    said = text_of(site, "metric", "accuracy")
    assert (
        "Direction higher is better Unit fraction Range 0 to 1 Applies to Predictions Tolerance 5 % of its range"
        in said
    )
    assert "guessing – fraction higher is better .100 .970" in said
    assert "Unreliable rows" in said and "90 degenerate samples" in said and "collapsed to chance" in said


def test_a_run_page_says_what_its_rows_are_worth(site: Path) -> None:
    said = text_of(site, "run", "plain")
    for part in ("pruningbench 9.9", "Python 3.12.1", "fingerprint", "d1", "Failures 1 (listed below)", "all alike",
                 "unchecked", "# <not a tag>", "which nobody else has checked"):  # fmt: skip
        assert part.lower() in said.lower(), part
    assert "OSError: data.csv is gone" in said
    assert "/home/jo" not in said and "secret" not in said


def test_origin_of_submissions_is_shown() -> None:
    from pruningbench.site.runfacts import state_facts

    rows = [{"trust": word, "mark": mark, "limit": 0, "status": "ok"}
            for word, mark in (("self-reported", ""), ("re-run (2 of 9 cells)", "stale: weights"), ("self-reported", ""))]  # fmt: skip
    facts = dict(state_facts(pd.DataFrame(rows)))
    assert facts["Origin"] == "self-reported: 2 rows; re-run (2 of 9 cells): 1 rows"
    assert facts["Stale"] == "1 row: weights"


def test_commands_choose_exactly_their_cell() -> None:
    label = "it's (a=*) $HOME"
    words = shlex.split(command_of("my suite.yaml", {"pruner": label, "sparsity": "0.5"}))
    assert words[:3] == ["pruningbench", "run", "my suite.yaml"] and words[-2:] == ["--out", "again"]
    given_ = [words[i + 1] for i, word in enumerate(words) if word == "--only"]
    filters = parse_filters(given_, "--only")
    assert filters["pruner"][0].matches(label) and filters["sparsity"][0].label == "0.5"


def test_distributions_come_from_the_rows_where_the_environment_has_none() -> None:
    rows = [{"plugin": "mine", "plugin_version": "2", "task": "t"}, {"plugin": "", "plugin_version": "", "task": "t"}]
    assert distributions({}, pd.DataFrame(rows)) == [("mine", "2", "task t")]
    assert distributions({"plugins": "no list"}, pd.DataFrame(rows[1:])) == []


def test_licences_come_from_distributions() -> None:
    assert licence_of("pruningbench") == "MIT"
    assert "BSD" in licence_of("torch")
    assert licence_of("no-such-distribution") == ""


def test_a_shipped_suite_is_run_by_its_name_only_if_it_is_unchanged(tmp_path: Path) -> None:
    from pruningbench.site.components import Catalogue
    from pruningbench.site.runpages import _suite_argument
    from pruningbench.site.source import load_source
    from pruningbench.site.subjects import Site
    from pruningbench.suite.schema import load_suite

    registry = load_registry()
    run = make_run(tmp_path / "run", conditions(), exhibits=False)
    suite = load_suite("quickstart", registry)
    source = load_source([run], registry=registry)
    site = Site(source, Catalogue.of(source), (), ())
    RunFolder(run).suite.write_text(suite.to_yaml())
    assert _suite_argument(site, RunFolder(run)) == "quickstart"
    RunFolder(run).suite.write_text(suite.to_yaml().replace("seeds: [0]", "seeds: [0, 1]"))
    assert _suite_argument(site, RunFolder(run)) == "suite.yaml"


def test_a_site_with_very_many_metrics_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruningbench.site.metricpages.FULL", 3)
    where = [(0.0, "dense"), (0.5, "a")]
    records = [record(pruner, f"m{i}", 0.5, sparsity=sparsity) for sparsity, pruner in where for i in range(5)]
    build_site([write_run(tmp_path / "run", records)], tmp_path / "site", registry=Registry())
    pages = [(tmp_path / "site" / page_of("metric", f"m{i}")) for i in range(5)]
    assert ["table" in parsed(one).tags for one in pages] == [True, True, True, False, False]
    assert "only; the link above leads to the values" in parsed(pages[4]).words
    assert broken_links(tmp_path / "site") == []


@dataclass(frozen=True)
class Crooked(Metric):
    """Has class attributes of wrong types, and a default that raises an error."""

    consumes: ClassVar[type] = Predictions
    range: ClassVar[tuple[float, float]] = None  # type: ignore[assignment]
    higher_is_better: ClassVar[bool | None] = []  # type: ignore[assignment]

    def values(self, outputs: object) -> torch.Tensor:
        return torch.zeros(0)


@dataclass(frozen=True)
class Raising(Metric):
    """Cannot make its default."""

    consumes: ClassVar[type] = Predictions
    how: list[int] = field(default_factory=lambda: 1 / 0)  # type: ignore[assignment, return-value]

    def values(self, outputs: object) -> torch.Tensor:
        return torch.zeros(0)


def test_components_with_broken_attributes_are_shown_from_the_records(tmp_path: Path) -> None:
    registry = Registry()
    for name, component in (("crooked", Crooked), ("raising", Raising)):
        registry.add("metric", name, component, Plugin("p", "strangers", "1"))
    run = write_run(tmp_path / "run", [record(metric=metric) for metric in ("crooked", "raising")])
    with pytest.warns(UserWarning, match="metric crooked: TypeError"):
        build_site([run], tmp_path / "site", registry=registry)
    said = text_of(tmp_path / "site", "metric", "crooked")
    assert "Has class attributes of wrong types" in said and "Direction higher is better Unit fraction" in said
    raising = text_of(tmp_path / "site", "metric", "raising")
    assert "it cannot be described (ZeroDivisionError: division by zero)" in raising


def test_two_runs_of_one_name_share_a_page(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / place / "same", conditions(), tasks=("sorting",)) for place in ("one", "two")]
    for run, version in zip(runs, ("3.11.1", "3.12.2"), strict=True):
        RunFolder(run).environment.write_text(json.dumps({"python": version}))
    build_site(runs, tmp_path / "site", registry=Registry())
    (page,) = (tmp_path / "site" / "run").iterdir()
    assert "Python 3.11.1" in parsed(page).words and "Python 3.12.2" in parsed(page).words
