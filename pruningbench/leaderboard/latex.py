r"""Boards as LaTeX tables.

They need the package ``booktabs`` and compile with pdfLaTeX, XeLaTeX and LuaLaTeX. All names are text: none can contain
a command.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from itertools import groupby

from pruningbench.base.text import displayable
from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.labels import compact, elide, numbered
from pruningbench.leaderboard.legend import CHANCE, UNDECIDED_MARK
from pruningbench.leaderboard.markdown import FEW, caption
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.provenance import SIGN
from pruningbench.leaderboard.rows import Board, Column, Row

LONGEST = 60
"""Most characters of a name in a table."""
_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedblright{}", "`": r"\`{}", "'": r"\textquoteright{}",
    "-": "-{}", ",": ",{}", "*": "*{}", "[": "{[}", "]": "{]}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "▲": r"$\triangle$", "▼": r"$\bigtriangledown$", "±": r"$\pm$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "≈": r"$\approx$", "Δ": r"$\Delta$", "…": r"\ldots{}",
    "·": r"\textperiodcentered{}", "–": "--", "—": "---", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k",
}  # fmt: skip
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψω",
        (
            "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
            "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
        ),
        strict=True,
    )
)  # fmt: skip


def table(board: Board) -> str:
    """Return a ``table`` environment for each model, and a paragraph that explains the signs.

    The best values are bold. Half of the 95 % interval is given if the board has at most six columns.
    """
    parts = ["% needs \\usepackage{booktabs}"]
    pruners = numbered(compact((row.pruner for row in board.rows), LONGEST), LONGEST)
    decimals = {
        column.key: decimals_for(row.cells[column.key].value for row in board.rows if column.key in row.cells)
        for column in board.columns
    }
    ranked = any(row.rank is not None or row.collapsed for row in board.rows)
    for model, group in groupby(board.rows, key=lambda row: row.model):
        rows = list(group)
        names = ["sparsity", "pruner", "recipe", *board.rows[0].extra, *(["rank"] if ranked else [])]
        names += [f"{column.header} {column.arrow}".strip() for column in board.columns]
        lines = []
        for before, row in zip([None, *rows], rows, strict=False):
            if before is not None and before.sparsity != row.sparsity:
                lines.append(r"\addlinespace")
            lines.append(_line(_cells(row, board.columns, pruners[row.pruner], decimals, ranked)))
        parts.append(
            "\n".join(
                [
                    r"\begin{table}", r"\centering\small",
                    rf"\caption{{{escaped(f'{elide(board.title, 4 * LONGEST)}: {elide(model, 2 * LONGEST)}')}}}",
                    rf"\begin{{tabular}}{{rll{'r' * (len(names) - 3)}}}", r"\toprule",
                    _line([escaped(elide(name, LONGEST)) for name in names]), r"\midrule", *lines, r"\bottomrule",
                    r"\end{tabular}", r"\end{table}",
                ]
            )
        )  # fmt: skip
    explained = [f"{board.title}: no results."]
    if board.rows:
        explained = [caption(board, ranked, intervals="±: half the 95 % interval.", differences=False)]
    explained += board.statements
    parts.append(r"{\footnotesize " + " ".join(map(escaped, explained)) + r"\par}")
    return "\n\n".join(parts)


def _cells(
    row: Row, columns: Sequence[Column], pruner: str, decimals: dict[tuple[str, str, str], int | None], ranked: bool
) -> list[str]:
    extra = ("--" if value is None else escaped(elide(str(value), LONGEST)) for value in row.extra.values())
    cells = [
        escaped(percent(row.sparsity)), escaped(pruner + UNDECIDED_MARK * row.undecided + SIGN * row.marked),
        escaped(elide(row.recipe, LONGEST)), *extra,
    ]  # fmt: skip
    if ranked:
        cells.append(escaped(CHANCE) if row.collapsed else "" if row.rank is None else f"{row.rank:.2f}")
    return [*cells, *(_value(row, column, decimals[column.key], len(columns) <= FEW) for column in columns)]


def _value(row: Row, column: Column, decimals: int | None, intervals: bool) -> str:
    entry: Entry | None = row.cells.get(column.key)
    if entry is None:
        return "--"
    value = _number(entry.value, decimals)
    cell = rf"\textbf{{{value}}}" if entry.best else value
    if intervals and math.isfinite(entry.half_width):
        cell += rf"\,{{\scriptsize$\pm$\,{_number(entry.half_width, decimals)}}}"
    cell += escaped(CHANCE) if column.key in row.at_chance else ""
    verdict = row.verdicts.get(column.key, "")
    return cell + (rf"\textsuperscript{{{escaped('▲' if verdict == 'better' else '▼')}}}" if verdict else "")


def _number(value: float, decimals: int | None) -> str:
    text = number(value, decimals)
    return f"$-${text[1:]}" if text[:1] == "-" else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def escaped(text: str) -> str:
    r"""Return text that LaTeX prints as it is, on one line.

    Signs with a meaning become commands that print them. Accented Latin and Greek letters are kept; another character
    that pdfLaTeX does not know becomes its number, such as ``U+4E2D``.
    """
    return "".join(map(_escaped, unicodedata.normalize("NFC", displayable(" ".join(text.split())))))


def _escaped(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isascii():
        return character
    if character in _GREEK:
        return rf"$\{_GREEK[character]}$"
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    if character.isspace():
        return " "
    return rf"\texttt{{U+{ord(character):04X}}}"
