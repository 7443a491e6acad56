"""The cache: bounded, listed with what entries are made of, cleared, checked, and left alone on request."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kit.runs import measured, run
from kit.toysuite import TOY_SUITE, Command

from pruningbench.errors import UsageError
from pruningbench.images.rows import Rows
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.store.cachefiles import describe, entries

Log = Callable[[], list[str]]


def listed(pruningbench: Command, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(pruningbench("cache", "list", "--json", *arguments, check=0).stdout)[
        "entries"
    ]
    return found


def test_what_a_run_leaves_is_listed(toy_registry: Registry, tmp_path: Path, pruningbench: Command) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    found = listed(pruningbench)
    kinds = {entry["kind"] for entry in found}
    assert kinds == {"weights", "scores", "masks", "networks"}
    for entry in found:
        assert entry["size"] == sum(Path(file).stat().st_size for file in entry["files"])
        assert abs(time.time() - entry["made"]) < 600
    (score,) = [entry for entry in found if entry["kind"] == "scores"]
    for part in (
        "toybench/toy-net(",
        "width=8) · toybench/toy-pruner(nan=false, shift=0.0)",
        "weights ",
        "toybench 1.0 v1 ",
    ):
        assert part in score["origin"]
    text = pruningbench("cache", "list", check=0).stdout
    assert "  networks  5 entries, " in text
    assert f"total {len(found)} entries, " in text
    text = pruningbench("cache", "list", "--kind", "networks", "--all", check=0).stdout
    assert text.count("finetune(") == 5
    assert text.count("made 0 min ago, used 0 min ago") == 5
    assert "scores" not in text


def test_clear_by_kind_and_age(toy_registry: Registry, tmp_path: Path, pruningbench: Command) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    before = listed(pruningbench)
    refused = pruningbench("cache", "clear", check=1)  # nobody can be asked, so nothing goes
    assert "add --yes" in refused.stderr
    assert listed(pruningbench) == before
    networks = [Path(entry["files"][0]) for entry in before if entry["kind"] == "networks"]
    old = time.time() - 40 * 86400
    os.utime(networks[0], (old, old))
    assert len(listed(pruningbench, "--older-than", "30d")) == 1
    assert "removed 1 entry" in pruningbench("cache", "clear", "--older-than", "30d", "--yes", check=0).stdout
    assert [path.exists() for path in networks] == [False, True, True, True, True]
    pruningbench("cache", "clear", "--kind", "networks", "--yes", check=0)
    assert {entry["kind"] for entry in listed(pruningbench)} == {"weights", "scores", "masks"}
    pruningbench("cache", "clear", "--yes", check=0)
    assert listed(pruningbench) == []
    assert "nothing to remove" in pruningbench("cache", "clear", check=0).stdout
    for arguments, words in ((["--kind", "weihgts"], "it is empty"), (["--older-than", "30"], "30d")):
        assert words in pruningbench("cache", "clear", *arguments, check=2).stderr


def test_verify_names_what_is_damaged_and_removes_it_only_when_told(
    toy_registry: Registry, tmp_path: Path, pruningbench: Command
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    count = len(entries(Cache().folder))
    assert f"{count} of {count} entries are intact" in pruningbench("cache", "verify", check=0).stdout
    flipped, cut, garbage = sorted(Cache().folder.glob("networks/*/*"))[:3]
    content = bytearray(flipped.read_bytes())
    content[-10] ^= 0x40
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-9])
    garbage.write_bytes(b"garbage")
    done = pruningbench("cache", "verify", check=1)
    assert all(f"damaged: {path}: " in done.stderr for path in (flipped, cut, garbage))
    assert f"{count - 3} of {count} entries are intact" in done.stdout
    assert len(entries(Cache().folder)) == count
    pruningbench("cache", "verify", "--yes", check=0)
    assert len(entries(Cache().folder)) == count - 3


def test_rows_of_images_are_listed_and_checked(tmp_path: Path, pruningbench: Command) -> None:
    rows = Rows.open(Cache().folder / "images" / "abc", 3, 1, 4)
    assert rows is not None
    rows.write(1, np.full((1, 4, 4), 7, dtype=np.uint8), 9, 9)
    (entry,) = listed(pruningbench)
    assert (entry["kind"], len(entry["files"])) == ("images", 2)
    pruningbench("cache", "verify", check=0)
    with (Cache().folder / "images" / "abc.rows").open("r+b") as file:
        file.seek(20)
        file.write(b"\x00")
    assert "1 of its rows" in pruningbench("cache", "verify", check=1).stderr


def test_the_cache_is_bounded_and_what_was_not_used_for_longest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNINGBENCH_TENSOR_CACHE", str(100_000 / 2**30))
    made: list[int] = []

    def get(number: int) -> None:
        def make() -> dict[str, torch.Tensor]:
            made.append(number)
            return {"a": torch.full((5000,), float(number))}  # 20 kB

        Cache(tmp_path).tensors("weights", {"x": number}, make)

    for number in range(4):
        get(number)
        path = Cache(tmp_path).path("weights", {"x": number})
        os.utime(path, (1000 + number, 1000 + number))
    get(0)  # used again, so 1 is now the one not used for longest
    get(4)
    get(5)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert size <= 100_000
    made.clear()
    get(0)
    assert made == []
    get(1)
    assert made == [1]


@pytest.mark.parametrize("text", ["lots", "-1", "nan"])
def test_a_bound_that_is_no_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_TENSOR_CACHE", text)
    with pytest.raises(UsageError, match="PRUNINGBENCH_TENSOR_CACHE is"):
        Cache()


def test_a_run_works_with_a_cache_that_keeps_nothing(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "a")
    monkeypatch.setenv("PRUNINGBENCH_TENSOR_CACHE", "0")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "none"))
    run(TOY_SUITE, toy_registry, tmp_path / "b")
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "a")), measured(load_results(tmp_path / "b")), check_exact=True
    )
    assert not list((tmp_path / "none").rglob("*.safetensors"))


def test_no_cache_reads_and_fills_none(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "a")
    before = {entry.files[0]: entry.used for entry in entries(Cache().folder)}
    lines = len(toy_log())
    iterative = TOY_SUITE.replace("{use: finetune, epochs: 1}", "{use: iterative, epochs: 1, levels: [0.5]}")
    run(iterative, toy_registry, tmp_path / "b", no_cache=True)
    assert toy_log()[lines:].count("score") == 1 + 2  # of the dense model, and at the second level of each trajectory
    assert {entry.files[0]: entry.used for entry in entries(Cache().folder)} == before
    assert not (tmp_path / "b" / "cache").exists()
    run(TOY_SUITE, toy_registry, tmp_path / "c", no_cache=True)
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "a")), measured(load_results(tmp_path / "c")), check_exact=True
    )


def test_descriptions_of_what_an_entry_is_made_of() -> None:
    component = {"use": "net", "version": 1, "fields": {"width": 8, "data": {"use": "d", "version": 1, "fields": {}}}}
    identity = {"model": component, "seed": 0, "scope": None, "made of": {"data": "abc", "code": ["x 1 v1 f"]}}
    assert describe(identity) == 'net(width=8, data=d) · seed 0 · data abc · code ["x 1 v1 f"]'
    assert describe(None) == ""
    assert describe(["a"]) == '["a"]'
