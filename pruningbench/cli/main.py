"""The entry point: runs the command, and turns an error into one line and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from pruningbench.cli.common import complain, say

COMMANDS = {
    "run": ("pruningbench.cli.run:run", "Run a suite, or resume it, and print the leaderboard."),
    "plan": ("pruningbench.cli.plan:plan", "Show what a run would do, without running it."),
    "list": ("pruningbench.cli.list:list_", "List suites and components."),
    "show": ("pruningbench.cli.show:show", "Describe a component and its fields."),
    "leaderboard": ("pruningbench.cli.leaderboard:leaderboard", "Make tables from one or more runs."),
    "compare": ("pruningbench.cli.compare:compare", "Show what is better, worse, new or gone between two results."),
    "merge": ("pruningbench.cli.merge:merge", "Make one run folder from several, such as shards."),
    "site": ("pruningbench.cli.site:site", "Make pages that open from disk: answers, table, curves."),
    "submit": ("pruningbench.cli.submit:submit", "Make one file of a finished run, for others to read and check."),
    "verify": ("pruningbench.cli.verify:verify", "Check a submission, and compute cells of it again."),
    "publish": ("pruningbench.cli.publish:publish", "Publish results on a hub: a data set, and pages to browse."),
    "new": ("pruningbench.cli.new:new", "Make a suite by answering four questions."),
    "schema": ("pruningbench.cli.schema:schema", "Print the JSON Schema of suites, for editors."),
    "data": ("pruningbench.cli.data:data", "List data sets, fetch one, or print its folder."),
    "plugin": ("pruningbench.cli.plugin:plugin", "Make a new plugin, or check one."),
    "cache": ("pruningbench.cli.cache:cache", "List, prune, clear or check the cache of this machine."),
    "completion": ("pruningbench.cli.completion:completion", "Print a script that completes commands in a shell."),
    "doctor": ("pruningbench.cli.doctor:doctor", "Check the installation: devices, plugins, folders."),
}


class LazyGroup(click.Group):
    """Imports a command only when it is used, so that --help is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which users need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Suggest the nearest command for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from pruningbench.errors import did_you_mean

            hint = did_you_mean(args[0], COMMANDS) or f"; commands are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from pruningbench.version import __version__

        say(f"pruningbench {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """What does pruning do to a vision model's representation, beyond accuracy?

    Start with: pruningbench run quickstart
    """


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _use_plain_warnings() -> None:
    """Show the library's warnings as one line without the source location."""

    def show(message: Warning | str, category: type[Warning], *_place: object, **_more: object) -> None:
        if issubclass(category, UserWarning):
            complain("warning", message)

    warnings.showwarning = show


def _use_plain_tracebacks() -> None:
    """Show the traceback of an internal error as Python does, but without terminal control characters."""

    def show(*error: Any) -> None:
        say("".join(traceback.format_exception(*error)).rstrip(), err=True)

    sys.excepthook = show


def _discard_output() -> None:
    """Keep the interpreter from complaining at exit about a closed standard output."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def guarded(work: Callable[[], Any]) -> int:
    """Call `work` and return an exit code; print a user error as one line on standard error.

    Exit codes: 0, all cells are ok; 1, some are not; 2, the request was invalid and nothing ran; 130, interrupted.
    """
    from pruningbench.errors import PruningBenchError

    try:
        code = work()
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        say(text.getvalue().rstrip("\n"), err=True)
        return error.exit_code
    except PruningBenchError as error:
        complain("error", f"{error} (see docs: {error.page})" if error.page else error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code of `guarded`."""
    _use_plain_warnings()
    _use_plain_tracebacks()
    signal.signal(signal.SIGTERM, _interrupt)  # sent by batch schedulers: clean up as after Ctrl-C
    try:
        code = guarded(lambda: cli.main(arguments, prog_name="pruningbench", standalone_mode=False))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has closed the pipe
        code = 1
        _discard_output()
    except OSError as error:
        complain("error", f"output cannot be written ({error.strerror})")
        code = 1
        _discard_output()
    if code == 130:
        say("interrupted; finished tasks are safe: the same command continues from here", err=True)
    sys.exit(code)
