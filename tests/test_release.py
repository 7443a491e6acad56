"""The scripts that check a release: versions that agree, and the contents of the built files."""

import importlib.util
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / ".ci" / "release.py"


@pytest.fixture
def release(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("release", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "pruningbench").mkdir()
    (tmp_path / "pruningbench" / "version.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.3\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-01-01)\n\n## 1.2.2\n")
    return module


def test_versions_that_agree(release):
    assert release.problems_of_versions() == []
    assert release.problems_of_versions("v1.2.3") == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("CITATION.cff", "cff-version: 1.2.0\nversion: 1.2.2\n", "CITATION.cff states ['1.2.2'], the code 1.2.3"),
        ("CHANGELOG.md", "# Changelog\n\n## 1.2.30\n", "CHANGELOG.md has no section 1.2.3"),
    ],
)
def test_versions_that_differ(release, tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    assert release.problems_of_versions() == [said]


def test_a_tag_of_another_version(release):
    assert release.problems_of_versions("v1.2.4") == ["the tag is v1.2.4, the version v1.2.3"]


def test_contents(release, tmp_path):
    dist = tmp_path / "dist"
    dist.mkdir()
    with zipfile.ZipFile(dist / "x-1.2.3-py3-none-any.whl", "w") as wheel:
        for name in (*release.IN_WHEEL[:-1], "tests/test_x.py", f"{release.TEMPLATE}project/tests/test_y.py.jinja"):
            wheel.writestr(name, "")
    with tarfile.open(dist / "x-1.2.3.tar.gz", "w:gz") as sdist:
        for name in release.IN_SDIST:
            sdist.addfile(tarfile.TarInfo(f"x-1.2.3/{name}"))
    assert release.problems_of_contents(dist) == [
        "x-1.2.3-py3-none-any.whl lacks entry_points.txt",
        "x-1.2.3-py3-none-any.whl holds tests/test_x.py",
    ]
    next(dist.glob("*.whl")).unlink()
    assert release.problems_of_contents(dist) == [f"{dist} holds 1 files, expected a wheel and an sdist"]


def test_this_project_states_one_version():
    spec = importlib.util.spec_from_file_location("release", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.problems_of_versions() == []


def test_community_files_are_valid_and_name_files_that_exist():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    for path in (ROOT / ".github").rglob("*.yml"):
        content = yaml.safe_load(path.read_text())
        assert isinstance(content, dict), path
        for step in (s for job in content.get("jobs", {}).values() for s in job["steps"]):
            if step.get("run", "").startswith(".ci/"):
                assert (ROOT / step["run"].split()[0]).is_file(), (path, step)
