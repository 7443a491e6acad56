"""Check the shape of the files: none too long, and no test module that imports another.

Run by ``make lint``. It reads the source as text and runs none of it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pruningbench", "plugins", "tests", "benchmarks", "examples", ".ci")
LINES = 400
"""Most lines of a file: a longer one does more than one thing."""


def sources(root: Path) -> Iterator[Path]:
    """Yield all Python files of the repository."""
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


def too_long(root: Path) -> Iterator[str]:
    """Yield a line for each file that is too long."""
    for path in sources(root):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > LINES:
            yield f"{path.relative_to(root)}: {lines} lines, more than the {LINES} allowed: split the file by subject"


def imports_of_tests(root: Path) -> Iterator[str]:
    """Yield a line for each import of a test module or of conftest by a file of the tests.

    A test module that another one imports runs in the other's place: its helpers belong in `tests/kit`.
    """
    for path in sorted((root / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(alias.name for alias in node.names if node.module in (None, "tests"))]
            else:
                continue
            for name in names:
                module = name.removeprefix("tests.").partition(".")[0]
                if module == "conftest" or ((root / "tests" / f"{module}.py").is_file() and module[:5] == "test_"):
                    yield f"{path.relative_to(root)}:{node.lineno}: imports {module}: move what is shared to tests/kit"


def main(root: Path = ROOT) -> int:
    """Print what is wrong; return 1 if anything is."""
    bad = [*too_long(root), *imports_of_tests(root)]
    sys.stdout.write("\n".join(bad or ["all files are within the limit, and no test module imports another"]) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
