"""Verification: what a forged, incomplete or impossible submission fails, and the word that its rows carry."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.runs import run
from kit.submissions import CHECKS, SUITE, digest_of, edited, finished, forge, members, submitted

from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.publishing.evidence import gather
from pruningbench.publishing.repeating import choose, deviation
from pruningbench.publishing.submitting import submit
from pruningbench.publishing.verifying import Again, verify
from pruningbench.store.packing import Index, pack, unpack
from pruningbench.store.records import Record
from pruningbench.store.samples import read_arrays
from pruningbench.store.submission import arrays_bytes, open_submission

__all__ = ["finished", "members", "submitted"]  # fixtures of the kit

Members = Mapping[str, bytes]


def failing(path: Path, registry: Registry) -> dict[str, str]:
    """Return the checks that fail, with what they say."""
    outcome = verify(path, registry)
    return {check.name: check.detail for check in outcome.checks if check.passed is False}


def with_samples(members: Members, tmp_path: Path, change: Any) -> dict[str, bytes]:
    """Return the members of per-sample values with the arrays of each task run changed in place."""
    file = tmp_path / "arrays.npz"
    file.write_bytes(members["samples.npz"])
    samples = dict(unpack(Index.model_validate_json(members["samples.json"]), read_arrays(file)))
    for arrays in samples.values():
        change(arrays)
    index, stored = pack(samples)
    return {"samples.json": index.model_dump_json().encode(), "samples.npz": arrays_bytes(stored)}


def test_an_honest_submission_passes_every_check(submitted: Path, toy_registry: Registry) -> None:
    outcome = verify(submitted, toy_registry)
    assert [check.name for check in outcome.checks] == CHECKS
    assert all(check.passed for check in outcome.checks), outcome.checks
    assert (outcome.passed, outcome.word, outcome.submission) == (True, "checked", digest_of(submitted))


ROW = "metric"


@pytest.mark.parametrize(
    ("field", "value", "check", "words"),
    [
        ("value", 0.999, "values", "0.999 is reported, but the samples give"),
        ("n", 63, "values", "63 defined and 0 undefined samples are reported, but there are 64 and 0"),
        ("undefined", 1, "values", "64 defined and 1 undefined"),
        ("ci_low", 0.1, "intervals", "is reported, but the samples give"),
        ("ci_high", None, "intervals", "nan] is reported"),
        ("chance_p", 1.5, "ranges", "chance_p is 1.5, outside [0, 1]"),
        ("sparsity_achieved", -0.1, "ranges", "sparsity_achieved is -0.1"),
        ("sparsity_achieved", 0.5, "masks", "is dense, but has masks or a sparsity"),
        ("unit", "nats", "ranges", "unit or direction"),
        ("higher_is_better", None, "ranges", "unit or direction"),
        ("degenerate", 65, "ranges", "count of degenerate samples"),
        ("seconds", -1.0, "ranges", "negative"),
        ("seed", 7, "seeds and data", "seed is 7, but the suite says 0"),
        ("sparsity", 0.3, "seeds and data", "sparsity is 0.3"),
        ("model", "other", "seeds and data", "model is 'other'"),
        ("limit", 5, "seeds and data", "limit is 5"),
        ("plan", "0" * 16, "seeds and data", "plan is"),
        ("suite", "famous", "seeds and data", "suite is 'famous'"),
        ("artifact", "0" * 16, "fingerprints", "its artifact key does not follow"),
        ("data_fingerprint", "abc:def", "fingerprints", "the fingerprint of the data of task toy-task is"),
        ("dimension", "accuracy", "seeds and data", "dimension is 'accuracy', but the suite says 'toy-task'"),
        ("chance_p", 1e-9, "ranges", "has a test against chance, but no chance level"),
        ("chance", 0.4, "ranges", "its test against chance is missing"),
        ("made_of", {}, "fingerprints", "does not say what it is made of (weights, task, network, metric"),
    ],
)  # fmt: skip
def test_a_forged_field_fails_its_check(
    members: Members, tmp_path: Path, toy_registry: Registry, field: str, value: object, check: str, words: str
) -> None:
    """The first row is the accuracy of the dense model; its hashes are made to fit the forgery."""
    path = forge(tmp_path / "x.zip", members, edited(members, lambda row: row.update({field: value}), only=0))
    assert words in failing(path, toy_registry)[check]


def test_attempts_start_with_one(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    path = forge(tmp_path / "x.zip", members, edited(members, lambda row: row.update(attempts=0)))
    assert "a count or a time is negative" in failing(path, toy_registry)["ranges"]


def test_a_collapsed_network_cannot_be_called_better_than_chance(
    members: Members, tmp_path: Path, toy_registry: Registry
) -> None:
    """The test against chance decides which rows are ranked, and no per-sample value of a submission shows it."""

    def forged(chance: float, p: float) -> Path:
        change = edited(members, lambda row: row.update(chance=chance, chance_p=p), only=0)
        return forge(tmp_path / "x.zip", members, change)

    words = "0.515625 is called better than chance, which is 0.6"
    assert words in failing(forged(0.6, 0.001), toy_registry)["ranges"]
    assert failing(forged(0.6, 0.9), toy_registry) == {}
    # what is possible is found by a re-run: the metric has no chance level
    outcome = verify(forged(0.1, 0.001), toy_registry, Again(count=4, seed=0, device="cpu"))
    assert [check.name for check in outcome.checks if check.passed is False] == ["re-run"]
    assert "its chance level, its test against chance" in outcome.checks[-1].detail


def test_forged_parts_with_fitting_keys_contradict_the_other_rows(
    members: Members, tmp_path: Path, toy_registry: Registry
) -> None:
    from pruningbench.harness.artifacts import artifact_key

    honest = tmp_path / "honest.zip"
    honest.write_bytes(forge(tmp_path / "h.zip", members).read_bytes())
    evidence = gather(open_submission(honest), toy_registry)

    def change(name: str, text: str) -> dict[str, bytes]:
        def apply(row: dict[str, Any]) -> None:
            row["made_of"][name] = text
            run = evidence.runs[row["task"]]
            row["artifact"] = artifact_key(evidence.cells[row["cell"]], run, row["made_of"], row["metric"])

        return edited(members, apply, only=0)

    weights = failing(forge(tmp_path / "a.zip", members, change("weights", "0" * 16)), toy_registry)
    assert "the weights of model" in weights["fingerprints"]
    data = failing(forge(tmp_path / "b.zip", members, change("task data", "0" * 16)), toy_registry)
    assert "data set toy-data(split=test): its fingerprint is" in data["data"]
    code = verify(forge(tmp_path / "c.zip", members, change("pruner", "toybench 0.1 v1 0")), toy_registry)
    assert {check.name: check.passed for check in code.checks}["code"] is True, "the dense model has no pruner"
    code = verify(forge(tmp_path / "d.zip", members, change("task", "toybench 0.1 v1 0")), toy_registry)
    assert {check.name: check.passed for check in code.checks}["code"] is None, "other code is said, and no fault"
    assert code.passed


def test_coverage(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    lines = members["results.jsonl"].splitlines(keepends=True)
    parts = json.loads(lines[0])["parts"]
    cell = json.loads(lines[0])["cell"]

    def without(arrays: Mapping[str, bytes]) -> dict[str, bytes]:
        file = tmp_path / "arrays.npz"
        file.write_bytes(members["samples.npz"])
        samples = dict(unpack(Index.model_validate_json(members["samples.json"]), read_arrays(file)))
        index, stored = pack({key: value for key, value in samples.items() if key[0] != cell})
        return {**arrays, "samples.json": index.model_dump_json().encode(), "samples.npz": arrays_bytes(stored)}

    fewer = forge(tmp_path / "a.zip", members, without({"results.jsonl": b"".join(lines[parts:])}))
    assert "the suite asks for it, but it is missing" in failing(fewer, toy_registry)["coverage"]
    other = edited(members, lambda row: row.update(cell="0" * 16 if row["cell"] == cell else row["cell"]))
    said = failing(forge(tmp_path / "b.zip", members, without(other)), toy_registry)
    assert "(and 1 more)" in said["coverage"]
    group = [json.loads(line) for line in lines[:parts]]
    group = [{**row, "part": i + 1, "parts": parts - 1} for i, row in enumerate(group[:-1])]
    metric = b"".join([json.dumps(row).encode() + b"\n" for row in group] + lines[parts:])
    assert "metric toy-median is missing" in failing(
        forge(tmp_path / "c.zip", members, {"results.jsonl": metric}), toy_registry
    )["coverage"]  # fmt: skip


def test_a_submission_without_values_is_not_checked(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    def fail(row: dict[str, Any]) -> None:
        row.update(status="failed", error="ValueError: no", value=None, metric="", part=1, parts=1)

    lines = [line for line in members["results.jsonl"].splitlines() if json.loads(line)["part"] == 1]
    failed = edited({"results.jsonl": b"\n".join(lines)}, fail)
    nothing = {"samples.json": b'{"tasks": {}}', "samples.npz": arrays_bytes({})}
    outcome = verify(forge(tmp_path / "x.zip", members, {**failed, **nothing}), toy_registry)
    assert (outcome.passed, outcome.failed, outcome.word) == (False, False, "self-reported")
    assert "4 of them failed in whole or in part" in {check.name: check.detail for check in outcome.checks}["coverage"]


def test_another_suite(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    text = members["suite.yaml"].decode()
    assert "0.5" in text
    easier = {"suite.yaml": text.replace("0.5", "0.4").encode()}
    assert "the suite was edited" in failing(forge(tmp_path / "a.zip", members, easier), toy_registry)["suite"]
    unknown = {"suite.yaml": text.replace("toy-net", "their-net").encode()}
    outcome = verify(forge(tmp_path / "b.zip", members, unknown), toy_registry)
    assert (outcome.passed, outcome.failed, outcome.word) == (False, False, "self-reported")
    assert "install the plugins that it names" in outcome.checks[-1].detail


def test_per_sample_values(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    def better(arrays: dict[str, np.ndarray]) -> None:
        arrays["|toy-accuracy"] = np.ones(64)

    said = failing(forge(tmp_path / "a.zip", members, with_samples(members, tmp_path, better)), toy_registry)
    assert said.keys() == {"values", "intervals"}

    def smoother(arrays: dict[str, np.ndarray]) -> None:
        draws = arrays["|toy-median|draws"]
        arrays["|toy-median|draws"] = draws + np.where(np.arange(len(draws)) == 500, 1e-3, 0)

    said = failing(forge(tmp_path / "b.zip", members, with_samples(members, tmp_path, smoother)), toy_registry)
    assert said.keys() == {"intervals"}
    assert "its resamples do not follow from the samples" in said["intervals"]
    for name, words in (("|toy-median|draws", "resamples are missing"), ("|toy-margin", "has no per-sample values")):
        gone = with_samples(members, tmp_path, lambda arrays, name=name: arrays.pop(name))
        assert words in " ".join(failing(forge(tmp_path / "c.zip", members, gone), toy_registry).values())


def test_masks(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    masks = json.loads(members["masks.json"])
    key = sorted(masks)[0]
    for change, words in (
        ({"kept": masks[key]["kept"] + 1}, "weights, not"),
        ({"kept": masks[key]["total"] + 1}, "weights, not"),
        ({"total": masks[key]["total"] * 2, "kept": masks[key]["total"]}, "its masks cover"),
    ):
        forged = {"masks.json": json.dumps({**masks, key: {**masks[key], **change}}).encode()}
        assert words in failing(forge(tmp_path / "a.zip", members, forged), toy_registry)["masks"]
    gone = {"masks.json": json.dumps({k: v for k, v in masks.items() if k != key}).encode()}
    assert "digest of its masks is missing" in failing(forge(tmp_path / "b.zip", members, gone), toy_registry)["masks"]
    pruned = next(i for i, line in enumerate(members["results.jsonl"].splitlines()) if json.loads(line)["cell"] == key)
    less = edited(members, lambda row: row.update(sparsity_achieved=0.3), only=pruned)
    assert "but its masks prune 0.5" in failing(forge(tmp_path / "c.zip", members, less), toy_registry)["masks"]


def test_a_value_outside_its_range(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    """A consistent forgery, with samples that give the value, is still impossible."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["|toy-accuracy"] = np.full(64, 1.5)

    def row(values: dict[str, Any]) -> None:
        if values["metric"] == "toy-accuracy":
            values.update(value=1.5, ci_low=1.5, ci_high=1.5)

    forged = {**edited(members, row), **with_samples(members, tmp_path, change)}
    said = failing(forge(tmp_path / "a.zip", members, forged), toy_registry)
    assert said.keys() == {"ranges"}
    assert "value is 1.5, outside [0, 1]" in said["ranges"]


def test_a_rerun_gives_the_same_bits(submitted: Path, toy_registry: Registry) -> None:
    outcome = verify(submitted, toy_registry, Again(count=2, seed=5, device="cpu"))
    assert outcome.passed
    assert outcome.word == "re-run (2 of 4 cells)"
    assert outcome.rerun is not None
    assert (outcome.rerun.largest, outcome.rerun.where, outcome.rerun.seed) == (0.0, "", 5)
    assert "6 values agree, 6 of them exactly" in outcome.checks[-1].detail


def test_a_rerun_finds_an_invented_value(members: Members, tmp_path: Path, toy_registry: Registry) -> None:
    """Values and samples that fit each other pass every other check; only computing them again tells."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["|toy-accuracy"] = np.ones(64)

    def row(values: dict[str, Any]) -> None:
        if values["metric"] == "toy-accuracy":
            values.update(value=1.0, ci_low=1.0, ci_high=1.0)

    path = forge(tmp_path / "x.zip", members, {**edited(members, row), **with_samples(members, tmp_path, change)})
    assert failing(path, toy_registry) == {}
    outcome = verify(path, toy_registry, Again(count=4, seed=0, device="cpu"))
    assert (outcome.passed, outcome.word) == (False, "failed verification")
    assert "1 was submitted, the re-run gave" in outcome.checks[-1].detail
    assert outcome.rerun is not None
    assert outcome.rerun.agreed == []


def test_the_choice_of_cells(submitted: Path, toy_registry: Registry) -> None:
    evidence = gather(open_submission(submitted), toy_registry)
    assert choose(evidence, 2, 0) == choose(evidence, 2, 0)
    assert len(set(choose(evidence, 100, 0))) == 4
    drawn = [cell for seed in range(200) for cell in choose(evidence, 1, seed)]
    counts = [drawn.count(cell) for cell in set(drawn)]
    assert len(counts) == 4
    assert min(counts) > 25  # 50 are expected; P(any <= 25) < 1e-4
    first, second = (verify(submitted, toy_registry, Again(1, device="cpu")).rerun for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.seed != second.seed, "a submitter must not know the cells in advance"


def test_deviations_are_multiples_of_the_tolerance(toy_registry: Registry) -> None:
    def metric(name: str, **changes: Any) -> Any:
        component = toy_registry.entry("metric", name).load()
        return type("Changed", (component,), changes)()

    def record(value: float) -> Record:
        return Record("s", "c", "m", "p", "r", 0.5, 0, "t", metric="x", value=value)

    fraction = metric("toy-accuracy", rerun_tolerance=0.05)
    assert deviation(record(0.5), record(0.525), fraction).size == pytest.approx(0.5)
    open_ended = metric("toy-margin", rerun_tolerance=0.1)
    assert deviation(record(10.0), record(8.0), open_ended).size == pytest.approx(2.0)
    exact = metric("toy-median")
    assert deviation(record(1.0), record(1.0), exact).size == 0
    assert deviation(record(1.0), record(math.nextafter(1, 2)), exact).size == math.inf
    assert deviation(record(math.nan), record(math.nan), exact).size == 0
    assert deviation(record(math.nan), record(1.0), fraction).size == math.inf
    assert deviation(record(1.0), None, fraction).size == math.inf

    def measured(value: float, network: str) -> Record:
        return replace(record(value), ci_low=value - 0.2, ci_high=value + 0.2, made_of={"network": network})

    assert deviation(measured(0.5, "a"), measured(0.6, "a"), fraction).size == pytest.approx(2.0)
    assert deviation(measured(0.5, "a"), measured(0.725, "b"), fraction).size == pytest.approx(0.5), "another draw"
    assert deviation(measured(0.5, "a"), measured(0.6, "b"), exact).size == math.inf


def test_code_outside_plugins_is_not_run_without_consent(
    tmp_path: Path, toy_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n\n\ndef build():\n    Path('ran').touch()\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))\n"
    )
    model = "{use: python, network: 'stranger:build', mean: [0.5], std: [0.5], size: 6, classes: [dark, bright]}"
    text = SUITE.replace("toy-net", model).replace(", {use: finetune, epochs: 1}", "")
    assert run(text, toy_registry, tmp_path / "run").ok
    file = submit(tmp_path / "run", toy_registry, tmp_path / "x.pbsub.zip")
    (tmp_path / "ran").unlink()
    assert verify(file, toy_registry).passed
    with pytest.raises(UsageError, match=r"--rerun would run stranger:build .*--run-code"):
        verify(file, toy_registry, Again(1, device="cpu"))
    assert not (tmp_path / "ran").exists()
    assert verify(file, toy_registry, Again(1, device="cpu", run_code=True)).passed
    assert (tmp_path / "ran").exists()
