"""Short forms of names that stay unambiguous and are safe to display."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pruningbench.base.text import displayable

_FIELD = re.compile(r"(?<=[(,])[A-Za-z_]\w*=(?!true\b|false\b|none\b)(?=[A-Za-z])", re.IGNORECASE)
"""The name of a field whose value is a word and therefore clear without the name."""
_BREAKS = re.compile(r"(?<=[-_ ])")


def compact(labels: Iterable[str], longest: int = 34) -> dict[str, str]:
    """Shorten labels for display: ``magnitude(allocation=erk)`` becomes ``magnitude(erk)``.

    Field names are dropped if the value is a word, and the middle of a label that is still longer than `longest`
    becomes "…". If labels would then look the same, less is shortened.
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


def numbered(short: Mapping[str, str], longest: int) -> dict[str, str]:
    """Replace the middle of short forms longer than `longest` characters; those that then look alike get a number.

    Args:
        short: label -> short form, as `compact` returns it.
        longest: at least 12.
    """
    used: Counter[str] = Counter()
    result = {}
    for label, text in short.items():
        cut_text = elide(text, longest)
        used[cut_text] += 1
        again = used[cut_text]
        result[label] = cut_text if again == 1 else f"{elide(text, longest - 6)} #{again}"
    return result


def elide(text: str, longest: int) -> str:
    """Replace the middle of a text longer than `longest` (at least 3) characters with one "…"."""
    text = displayable(text)
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def wrap(name: str, width: int, lines: int = 3) -> list[str]:
    """Break a name into at most `lines` lines of at most `width` characters.

    Lines break after "-", "_" and " ", which are then left out. Words that do not fit are cut and end
    in "."; lines that do not fit are dropped.
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
    """Shorten a word that is longer than `width` to `width` characters, the last of which is "."."""
    return word if len(word) <= width else word[: max(width - 1, 0)] + "."


def split_labels(text: str) -> list[str]:
    """Return the labels of a list that is separated by commas; commas in parentheses or quotes are part of a label.

    Blanks around labels and empty labels are dropped.
    """
    labels, depth, quote, start = [], 0, "", 0
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and depth:
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(depth - 1, 0)
        elif character == "," and not depth:
            labels.append(text[start:i].strip())
            start = i + 1
    return [label for label in (*labels, text[start:].strip()) if label]


def safe_name(parts: Sequence[str]) -> str:
    """Return a file name of ASCII letters, digits and ``._-`` for any labels, without an extension.

    Different labels may get the same name. The name is never empty, hidden, or longer than 120 characters.
    """
    cleaned = [re.sub(r"[^A-Za-z0-9._]+", "-", part.replace("=", "-")).strip("-.") for part in parts]
    return "-".join(filter(None, cleaned))[:120].strip("-.") or "figure"
