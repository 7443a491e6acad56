"""Rules for run-time messages, checked on every literal of the sources: errors, warnings, options and fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "pruningbench").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])

RIDDLES = {  # turns of phrase that need a second reading, with what to write
    r"(?<!there )\bis no (?!longer\b|more\b)\w": "is not a ...",
    r"\b(is|are) none of\b": "is not one of",
    r"\bthat is none\b": "say what is wrong",
    r"\bwhat of\b": "name the thing",
    r"\btold apart\b": "distinguished",
    r"\btells? \w+ apart\b": "distinguishes",
    r"\bof (its|their) own\b(?! \w)": "separate",
    r"\blacks[;:]|(?<!context) lacks$": "is missing",
    r"\bholds no run\b": "is not a run folder",
    r"\ball is well\b": "no problems",
    r"\bgoes on from\b": "continues from",
    r"\banew\b": "again",
    r"\basked for\b": "requested",
    r"\bis not there\b": "is missing",
    r"\bno whole number of\b": "is not a multiple of",
    r"(?i)\bplease\b": "say what to do",
    r"(?i)\boops|sorry\b": "say what was wrong",
    r"(?<! in) a (batch|row|layer|channel|second|image)\b(?= of \d|$)": "per ...",
}
"""Pattern -> what to write instead."""

PROPER = {
    "ImageNet",
    "PRUNINGBENCH_IMAGE_CACHE",
    "PRUNINGBENCH_REMOTE_CACHE",
    "PRUNINGBENCH_TENSOR_CACHE",
    "THINGS",
    "Torch-Pruning",
    "C",
}
"""Capitalised words that may begin an error message; all other messages begin in lower case."""


@dataclass(frozen=True)
class Message:
    """A literal that a user can read; each value that is filled in is a ``{}``."""

    kind: str
    text: str
    line: int


def literal(node: ast.AST) -> str | None:
    """Return the text of a literal, also if it is an f-string or a sum of literals; None for other expressions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [literal(side) for side in (node.left, node.right)]
        return "".join("{}" if part is None else part for part in parts) if any(parts) else None
    return None


def name_of(function: ast.expr) -> str:
    """Return the last part of the name of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def docstrings(tree: ast.Module) -> set[int]:
    """Return the identities of the nodes that document modules, classes, functions and attributes."""
    bodies = (node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list))
    return {id(statement.value) for body in bodies for statement in body if isinstance(statement, ast.Expr)}


def messages(tree: ast.Module) -> Iterator[Message]:
    """Yield the error messages, warnings, helps of options and documentation of fields in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                text = literal(argument)
                if text is not None and " " in text:
                    yield Message("error", text, node.lineno)
        elif isinstance(node, ast.Call):
            if name_of(node.func) in ("warn", "note", "complain"):
                for text in filter(None, map(literal, node.args)):
                    yield Message("warning", text, node.lineno)
            for keyword in node.keywords:
                text = literal(keyword.value)
                if text is not None and keyword.arg in ("help", "doc"):
                    yield Message(keyword.arg, text, node.lineno)


def phrases(tree: ast.Module) -> Iterator[Message]:
    """Yield every literal of several words that is no docstring."""
    skipped = docstrings(tree)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in skipped | inside:
            text = literal(node)
            if text is not None and " " in text.strip():
                yield Message("phrase", text, node.lineno)


def problems(source: str) -> list[str]:
    """Return what is wrong with the messages of a file, one line each."""
    tree = ast.parse(source)
    return [f"line {m.line}: {problem}: {m.text!r}" for m in messages(tree) for problem in _form(m)] + [
        f"line {m.line}: write {better!r}: {m.text!r}"
        for m in phrases(tree) for pattern, better in RIDDLES.items() if re.search(pattern, m.text)
    ]  # fmt: skip


def _form(message: Message) -> Iterator[str]:
    text, kind = message.text, message.kind
    if text != text.strip():
        yield "begins or ends with white space"
    if "  " in text.strip():
        yield "holds two spaces"
    if "\n" in text:
        yield "has more than one line"
    first = re.match(r"[\w-]+", text)
    if kind == "help":
        if not text.endswith("."):
            yield "the help of an option is a sentence with a full stop"
    elif text.endswith((".", "!")) and not text.endswith("..."):
        yield "ends with a full stop"
    if kind == "help" and first and first[0][:1].islower() and first[0] != "cpu":
        yield "the help of an option begins with a capital"
    if kind == "error" and first and first[0][:1].isupper() and first[0] not in PROPER:
        yield "begins with a capital"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_messages_follow_the_rules(path: Path) -> None:
    assert problems(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('raise UsageError("limit is 0, but must be at least 1.")', "ends with a full stop"),
        ('raise UsageError(f"{name}: limit is 0\\n")', "has more than one line"),
        ('raise UsageError("Limit is 0")', "begins with a capital"),
        ('raise UsageError(f"{path}:  limit is 0")', "holds two spaces"),
        ('raise UsageError(f"{path}: " + "limit  is 0")', "holds two spaces"),
        ('warnings.warn(f"cache {folder} is full ")', "begins or ends with white space"),
        ('observers.warn("the cache is full!")', "ends with a full stop"),
        ('click.option("--out", help="Run folder")', "the help of an option is a sentence with a full stop"),
        ('click.option("--out", help="run folder.")', "the help of an option begins with a capital"),
        ('param(1, doc="number of rounds.")', "ends with a full stop"),
        ('raise DataError(f"{path}: is no mask")', "write 'is not a ...'"),
        ('raise DataError(f"{path}: {word!r} is none of {words}")', "write 'is not one of'"),
        ('def problem(self):\n    return f"{path}: the mask lacks"', "write 'is missing'"),
        ('say("Please try again" if failed else "done")', "write 'say what to do'"),
    ],
)
def test_each_rule_can_fail(source: str, problem: str) -> None:
    assert any(problem in line for line in problems(source)), problems(source)


def test_good_messages_pass() -> None:
    source = '''
"""There is no problem here; what of it."""
raise DataError(f"{path}, line {line}: column {name!r} is not a number; fetch the file again")
raise UsageError("the file no longer exists: is no longer a riddle")
click.option("--out", help="Run folder; runs/NAME by default.")
'''
    assert problems(source) == []


def test_all_messages_are_collected() -> None:
    """The rules are checked on the whole of the sources, not on an empty list."""
    sources = [path.read_text("utf-8") for path in SOURCES]
    kinds = [message.kind for source in sources for message in messages(ast.parse(source))]
    counts = {kind: kinds.count(kind) for kind in ("error", "warning", "help", "doc")}
    whole = "\n".join(sources)
    assert counts["error"] > len(re.findall(r"raise \w+Error\(", whole)) * 0.8
    assert counts["help"] > whole.count("click.option(") * 0.8
    assert counts["doc"] > len(re.findall(r"[ (]param\(", whole)) * 0.8
    assert counts["warning"] >= 20
