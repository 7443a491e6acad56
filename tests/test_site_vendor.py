"""The libraries of the site are the files that their packages hold, with licences, and small."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pruningbench.site as site_room

ROOM = Path(site_room.__file__).parent
MOST = 3_000_000
"""Most bytes of scripts and styles of a site."""


def test_files_have_the_hashes_of_the_manifest_and_nothing_else_is_there() -> None:
    manifest = json.loads((ROOM / "vendor" / "vendor.json").read_text("utf-8"))
    for one in manifest:
        assert hashlib.sha256((ROOM / "vendor" / one["file"]).read_bytes()).hexdigest() == one["sha256"], one["file"]
    there = {path.name for path in (ROOM / "vendor").iterdir()} - {"vendor.json", "LICENCES.txt"}
    assert there == {one["file"] for one in manifest}


def test_licences_name_every_package_with_its_version() -> None:
    licences = (ROOM / "vendor" / "LICENCES.txt").read_text("utf-8")
    for one in json.loads((ROOM / "vendor" / "vendor.json").read_text("utf-8")):
        assert f"{one['package']} {one['version']} ({one['licence']})" in licences


def test_scripts_and_styles_are_small() -> None:
    size = sum(path.stat().st_size for room in ("assets", "vendor") for path in (ROOM / room).iterdir())
    assert size <= MOST


def test_own_scripts_parse_no_markup_and_no_code() -> None:
    for path in (ROOM / "assets").glob("*.js"):
        text = path.read_text("utf-8")
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
        ):
            assert word not in text, f"{path.name}: {word}"
