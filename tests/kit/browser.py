"""A real Chromium that opens pages from disk with the network cut, and fails on anything that asks for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

REQUIRED = "PRUNINGBENCH_BROWSER"
"""Environment variable; with the value ``required``, tests fail where there is no Chromium."""
MISSING = "no Chromium: the tests of the site did not run (Debian: apt-get install chromium)"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "about:")
DESKTOP, PHONE = (1280, 800), (390, 844)
SERIOUS = ("serious", "critical")


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@dataclass
class Visit:
    """An open page, what it complained about, and what it asked the network for.

    Attributes:
        page: Playwright's page.
        errors: messages of the console at the level of errors, and exceptions of scripts.
        requests: addresses that are not files.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail if the page asked the network for anything, or complained."""
        assert not self.requests, self.requests
        assert not self.errors, self.errors

    def axe(self) -> list[str]:
        """Return the serious findings of axe-core, one line each."""
        self.page.evaluate(_axe())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]} {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]

    def sideways(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


class Browser:
    """A running Chromium.

    Args:
        chromium: what Playwright launched.
    """

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def open(
        self, path: Path, hash: str = "", *, size: tuple[int, int] = DESKTOP, theme: str = "light", **options: Any
    ) -> Iterator[Visit]:
        """Open a file in a fresh profile without network; check on leaving that it made no request and no error.

        Args:
            path: the page.
            hash: what follows its address, with "#".
            size: width and height of the window in pixels.
            theme: ``light`` or ``dark``, as the system says.
            options: further options of Playwright's context.
        """
        context = self._chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=theme, accept_downloads=True, **options
        )
        context.set_offline(True)
        page = context.new_page()
        page.set_default_timeout(15_000)
        visit = Visit(page)
        page.on("console", lambda message: message.type == "error" and visit.errors.append(message.text))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        context.on("request", lambda request: request.url.startswith(LOCAL) or visit.requests.append(request.url))
        try:
            page.goto(path.resolve().as_uri() + hash)
            yield visit
            visit.check()
        finally:
            context.close()


@contextmanager
def running() -> Iterator[Browser]:
    """Start Chromium; stop it on leaving."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        try:
            yield Browser(chromium)
        finally:
            chromium.close()


def required() -> bool:
    """Whether tests must fail where there is no Chromium."""
    return os.environ.get(REQUIRED) == "required"


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


ACTIONS = {
    "sort": "PB.grid.sort = null; PB.grid.sortBy('value')",
    "filter": "(() => { PB.grid.filters.value = '>= .5'; PB.grid.later(); })()",
    "search": "PB.grid.searchFor('vit erk')",
    "sort names": "PB.grid.sort = null; PB.grid.sortBy('pruner')",
    "sort again": "PB.grid.sort = null; PB.grid.sortBy('value')",
}
"""What a reader does, as it reaches the grid."""


def timed(visit: Visit, action: str) -> float:
    """Return the milliseconds from an action until the frame that shows its result has been painted."""
    return visit.page.evaluate(
        f"""async () => {{
          const begun = performance.now();
          {action};
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))));
          return performance.now() - begun;
        }}"""
    )


READY = {"index.html": ".heat td button", "table.html": ".grid tbody th", "curves.html": "#chart svg"}
"""Selector of what a page shows once it is drawn."""
