"""Copy the built files of the site's JavaScript libraries from their npm packages, with licences and SHA-256.

    python .ci/vendor.py            fetches the versions named here, writes pruningbench/site/vendor/
    python .ci/vendor.py --check    fetches them again and compares, writes nothing

``npm pack`` fetches a package as its author published it and runs none of its code.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "pruningbench" / "site" / "vendor"
PACKAGES: dict[str, tuple[str, dict[str, str]]] = {
    "d3": ("7.9.2", {"package/dist/d3.min.js": "d3.min.js"}),
    "delaunator": ("5.1.0", {}),
    "robust-predicates": ("3.0.3", {}),
    "internmap": ("2.0.3", {}),
    "@observablehq/plot": ("0.6.17", {"package/dist/plot.umd.min.js": "plot.umd.min.js"}),
    "interval-tree-1d": ("1.0.4", {}),
    "binary-search-bounds": ("2.0.5", {}),
    "isoformat": ("0.2.1", {}),
}
"""Package -> its version, and the files of it that the site uses: path in the package -> name in the site.

Packages without files are parts of the built files of the package above them; only their licences are copied.
"""
MANIFEST, LICENCES = "vendor.json", "LICENCES.txt"


def fetched(name: str, version: str, folder: Path) -> tarfile.TarFile:
    """Return the opened package of a version."""
    done = subprocess.run(  # noqa: S603
        ["npm", "pack", f"{name}@{version}", "--silent", "--pack-destination", str(folder)],  # noqa: S607
        check=True, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    return tarfile.open(folder / done.stdout.strip().splitlines()[-1])


def read(package: tarfile.TarFile, path: str) -> bytes:
    """Return a plain file of a package."""
    member = package.extractfile(path)
    if member is None:
        raise SystemExit(f"{path}: is no file of the package")
    return member.read()


def vendored() -> dict[str, bytes]:
    """Return the files of the vendor folder: name -> content."""
    files: dict[str, bytes] = {}
    manifest, licences = [], []
    for name, (version, wanted) in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder, fetched(name, version, Path(folder)) as package:
            about = json.loads(read(package, "package/package.json"))
            if about["version"] != version:
                raise SystemExit(f"{name}: got version {about['version']}, not {version}")
            licence = read(package, "package/LICENSE").decode("utf-8").strip()
            licences.append(f"{name} {version} ({about['license']})\n\n{licence}\n")
            for path, target in wanted.items():
                content = read(package, path)
                files[target] = content
                digest = hashlib.sha256(content).hexdigest()
                manifest.append(
                    {"file": target, "package": name, "version": version, "licence": about["license"], "sha256": digest}
                )
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    files[LICENCES] = ("\n" + "-" * 78 + "\n\n").join(licences).encode()
    return files


def main(arguments: list[str]) -> int:
    """Write or compare the files; return 1 if a comparison fails."""
    files = vendored()
    if arguments == ["--check"]:
        wrong = [name for name, content in files.items() if (VENDOR / name).read_bytes() != content]
        sys.stdout.write(f"differ: {', '.join(wrong)}\n" if wrong else "vendored files are those of the packages\n")
        return 1 if wrong else 0
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (VENDOR / name).write_bytes(content)
    sys.stdout.write("".join(f"{name}  {len(content)} bytes\n" for name, content in files.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
