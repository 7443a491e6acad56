"""Conditions on the rows of a board, as people write them: ``sparsity >= 80% and pruner ~ magnitude``.

    condition = parse_condition("sparsity>=.8 and (collapsed or accuracy < .5)")
    rows = [row for row in board.rows if condition(lambda name: value_of_row(row, name))]

    condition   := either ("or" either)*
    either      := comparison ("and" comparison)*
    comparison  := "(" condition ")" | NAME | NAME OPERATOR VALUE

A NAME or VALUE with operators is quoted, and so is a VALUE with blanks; those in parentheses need no quotes. The text
is read by the parser below and never evaluated as code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruningbench.base.reading import one_line
from pruningbench.errors import UsageError

Value = str | float | bool | None
"""What a name stands for in a row; None if the row has no such value."""
Lookup = Callable[[str], Value]
"""Returns the value of a name; raises `UsageError` for an unknown name."""

OPERATORS = ("!=", "<=", ">=", "==", "=", "<", ">", "~")
LONGEST, DEEPEST = 10_000, 50
"""Most characters of a condition, and most parentheses inside each other."""
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Comparison:
    """``NAME OPERATOR VALUE``; a comparison with a value that a row does not have is false.

    Attributes:
        name: what is compared.
        sign: one of `OPERATORS`; "" if the name stands alone, as for ``collapsed``.
        text: the value as written.
    """

    name: str
    sign: str
    text: str

    def __call__(self, lookup: Lookup) -> bool:
        """Whether the comparison holds.

        Raises:
            UsageError: for an unknown name, or an operator or a value that does not go with it.
        """
        value = lookup(self.name)
        if isinstance(value, bool):
            return self._truth(value)
        if not self.sign:
            if value is None:
                return False
            raise UsageError(
                f"{self._name} is not a yes-or-no column: compare it, for example {self._name}={one_line(value, 40)}"
            )
        if value is None:
            return False
        return self._text(value) if isinstance(value, str) else self._number(value)

    @property
    def _name(self) -> str:
        return one_line(self.name)

    def _truth(self, value: bool) -> bool:
        wanted = _TRUTH.get(self.text.lower()) if self.sign else True
        if wanted is None or self.sign not in ("", "=", "!="):
            raise UsageError(f"{self._name} is yes or no: write {self._name} or {self._name}=no")
        return (value == wanted) == (self.sign != "!=")

    def _text(self, value: str) -> bool:
        if self.sign == "~":
            return self.text.lower() in value.lower()
        if self.sign not in ("=", "!="):
            raise UsageError(f"{self._name} is text: compare it with = != or ~ (contains), not with {self.sign}")
        return (value == self.text) == (self.sign == "=")

    def _number(self, value: float) -> bool:
        number = _number(self.text)
        if number is None or self.sign == "~":
            what = "~ is for text" if self.sign == "~" else f"{one_line(self.text)!r} is not a number"
            raise UsageError(f"{self._name} is a number and {what}: write for example {self._name}>=.8 or 80%")
        return not math.isnan(value) and _ORDERS[self.sign](value, number)


@dataclass(frozen=True)
class Combination:
    """Conditions of which all (``and``) or any (``or``) have to hold."""

    word: str
    parts: tuple[Condition, ...]

    def __call__(self, lookup: Lookup) -> bool:
        """Whether the combination holds; all parts are looked at, so that every mistake is named."""
        held = [part(lookup) for part in self.parts]
        return all(held) if self.word == "and" else any(held)


Condition = Comparison | Combination


def parse_condition(text: str) -> Condition:
    """Return the condition that a text states.

    Raises:
        UsageError: for a text that is no condition, with the place of the mistake.
    """
    if len(text) > LONGEST:
        raise UsageError(f"a condition has at most {LONGEST:,} characters, this one has {len(text):,}")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._rest():
            raise self._mistake("`and`, `or` or the end" if self._rest()[0] != ")" else "no `)`, because none is open")
        return condition

    def _either(self) -> Condition:
        return self._joined("or", lambda: self._joined("and", self._comparison))

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._takes_word(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Combination(word, tuple(parts))

    def _comparison(self) -> Condition:
        if self._takes("("):
            self._depth += 1
            if self._depth > DEEPEST:
                raise self._mistake(f"at most {DEEPEST} parentheses inside each other")
            condition = self._either()
            if not self._takes(")"):
                raise self._mistake("`)`")
            self._depth -= 1
            return condition
        name = self._name()
        sign = next((sign for sign in OPERATORS if self._takes(sign)), "")
        text = self._word(stops="", what="a value") if sign else ""
        return Comparison(name, "=" if sign == "==" else sign, text)

    def _name(self) -> str:
        """Return a quoted name, or words up to an operator, ``and`` or ``or``."""
        words = [self._word(stops="=!<>~", what="a name, such as sparsity, model or a metric")]
        while (
            (rest := self._rest()) and rest[0] not in "=!<>~()\"'" and not (self._is_word("and") or self._is_word("or"))
        ):
            words.append(self._word(stops="=!<>~", what="an operator"))
        return " ".join(words)

    def _word(self, stops: str, what: str) -> str:
        """Return a quoted text, or the text up to a blank, a closing parenthesis or one of `stops`."""
        rest = self._rest()
        if rest[:1] in ("'", '"'):
            end = rest.find(rest[0], 1)
            if end < 0:
                raise self._mistake(f"a closing {rest[0]}")
            self._at += end + 1
            return rest[1:end]
        depth = length = 0
        for character in rest:
            if not depth and (character.isspace() or character == ")" or character in stops):
                break
            depth += (character == "(") - (character == ")")
            length += 1
        if not length or depth or rest[0] in "(":
            raise self._mistake("`)`" if depth else what)
        self._at += length
        return rest[:length]

    def _rest(self) -> str:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text[self._at :]

    def _takes(self, sign: str) -> bool:
        taken = self._rest().startswith(sign)
        self._at += len(sign) * taken
        return taken

    def _takes_word(self, word: str) -> bool:
        taken = self._is_word(word)
        self._at += len(word) * taken
        return taken

    def _is_word(self, word: str) -> bool:
        rest = self._rest()
        behind = rest[len(word) : len(word) + 1]
        return rest[: len(word)].lower() == word and (not behind or behind.isspace() or behind in "(\"'")

    def _mistake(self, wanted: str) -> UsageError:
        rest = one_line(self._rest(), 30)
        where = f"at {rest!r}" if rest else "at the end"
        return UsageError(f"--where, character {self._at + 1}, {where}: expected {wanted}")


def _number(text: str) -> float | None:
    """Return a number, also in percent: ``.8`` and ``80%`` are the same."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def names_in(condition: Condition) -> Sequence[str]:
    """Return the names that a condition uses, in order."""
    if isinstance(condition, Comparison):
        return [condition.name]
    return [name for part in condition.parts for name in names_in(part)]
