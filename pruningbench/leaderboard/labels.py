"""Short forms of names that stay unambiguous, as text that may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pruningbench.base.text import displayable

_FIELD = re.compile(r"(?<=[(,])[A-Za-z_]\w*=(?!true\b|false\b|none\b)(?=[A-Za-z])", re.IGNORECASE)
"""The name of a field whose value is a word, which says enough on its own."""
_BREAKS = re.compile(r"(?<=[-_ ])")


def compact(labels: Iterable[str], longest: int = 34) -> dict[str, str]:
    """Shorten labels for display: ``magnitude(allocation=erk)`` to ``magnitude(erk)``.

    Names of fields go where the value is a word, and the middle of what is still longer than `longest`
    becomes "…". Labels that would then look the same are left as they are.
    """
    listed = list(dict.fromkeys(labels))
    lines = [displayable(" ".join(label.split())) for label in listed]
    for short in (
        [elide(_FIELD.sub("", line), longest) for line in lines],
        [elide(line, longest) for line in lines],
    ):
        if len(set(short)) == len(listed):
            return dict(zip(listed, short, strict=True))
    return dict(zip(listed, lines, strict=True))


def elide(text: str, longest: int) -> str:
    """Replace the middle of a text longer than `longest` (at least 3) characters by one "…"."""
    text = displayable(text)
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def wrap(name: str, width: int, lines: int = 3) -> list[str]:
    """Break a name into at most `lines` lines of at most `width` characters.

    It is broken after "-", "_" and " ", which are then left out; words that do not fit are cut and end
    in ".", lines that do not fit are dropped.
    """
    name = displayable(name)
    words = [cut(word.rstrip("-_ "), width) for word in _BREAKS.split(name) if word.rstrip("-_ ")]
    joints = [piece[-1] for piece in _BREAKS.split(name) if piece and piece[-1] in "-_ "] + [""]
    wrapped: list[str] = []
    for word, joint in zip(words, ["", *joints], strict=False):
        if wrapped and len(wrapped[-1]) + len(joint) + len(word) <= width:
            wrapped[-1] += joint + word
        else:
            wrapped.append(word)
    return wrapped[:lines]


def cut(word: str, width: int) -> str:
    """Shorten a word to `width` characters, the last of which is then "."."""
    return word if len(word) <= width else word[: max(width - 1, 0)] + "."


def safe_name(parts: Sequence[str]) -> str:
    """Return a file name of ASCII letters, digits, ``._-`` for labels of any characters, without ending.

    Different labels may get the same name; it is never empty, hidden, or longer than 120 characters.
    """
    cleaned = [re.sub(r"[^A-Za-z0-9._]+", "-", part.replace("=", "-")).strip("-.") for part in parts]
    return "-".join(filter(None, cleaned))[:120].strip("-.") or "figure"
