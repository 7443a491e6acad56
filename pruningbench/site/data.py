"""Data as script files: a page opened from disk cannot fetch, but it can run a script beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from pruningbench.base.text import displayable
from pruningbench.site.files import File

_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")


def data_file(name: str, value: Any) -> File:
    """Return the file ``data/NAME.js``, after which scripts find the value as ``window.PB_DATA[NAME]``.

    ``<``, ``>``, ``&`` and all characters beyond ASCII are escaped, so the text can neither end the script nor
    hold a character that ends a line in JavaScript.

    Args:
        name: lower-case letters, digits and "-".
        value: JSON values; NaN and infinity are not allowed (see `plain`).

    Raises:
        ValueError: for another name, and for NaN or infinity.
    """
    if not _NAME.match(name):
        raise ValueError(f"data {name!r}: a name has lower-case letters, digits and '-'")
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return File(f"data/{name}.js", f'(window.PB_DATA=window.PB_DATA||{{}})["{name}"]={text};\n'.encode("ascii"))


def plain(number: float | None, digits: int = 6) -> float | int | None:
    """Return a number rounded to significant digits, as JSON can hold it: None for NaN, infinity and None."""
    if number is None or not math.isfinite(number):
        return None
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


class Names:
    """Texts that occur often, stored once and referred to by their place."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._places: dict[str, int] = {}
        for text in texts:
            self.place(text)

    def place(self, text: str) -> int:
        """Return the place of a text, which is added if it is new."""
        return self._places.setdefault(text, len(self._places))

    @property
    def texts(self) -> list[str]:
        """All texts in the order of their places, as given."""
        return list(self._places)

    @property
    def shown(self) -> list[str]:
        """All texts in the order of their places, safe to show."""
        return [displayable(text) for text in self._places]
