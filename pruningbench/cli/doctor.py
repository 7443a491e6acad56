"""``pruningbench doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pruningbench.cli.common import say

if TYPE_CHECKING:
    from pruningbench.plugins import Registration, Registry


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
def doctor(runs: tuple[str, ...]) -> int:
    """Check versions, devices, the components of all plugins, and folders; exit code 1 if something is wrong.

    With run folders, also name the components that changed what they were lent in these runs.
    """
    from pruningbench.base.files import default_cache_folder
    from pruningbench.base.text import displayable
    from pruningbench.base.versions import package_version
    from pruningbench.images.fetch import data_folder
    from pruningbench.plugins import load_registry
    from pruningbench.store.code import unread_packages
    from pruningbench.store.environment import PACKAGES, source_state
    from pruningbench.version import __version__

    problems: list[str] = [text for run in runs for text in _borrowers(run)]
    source = source_state()
    place = f", commit {(source['commit'] or '?')[:12]}{' (dirty)' if source['dirty'] else ''}" if source else ""
    say(f"pruningbench {__version__}{place}, Python {platform.python_version()}, {platform.platform()}")
    say("packages     " + ", ".join(f"{name} {package_version(name) or 'MISSING'}" for name in PACKAGES))
    absent = [name for name in PACKAGES if not package_version(name)]
    problems += [f"package {name} is not installed: pip install {name}" for name in absent]
    try:
        say(f"devices      {_devices()}")
    except Exception as error:  # noqa: BLE001 - a broken torch fails in many ways, and this command reports them
        problems.append(f"torch cannot be used: {error}")
    registry = load_registry()
    for plugin in registry.plugins:
        registered = [entry for entry in registry if entry.plugin == plugin]
        count = sum(entry.plugin == plugin for entry in registry.everything())
        say(f"plugin       {displayable(plugin)}: {count} registered")
        for package in unread_packages({entry.where.partition(":")[0] for entry in registered}):
            say(
                f"unread code  {displayable(plugin)}: the source of {package} cannot be read, so edits are not "
                "noticed: only its version is compared, and its rows are marked"
            )
    problems += [f"plugin {broken.plugin}: {broken.reason}" for broken in registry.broken]
    problems += [f"plugin {bad.plugin}, while it was loaded: {bad.reason}" for bad in registry.contained]
    problems += registry.clashes()
    problems += _unimportable(registry)
    cache = default_cache_folder()
    say(f"cache        {cache} ({_free(cache)} free)")
    problem = _unwritable(cache)
    if problem:
        problems.append(f"cache folder {cache} cannot be written ({problem}); set PRUNINGBENCH_CACHE")
    data = data_folder()
    say(f"data         {data} ({_free(data)} free)")
    if os.environ.get("PRUNINGBENCH_DATA") and not data.is_dir():
        problems.append(f"PRUNINGBENCH_DATA={data} is not a folder")
    for text in problems:
        say(f"problem      {displayable(text)}", err=True)
    say("no problems" if not problems else f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _borrowers(run: str) -> Iterator[str]:
    """Yield a line for each component that changed what it was lent in a run, with the first cell that shows it.

    Raises:
        RunFolderError: if the folder holds no run, or its journal is damaged.
    """
    from pruningbench.base.files import expanded
    from pruningbench.errors import RunFolderError
    from pruningbench.store.journal import read_journal
    from pruningbench.store.runfolder import RESULTS

    path = expanded(run) / RESULTS
    if not path.is_file():
        raise RunFolderError(f"{expanded(run)}: is not a run folder (there is no {RESULTS}); give the folder of a run")
    seen: set[str] = set()
    for record in read_journal(path)[0]:
        for note in filter(None, record.notes.split("; ")):
            if note not in seen:
                seen.add(note)
                cell = f"{record.model} {record.pruner} {record.sparsity:g} {record.recipe} seed {record.seed}"
                yield f"run {run}: {note} (first in {cell}, task {record.task}; no other value was affected)"


def _unimportable(registry: Registry) -> Iterator[str]:
    """Yield a line for each component whose class cannot be imported.

    Components are imported when a suite first uses them. This command imports all of them, so that a missing package
    shows up before a run.
    """
    from pruningbench.errors import PluginError

    for entry in registry.everything():
        try:
            with redirect_stdout(sys.stderr):
                entry.load()
        except PluginError as error:
            yield f"{' '.join(str(error).split())}; {_remedy(entry, error.__cause__)}"


def _remedy(entry: Registration, cause: BaseException | None) -> str:
    """Return what to do about a component that cannot be imported because of `cause`."""
    package = entry.where.partition(":")[0].partition(".")[0]
    absent = (getattr(cause, "name", None) or "").partition(".")[0] if isinstance(cause, ModuleNotFoundError) else ""
    if absent and absent != package:
        return f"install the package that provides {absent!r} (try: pip install {absent})"
    distribution = entry.plugin.distribution
    return f"update the plugin (pip install --upgrade {distribution}) or tell its authors; its other components work"


def _devices() -> str:
    import torch

    devices = [f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"]
    devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return ", ".join(devices)


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(_existing(path)).free / 2**30:.0f} GiB"


def _unwritable(folder: Path) -> str | None:
    """Return why no file can be created in `folder` (or in its nearest existing parent), or None."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return None
    except OSError as error:
        return error.strerror or str(error)
