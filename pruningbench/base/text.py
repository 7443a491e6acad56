"""Text that is safe to show: names, messages and files of others cannot move a cursor or hide a word.

A terminal obeys control characters, every viewer obeys marks of writing direction, and nobody sees zero-width
characters. Component names, labels in journals, plugin errors and paths may hold all of them, so every output of the
project (terminal, standard error, tables, figures) passes its text through this module. Values in memory, in journals
and in file names stay unchanged.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

_BREAK = re.compile(r"\s*[\r\n\u2028\u2029]\s*")
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks that count as printable but show nothing."""


def displayable(text: object) -> str:
    r"""Return text for one line: a line break becomes a space, and an invisible character becomes a visible escape.

    Escapes replace control characters (C0, C1, so every terminal sequence), marks of writing direction, zero-width
    characters, unassigned and private characters, and halves of surrogate pairs: ``\x1b``, ``\u202e``, ``\udc80``, as
    Python writes them. Spaces of all widths stay.

    Args:
        text: text, or anything with a ``str``.
    """
    line = str(text)
    return line if _plain(line) else _escaped(_BREAK.sub(" ", line), _as_python)


def displayable_lines(text: object) -> str:
    r"""Return text of several lines, each as `displayable` would return it; ``\n`` and ``\t`` stay."""
    whole = str(text)
    if _plain(whole):
        return whole
    return "\n".join(
        "\t".join(piece if _plain(piece) else _escaped(piece, _as_python) for piece in line.split("\t"))
        for line in whole.replace("\r\n", "\n").split("\n")
    )


def displayable_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON whose text is as readable and as harmless; parsing it gives the value itself.

    Raises:
        ValueError: for NaN or infinity, which JSON lacks.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return "\n".join(line if _plain(line) else _escaped(line, _as_json) for line in text.split("\n"))


def last_line(text: str) -> str:
    """Return the last line of a traceback, displayable; "" if there is none."""
    lines = text.strip().split("\n")
    return displayable(lines[-1].strip())


def _plain(text: str) -> bool:
    return text.isprintable() and (text.isascii() or not any(c in text for c in _BLANK))


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(c if _plain(c) or unicodedata.category(c) == "Zs" else escape(c) for c in text)


def _as_python(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _as_json(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def span(seconds: float) -> str:
    """Return a duration in readable form: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
