"""``pruningbench cache list | clear | verify``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pruningbench.cli.common import complain, say, say_json
from pruningbench.cli.data import human_size

if TYPE_CHECKING:
    from pruningbench.store.cachefiles import CacheEntry

_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def _age(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Parse ``30d``, ``12h`` or ``2w`` as seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", value.strip())
    if not match:
        raise click.BadParameter(f"{value!r} must be a number with h, d or w, for example 30d")
    return float(match[1]) * _UNITS[match[2]]


kind_option = click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind. Repeatable.")
older_option = click.option(
    "--older-than",
    "older",
    callback=_age,
    metavar="AGE",
    help="Only entries not used for this long, e.g. 12h, 30d or 2w.",
)
yes_option = click.option("--yes", is_flag=True, help="Remove without confirmation.")


@click.group()
def cache() -> None:
    """List, clear or check the cache of weights, scores, masks, networks and images.

    PRUNINGBENCH_CACHE sets its folder; PRUNINGBENCH_TENSOR_CACHE and PRUNINGBENCH_IMAGE_CACHE limit its size in GiB.
    """


@cache.command("list")
@kind_option
@older_option
@click.option("--all", "every", is_flag=True, help="List each entry with its inputs.")
@click.option("--json", is_flag=True, help="Print JSON: every entry with its files.")
def list_(kinds: tuple[str, ...], older: float | None, every: bool, json: bool) -> int:
    """List the contents of the cache: kind, size, age, last use, and what each entry was made from."""
    from pruningbench.base.files import default_cache_folder

    chosen, now = _chosen(kinds, older), time.time()
    if json:
        rows = [
            {"kind": e.kind, "files": [str(f) for f in e.files], "size": e.size, "made": e.made, "used": e.used,
             "origin": e.origin}
            for e in chosen
        ]  # fmt: skip
        say_json({"folder": str(default_cache_folder()), "entries": rows})
        return 0
    say(f"cache folder  {default_cache_folder()}")
    groups = dict.fromkeys(entry.kind for entry in chosen)
    width = max(map(len, groups), default=0)
    for kind in groups:
        of_kind = [entry for entry in chosen if entry.kind == kind]
        say(f"  {kind:<{width}}  {_summary(of_kind)}, oldest {span(now - min(e.made for e in of_kind))}")
        for entry in of_kind if every else ():
            age, used = span(now - entry.made), span(now - entry.used)
            say(f"    {human_size(entry.size):>8}  made {age} ago, used {used} ago  {entry.origin}")
    say(f"total {_summary(chosen)}" + ("" if every or not chosen else "; --all lists every entry"))
    return 0


@cache.command("clear")
@kind_option
@older_option
@yes_option
def clear(kinds: tuple[str, ...], older: float | None, yes: bool) -> int:
    """Remove the contents of the cache, all or by kind and age; entries are made again when needed."""
    chosen = _chosen(kinds, older)
    if not chosen:
        say("there is nothing to remove")
        return 0
    if not _agreed(f"remove {_summary(chosen)}?", yes):
        say("nothing was removed")
        return 1
    for entry in chosen:
        entry.remove()
    say(f"removed {_summary(chosen)}")
    return 0


@cache.command("verify")
@kind_option
@yes_option
def verify(kinds: tuple[str, ...], yes: bool) -> int:
    """Compare the contents of the cache with their digests; exit code 1 if damaged entries remain.

    Damaged entries are listed, and removed only if you agree. A run detects them by itself and makes them again.
    """
    from pruningbench.store.cachefiles import problem

    chosen = _chosen(kinds, None)
    damaged = [(entry, text) for entry in chosen if (text := problem(entry))]
    for entry, text in damaged:
        complain("damaged", f"{entry.files[0]}: {text}")
    say(f"{len(chosen) - len(damaged)} of {len(chosen)} entries are intact")
    if not damaged:
        return 0
    if not _agreed(f"remove the {len(damaged)} damaged entries?", yes):
        say("nothing was removed; --yes removes damaged entries")
        return 1
    for entry, _ in damaged:
        entry.remove()
    say(f"removed {len(damaged)} damaged entries")
    return 0


def _chosen(kinds: Sequence[str], older: float | None) -> list[CacheEntry]:
    from pruningbench.base.files import default_cache_folder
    from pruningbench.errors import UsageError, did_you_mean
    from pruningbench.store.cachefiles import entries

    stored = entries(default_cache_folder())
    stored_kinds = sorted({entry.kind for entry in stored})
    for kind in kinds:
        if kind not in stored_kinds:
            hint = did_you_mean(kind, stored_kinds) or f"; there are: {', '.join(stored_kinds) or 'none, it is empty'}"
            raise UsageError(f"--kind {kind}: the cache holds no {kind}{hint}")
    now = time.time()
    return [e for e in stored if (not kinds or e.kind in kinds) and (older is None or now - e.used >= older)]


def _agreed(question: str, yes: bool) -> bool:
    """Ask for confirmation and return the answer; return False if standard input is not a terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        say(f"{question} there is no terminal to confirm on: add --yes", err=True)
        return False
    return click.confirm(question)


def _summary(chosen: Sequence[CacheEntry]) -> str:
    entries = "1 entry" if len(chosen) == 1 else f"{len(chosen)} entries"
    return f"{entries}, {human_size(sum(entry.size for entry in chosen))}"


def span(seconds: float) -> str:
    """Return an age in readable form: ``5 min``, ``3 h``, ``12 d``."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 min"
