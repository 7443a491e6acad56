"""A hook of MkDocs: pages that stand outside ``docs/`` become pages of the site, and links to them are followed.

In the repository, and on a forge, the same links lead to the files themselves.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "leaderboard/README.md": "published/index.md",
}
"""File of the repository -> page of the site."""
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def places(root: Path = ROOT) -> dict[str, str]:
    """Return, for each file outside ``docs/`` that the site holds, its place in the site."""
    published = [path.relative_to(root).as_posix() for path in sorted((root / "leaderboard").glob("*/*"))]
    return {**PAGES, **{path: path.replace("leaderboard/", "published/", 1) for path in published}}


def followed(text: str, page: str, place: Mapping[str, str]) -> str:
    """Return a page's text with its relative links leading to the pages of the site.

    Args:
        text: Markdown.
        page: path of the page inside the site.
        place: file of the repository -> place in the site.
    """
    home = {site: path for path, site in place.items()}.get(page, f"docs/{page}")

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
        site = place.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
        return f"]({posixpath.relpath(site, posixpath.dirname(page) or '.')}{anchor})" if site else match[0]

    return LINK.sub(link, text)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files outside ``docs/``."""
    from mkdocs.structure.files import File

    for path, site in places().items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Follow the links of a page."""
    return followed(markdown, page.file.src_uri, places())
