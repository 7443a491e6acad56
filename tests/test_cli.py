"""The command line as a stranger uses it: in a process, with right and wrong requests."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kit.toysuite import COMMAND, TOY_SUITE, Command, toy_environment

from pruningbench.cli.main import COMMANDS
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.reference import describe_fields

Write = Callable[..., Path]


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["show", "pruner", "magnitude"], ["plan", "quickstart", "--only", "pruner=dense"]],
)
def test_light_commands_import_no_torch(arguments: list[str], tmp_path: Path) -> None:
    """Not a timed test: what makes these commands slow is importing torch, so they must not."""
    environment = toy_environment()
    code = (
        "import sys\nfrom pruningbench.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "heavy = {'torch', 'timm', 'captum', 'sklearn', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", code, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_names_every_command(pruningbench: Command) -> None:
    text = pruningbench("--help", check=0).stdout
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in text
        assert summary in text
        assert "Usage: pruningbench " + name in pruningbench(name, "--help", check=0).stdout
    assert pruningbench("--version", check=0).stdout.startswith("pruningbench 0.")


def test_suites_are_listed_with_their_first_sentence(pruningbench: Command) -> None:
    rows = json.loads(pruningbench("list", "suites", "--json", check=0).stdout)
    for row in rows:
        file = load_registry().entry("suite", row["name"]).load()
        whole = yaml.safe_load(file.read_text("utf-8"))["description"]
        assert len(row["summary"]) > 20
        assert whole.startswith(row["summary"].rstrip("."))


def test_list_and_show(pruningbench: Command) -> None:
    text = pruningbench("list", check=0).stdout
    for word in ("quickstart", "digits-resnet", "digits-vit", "digits", "digit-scenes", "random", "magnitude", "none",
                 "finetune", "classification", "transfer", "interpretability", "discovery"):  # fmt: skip
        assert f"  {word} " in text, word
    assert "[toybench 1.0]" in text
    rows = json.loads(pruningbench("list", "pruners", "--json", check=0).stdout)
    assert {row["kind"] for row in rows} == {"pruner"}
    assert {"random", "magnitude", "toy-pruner"} <= {row["name"] for row in rows}
    assert all(row["summary"] for row in rows)
    shown = pruningbench("show", "pruner", "magnitude", check=0).stdout
    assert "allocation" in shown
    assert "erk" in shown
    fields = json.loads(pruningbench("show", "recipe", "finetune", "--json", check=0).stdout)["fields"]
    assert all(field["doc"] for field in fields)
    assert "models: [digits-resnet, digits-vit]" in pruningbench("show", "suite", "quickstart", check=0).stdout


def test_every_field_of_every_shipped_component_is_documented(toy_registry: Registry) -> None:
    for entry in toy_registry:
        component = entry.load()
        assert entry.summary(), entry
        assert entry.summary() == (component.__doc__ or "").strip().partition("\n")[0]
        for field in describe_fields(component):
            assert field["doc"], (entry, field)


def test_plan_says_what_a_run_would_do(pruningbench: Command, suite_file: Write, tmp_path: Path) -> None:
    path = suite_file()
    text = pruningbench("plan", path, check=0).stdout
    assert "10 (2 dense, 8 pruned)" in text
    assert "1 scoring passes serve 8 pruned cells" in text
    assert "missing       nothing" in text
    described = json.loads(pruningbench("plan", path, "--json", "--only", "sparsity=.5", check=0).stdout)
    assert len(described["cells"]) == 4
    assert described["pending_task_runs"] == 4
    assert not (tmp_path / "runs").exists()
    missing = suite_file(TOY_SUITE.replace("split: test", "absent: true"), "missing.yaml")
    assert "toy fetch" in pruningbench("plan", missing, check=0).stdout


def test_run_resume_and_leaderboard(
    pruningbench: Command, suite_file: Write, tmp_path: Path, toy_log: Callable[[], list[str]]
) -> None:
    path = suite_file()
    first = pruningbench("run", path, check=0)
    assert "10 cells: 10 task runs computed now, 0 done before" in first.stdout
    assert "results      runs/toy/results.jsonl" in first.stdout
    assert "[10/10]" in first.stderr
    assert "finished" in first.stderr
    ran = toy_log()
    journal = (tmp_path / "runs/toy/results.jsonl").read_bytes()
    second = pruningbench("run", path, check=0)
    assert "nothing to compute" in second.stdout
    assert toy_log() == ran
    assert (tmp_path / "runs/toy/results.jsonl").read_bytes() == journal
    table = first.stdout.partition("10 cells:")[0]
    assert second.stdout.partition("10 cells:")[0] == table
    assert "dense" in table
    figures = tmp_path / "runs/toy/figures"
    assert list(figures.glob("*.png")) and not list(figures.glob("*.pdf"))
    assert "pictures)" in pruningbench("run", path, "--pdf", check=0).stdout
    assert {file.stem for file in figures.glob("*.pdf")} == {file.stem for file in figures.glob("*.png")}

    rows = list(csv.DictReader(io.StringIO(pruningbench("leaderboard", "runs/toy", "--format", "csv", check=0).stdout)))
    results = load_results(tmp_path / "runs/toy")
    assert len(rows) == len(results)
    assert sorted(float(row["value"]) for row in rows) == sorted(results["value"])
    assert json.loads(pruningbench("leaderboard", "runs/toy", "--format", "json", check=0).stdout)
    assert "|" in pruningbench("leaderboard", "runs/toy", "--format", "markdown", check=0).stdout
    written = pruningbench("leaderboard", "runs/toy", "--format", "csv", "--out", "tables", check=0)
    assert written.stdout.strip() == "tables/leaderboard.csv"
    assert (tmp_path / "tables/leaderboard.csv").stat().st_size > 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quikstart"], "did you mean 'quickstart'"),
        (["run", "absent.yaml"], "no such file"),
        (["run", "bad.yaml"], "bad.yaml:3:4"),
        (["run", "quickstart", "--set", "sparsities=[1]"], "outside [0, 1)"),
        (["run", "quickstart", "--set", "sparsities=[]"], "is empty"),
        (["run", "quickstart", "--set", "pruners.1.alocation=erk"], "did you mean 'allocation'"),
        (["run", "quickstart", "--set", "pruners=[magnitud]"], "did you mean 'magnitude'"),
        (["run", "quickstart", "--only", "pruner=magnitud"], "did you mean 'magnitude'"),
        (["run", "quickstart", "--device", "cuda:42"], "cuda:42"),
        (["run", "quickstart", "--device", "tpu"], "tpu"),
        (["run", "quickstart", "--executor", "parallel"], "parallel"),
        (["run", "quickstart", "--shard", "5/4"], "I/N"),
        (["run", "quickstart", "--out", "a-file"], "not a folder"),
        (["run", "quickstart", "--out", "a-file/below"], "not a folder"),
        (["run", "quickstart", "--out", "/proc/nothing/here"], "/proc/nothing"),
        (["run", "quickstart", "--out", "mine"], "holds other files"),
        (["run", "quickstart", "--progres", "none"], "--progress"),
        (["run"], "SUITE"),
        (["rum", "quickstart"], "did you mean 'run'"),
        (["plan", "quikstart"], "did you mean 'quickstart'"),
        (["list", "pruner-s"], "did you mean 'pruners'"),
        (["show", "pruner", "magnitud"], "did you mean 'magnitude'"),
        (["show", "prunner", "magnitude"], "did you mean 'pruner'"),
        (["leaderboard", "mine"], "is not a run folder"),
        (["leaderboard", "absent"], "is not a run folder"),
    ],
)
def test_wrong_requests(arguments: list[str], words: str, pruningbench: Command, tmp_path: Path) -> None:
    """One clear message, exit code 2, nothing written."""
    (tmp_path / "bad.yaml").write_text("name: a\nmodels: [x\n  y: 3\n")
    (tmp_path / "a-file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    before = files_under(tmp_path)
    done = pruningbench(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    message = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
    assert len(message) == 1, done.stderr
    assert files_under(tmp_path) == before


def test_a_folder_of_another_suite(pruningbench: Command, suite_file: Write, tmp_path: Path) -> None:
    pruningbench("run", suite_file(), "--out", "run", "--progress", "none", check=0)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    done = pruningbench("run", suite_file(TOY_SUITE.replace("0.9]", "0.8]")), "--out", "run", check=2)
    assert "belongs to another suite" in done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def with_task(fields: str) -> str:
    return TOY_SUITE.replace("{use: toy-task, ", f"{{use: toy-task, {fields}, ")


def test_a_failing_component(pruningbench: Command, suite_file: Write, tmp_path: Path) -> None:
    path = suite_file(with_task("fail_at: 0.9"))
    for arguments in ([], [], ["--retry-failed"]):
        done = pruningbench("run", path, *arguments, check=1)
        assert "4 task runs are not ok" in done.stderr
        assert "ValueError: cannot stand 0.9 zeros" in done.stderr
        assert "Traceback" not in done.stderr
    records = [json.loads(line) for line in (tmp_path / "runs/toy/results.jsonl").read_text().splitlines()]
    failed = [record for record in records if record["status"] == "failed"]
    assert all(record["error"].startswith("Traceback") for record in failed)
    assert sorted(record["attempts"] for record in failed) == [1] * 4 + [2] * 4
    assert sum(record["status"] == "ok" for record in records) == 12


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("die_at: 0.9", "SIGKILL"),
        ("exit_at: 0.9", "exited without a message"),
        ("exit_at: 0.9, exit_code: 64", "exit status 64"),
        ("exit_at: 0.9, exit_code: 0", "exit status 0"),
    ],
)
def test_a_component_that_kills_its_process(
    how: str, words: str, pruningbench: Command, suite_file: Write, tmp_path: Path, toy_log: Callable[[], list[str]]
) -> None:
    """The cell is crashed, all others run, in one command; and it is not tried for ever."""
    text = with_task(how).replace("recipes: [none, {use: finetune, epochs: 1}]", "recipes: [none]")
    done = pruningbench("run", suite_file(text), check=1)
    table = load_results(tmp_path / "runs/toy")
    crashed = table[table["status"] == "crashed"]
    assert set(crashed["sparsity"]) == {0.9}
    assert len(crashed) == 2
    assert all(words in error for error in crashed["error"])
    assert set(table[table["status"] == "ok"]["sparsity"]) == {0.0, 0.5}
    assert toy_log().count("task 0.9") == 4
    assert "crashed" in done.stderr
    pruningbench("run", suite_file(text), check=1)
    assert toy_log().count("task 0.9") == 4


def test_broken_plugins_are_named_and_left_out(pruningbench: Command, tmp_path: Path) -> None:
    (tmp_path / "bad-2.0.dist-info").mkdir()
    (tmp_path / "bad-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 2.0\n")
    (tmp_path / "bad-2.0.dist-info" / "entry_points.txt").write_text("[pruningbench]\nbad = bad_plugin\n")
    (tmp_path / "bad_plugin.py").write_text("raise ImportError('no such extra')\n")
    path = os.pathsep.join([str(tmp_path), toy_environment()["PYTHONPATH"]])
    done = pruningbench("list", check=0, PYTHONPATH=path)
    assert "bad (bad 2.0)" in done.stderr
    assert "no such extra" in done.stderr
    assert "magnitude" in done.stdout
    assert "bad (bad 2.0)" in pruningbench("doctor", check=1, PYTHONPATH=path).stderr
    assert "bad" not in pruningbench("list", check=0, PYTHONPATH=path, PRUNINGBENCH_PLUGINS="").stderr


def test_doctor(pruningbench: Command, tmp_path: Path) -> None:
    text = pruningbench("doctor", check=0).stdout
    assert "no problems" in text
    assert "toy (toybench 1.0)" in text
    assert f"cache        {tmp_path / 'cache'}" in text
    done = pruningbench("doctor", check=1, PRUNINGBENCH_DATA="/no/such/folder")
    assert "PRUNINGBENCH_DATA" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_and_resume(number: int, suite_file: Write, tmp_path: Path, pruningbench: Command) -> None:
    path = suite_file(with_task("seconds: 0.3"))
    process = subprocess.Popen([*COMMAND, "run", str(path)], cwd=tmp_path, env=toy_environment(),
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    journal = tmp_path / "runs/toy/results.jsonl"
    deadline = time.monotonic() + 60
    while (not journal.exists() or not journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues from here" in err
    assert "Traceback" not in err
    done = len(load_results(tmp_path / "runs/toy").drop_duplicates("cell"))
    assert 0 < done < 10
    assert not (tmp_path / "runs/toy/running.json").exists()
    text = pruningbench("run", path, check=0).stdout
    assert f"{10 - done} task runs computed now, {done} done before" in text


def test_the_live_display_on_a_terminal(suite_file: Write, tmp_path: Path) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen([*COMMAND, "run", str(suite_file(with_task("fail_at: 0.9, seconds: 0.2")))], cwd=tmp_path,
                               env={**toy_environment(), "TERM": "xterm"}, stdout=child, stderr=child)  # fmt: skip
    os.close(child)
    shown = b""
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:  # Linux says so when the other side has closed
            break
        if not block:
            break
        shown += block
    assert process.wait(timeout=60) == 1
    os.close(parent)
    assert b"/10 cells" in shown
    assert b"4 failed" in shown
    assert shown.count(b"\x1b[?25h") >= 1  # the cursor is back


def test_retrying_goes_on_after_a_crash(pruningbench: Command, suite_file: Write, tmp_path: Path) -> None:
    text = with_task("die_at: 0.5, fail_at: 0.9").replace(
        "recipes: [none, {use: finetune, epochs: 1}]", "recipes: [none]"
    )
    pruningbench("run", suite_file(text), check=1)
    pruningbench("run", suite_file(text), "--retry-failed", check=1)
    table = load_results(tmp_path / "runs/toy")
    again = table[table["status"] != "ok"]
    assert set(again["attempts"]) == {2}
    assert dict(zip(again["sparsity"], again["status"], strict=False)) == {0.5: "crashed", 0.9: "failed"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quickstart", "--out", "~nobody-of-this-name/x"], "nobody-of-this-name"),
        (["run", "~nobody-of-this-name/x.yaml"], "nobody-of-this-name"),
        (["run", "x" * 300], "x" * 80),
        (["plan", "quickstart", "--set", "models.²=x"], "items 0 to 1"),
        (["run", "quickstart", "--shard", "²/4"], "I/N"),
        (["plan", "quickstart", "--set", "data=false"], "a dataset is a name"),
    ],
)
def test_odd_requests(arguments: list[str], words: str, pruningbench: Command) -> None:
    done = pruningbench(*arguments, check=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_outputs_that_cannot_be_written(pruningbench: Command) -> None:
    environment = toy_environment()
    for target in (">&-", "> /dev/full", "| true"):
        line = f"{COMMAND[0]} -c '{COMMAND[2]}' list {target}"
        done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr, target
        assert "Exception ignored" not in done.stderr, target


def test_plugins_that_print_do_not_spoil_json(pruningbench: Command, tmp_path: Path) -> None:
    (tmp_path / "loud-2.0.dist-info").mkdir()
    (tmp_path / "loud-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 2.0\n")
    (tmp_path / "loud-2.0.dist-info" / "entry_points.txt").write_text("[pruningbench]\nloud = loud_plugin\n")
    (tmp_path / "loud_plugin.py").write_text("print('hello')\n")
    path = os.pathsep.join([str(tmp_path), toy_environment()["PYTHONPATH"]])
    assert json.loads(pruningbench("list", "--json", check=0, PYTHONPATH=path).stdout)
    assert "typo" in pruningbench("list", check=0, PRUNINGBENCH_PLUGINS="typo").stderr
