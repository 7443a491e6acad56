"""What no output may hold."""

from __future__ import annotations

import unicodedata


def harmless(text: str, *, keep: str = "") -> bool:
    """Whether text holds no character that a terminal obeys or nobody sees, but those of `keep`."""
    return all(c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in text)
