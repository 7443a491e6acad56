"""Take the pictures of the site that the documentation shows: ``python .ci/screenshots.py RUN``.

Builds the site of a run folder in a temporary folder, opens it in Chromium, and writes small PNGs to docs/images.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kit.browser import PHONE, Browser, running  # noqa: E402 - the kit of the tests is not installed

from pruningbench.site import build_site  # noqa: E402

IMAGES = ROOT / "docs" / "images"
COLOURS = 128
SHOTS = (
    ("site-front", "index.html", "#model=digits-resnet", (1280, 850), "light", ".heat td button"),
    ("site-front-dark", "index.html", "#model=digits-resnet", (1280, 850), "dark", ".heat td button"),
    ("site-table", "table.html", "#sort=rank:asc&sparsity=%3E%3D80%25", (1280, 700), "light", ".grid tbody th"),
    ("site-curves", "curves.html", "#model=digits-resnet&metric=corloc", (1280, 800), "light", "#chart svg"),
    ("site-phone", "index.html", "#model=digits-vit", PHONE, "light", ".heat td button"),
)
"""Name, page, state, size of the window, theme, and what to wait for."""


def shoot(browser: Browser, site: Path) -> None:
    """Write all pictures."""
    for name, page, state, size, theme, ready in SHOTS:
        with browser.open(site / page, state, size=size, theme=theme) as visit:
            visit.page.wait_for_selector(ready)
            if page == "curves.html":
                box = visit.page.locator("#chart g[aria-label=dot] path").nth(1).bounding_box()
                visit.page.mouse.move(box["x"] + 5, box["y"] + 4)
                visit.page.wait_for_selector("#hover code")
            picture = Image.open(io.BytesIO(visit.page.screenshot()))
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        path = IMAGES / f"{name}.png"
        small.save(path, optimize=True)
        sys.stdout.write(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1000} kB\n")


def main(run: str) -> None:
    """Build the site of a run and take its pictures."""
    with tempfile.TemporaryDirectory() as folder, running() as browser:
        shoot(browser, build_site([run], Path(folder) / "site").folder)


if __name__ == "__main__":
    main(sys.argv[1])
