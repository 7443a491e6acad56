"""The site in a real browser, opened from disk with the network cut."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from kit.boards import record, write_run
from kit.browser import ACTIONS, PHONE, READY, Browser, Visit, timed
from kit.smallruns import COLUMNS, HOSTILE, MODELS, PRUNERS, RECIPES, SPARSITIES, hostile_run, many_values, small_run

from pruningbench.base.text import displayable
from pruningbench.site import build_site
from pruningbench.site.parts import percent

PAGES = ("index.html", "table.html", "curves.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    return build_site([small_run(folder / "small")], folder / "out").folder


def ready(visit: Visit, page: str) -> Visit:
    visit.page.wait_for_selector(READY[page])
    return visit


def column(visit: Visit, title: str) -> list[str]:
    """Return the texts of a column of the grid, as far as they are in view."""
    heads = visit.page.locator(".grid thead th").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.strip().startswith(title))
    cells = visit.page.locator(f".grid tbody tr[data-row] > :nth-child({place + 1})")
    return [text.strip() for text in cells.all_inner_texts()]  # all at once, because the grid may be drawn again


def lines(visit: Visit) -> int:
    return visit.page.locator(".grid tbody tr[data-row]").count()


@pytest.mark.parametrize("size", [(1280, 800), PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", PAGES)
def test_page_opens_from_disk_in_both_themes_without_serious_findings(
    browser: Browser, site: Path, page: str, size: tuple[int, int]
) -> None:
    with browser.open(site / page, size=size) as visit:
        ready(visit, page)
        assert visit.sideways() <= 0
        light = visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert visit.axe() == []
        visit.page.emulate_media(color_scheme="dark")
        assert visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
        assert visit.axe() == []


def test_the_theme_is_switched_by_a_button_and_kept(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as visit:
        for expected in ("light", "dark"):
            visit.page.click("#theme")
            assert visit.page.evaluate("document.documentElement.dataset.theme") == expected
        visit.page.click("text=Curves")
        visit.page.wait_for_selector(READY["curves.html"])
        assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_policy_forbids_what_the_page_does_not_need(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as visit:
        ready(visit, "index.html")
        ran = visit.page.evaluate(
            """async () => {
              const script = document.createElement("script");
              script.textContent = "window.inlined = 1";
              document.body.append(script);
              const asked = await fetch("data/boards.js").then(() => "fetched", () => "refused");
              return [window.inlined === undefined, asked];
            }"""
        )
        assert ran == [True, "refused"]
        assert len(visit.errors) >= 2, "the browser names what it refused"
        visit.errors.clear()
        visit.requests.clear()


def test_reader_finds_the_best_pruner_for_discovery_and_how_sure_in_one_click(browser: Browser, site: Path) -> None:
    """The question: the best pruner for discovery at 80 % on a ViT, and how sure; 80 % is where the page starts."""
    clicks = 0
    with browser.open(site / "index.html") as visit:
        ready(visit, "index.html")
        visit.page.get_by_role("radio", name="tiny-vit").click()
        clicks += 1
        answer = visit.page.locator("#best li", has_text="discovery").inner_text()
        assert visit.page.inner_text("#best-title") == "Best for tiny-vit at 80 %"
    assert clicks == 1
    assert answer.startswith("discovery: magnitude(erk) · finetune")
    assert "95 % interval" in answer
    assert "ahead" in answer


def test_slider_and_cells_answer_to_the_keyboard(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as visit:
        ready(visit, "index.html")
        visit.page.focus("#sparsity")
        visit.page.keyboard.press("ArrowRight")
        assert visit.page.inner_text("#shown") == "95 %"
        assert "sparsity=0.95" in visit.page.url
        visit.page.keyboard.press("Tab")  # the box of the map, which scrolls
        for _ in range(8):  # links of the header, then the one cell that takes part
            visit.page.keyboard.press("Tab")
            if visit.page.evaluate("Boolean(document.activeElement.dataset.cell)"):
                break
        first = visit.page.evaluate("document.activeElement.dataset.cell")
        visit.page.keyboard.press("ArrowRight")
        visit.page.keyboard.press("ArrowDown")
        moved = visit.page.evaluate("document.activeElement.dataset.cell")
        assert [int(a) for a in moved.split("-")] == [1 + int(a) for a in first.split("-")]
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("#opened .detail")
        assert visit.page.evaluate("document.activeElement.dataset.cell") == moved
        assert "pruningbench run" in visit.page.inner_text("#opened code")


def test_front_page_is_a_link_to_what_it_shows(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html", "#model=tiny-vit&sparsity=0.5&recipe=none&cell=1-1") as visit:
        ready(visit, "index.html")
        visit.page.wait_for_selector("#opened .detail")
        assert visit.page.inner_text("#best-title") == "Best for tiny-vit at 50 %"
        assert visit.page.locator(".heat").first.locator("thead th[scope=colgroup]").count() == 0


def test_table_sorts_filters_and_keeps_its_state_in_the_address(browser: Browser, site: Path) -> None:
    with browser.open(site / "table.html", "#view=values") as visit:
        ready(visit, "table.html")
        visit.page.get_by_role("button", name="value", exact=True).click()
        values = [float(text.rstrip("▲▼† \n")) for text in column(visit, "value")]
        assert values == sorted(values, reverse=True)
        visit.page.get_by_label("Filter metric").fill("=corloc")
        visit.page.get_by_label("Filter sparsity").fill(">= 80%")
        visit.page.locator("#count", has_text=" of ").wait_for()
        assert set(column(visit, "metric")) == {"corloc"}
        assert set(column(visit, "sparsity")) <= {"80 %", "95 %"}
        count = visit.page.inner_text("#count")
        address = visit.page.url
    with browser.open(site / "table.html", "#" + address.partition("#")[2]) as visit:
        ready(visit, "table.html")
        assert visit.page.inner_text("#count") == count
        assert visit.page.locator("th[aria-sort=descending]").inner_text() == "value"
        assert set(column(visit, "metric")) == {"corloc"}


def test_table_searches_chooses_columns_and_freezes_the_first(browser: Browser, site: Path) -> None:
    with browser.open(site / "table.html", size=(700, 800)) as visit:
        ready(visit, "table.html")
        visit.page.fill("#search", "vit erk")
        visit.page.locator("#count", has_text="6 of ").wait_for()
        assert set(column(visit, "pruner")) == {"magnitude(erk)"}
        visit.page.click("summary:has-text('Columns')")
        visit.page.get_by_label("rank", exact=True).uncheck()
        assert not any("rank" in text for text in visit.page.locator(".grid thead th").all_inner_texts())
        assert "cols=" in visit.page.url
        before = visit.page.locator(".grid tbody th").first.bounding_box()
        visit.page.evaluate("document.querySelector('.grid-box').scrollLeft = 200")
        after = visit.page.locator(".grid tbody th").first.bounding_box()
        assert before == after


def test_a_filter_is_never_hidden_and_survives_another_view(browser: Browser, site: Path) -> None:
    with browser.open(site / "table.html", "#view=values&dimension=discovery&model=%3Dtiny-vit") as visit:
        ready(visit, "table.html")
        assert visit.page.get_by_label("Filter ability").input_value() == "discovery"
        assert visit.page.inner_text("#count") == "20 of 160 values"
        visit.page.get_by_role("radio", name="pruned model").click()
        visit.page.locator("#count", has_text="20 of 40 models").wait_for()
        assert visit.page.get_by_label("Filter model").input_value() == "=tiny-vit"
        visit.page.click("summary:has-text('Columns')")
        visit.page.get_by_label("model", exact=True).uncheck()
        assert visit.page.inner_text("#count") == "40 models"


def test_line_of_the_table_opens_by_keyboard(browser: Browser, site: Path) -> None:
    with browser.open(site / "table.html") as visit:
        ready(visit, "table.html")
        visit.page.locator(".grid .open[tabindex='0']").focus()
        visit.page.keyboard.press("ArrowDown")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("dialog .detail")
        assert visit.axe() == []
        assert "pruningbench run" in visit.page.inner_text("dialog code")
        visit.page.keyboard.press("Escape")
        visit.page.locator("dialog").wait_for(state="detached")


def test_exports_hold_the_lines_in_view_with_full_precision(browser: Browser, site: Path) -> None:
    with browser.open(site / "table.html", "#view=values&metric=%3Dcorloc&model=%3Dtiny-vit") as visit:
        ready(visit, "table.html")
        with visit.page.expect_download() as waiting:
            visit.page.click("#csv")
        rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text("utf-8"), newline="")))
        with visit.page.expect_download() as waiting:
            visit.page.click("#json")
        values = json.loads(Path(waiting.value.path()).read_text("utf-8"))
    assert len(rows) == len(values) == 2 * (1 + 3 * 3)
    assert {row["metric"] for row in rows} == {"corloc"}
    assert [float(row["value"]) for row in rows] == [row["value"] for row in values]


def test_curve_shows_numbers_and_the_command_and_pins_by_a_click(browser: Browser, site: Path) -> None:
    with browser.open(site / "curves.html", "#model=tiny-vit&metric=corloc") as visit:
        ready(visit, "curves.html")
        box = visit.page.locator("#chart g[aria-label=dot] path").nth(1).bounding_box()
        visit.page.mouse.move(box["x"] + 9, box["y"] + 4)
        visit.page.wait_for_selector("#hover code")
        assert visit.page.inner_text("#hover code").startswith("pruningbench run suite.yaml --only model=tiny-vit")
        assert "corloc" in visit.page.locator("#chart g[aria-label=tip]").text_content()
        assert {"people", "dense"} <= {
            word
            for text in visit.page.locator("#chart text").all_text_contents()
            for word in text.replace(",", " ").split()
        }
        visit.page.mouse.click(box["x"] + 9, box["y"] + 4)
        visit.page.wait_for_selector("#pinned .detail")
        assert "pin=" in visit.page.url
        visit.page.mouse.move(2, 2)
        assert visit.page.locator("#pinned .detail").count() == 1


def test_every_value_of_a_curve_is_in_its_table_and_pins_by_keyboard(browser: Browser, site: Path) -> None:
    with browser.open(site / "curves.html", "#model=tiny-vit&metric=corloc") as visit:
        ready(visit, "curves.html")
        buttons = visit.page.locator("#alternative td button")
        assert buttons.count() == 3 * 2 * 3
        buttons.first.focus()
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("#pinned .detail")
        visit.page.get_by_role("checkbox", name="random").uncheck()
        assert visit.page.locator("#alternative td button").count() == 2 * 2 * 3


def test_pareto_front_of_two_metrics_is_that_of_brute_force(browser: Browser, site: Path) -> None:
    with browser.open(site / "curves.html", "#view=scatter") as visit:
        ready(visit, "curves.html")
        wrong = visit.page.evaluate(
            """() => {
              let state = 7, wrong = 0;
              const draw = (n) => { state = (state * 1103515245 + 12345) % 2147483648; return state % n; };
              for (let trial = 0; trial < 300; trial += 1) {
                const points = Array.from({ length: 1 + draw(14) }, () => ({ x: draw(6), y: draw(6), collapsed: draw(5) === 0 }));
                const [dx, dy] = [draw(2) * 2 - 1, draw(2) * 2 - 1];
                const able = points.filter((p) => !p.collapsed);
                const beats = (p, q) => dx * p.x >= dx * q.x && dy * p.y >= dy * q.y && (p.x !== q.x || p.y !== q.y);
                const front = new Set(PB.charts.paretoFront(points, dx, dy));
                wrong += points.some((p) => front.has(p) !== (!p.collapsed && !able.some((q) => beats(q, p))));
              }
              return wrong;
            }"""
        )
        assert wrong == 0
        assert visit.page.locator("#alternative td", has_text="★").count() >= 1
        assert visit.axe() == []


def test_pages_print_on_white_without_controls(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html", theme="dark") as visit:
        ready(visit, "index.html")
        visit.page.emulate_media(media="print", color_scheme="light")
        assert visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert not visit.page.locator("#controls").is_visible()
        assert not visit.page.locator(".top nav").is_visible()
        assert visit.page.locator(".heat").first.is_visible()
    with browser.open(site / "table.html", "#view=values") as visit:
        ready(visit, "table.html")
        values = len(MODELS) * len(RECIPES) * len(COLUMNS) * (1 + len(PRUNERS) * len(SPARSITIES))
        assert lines(visit) < values, "only the lines in view are in the page"
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert lines(visit) == values, "all of them are printed"


def test_hundred_thousand_values_sort_and_filter(browser: Browser, site: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    shutil.copytree(site, many)
    file = many / "data" / "board-0.js"
    file.write_bytes(many_values(file.read_bytes(), 100_000))
    with browser.open(many / "table.html", "#view=values") as visit:
        ready(visit, "table.html")
        assert visit.page.inner_text("#count") == "100,000 values"
        for action in ACTIONS.values():
            timed(visit, action)  # benchmarks/bench_pages.py says how long they take
        values = visit.page.evaluate("[...PB.grid.order].map((row) => PB.grid.columns.value.key(row))")
        assert 0 < len(values) < 100_000, "the filter is on"
        assert values == sorted(values, reverse=True)
        assert values[-1] >= 0.5


@pytest.mark.parametrize("page", PAGES)
def test_results_on_other_data_are_chosen_by_a_list(browser: Browser, tmp_path: Path, page: str) -> None:
    for run, more in (("one", {"data_fingerprint": "d1"}), ("two", {"data_fingerprint": "d2", "model": "other-net"})):
        records = [record("dense", sparsity=0.0, value=0.9, **more)]
        records += [record(pruner, sparsity=s, value=0.8, **more) for pruner in ("a", "b") for s in (0.5, 0.8)]
        write_run(tmp_path / run, records)
    built = build_site([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    with browser.open(built.folder / page) as visit:
        ready(visit, page)
        assert "other-net" not in visit.page.inner_text("main")
        visit.page.get_by_label("Data").select_option("1")
        visit.page.locator("main", has_text="other-net").wait_for()
        assert "board=1" in visit.page.url
        address = visit.page.url
        assert visit.axe() == []
    with browser.open(built.folder / page, "#" + address.partition("#")[2]) as visit:
        visit.page.locator("main", has_text="other-net").wait_for()


def test_hostile_names_are_text_on_every_page(browser: Browser, tmp_path: Path) -> None:
    built = build_site([hostile_run(tmp_path / "hostile")], tmp_path / "out", title=HOSTILE[0])
    short = displayable(HOSTILE[1])
    for page in PAGES:
        with browser.open(built.folder / page) as visit:
            ready(visit, page)
            assert visit.page.title().endswith(HOSTILE[0]), "the title is text"
            if page == "index.html":
                for cell in ("0-0", "1-0"):
                    visit.page.goto(f"{visit.page.url.partition('#')[0]}#cell={cell}")
                    visit.page.wait_for_selector(READY[page])
            if page == "table.html":
                visit.page.get_by_role("radio", name="value", exact=True).click()
                visit.page.wait_for_selector("text=" + short)
                visit.page.locator(".grid .open").first.click()
                visit.page.wait_for_selector("dialog .detail")
                with visit.page.expect_download() as waiting:
                    visit.page.evaluate("document.getElementById('csv').click()")
                text = Path(waiting.value.path()).read_text("utf-8")
                cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
                assert not [cell for cell in cells if cell.startswith("=")]
            made = visit.page.evaluate(
                """() => [...document.querySelectorAll("script:not([src]), iframe, img, object, embed, b")].length
                  + [...document.querySelectorAll("*")].filter((node) => [...node.attributes].some((one) =>
                      /^on/.test(one.name) || (one.name === "href" && /^\\s*javascript:/i.test(one.value)))).length"""
            )
            assert made == 0
            assert visit.sideways() <= 0
            assert "\u202e" not in visit.page.inner_text("body")


def test_scripts_and_pages_write_sparsities_alike(browser: Browser, site: Path) -> None:
    shares = [0.0, 0.0004, 0.3125, 0.36, 0.832228, 0.9, 0.9375, 0.95602, 0.99, 0.9995, 0.999999]
    expected = ["0 %", "0.04 %", "31.3 %", "36 %", "83.2 %", "90 %", "93.8 %", "95.6 %", "99 %", "99.95 %", "99.9999 %"]
    assert [percent(share) for share in shares] == expected
    with browser.open(site / "table.html") as visit:
        assert visit.page.evaluate("shares => shares.map(PB.percent)", shares) == expected
