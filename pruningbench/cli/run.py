"""``pruningbench run SUITE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pruningbench.base.text import displayable, last_line
from pruningbench.cli.common import (
    RunPath,
    announce,
    complain,
    limit_option,
    not_option,
    only_option,
    parse_memory,
    parse_shard,
    parse_time,
    registry_with_warnings,
    say,
    say_lines,
    set_option,
    table_width,
    with_limit,
)
from pruningbench.cli.completion import observers as observer_names
from pruningbench.cli.completion import suites

if TYPE_CHECKING:
    from collections.abc import Callable

    from pruningbench.harness.driver import Summary
    from pruningbench.store.runfolder import RunFolder


@click.command()
@click.argument("suite", shell_complete=suites)
@click.option("--out", type=RunPath(), help="Run folder, or its URL such as s3://bucket/folder; runs/NAME by default.")
@set_option
@only_option
@not_option
@limit_option
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps or auto.")
@click.option(
    "--executor", default="serial", show_default=True, help="Executor: serial, processes, ray, or that of a plugin."
)
@click.option("--workers", default=1, show_default=True, help="Number of processes; the serial executor uses one.")
@click.option("--address", help="Ray cluster to use, such as auto or ray://HOST:10001; by default one on this machine.")
@click.option(
    "--task-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Kill a task, or the making of a cell's model, that shows no progress for so long; the rest goes on.",
)
@click.option(
    "--budget",
    callback=parse_time,
    metavar="TIME",
    help="Start nothing that is not likely to end within this time, such as 2h or 90min; most informative cells first.",
)
@click.option(
    "--memory",
    callback=parse_memory,
    metavar="SIZE",
    help="Memory that a task may hold for its images and maps, such as 8GB; tasks with more go in parts. Default: 4GB.",
)
@click.option(
    "--shard",
    metavar="I/N",
    callback=parse_shard,
    help="Only part I of N of the cells, for batch schedulers.",
)
@click.option("--retry-failed", is_flag=True, help="Repeat task runs that are not ok.")
@click.option(
    "--accept-changed",
    is_flag=True,
    help="Keep and mark finished rows whose weights, data or code have changed; without this option they are "
    "measured again.",
)
@click.option(
    "--verify-data", is_flag=True, help="Read all weights and data again, even if no file seems to have changed."
)
@click.option("--no-cache", is_flag=True, help="Compute everything again: neither read nor write this machine's cache.")
@click.option(
    "--progress", type=click.Choice(["rich", "plain", "none"]), help="Default: rich on a terminal, else plain."
)
@click.option("--pdf", is_flag=True, help="Draw each figure as PDF, too, for print; this takes longer.")
@click.option(
    "--upload-every", type=float, default=30.0, show_default=True, metavar="SECONDS",
    help="With --out URL: upload what is finished this often.",
)  # fmt: skip
@click.option(
    "--observer", "observers", multiple=True, metavar="NAME", shell_complete=observer_names,
    help="Also pass values on to tensorboard, wandb or mlflow (`pruningbench list observers`); repeatable.",
)  # fmt: skip
def run(
    suite: str,
    out: Path | str | None,
    settings: tuple[str, ...],
    only: tuple[str, ...],
    without: tuple[str, ...],
    limit: int | None,
    device: str,
    executor: str,
    workers: int,
    address: str | None,
    task_timeout: float | None,
    budget: float | None,
    memory: int | None,
    shard: tuple[int, int] | None,
    retry_failed: bool,
    accept_changed: bool,
    verify_data: bool,
    no_cache: bool,
    progress: str | None,
    pdf: bool,
    upload_every: float,
    observers: tuple[str, ...],
) -> int:
    """Run SUITE (a file, or the name of a shipped suite) and print the leaderboard.

    Results that the run folder already holds are not computed again: the same command resumes an interrupted run and
    continues with a suite that has grown. Results whose weights, data or code have changed since are measured again.
    """
    from pruningbench.cli.progress import make_observer
    from pruningbench.harness.run import RunOptions, execute, finished_summary, prepare
    from pruningbench.suite.schema import load_suite

    registry = registry_with_warnings()
    loaded = load_suite(suite, registry, with_limit(settings, limit))
    options = RunOptions(
        device=device,
        executor=executor,
        workers=workers,
        address=address,
        shard=shard,
        retry_failed=retry_failed,
        only=tuple(only),
        without=tuple(without),
        accept_changed=accept_changed,
        no_cache=no_cache,
        verify_data=verify_data,
        task_timeout=task_timeout,
        memory=memory,
        budget=budget,
        observers=observers,
        upload_every=upload_every,
    )
    prepared = prepare(loaded, registry, out, options)

    if prepared.pending:
        announce(prepared.plan)

    def work() -> int:
        execute(prepared, registry, make_observer(progress))
        return 0

    if prepared.idle:
        for note in prepared.notes:
            complain("warning", note)
    code = 0 if prepared.idle else _supervised(work, prepared.folder)
    if code:
        return code
    shown = prepared.remote.shown if prepared.remote else ""
    code = report(prepared.folder.path, finished_summary(prepared), shown, pdf=pdf)
    if prepared.remote:
        prepared.remote.finish(lambda message: complain("warning", message))
        say(f"uploaded to  {shown}")
    return code


def _supervised(work: Callable[[], int], folder: RunFolder) -> int:
    """Run `work` in a child process if the platform allows it; return its exit code."""
    from pruningbench.cli.main import guarded
    from pruningbench.harness.attempts import DeathWatch
    from pruningbench.harness.supervisor import can_supervise, supervise

    if not can_supervise():
        return work()

    def died(how: str) -> bool:
        blamed = DeathWatch(folder.running).blame(how)
        if blamed:
            complain("warning", f"the worker process {how}; starting it again")
        return blamed

    return supervise(lambda: guarded(work), died)


def report(folder: Path, summary: Summary, url: str = "", *, pdf: bool = False) -> int:
    """Print the leaderboard, the task runs that are not ok, and where the results are; return the exit code.

    Args:
        folder: the run folder.
        summary: how the run ended.
        url: where the run folder can be read by others; "" if nowhere.
        pdf: whether figures are drawn as PDF, too.
    """
    from pruningbench.errors import PruningBenchError
    from pruningbench.leaderboard import build, draw_figures
    from pruningbench.leaderboard.results import load_results
    from pruningbench.leaderboard.text import terminal_lines

    table = load_results(folder, details=True)
    if (table["status"] == "ok").any():
        say_lines(terminal_lines(build(table, [folder]), table_width()))
    try:
        drawn = f"{len(draw_figures(folder, pdf=pdf))} pictures"
    except PruningBenchError as error:  # for example, the disk is full; the numbers are stored
        complain("warning", error)
        drawn = "not drawn"
    say()
    counts = f"{summary.computed} task runs computed now, {summary.resumed} done before"
    say(f"{summary.cells} cells: {counts if summary.computed else 'nothing to compute, all was done before'}")
    say(f"results      {folder / 'results.jsonl'}")
    say(f"figures      {folder / 'figures'} ({drawn})")
    say(f"leaderboard  pruningbench leaderboard {url or folder} --format markdown")
    if summary.ok:
        return 0
    if summary.pending:
        say(f"\n{summary.pending} task runs are still to do: run the same command again", err=True)
    if not summary.not_ok:
        return 1
    say(f"\n{len(summary.not_ok)} task runs are not ok (full traceback in results.jsonl):", err=True)
    for record in summary.not_ok:
        condition = f"{record.model} {record.pruner} {record.sparsity:g} {record.recipe} seed {record.seed}"
        say(displayable(f"  {record.status}: {condition}, task {record.task}: {last_line(record.error)}"), err=True)
    say("run the same command with --retry-failed to try them again", err=True)
    return 1
