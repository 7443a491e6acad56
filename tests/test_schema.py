"""`pruningbench schema`, `new suite`, and examples: what helps to write a suite."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from kit.toysuite import Command

from pruningbench.contract import Task, param
from pruningbench.errors import SuiteError, UsageError
from pruningbench.plugins import Plugin, Registry, load_registry
from pruningbench.suite.beside import ALIASED, LIMITED
from pruningbench.suite.binding import bind
from pruningbench.suite.examples import as_yaml, example_of
from pruningbench.suite.jsonschema import AXES, schema_text, suite_schema
from pruningbench.suite.newsuite import MODELINE, suite_text
from pruningbench.suite.schema import Suite, suite_from_text

SUITES = Path(__file__).parents[1] / "plugins" / "pruningbench_suites"
FILES = sorted(SUITES.glob("*.yaml"))
GOOD: dict[str, Any] = {
    "name": "a", "models": ["digits-resnet"], "pruners": ["random"], "sparsities": [0, 0.5],
    "tasks": [{"use": "classification", "data": {"use": "digits", "split": "test"}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


@pytest.fixture(scope="module")
def validator(registry: Registry) -> Draft202012Validator:
    schema = json.loads(schema_text(suite_schema(registry)))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_shipped_schema_is_that_of_the_built_in_components(registry: Registry) -> None:
    """Otherwise: pruningbench schema --built-in --out plugins/pruningbench_suites/suite.schema.json."""
    assert (SUITES / "suite.schema.json").read_text("utf-8") == schema_text(suite_schema(registry, only_built_in=True))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_suites_are_valid_and_name_the_schema(validator: Draft202012Validator, path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(MODELINE.format(schema="suite.schema.json"))
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_resolved_suites_are_valid(validator: Draft202012Validator, registry: Registry, path: Path) -> None:
    """With every default written out, so every field of every component that the suites use is covered."""
    resolved = yaml.safe_load(suite_from_text(path.read_text("utf-8"), registry).to_yaml())
    assert [error.message for error in validator.iter_errors(resolved)] == []


def test_every_key_of_a_suite_is_in_the_schema(registry: Registry) -> None:
    assert set(suite_schema(registry)["properties"]) == {field.name for field in fields(Suite)}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"pruners": ["magnitud"]}, ["pruners", 0]),
        ({"pruners": [{"use": "magnitude", "alocation": "erk"}]}, ["pruners", 0]),
        ({"pruners": [{"use": "magnitude", "allocation": "erc"}]}, ["pruners", 0]),
        ({"models": [{"use": "timm"}]}, ["models", 0]),
        ({"models": ["timm"]}, ["models", 0]),
        ({"recipes": [{"use": "finetune", "epochs": "3"}]}, ["recipes", 0]),
        ({"recipes": [{"use": "finetune", "epochs": True}]}, ["recipes", 0]),
        ({"tasks": [{"use": "classification", "data": {"use": "digits", "spit": "test"}}]}, ["tasks", 0]),
        ({"tasks": [{"use": "classification", "data": "digit"}]}, ["tasks", 0]),
        ({"sparsities": [50]}, ["sparsities", 0]),
        ({"seeds": [-1]}, ["seeds", 0]),
        ({"recipes": [{"use": "none", "as": "raw"}]}, ["recipes", 0]),
        ({"name": "a b"}, ["name"]),
        ({"prunners": []}, []),
    ],
)
def test_mistakes_are_found_where_the_program_finds_them(
    validator: Draft202012Validator, registry: Registry, change: dict[str, Any], place: list[Any]
) -> None:
    wrong = {**GOOD, **change}
    assert validator.is_valid(GOOD)
    assert [list(error.absolute_path) for error in validator.iter_errors(wrong)] == [place]
    with pytest.raises(SuiteError):
        suite_from_text(yaml.safe_dump(wrong), registry)


def test_labels_and_models_beside_use_are_allowed_where_the_program_allows_them(registry: Registry) -> None:
    definitions = suite_schema(registry)["$defs"]
    kinds = {kind: key for key, kind in AXES.items()}
    for name, mapping in definitions.items():
        key = kinds.get(name.partition(":")[0], "")
        if ":" in name:
            assert ("as" in mapping["properties"], "for" in mapping["properties"]) == (key in ALIASED, key in LIMITED)


def test_every_component_has_an_example_that_binds(registry: Registry) -> None:
    for registration in registry:
        kind: Any = registration.kind
        example = example_of(registry, kind, registration)
        assert bind(registry, kind, example).name == registry.name_of(registration)
        lines = yaml.safe_load(as_yaml(kind, example))
        (value,) = lines.values()
        assert value in (example, [example]) or list(value) == [example]


def test_show_ends_with_the_example(pruningbench: Command) -> None:
    text = pruningbench("show", "pruner", "magnitude", check=0).stdout
    assert text.rstrip().splitlines()[-5:] == [
        "Example",
        "  pruners:",
        "    - {use: magnitude, allocation: erk}",
        "",
        "  pruningbench.prune(network, \"magnitude\", sparsity=0.8, allocation='erk')   # Python",
    ]
    assert "data: {use: folder" in pruningbench("show", "dataset", "folder", check=0).stdout


def test_search_needs_all_words(pruningbench: Command) -> None:
    rows = json.loads(pruningbench("list", "--search", "MAGNITUDE prune", "--json", check=0).stdout)
    assert ("pruner", "magnitude") in {(row["kind"], row["name"]) for row in rows}
    assert all("magnitude" in f"{row['name']} {row['summary']}".lower() for row in rows)
    assert pruningbench("list", "--search", "no such thing", check=0).stdout.strip() == "none"


def test_schema_goes_to_a_file_or_to_the_output(pruningbench: Command, tmp_path: Path) -> None:
    pruningbench("schema", "--out", str(tmp_path / "s.json"), check=0)
    written = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert written == json.loads(pruningbench("schema", check=0).stdout)
    assert "toy-net" in json.dumps(written["$defs"]["model"])
    assert "toy-net" not in pruningbench("schema", "--built-in", check=0).stdout


def test_new_suite_from_options(pruningbench: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    arguments = ("--models", "digits-resnet,digits-vit", "--pruners", "random magnitude", "--tasks",
                 "classification,transfer", "--data", "digits")  # fmt: skip
    pruningbench("new", "suite", str(file), *arguments, check=0)
    text = file.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=suite.schema.json\nname: mine\n")
    schema = json.loads((tmp_path / "suite.schema.json").read_text("utf-8"))
    assert Draft202012Validator(schema).is_valid(yaml.safe_load(text))
    assert "classes: [0, 1, 2, 3, 4, 5]" in text  # the classes that these networks know
    planned = pruningbench("plan", str(file), check=0).stdout
    assert "digits-vit (7)" in planned and "missing       nothing" in planned
    before = file.read_bytes()
    assert "exists already" in pruningbench("new", "suite", str(file), *arguments, check=2).stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--models", "digits-resent", "did you mean 'digits-resnet'"),
        ("--data", "digits,photos", "name one data set"),
        ("--pruners", "", "name at least one pruner"),
    ],
)
def test_new_suite_refuses_what_it_cannot_write(
    pruningbench: Command, tmp_path: Path, option: str, value: str, words: str
) -> None:
    answers = {"--models": "digits-resnet", "--pruners": "random", "--tasks": "classification", "--data": "digits"}
    arguments = [part for pair in {**answers, option: value}.items() for part in pair]
    assert words in pruningbench("new", "suite", str(tmp_path / "s.yaml"), *arguments, check=2).stderr
    assert list(tmp_path.glob("*.yaml")) == []


def test_new_suite_refuses_a_task_that_needs_more_than_data(registry: Registry) -> None:
    @dataclass(frozen=True)
    class Needy(Task):
        """Needs a number."""

        many: int = param(doc="how many")

        def run(self, model: Any, context: Any) -> Any:
            """Not called."""

    registry.add("task", "needy", Needy, Plugin("needy", "needybench", "1"))
    wanted: dict[str, Any] = {"models": ["digits-resnet"], "pruners": ["random"], "tasks": ["needy"], "data": "digits"}
    with pytest.raises(UsageError, match="task 'needy' needs `many:`.*write it by hand"):
        suite_text(registry, name="a", **wanted)
    with pytest.raises(UsageError, match="name must be text"):
        suite_text(registry, name="a/b", **wanted)
    del registry.entries["task"]["needy"]


def test_new_suite_asks_and_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from pruningbench.cli.main import cli

    monkeypatch.chdir(tmp_path)
    typed = "digits-resent\ndigits-resnet\n\n\n\n"
    result = CliRunner().invoke(cli, ["new", "suite"], input=typed, standalone_mode=False)
    assert result.exception is None
    assert "did you mean 'digits-resnet'" in result.stderr
    written = yaml.safe_load((tmp_path / "suite.yaml").read_text("utf-8"))
    assert (written["models"], written["pruners"]) == (["digits-resnet"], ["random", "magnitude"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(pruningbench: Command, shell: str) -> None:
    script = pruningbench("completion", shell, check=0).stdout
    assert "_PRUNINGBENCH_COMPLETE" in script and f"{shell}_complete" in script


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pruningbench ru", "run"),
        ("pruningbench run quicks", "quickstart"),
        ("pruningbench show prun", "pruner"),
        ("pruningbench show pruner magn", "magnitude"),
        ("pruningbench show pruners magn", "magnitude"),
    ],
)
def test_names_are_completed_without_torch(line: str, expected: str, pruningbench: Command) -> None:
    words = line.split()
    asked = {"_PRUNINGBENCH_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = pruningbench(**asked, PYTHONPROFILEIMPORTTIME="1")
    assert f"plain,{expected}" in done.stdout.splitlines()
    assert not any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())
