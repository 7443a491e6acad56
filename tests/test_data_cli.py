"""``pruningbench data``, and how `plan` names data that lacks."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kit.files import binary, cifar_images, class_folders
from kit.fileserver import FileServer
from pruningbench_data import pruningbench_register_datasets
from pruningbench_data.cifar import Cifar10

from pruningbench.cli.data import describe, human_size, progress_bar
from pruningbench.cli.main import cli, guarded
from pruningbench.contract import Dataset
from pruningbench.images.fetch import Download
from pruningbench.plugins import Plugin, Registry
from pruningbench.suite.binding import bind

SUITE = """\
name: needs-data
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0.5]
tasks:
  - {use: toy-task, data: {use: model-vs-human, experiment: sketch}}
metrics: [toy-margin]
"""
WANTED = {
    "digits", "digit-scenes", "photos", "folder", "hub", "imagenet", "imagenet-10-tasks", "imagenette", "cifar10",
    "cifar100", "cifar10h", "voc07", "voc12", "coco20k", "model-vs-human", "things", "nights",
}  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    registry = Registry()
    plugin = Plugin("data", "test", "0")
    pruningbench_register_datasets(lambda name, target: registry.add("dataset", name, target, plugin))
    return registry


def test_all_data_sets_are_there_and_declare_their_terms(registry: Registry) -> None:
    assert set(registry.names("dataset")) == WANTED
    for name in WANTED:
        component = registry.entry("dataset", name).load()
        assert issubclass(component, Dataset)
        card = component.card
        assert card.licence != Dataset.card.licence, name
        assert card.citation != Dataset.card.citation, name
        assert card.homepage.startswith("http") or name == "folder"
        assert card.checksum


def test_what_can_be_fetched_says_so_and_what_cannot_says_how(registry: Registry) -> None:
    for name in WANTED - {"folder", "hub", "digits", "digit-scenes", "photos"}:
        dataset = bind(registry, "dataset", name).component
        assert isinstance(dataset, Dataset)
        lack = dataset.missing()
        assert lack is not None
        if dataset.downloads():
            assert f"`pruningbench data fetch {name}`" in lack
            published = [item.checksum for item in dataset.downloads()]
            assert all(text == "none published" or text.split()[0] in ("md5", "sha256") for text in published)
            assert all(item.url.startswith("http") for item in dataset.downloads())
        else:
            assert "set PRUNINGBENCH_DATA to the folder that holds" in lack
            assert name in ("imagenet", "imagenet-10-tasks", "things")


def test_statuses(registry: Registry, tmp_path: Path) -> None:
    class_folders(tmp_path / "data/imagenet/val", {"n01440764": 1})
    found = {name: describe(registry, name)["status"] for name in WANTED}
    assert found["digits"] == "built in"
    assert found["imagenet"] == found["photos"] == "there"
    assert found["voc07"] == "missing"
    assert found["folder"] == found["hub"] == "needs fields"
    assert [human_size(n) for n in (12, 1500, 911_000_000, 144e9, 2e12)] == ["12 B", "2 kB", "911 MB", "144 GB", "2 TB"]


@dataclass
class Done:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process, in an empty folder with a data folder of its own."""
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        code = guarded(lambda: cli.main(list(arguments), prog_name="pruningbench", standalone_mode=False))
        return Done(code, *capsys.readouterr())

    return run


def test_the_list_is_for_people_and_machines(call: Callable[..., Done], tmp_path: Path) -> None:
    class_folders(tmp_path / "data/imagenet/val", {"n01440764": 1})
    done = call("data", "list")
    assert done.code == 0
    assert done.out.splitlines()[0] == f"data folder  {tmp_path / 'data'}"
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert "911 MB" in lines["voc07"]
    assert "missing" in lines["voc07"]
    assert "there" in lines["imagenet"]
    rows = json.loads(call("data", "list", "--json").out)["datasets"]
    assert {row["name"] for row in rows} >= WANTED
    assert "data fetch voc07" in next(row["missing"] for row in rows if row["name"] == "voc07")


def test_paths(call: Callable[..., Done], tmp_path: Path) -> None:
    class_folders(tmp_path / "data/mine/val", {"a": 1})
    assert call("data", "path").out.strip() == str(tmp_path / "data")
    done = call("data", "path", "folder", "--set", "path=mine", "--set", "split=val")
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "data/mine/val"))
    done = call("data", "path", "things")
    assert (done.code, done.out.strip()) == (1, str(tmp_path / "data/things"))
    assert "THINGS asks for a password" in done.err


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("ImageNet needs an account: register at", ["imagenet"]),
        ("did you mean 'imagenet", ["imagenett"]),
        ("must be FIELD=VALUE", ["voc07", "--set", "split"]),
        ("split", ["voc07", "--set", "split=tset"]),
        ("is not a YAML value", ["voc07", "--set", "split=["]),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(call: Callable[..., Done], words: str, arguments: list[str]) -> None:
    done = call("data", "fetch", *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert words in done.err
    assert done.err.count("\n") == 1


def cifar_server(monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """Serve a test set of three images in place of CIFAR-10's archive."""
    server, buffer = FileServer(), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        content = binary(cifar_images(3), [0, 1, 2])
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    server.files["c.tgz"] = buffer.getvalue()
    monkeypatch.setattr(Cifar10, "archive", Download(server.url("c.tgz"), "c.tgz", unpack=True))
    return server


def test_fetching_says_what_it_fetches_and_where_it_stands(
    call: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("data", "fetch", "digits").out.startswith("digits is available")
    server = cifar_server(monkeypatch)
    done = call("data", "fetch", "cifar10")
    server.close()
    assert done.code == 0
    assert "170 MB to download; licence: not stated by the authors; checksum: md5 c32a1d" in done.err
    assert done.out == f"cifar10 is available: {tmp_path / 'data/cifar10'}\n"
    assert call("data", "fetch", "cifar10").out == done.out  # without a network


def test_all_data_sets_of_a_suite_are_fetched_and_what_lacks_is_named_once(
    call: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cifar_server(monkeypatch)
    tasks = [
        "{use: imagenet, split: val}", "cifar10", "{use: imagenet, split: train}", "{use: things, limit: 2}",
        "{use: digits, split: test}",
    ]  # fmt: skip
    lines = "".join(f"  - {{use: toy-task, data: {data}}}\n" for data in tasks)
    (tmp_path / "suite.yaml").write_text(
        SUITE.replace("  - {use: toy-task, data: {use: model-vs-human, experiment: sketch}}\n", lines)
    )
    done = call("data", "fetch", "--suite", "suite.yaml")
    server.close()
    assert done.code == 1
    assert done.out.splitlines() == [
        f"cifar10 is available: {tmp_path / 'data/cifar10'}",
        "digits(split=test) is available: it ships with the package",
    ]
    lacking = [line for line in done.err.splitlines() if line.startswith("missing: ")]
    assert len(lacking) == 2
    assert "ImageNet needs an account" in lacking[0]
    assert "THINGS asks for a password" in lacking[1]
    assert call("data", "fetch").code == 2
    assert call("data", "fetch", "cifar10", "--suite", "suite.yaml").code == 2
    assert "--set belongs to one data set" in call("data", "fetch", "--suite", "suite.yaml", "--set", "split=val").err


def test_plan_opens_the_data_that_is_there(call: Callable[..., Done], tmp_path: Path) -> None:
    tasks = ["{use: folder, path: mine}", "{use: folder, path: broken}", "digits", "voc07"]
    lines = "".join(f"  - {{use: toy-task, data: {data}}}\n" for data in tasks)
    (tmp_path / "suite.yaml").write_text(
        SUITE.replace("  - {use: toy-task, data: {use: model-vs-human, experiment: sketch}}\n", lines)
    )
    class_folders(tmp_path / "data/mine", {"a": 2, "b": 1})
    class_folders(tmp_path / "data/broken", {"a": 1})
    next((tmp_path / "data/broken/a").iterdir()).write_bytes(b"no image")
    done = call("plan", "suite.yaml", "--check-data")
    assert done.code == 1
    found = done.out[done.out.index("\ndata\n") :].splitlines()[2:6]
    assert found[0].startswith("  digits: 1201 samples, 10 classes, with labels")
    assert found[1].startswith("  folder(path=broken): cannot be used: ")
    assert found[2] == "  folder(path=mine): 3 samples, 2 classes, with labels"
    assert found[3].startswith("  voc07: cannot be used: ")
    checks = json.loads(call("plan", "suite.yaml", "--check-data", "--json").out)["data"]
    assert [check["samples"] for check in checks] == [1201, None, 3, None]
    assert "data" not in json.loads(call("plan", "suite.yaml", "--json").out)
    (tmp_path / "digits.yaml").write_text(SUITE.replace("{use: model-vs-human, experiment: sketch}", "digits"))
    assert call("plan", "digits.yaml", "--check-data").code == 0


def test_plan_names_the_command_and_run_refuses(call: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    command = "`pruningbench data fetch model-vs-human --set experiment=sketch`"
    assert command in call("plan", "suite.yaml").out
    done = call("run", "suite.yaml")
    assert done.code == 2
    assert command in done.err


def test_the_bar_is_drawn_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as note:
        note("a.tgz", 10, 100)
        note("a.tgz", 100, 100)
        note("unpacking a.tgz", 5, None)
    assert capsys.readouterr() == ("", "")
