"""Checks a release: that all places state the same version, and that the built files hold what users need."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "pruningbench/scaffold/template/"
IN_WHEEL = ("pruningbench/py.typed", "pruningbench_suites/quickstart.yaml", "licenses/LICENSE", "entry_points.txt")
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "SECURITY.md", "plugins/pruningbench_suites/quickstart.yaml")


def version() -> str:
    """Return the version that the code states."""
    text = (ROOT / "pruningbench" / "version.py").read_text(encoding="utf-8")
    return re.findall(r'__version__ = "([^"]+)"', text)[0]


def problems_of_versions(tag: str = "") -> list[str]:
    """Return a sentence for each place whose version differs from that of the code."""
    own = version()
    problems = [f"the tag is {tag}, the version v{own}"] if tag and tag != f"v{own}" else []
    citation = re.findall(r"(?m)^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    if citation != [own]:
        problems.append(f"CITATION.cff states {citation}, the code {own}")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"(?m)^## {re.escape(own)}( |$)", changelog):
        problems.append(f"CHANGELOG.md has no section {own}")
    return problems


def problems_of_contents(folder: Path) -> list[str]:
    """Return a sentence for each file that a wheel or sdist in `folder` lacks, or holds although it should not."""
    names: dict[Path, list[str]] = {}
    for path in folder.glob("*.whl"):
        names[path] = zipfile.ZipFile(path).namelist()
    for path in folder.glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            names[path] = archive.getnames()
    problems = [] if len(names) == 2 else [f"{folder} holds {len(names)} files, expected a wheel and an sdist"]
    for path, members in names.items():
        wanted = IN_WHEEL if path.suffix == ".whl" else IN_SDIST
        problems += [f"{path.name} lacks {name}" for name in wanted if not any(m.endswith(name) for m in members)]
        ours = [m for m in members if TEMPLATE not in m]  # a new plugin gets tests of its own
        problems += [f"{path.name} holds {m}" for m in ours if re.search(r"(^|/)(tests|runs|\.venv)/", m)]
    return problems


def main(arguments: list[str]) -> int:
    """``release.py v1.2.3`` checks the versions, ``release.py --contents dist`` the built files."""
    if arguments[:1] == ["--contents"]:
        problems = problems_of_contents(Path(arguments[1]))
    else:
        problems = problems_of_versions(*arguments[:1])
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
