"""The pages of the documentation and their blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

from kit.scripts import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "leaderboard" / "README.md"])
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the blocks of a page in these languages."""
    found = [(match[2], match[3]) for match in _BLOCK.finditer(page.read_text("utf-8"))]
    return [text for language, text in found if language in languages]
