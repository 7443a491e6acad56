"""LaTeX tables: every name is text, the grammar holds, and pdfLaTeX compiles them."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from kit.boards import boards_of, failure, record

from pruningbench.leaderboard import Board, Column, Entry, Row, render
from pruningbench.leaderboard.latex import escaped

EVIL = [
    r"\input{/etc/passwd}", r"\write18{id}", r"\immediate\write18{id}", "$x^2$", "50% off", "a & b", "#1", "a_b", "{", "}", "}{",
    "~", "^^41", "^^M", "\\", "\\\\", r"\end{table}", r"\catcode`\%=12", "<<>>", "``''", "?`!`", "--", ",,", '"a"', "[x]", "*",
    "\u202eevil", "a\x00b", "e\u0301", "é ß ø ł ğ ő", "剪枝", "שלום", "αβγ", "Ω", "😀", "\ud800", "–…±·×", "x\ny", "%\n\\input{x}",
    r"\begin{verbatim}", r"\def\x{}", "\u2028", "\u00a0", "ﬁ", "ŉ", "İ",
]  # fmt: skip
COMMANDS = {
    "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedblright",
    "textquoteright", "uparrow", "downarrow", "triangle", "bigtriangledown", "pm", "dagger", "ddagger", "approx", "Delta",
    "ldots", "textperiodcentered", "times", "leq", "geq", "ss", "o", "O", "ae", "AE", "oe", "OE", "l", "L", "i", "texttt", "textbf",
    "u", "r", "H", "v", "c", "k", "begin", "end", "centering", "small", "caption", "toprule", "midrule", "bottomrule",
    "addlinespace", "footnotesize", "scriptsize", "par", "textsuperscript",
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
}  # fmt: skip
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def board(name: str) -> Board:
    column = Column("t", "", name, name, True, "", (0.5, 0.5), "d")
    row = Row(
        name, name, name, 0.5, 0.5, (0,), 1.0, {column.key: Entry(-0.5, -0.6, -0.4, 9, 1, True)}, extra={name: name}
    )
    return Board(name, (name,), (column,), (row,), (), (name,), (name,))


def grammar(text: str) -> None:
    """Braces are balanced, every command is one of the tables', rows have all their cells, and dollars come in pairs."""
    body = re.sub(r"^% needs \\usepackage\{booktabs\}$", "", text, flags=re.MULTILINE)
    assert body.isascii()
    assert "%" not in body.replace(r"\%", "") and "#" not in body.replace(r"\#", "")
    tokens = re.findall(r"\\(?:[A-Za-z]+|.)|[{}$&^_~\n]|[^\\{}$&^_~\n]+", body, flags=re.DOTALL)
    depth = dollars = 0
    for token in tokens:
        depth += {"{": 1, "}": -1}.get(token, 0)
        dollars += token == "$"
        assert depth >= 0 and token not in ("^", "_", "~")
        if token[:1] == "\\":
            assert token[1:] in COMMANDS or token[1:] in "\\{}$&#_%,`'^~=.\"", token
    assert depth == 0 and dollars % 2 == 0
    for tabular in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", body, flags=re.DOTALL):
        lines = [line for line in tabular[1].split("\n") if line.endswith(r" \\")]
        assert lines and {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(tabular[0])}


@given(
    st.text(max_size=12) | st.text(st.sampled_from("\\{}$&#_%^~`'\"-,[]*ab1 \n"), max_size=12) | st.sampled_from(EVIL)
)
@example("\\")
def test_any_name_is_text(name: str) -> None:
    text = render([board(name)], "latex")
    grammar(text)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1


def test_escapes_print_the_character() -> None:
    assert escaped(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert escaped("50% é ł 剪 α") == r"50\% \'{e} \l{} \texttt{U+526A} $\alpha$"
    assert escaped("a\u202eb") == r"a\textbackslash{}u202eb" and escaped("e\u0301") == r"\'{e}"
    assert escaped("a--b") == "a-{}-{}b"


def boards(tmp_path: Path) -> list[Board]:
    run = [
        record("dense", m, 0.9, sparsity=0.0, model=model)
        for model in ("net", "a_b")
        for m in ("accuracy", "loss & co")
    ]
    for i, name in enumerate(EVIL):
        for model in ("net", "a_b"):
            run.append(
                record(
                    name, "accuracy", i / 50, model=model, chance=0.1, chance_p=0.9 if i % 5 == 0 else 0.001, ties=0.5
                )
            )
            run.append(
                record(name, "loss & co", -i / 7 if i else math.inf, model=model, sparsity=0.9, higher_is_better=False)
            )
    return boards_of(tmp_path, [*run, failure("x", "E: 100% {bad}")])


def test_values_and_marks(tmp_path: Path) -> None:
    listed = boards(tmp_path)
    text = render(listed, "latex")
    grammar(text)
    best = [entry for row in listed[0].rows for entry in row.cells.values() if entry.best]
    assert best and text.count(r"\textbf{") == len(best)
    assert text.count(r"\begin{tabular}") == text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert r"\,{\scriptsize$\pm$\,.100}" in text and r"$\dagger$" in text and "$-$1." in text
    assert " & -- " in text and "1 failed" in text


def test_it_compiles_and_reads_no_file(tmp_path: Path) -> None:
    """Where pdfLaTeX is installed, the tables of evil names compile without a single error.

    PRUNINGBENCH_NEEDS_LATEX makes its absence a failure; `.ci/run` sets it.
    """
    engine = shutil.which("pdflatex")
    text = render(boards(tmp_path), "latex")
    (tmp_path / "t.tex").write_text(DOCUMENT % text, "utf-8")
    if engine is None:
        assert not os.environ.get("PRUNINGBENCH_NEEDS_LATEX"), "install pdflatex: Debian's texlive-latex-recommended"
        grammar(text)
        return
    done = subprocess.run(
        [engine, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "-recorder", "t.tex"],
        cwd=tmp_path, capture_output=True, timeout=120, env={**os.environ, "openout_any": "p"},
    )  # fmt: skip
    log = (tmp_path / "t.log").read_text("latin-1")
    assert done.returncode == 0, log[-3000:]
    assert "\n! " not in log and "Missing character" not in log and "restricted \\write18" not in log
    read = re.findall(r"^INPUT (.*)$", (tmp_path / "t.fls").read_text("latin-1"), flags=re.MULTILINE)
    assert not [path for path in read if "passwd" in path] and any("booktabs" in path for path in read)
