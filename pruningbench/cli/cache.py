"""``pruningbench cache list | prune | clear | verify``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pruningbench.cli.common import complain, parse_memory, say, say_json
from pruningbench.cli.data import human_size

if TYPE_CHECKING:
    from pruningbench.store.cachefiles import CacheEntry
    from pruningbench.store.copies import Copy

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
    """List, prune, clear or check the cache of weights, scores, masks, networks, images, and copies of runs at URLs.

    PRUNINGBENCH_CACHE sets its folder. PRUNINGBENCH_TENSOR_CACHE limits weights, scores, masks and networks together,
    PRUNINGBENCH_IMAGE_CACHE the images, and PRUNINGBENCH_REMOTE_CACHE the copies, in GiB; each is 20 by default.
    """


@cache.command("list")
@kind_option
@older_option
@click.option("--all", "every", is_flag=True, help="List each entry with its inputs.")
@click.option("--json", is_flag=True, help="Print JSON: every entry with its files.")
def list_(kinds: tuple[str, ...], older: float | None, every: bool, json: bool) -> int:
    """List the contents of the cache: kind, size, age, last use, and what each entry was made from."""
    from pruningbench.base.files import default_cache_folder

    chosen, copies, now = _chosen(kinds, older, copies_too=True), _copies(kinds, older), time.time()
    if json:
        found = {"folder": str(default_cache_folder()), "entries": [_plain(entry) for entry in chosen]}
        say_json(found | {"copies": [{**_plain(copy), "kept": copy.kept} for copy in copies]})
        return 0
    say(f"cache folder  {default_cache_folder()}")
    both: list[CacheEntry | Copy] = [*chosen, *copies]
    groups = dict.fromkeys(entry.kind for entry in both)
    width = max(map(len, groups), default=0)
    for kind in groups:
        of_kind = [entry for entry in both if entry.kind == kind]
        say(f"  {kind:<{width}}  {_summary(of_kind)}, oldest {span(now - min(e.made for e in of_kind))}")
        for entry in of_kind if every else ():
            age, used = span(now - entry.made), span(now - entry.used)
            kept = f" ({entry.kept})" if entry.kept else ""
            say(f"    {human_size(entry.size):>8}  made {age} ago, used {used} ago  {entry.origin}{kept}")
    say(f"total {_summary(both)}" + ("" if every or not both else "; --all lists every entry"))
    return 0


def _plain(entry: CacheEntry | Copy) -> dict[str, Any]:
    return {
        "kind": entry.kind, "files": [str(f) for f in entry.files], "size": entry.size, "made": entry.made,
        "used": entry.used, "origin": entry.origin,
    }  # fmt: skip


@cache.command("prune")
@kind_option
@click.option(
    "--older-than", "older", callback=_age, metavar="AGE", help="Also remove what was not used for this long, e.g. 30d."
)
@click.option(
    "--to",
    "most",
    callback=parse_memory,
    metavar="SIZE",
    help="Leave at most this of each kind, e.g. 5GB.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@yes_option
def prune(kinds: tuple[str, ...], older: float | None, most: int | None, dry_run: bool, yes: bool) -> int:
    """Remove what was not used for longest, until the cache is within its limits, or those of --to and --older-than.

    This includes copies of runs at URLs, except those that are in use or hold what is not at their URL.
    """
    _chosen(kinds, None, copies_too=True)  # refuses unknown kinds
    found: list[CacheEntry | Copy] = [*_chosen((), None), *_copies((), None)]
    going = _going(found, kinds, older, most)
    _show([entry for entry in found if not kinds or entry.kind in kinds], going)
    if not going:
        say("there is nothing to remove")
        return 0
    if dry_run:
        say(f"would remove {_summary(going)}")
        return 0
    if not _agreed(f"remove {_summary(going)}?", yes):
        say("nothing was removed")
        return 1
    removed = [entry for entry in going if entry.remove()]
    for entry in set(going).difference(removed):
        complain("kept", f"{entry.origin}: somebody uses it by now, or it cannot be removed")
    say(f"removed {_summary(removed)}")
    return 0


def _going(
    found: Sequence[CacheEntry | Copy], kinds: Sequence[str], older: float | None, most: int | None
) -> list[CacheEntry | Copy]:
    """Return what goes, in the order of kinds."""
    from pruningbench.store.copies import too_many

    groups: dict[str, list[CacheEntry | Copy]] = {}
    for entry in found:
        groups.setdefault(entry.kind if most is not None else _limited_by(entry), []).append(entry)
    going: set[CacheEntry | Copy] = set()
    for name, group in groups.items():
        may_go = [entry for entry in group if not entry.kept and (not kinds or entry.kind in kinds)]
        limit = most if most is not None else _limit(name)
        going.update(() if limit is None else too_many(group, may_go, limit))
        going.update(entry for entry in may_go if older is not None and time.time() - entry.used >= older)
    return [entry for entry in found if entry in going]


def _limited_by(entry: CacheEntry | Copy) -> str:
    """Return the name of the limit that an entry counts towards; "" if there is none."""
    from pruningbench.store.cachefiles import COPIES, CacheEntry

    if not isinstance(entry, CacheEntry):
        return COPIES
    return "tensors" if entry.is_tensors else "images" if entry.is_images else ""


def _limit(name: str) -> int | None:
    from pruningbench.images.rows import budget as images
    from pruningbench.store.cache import budget as tensors
    from pruningbench.store.cachefiles import COPIES
    from pruningbench.store.copies import budget as copies

    limits = {"tensors": tensors, "images": images, COPIES: copies}
    return limits[name]() if name in limits else None


def _show(found: Sequence[CacheEntry | Copy], going: Sequence[CacheEntry | Copy]) -> None:
    """Print a line for each kind, and one for each copy that must be kept."""
    from pruningbench.base.files import default_cache_folder

    say(f"cache folder  {default_cache_folder()}")
    kinds = dict.fromkeys(entry.kind for entry in found)
    width = max(map(len, kinds), default=0)
    for kind in kinds:
        goes = [entry for entry in going if entry.kind == kind]
        rest = f"; {_summary(goes)} to remove" if goes else ""
        say(f"  {kind:<{width}}  {_summary([entry for entry in found if entry.kind == kind])}{rest}")
    for entry in found:
        if entry.kept:
            say(f"    {human_size(entry.size):>8}  kept, {entry.kept}: {entry.origin}")


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


def _chosen(kinds: Sequence[str], older: float | None, *, copies_too: bool = False) -> list[CacheEntry]:
    from pruningbench.base.files import default_cache_folder
    from pruningbench.errors import UsageError, did_you_mean
    from pruningbench.store.cachefiles import COPIES, entries

    stored = entries(default_cache_folder())
    stored_kinds = sorted({entry.kind for entry in stored})
    for kind in kinds:
        if kind == COPIES and not copies_too:
            raise UsageError(f"--kind {kind}: copies of runs at URLs may hold what is nowhere else; use `cache prune`")
        if kind not in stored_kinds and kind != COPIES:
            hint = did_you_mean(kind, stored_kinds) or f"; there are: {', '.join(stored_kinds) or 'none, it is empty'}"
            raise UsageError(f"--kind {kind}: the cache holds no {kind}{hint}")
    now = time.time()
    return [e for e in stored if (not kinds or e.kind in kinds) and (older is None or now - e.used >= older)]


def _copies(kinds: Sequence[str], older: float | None) -> list[Copy]:
    from pruningbench.base.files import default_cache_folder
    from pruningbench.store.cachefiles import COPIES
    from pruningbench.store.copies import copies

    found, now = copies(default_cache_folder()) if not kinds or COPIES in kinds else [], time.time()
    return [copy for copy in found if older is None or now - copy.used >= older]


def _agreed(question: str, yes: bool) -> bool:
    """Ask for confirmation and return the answer; return False if standard input is not a terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        say(f"{question} there is no terminal to confirm on: add --yes", err=True)
        return False
    return click.confirm(question)


def _summary(chosen: Sequence[CacheEntry | Copy]) -> str:
    entries = "1 entry" if len(chosen) == 1 else f"{len(chosen)} entries"
    return f"{entries}, {human_size(sum(entry.size for entry in chosen))}"


def span(seconds: float) -> str:
    """Return an age in readable form: ``5 min``, ``3 h``, ``12 d``."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 min"
