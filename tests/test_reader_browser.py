"""The reader's test: the published leaderboard as a site, in a real browser, by somebody who has never run anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kit.browser import PHONE, READY, Browser, Visit

from pruningbench.site import build_site

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site([ROOT / "leaderboard" / "results"], tmp_path_factory.mktemp("published") / "out").folder


def front(visit: Visit) -> Visit:
    visit.page.wait_for_selector(READY["index.html"])
    return visit


def test_the_best_pruner_for_discovery_at_80_percent_on_a_vit_and_how_sure_is_three_clicks(
    browser: Browser, site: Path
) -> None:
    with browser.open(site / "index.html") as visit:
        places = front(visit).page.eval_on_selector_all("#board option", "all => all.map(one => [one.value, one.text])")
        assert places[0][1] == "cifar", "real networks are what a reader sees first"
        (quickstart,) = [value for value, text in places if text == "quickstart"]
        visit.page.select_option("#board", quickstart)
        visit.page.get_by_role("radio", name="digits-vit", exact=True).click()
        assert visit.page.inner_text("#best-title") == "Best for digits-vit at 80 %"
        answer = visit.page.locator("#best li", has_text="discovery").inner_text()
        visit.page.locator("#best li", has_text="discovery").get_by_role("button").click()
        visit.page.wait_for_selector("#opened h2")
        opened = visit.page.inner_text("#opened")
    page = " ".join((ROOT / "docs" / "reading.md").read_text("utf-8").split())
    said = answer.partition(": ")[2].replace("−", "-").replace("\u00a0", " ")
    who, _, how = said.partition(", ")
    change, _, rest = how.partition(" against dense (95 % interval ")
    interval, _, sure = rest.partition("); ")
    # docs/reading.md says the same, word for word
    assert f"`{who}`, {change} against dense, 95 % interval {interval}, {sure}" in page
    assert who in opened
    assert "pruningbench run" in opened


def test_what_was_not_measured_on_a_model_is_no_line(browser: Browser, site: Path) -> None:
    """Suites on the same data share a table; before, their other models' abilities looked as if all were at chance."""
    with browser.open(site / "index.html") as visit:
        page = front(visit).page
        places = page.eval_on_selector_all("#board option", "all => all.map(one => [one.value, one.text])")
        (shared,) = [value for value, text in places if text == "cassano2025-small + iurada2025-small"]
        page.select_option("#board", shared)
        page.get_by_role("radio", name="ridge-headed(digits-vit)", exact=True).click()
        assert page.locator("#best li strong").all_inner_texts() == ["transfer", "similarity"]
        page.get_by_role("radio", name="digits-vit", exact=True).click()
        assert page.locator("#best li strong").all_inner_texts() == ["accuracy", "interpretability", "discovery"]
        # with so few samples, most metrics are neither shown to be kept nor lost, and the table says so
        assert "undecided" in page.inner_text("#kept")


def test_the_page_opens_where_most_was_measured_and_a_choice_moves_to_where_something_was(
    browser: Browser, site: Path
) -> None:
    """It opened with nothing but dashes: the first recipe of the suite ``cifar`` was measured at 95 % only."""
    with browser.open(site / "index.html") as visit:
        page = front(visit).page
        assert page.locator("#recipe-group label", has=page.locator(":checked")).inner_text() == "none"
        assert page.inner_text("#shown") == "80 %"
        assert page.locator(".heat:not(.reach) thead a", has_text="wanda").count() == 1
        page.get_by_role("radio", name="finetune(epochs=1)", exact=True).click()
        assert page.inner_text("#shown") == "95 %"
        assert page.input_value("#sparsity") == "3"
        assert page.locator(".heat:not(.reach) td button").count() > 30
        page.fill("#sparsity", "0")
        assert page.locator(".heat:not(.reach)").count() == 0
        assert page.inner_text("#map") == "Nothing was measured at this sparsity; move the slider to 95 %."
        page.get_by_role("radio", name="none", exact=True).click()
        assert page.inner_text("#shown") == "50 %"
        assert page.inner_text("#map").splitlines()[-1].startswith("Not measured at this sparsity: ")
        assert "wanda" not in page.inner_text(".heat:not(.reach) thead")
        assert "wanda" in page.inner_text("#kept thead")


@pytest.mark.parametrize("size", [(1280, 900), PHONE], ids=["desktop", "phone"])
def test_curves_of_shares_end_at_one_and_all_labels_are_inside(
    browser: Browser, site: Path, size: tuple[int, int]
) -> None:
    listed = re.findall(r'"title":"([^"]*)"', (site / "data" / "boards.js").read_text("utf-8"))
    address = f"#board={listed.index('quickstart')}&model=digits-vit&metric=accuracy"
    with browser.open(site / "curves.html", address, size=size) as visit:
        page = visit.page
        page.wait_for_selector(READY["curves.html"])
        ticks = page.locator("svg.plot [aria-label='y-axis tick label'] text").all_text_contents()
        assert ticks[-1] == "1.000"
        assert "dense" not in page.locator("svg.plot [aria-label='x-axis tick label']").text_content()
        outside = page.evaluate(
            "() => { const box = document.querySelector('svg.plot').getBoundingClientRect();"
            " return [...document.querySelectorAll('svg.plot text')].filter((t) => t.getBoundingClientRect().right"
            " > box.right + 1).map((t) => t.textContent); }"
        )
        assert outside == []
