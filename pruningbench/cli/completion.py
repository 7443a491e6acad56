"""``pruningbench completion SHELL``, and what is completed."""

from __future__ import annotations

import click

from pruningbench.cli.common import say

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PRUNINGBENCH_COMPLETE"
PROGRAM = "pruningbench"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print a script that completes commands, options, suites and components in a SHELL.

    bash and zsh: eval "$(pruningbench completion bash)" in .bashrc, or zsh in .zshrc. fish: pruningbench completion
    fish > ~/.config/fish/completions/pruningbench.fish
    """
    from click.shell_completion import get_completion_class

    from pruningbench.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all three
    say(made(cli, {}, PROGRAM, VARIABLE).source().rstrip("\n"))
    return 0


def suites(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Complete the names of suites; paths are completed by the shell's own rules."""
    del ctx
    return _names("suite", begun)


def observers(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Complete the names of observers."""
    del ctx
    return _names("observer", begun)


def kinds(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Complete the kinds of components."""
    from pruningbench.contract.component import KINDS

    del ctx
    return [kind for kind in ("suite", *KINDS) if kind.startswith(begun)]


def components(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Complete the names of the kind that the command line names."""
    return _names(str(ctx.params.get("kind", "")).removesuffix("s"), begun)


def _names(kind: str, begun: str) -> list[str]:
    """Return the registered names that begin so; nothing is imported but the plugins."""
    from pruningbench.plugins import load_registry

    registry = load_registry()
    return [name for name in (registry.names(kind) if kind in registry.entries else []) if name.startswith(begun)]  # type: ignore[arg-type]
