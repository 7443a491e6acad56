"""`plugin new`: packages of every kind that work unchanged, and requests that are refused with nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.commands import MAIN, run_python

from pruningbench.cli.plugin import plugin
from pruningbench.contract import component
from pruningbench.errors import UsageError
from pruningbench.scaffold import KINDS, new_plugin
from pruningbench.scaffold.new import HOOKS

RUFF = Path(sys.executable).with_name("ruff")


def made_in(parent: Path, kind: str) -> Path:
    """Make a plugin of a kind, and the metadata that an installation would make, beside its source."""
    folder = new_plugin(f"demo-{kind}", kind, parent)
    module = folder.name.replace("-", "_")
    info = folder / "src" / f"{module}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder.name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[pruningbench]\ndemo-{kind} = {module}\n")
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    parent = tmp_path_factory.mktemp("plugins")
    return [made_in(parent, kind) for kind in KINDS]


def run(packages: list[Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(
        [*(str(folder / "src") for folder in packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, cwd=packages[0].parent, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_every_kind_of_component_has_a_template() -> None:
    assert set(KINDS) == set(HOOKS) == set(component.KINDS)


def test_values_and_contracts_of_every_kind_hold_unchanged(packages: list[Path]) -> None:
    tests = [str(path) for folder in packages for path in folder.glob("tests/test_[cv]*.py")]
    assert len(tests) == 2 * len(KINDS)
    done = run(packages, "pytest", "-q", "--import-mode=importlib", *tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.timeout(1800)
@pytest.mark.slow  # trains a network for each kind
def test_suites_of_every_kind_run(packages: list[Path]) -> None:
    tests = [str(path) for folder in packages for path in folder.glob("tests/test_suite.py")]
    assert len(tests) == len(KINDS)
    done = run(packages, "pytest", "-q", "--import-mode=importlib", *tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.timeout(1800)
@pytest.mark.slow  # mypy --strict reads torch
def test_types_of_every_kind(packages: list[Path]) -> None:
    for folder in packages:
        done = subprocess.run([sys.executable, "-m", "mypy"], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_style_of_every_kind(packages: list[Path]) -> None:
    for folder in packages:
        for command in (["check", "."], ["format", "--check", "."]):
            done = subprocess.run(
                [RUFF, *command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout


def test_no_answer_is_left_open(packages: list[Path]) -> None:
    for folder in packages:
        for path in folder.rglob("*"):
            assert "{{" not in path.name
            if path.is_file() and path.suffix != ".pyc":
                text = path.read_text()
                assert "{{" not in text.replace("${{", ""), path
                assert "{%" not in text, path


def test_the_data_of_each_suite_binds(packages: list[Path]) -> None:
    """The suites themselves are run by a slow test, in an environment that has the packages."""
    import yaml

    from pruningbench.plugins import load_registry
    from pruningbench.suite.binding import bind

    def bound(value: object) -> int:
        if isinstance(value, dict) and value.get("use") in registry.entries["dataset"]:
            bind(registry, "dataset", value)
            return 1
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return sum(map(bound, inner))

    registry = load_registry()
    assert sum(bound(yaml.safe_load((folder / "suite.yaml").read_text())) for folder in packages) >= 6


def test_a_plugin_is_listed_and_shown(packages: list[Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder / "src") for folder in packages)}
    done = run_python(MAIN, "list", cwd=packages[0], env=environment)
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        assert f"demo-{kind}" in done.stdout


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("My_Idea", "pruner", "plugin name 'My_Idea' is not kebab-case"),
        ("../up", "pruner", "plugin name '../up' is not kebab-case"),
        ("", "pruner", "plugin name '' is not kebab-case"),
        ("x" * 61, "pruner", "of at most 60 characters"),
        ("mine", "prunner", "unknown kind 'prunner'; did you mean 'pruner'?"),
        ("mine", "zebra", "unknown kind 'zebra'; kinds are: pruner, model"),
    ],
)
def test_wrong_requests(tmp_path: Path, name: str, kind: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        new_plugin(name, kind, tmp_path)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    first = new_plugin("mine", "pruner", tmp_path)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="exists already"):
        new_plugin("pruningbench-mine", "metric", tmp_path)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="no such folder"):
        new_plugin("mine", "pruner", tmp_path / "absent")


def test_without_copier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "copier", None)
    with pytest.raises(UsageError, match=r"pip install 'pruningbench\[plugin\]'"):
        new_plugin("mine", "pruner", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(plugin, ["new", "mine", "--kind", "method", "--in", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "attribution-method" in (tmp_path / "pruningbench-mine" / "README.md").read_text()
