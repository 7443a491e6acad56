"""The check of the files' shape, which `make lint` runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("files", ROOT / ".ci" / "files.py")
assert SPEC is not None
assert SPEC.loader is not None
files = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(files)


def tree(root: Path, **texts: str) -> Path:
    for name, text in {"test_a": "", "conftest": "", "kit/__init__": "", "kit/things": "", **texts}.items():
        path = root / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_repository_passes() -> None:
    assert files.main(ROOT) == 0


def test_a_long_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path, test_b="x = 1\n" * 400)
    assert files.main(root) == 0
    (root / "plugins" / "p").mkdir(parents=True)
    (root / "plugins" / "p" / "big.py").write_text("x = 1\n" * 401)
    assert files.main(root) == 1
    assert "plugins/p/big.py: 401 lines, more than the 400 allowed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "from test_a import f", "import test_a", "import test_a as t", "from tests.test_a import f", "import tests.test_a",
        "from tests import test_a", "from . import test_a", "from .test_a import f", "from conftest import TOY",
        "def g():\n    from test_a import f",
    ],
)  # fmt: skip
def test_a_test_that_imports_a_test_is_named(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.main(tree(tmp_path, test_b=line)) == 1
    assert f"tests/test_b.py:{line.count(chr(10)) + 1}: imports " in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ["from kit.things import f", "import kit", "from os import path", "import test_data_of_others"]
)
def test_helpers_and_libraries_are_imported(line: str, tmp_path: Path) -> None:
    assert files.main(tree(tmp_path, test_b=line)) == 0
