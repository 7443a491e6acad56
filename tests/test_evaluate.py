"""`pruningbench.evaluate`: the values of a suite, for a network at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pruningbench as pb
from pruningbench.errors import MaskError, PruningBenchError, UsageError

DATA = {"use": "digits"}
FIELDS: dict[str, Any] = {"mean": (0.5,), "std": (0.25,), "size": 8, "features": "0", "head": "4"}
TASKS = ["classification", "calibration", "dense-similarity"]
MINE = """
import torch
from torch import nn

def build():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
        )
"""


@pytest.fixture()
def network() -> nn.Module:
    space: dict[str, Any] = {}
    exec(compile(MINE, "mine.py", "exec"), space)
    built: nn.Module = space["build"]()
    return built


def test_values_are_those_of_the_suite_bit_for_bit(network: nn.Module, tmp_path: Path) -> None:
    """The suite prunes by magnitude, `evaluate` gets the same masks; the network stays as it was."""
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    model = {
        "use": "python",
        "network": f"{tmp_path}/mine.py:build",
        **{k: list(v) if isinstance(v, tuple) else v for k, v in FIELDS.items()},
    }
    data = {"use": "digits", "split": "test"}
    suite = {
        "name": "mine", "models": [model], "pruners": ["magnitude"], "sparsities": [0, 0.75],
        "tasks": [{"use": task, "data": data} for task in TASKS],
    }  # fmt: skip
    ran = pb.run(suite, tmp_path / "run").results()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    masks = pb.prune(network, "magnitude", 0.75)
    for given, rows in ((None, ran[ran["sparsity"] == 0]), (masks, ran[ran["sparsity"] > 0])):
        found = pb.evaluate(network, TASKS, data=DATA, masks=given, **FIELDS)
        expected = {f"{row.task}.{row.metric}": row.value for row in rows.itertuples()}
        assert found.values() == expected
        assert len(expected) == 6 and found.ok
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_results_last_as_long_as_the_object_and_stay_in_a_folder_of_ones_own(
    network: nn.Module, tmp_path: Path
) -> None:
    evaluation = pb.evaluate(network, ["classification"], data="digits", limit=32, **FIELDS)
    folder = evaluation.folder
    assert evaluation.results()["n"].tolist() == [32]
    assert "Sequential" in evaluation.table() and repr(evaluation).startswith("<Evaluation ")
    del evaluation
    assert not folder.exists() and not folder.parent.exists()
    kept = pb.evaluate(network, [{"use": "classification", "data": DATA}], out=tmp_path / "mine", limit=32, **FIELDS)
    assert pb.load_results(tmp_path / "mine")["value"].tolist() == list(kept.values().values())


def test_parameters_without_a_mask_stay_whole(network: nn.Module) -> None:
    weight = network[4].weight  # type: ignore[index]
    one = pb.Masks({"4.weight": torch.zeros_like(weight, dtype=torch.bool).index_fill_(1, torch.arange(16), True)})
    with torch.no_grad():
        expected = network[4].weight.clone()  # type: ignore[index]
        network[4].weight[:, 16:] = 0  # type: ignore[index]
        by_hand = pb.evaluate(network, ["classification"], data=DATA, **FIELDS).values()
        network[4].weight.copy_(expected)  # type: ignore[index]
    assert pb.evaluate(network, ["classification"], data=DATA, masks=one, **FIELDS).values() == by_hand


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"network": 3}, UsageError, r"network must be a torch\.nn\.Module, got int"),
        ({"tasks": "classification"}, UsageError, "tasks must be a list of names or dictionaries"),
        ({"tasks": []}, UsageError, "at least one item"),
        ({"tasks": [3]}, UsageError, "a task is a name or a dictionary such as .*, got 3"),
        ({"tasks": ["clasification"]}, PruningBenchError, "did you mean 'classification'"),
        ({"tasks": [{"use": "classification", "limt": 3}]}, PruningBenchError, "classification"),
        ({"sise": 3}, UsageError, "model 'python' has no field 'sise'; did you mean 'size'"),
        ({"args": {}}, UsageError, "^evaluate sets 'args' itself: give the network, built$"),
        ({"masks": {}}, UsageError, r"masks must be pruningbench\.Masks, got dict"),
        ({"data": None}, PruningBenchError, "task 'classification', field 'data': is required"),
        ({"data": {"use": "digits", "path": object()}}, UsageError, "plain values only"),
        ({"head": "9"}, PruningBenchError, "^nothing could be evaluated: head: Sequential has no module '9'"),
    ],
)
def test_mistakes_are_one_line(network: nn.Module, change: dict[str, Any], error: type, words: str) -> None:
    given = {"network": network, "tasks": ["classification"], "data": DATA, **FIELDS, **change}
    with pytest.raises(error, match=words) as caught:
        pb.evaluate(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("9.weight", "has none"), ("4.weight", r"is \(10, 32\)")])
def test_masks_of_another_network_are_refused(network: nn.Module, name: str, words: str) -> None:
    masks = pb.Masks({name: torch.eye(2, dtype=torch.bool)})
    with pytest.raises(MaskError, match=rf"^mask '{name}' is \(2, 2\), and .*network {words}$"):
        pb.evaluate(network, ["classification"], data=DATA, masks=masks, **FIELDS)
