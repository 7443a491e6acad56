"""Detail pages in a real browser: pictures move, commands are copied, names stay text."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from kit.browser import PHONE, Browser, Visit
from kit.siteruns import hostile_registry, hostile_run, plain_run
from kit.sites import pages_of
from PIL import Image

from pruningbench.base.text import displayable
from pruningbench.site import build_site
from pruningbench.site.links import page_of

KINDS = {
    "model": "model/digits-vit-*", "pruner": "pruner/magnitude-*", "recipe": "recipe/none-*", "task": "task/finding-*",
    "metric": "metric/accuracy-*", "run": "run/*", "index": "pages", "maps": "pictures/looking-*",
    "boxes": "pictures/finding-*", "concepts": "pictures/concepts-*",
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    build_site([plain_run(folder / "plain")], folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    build_site([hostile_run(folder / "run <b>")], folder / "site", registry=hostile_registry())
    return folder / "site"


def page(site: Path, kind: str) -> Path:
    (found,) = (one for one in site.glob(f"{KINDS[kind]}.html"))
    return found


CORNER = 8
"""Pixels at each side that are not compared: where the page has been scrolled to decides how round corners are drawn."""


def picture(visit: Visit, place: int = 1) -> bytes:
    """Return what a figure of the visible sample shows, as pixels, once two pictures of it in a row are equal."""
    figure = visit.page.locator(".sample:not([hidden]) .block:not([hidden]) .strip .frame").nth(place)

    def pixels() -> bytes:
        whole = Image.open(BytesIO(figure.screenshot())).convert("RGB")
        inner = whole.crop((CORNER, CORNER, whole.width - CORNER, whole.height - CORNER))
        return bytes(inner.tobytes())

    last = pixels()
    for _ in range(40):
        visit.page.wait_for_timeout(50)
        now = pixels()
        if now == last:
            return now
        last = now
    pytest.fail("the figure keeps changing")


def eventually(visit: Visit, script: str) -> None:
    """Wait until a script gives true; the pages' policy forbids the polling that Playwright would do inside them."""
    for _ in range(100):
        if visit.page.evaluate(script):
            return
        visit.page.wait_for_timeout(50)
    pytest.fail(f"never true: {script}")


def load(visit: Visit) -> None:
    """Wait until the pictures of the visible sample are drawn, so that two pictures can be compared."""
    visit.page.evaluate(
        "Promise.all([...document.querySelectorAll('.sample:not([hidden]) .block:not([hidden]) img')]"
        ".map(image => { image.loading = 'eager'; return image.decode(); }))"
    )


def label(visit: Visit, place: int = 1) -> str:
    return str(
        visit.page.locator(".sample:not([hidden]) .block:not([hidden]) .strip .frame")
        .nth(place)
        .get_attribute("aria-label")
    )


def state(visit: Visit) -> list[str]:
    """Return what each visible figure shows: in words, and which part of its file."""
    script = "all => all.map(f => f.ariaLabel + getComputedStyle(f.querySelector('.layer')).transform.slice(0, 20))"
    return list(visit.page.locator(".sample:not([hidden]) .block:not([hidden]) .frame").evaluate_all(script))


@pytest.mark.parametrize("kind", ["maps", "boxes", "concepts"])
def test_the_slider_moves_all_strips_from_the_keyboard(browser: Browser, plain: Path, kind: str) -> None:
    with browser.open(page(plain, kind)) as visit:
        slider = visit.page.locator("#sparsity")
        slider.focus()
        load(visit)
        visit.page.keyboard.press("Home")
        assert visit.page.locator("#chosen").inner_text() == slider.get_attribute("aria-valuetext") == "dense"
        dense, fixed = picture(visit), (picture(visit, 0), label(visit, 0))
        assert ", dense" in label(visit) and len(set(fixed[0])) > 10
        visit.page.keyboard.press("End")
        last = {"maps": "90 % pruned", "boxes": "90 % pruned", "concepts": "50 % pruned"}[kind]
        assert visit.page.locator("#chosen").inner_text() == slider.get_attribute("aria-valuetext") == last
        assert last in label(visit)
        if kind != "boxes":  # the boxes of this run are the same at all sparsities
            assert picture(visit) != dense
        # the first figure of a group stays dense, in words and in its pixels
        assert (picture(visit, 0), label(visit, 0)) == fixed


def test_boxes_of_the_chosen_sparsity_alone_are_drawn(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "boxes"), "#sparsity=0.5") as visit:
        strip = visit.page.locator(".sample:not([hidden]) .strip:not(.fixed)").first
        groups = strip.locator("g.frame-boxes")
        assert [groups.nth(i).is_visible() for i in range(groups.count())] == [False, True, False]
        found, true = (groups.nth(1).locator(f"rect.{word}").first for word in ("predicted", "truth"))
        dashes = [one.evaluate("element => getComputedStyle(element).strokeDasharray") for one in (found, true)]
        assert dashes[0] == "none" and dashes[1] != "none"  # told apart without colour
        frame, box = strip.locator(".frame").bounding_box(), found.bounding_box()
        assert frame and box
        assert box["x"] - frame["x"] == pytest.approx(2 / 24 * frame["width"], abs=2)
        assert box["width"] == pytest.approx(10 / 24 * frame["width"], abs=4)
        assert "IoU .69" in strip.locator(".said").inner_text()


def test_the_slider_moves_with_the_pointer_and_the_address_keeps_the_view(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "maps"), "#sparsity=0") as visit:
        load(visit)
        before = picture(visit)
        box = visit.page.locator("#sparsity").bounding_box()
        assert box
        middle = box["y"] + box["height"] / 2
        visit.page.mouse.move(box["x"] + 8, middle)
        visit.page.mouse.down()
        visit.page.mouse.move(box["x"] + box["width"] - 4, middle, steps=5)
        visit.page.mouse.up()
        assert visit.page.locator("#chosen").inner_text() == "90 % pruned"
        assert picture(visit) != before
        visit.page.locator("input[name=view][value=map]").check(force=True)
        visit.page.locator("input[name=sample][value='2']").check(force=True)
        visit.page.locator("summary").click()
        visit.page.locator(".check input[data-kind=variant]").first.uncheck()
        seen, address = state(visit), visit.page.evaluate("location.hash")
        headings = visit.page.locator(".sample:not([hidden]) h3:visible").all_inner_texts()
        assert headings and not any("grad" in words for words in headings)
    with browser.open(page(plain, "maps"), address) as visit:
        assert visit.page.locator("#chosen").inner_text() == "90 % pruned"
        assert visit.page.locator(".sample:not([hidden]) h2").inner_text() == "image-2"
        assert visit.page.locator(".sample:not([hidden]) h3:visible").all_inner_texts() == headings
        assert state(visit) == seen


def test_pictures_load_from_disk_when_they_come_into_view(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "maps")) as visit:
        visit.page.locator(".sample:not([hidden]) .strip").last.scroll_into_view_if_needed()
        eventually(
            visit,
            "[...document.querySelectorAll('.sample:not([hidden]) img')].every(i => i.complete && i.naturalWidth > 0)",
        )
        loaded = visit.page.evaluate(
            "[...document.querySelectorAll('.sample[hidden] .layer')].map(i => i.naturalWidth)"
        )
        assert loaded and not any(loaded)
        layer = visit.page.locator(".sample:not([hidden]) .strip:not(.fixed) .layer").first
        sizes = layer.evaluate(
            "i => [i.naturalWidth, i.naturalHeight, i.getBoundingClientRect().width / i.parentElement.getBoundingClientRect().width]"
        )
        assert sizes[:2] == [3 * 24, 24] and sizes[2] == pytest.approx(3)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_have_no_serious_findings_and_fit_a_phone(browser: Browser, plain: Path, kind: str) -> None:
    with browser.open(page(plain, kind), theme="light") as visit:
        assert visit.page.locator("h1").count() == 1
        assert visit.axe() == []
        visit.page.emulate_media(color_scheme="dark")
        visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert visit.sideways() == 0
        assert visit.axe() == []


def test_the_slider_stays_in_view_on_a_phone(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "maps"), size=PHONE) as visit:
        visit.page.locator(".sample:not([hidden]) .strip").last.scroll_into_view_if_needed()
        assert visit.page.evaluate("scrollY") > PHONE[1]
        box = visit.page.locator("#sparsity").bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= PHONE[1]
        visit.page.locator("#sparsity").press("End")
        assert "90 % pruned" in label(visit)


def test_pictures_print_at_the_chosen_sparsity(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "maps"), "#sparsity=0.9") as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.locator("#chosen").is_visible() and not visit.page.locator("#sparsity").is_visible()
        assert visit.page.locator(".sample:not([hidden]) .strip").first.is_visible()
        assert not visit.page.locator(".thumbs").is_visible()


def test_the_command_of_a_cell_is_chosen_and_copied_from_the_keyboard(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "run")) as visit:
        command = visit.page.locator("#command")
        assert command.inner_text().startswith("pruningbench run suite.yaml --only model=digits-vit --only ")
        visit.page.locator("#only-sparsity").select_option(label="90 %")
        visit.page.locator("#only-pruner").select_option(label="magnitude(allocation=erk)")
        visit.page.locator("#only-task").select_option(label="looking")
        said = command.inner_text()
        assert "--only 'pruner=magnitude(allocation=erk)'" in said and "sparsity=0.9" in said
        assert said.endswith("--only task=looking --out again")
        assert visit.page.locator("#nocell").inner_text() == ""
        visit.page.locator("#only-pruner").select_option(label="random")  # measured at 50 % only
        assert "no such cell" in visit.page.locator("#nocell").inner_text()
        visit.page.locator("#only-task").focus()
        visit.page.keyboard.press("Tab")  # the command itself, which scrolls
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.textContent") == "Copy"
        visit.page.keyboard.press("Enter")
        eventually(visit, "document.activeElement.textContent !== 'Copy'")
        assert visit.page.evaluate("String(getSelection())") == command.inner_text()


def test_the_index_finds_pages_while_typing_and_leads_to_them(browser: Browser, plain: Path) -> None:
    with browser.open(page(plain, "index")) as visit:
        visit.page.locator("#find").fill("magnitude")
        assert visit.page.locator(".cards li:visible").all_inner_texts()
        assert len(visit.page.locator("section:visible").all()) < len(visit.page.locator("section").all())
        visit.page.locator(".cards li:visible a").first.click()
        assert visit.page.locator("h1").inner_text().startswith("magnitude")
        visit.page.locator(".trail a").first.click()
        assert visit.page.locator("h1").inner_text() == "Pages"


def test_hostile_names_run_nothing_on_any_page(browser: Browser, hostile: Path) -> None:
    rooms: dict[Path, list[Path]] = {}
    for one in pages_of(hostile):
        rooms.setdefault(one.parent, []).append(one)
    pages = [one for listed in rooms.values() for one in listed[:2]]
    with browser.open(pages[0]) as visit:
        dialogs: list[str] = []
        visit.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for one in pages:
            visit.page.goto(one.as_uri())
            assert visit.page.locator("h1").count() == 1
            assert visit.page.locator("main script, main iframe, main [onclick], main [onerror]").count() == 0
        assert dialogs == []
        name = "<script>alert(1)</script>"
        visit.page.goto((hostile / page_of("model", name)).as_uri())
        assert visit.page.locator("h1").inner_text() == displayable(name)
        visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        for one in (
            hostile / page_of("model", "long " * 2000),
            next((hostile / "run").iterdir()),
            hostile / "pages.html",
        ):
            visit.page.goto(one.as_uri())
            assert visit.sideways() == 0, one
        assert len(re.findall("alert", visit.page.content())) > 0  # the names are there, as text
