"""A new plugin: a package with a working component, its tests, and an example suite, made from a template."""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
from pathlib import Path

from pruningbench.errors import UsageError, did_you_mean
from pruningbench.hookspecs import CONTRACT_VERSION
from pruningbench.version import __version__

HOOKS = {
    "pruner": "pruningbench_register_pruners",
    "model": "pruningbench_register_models",
    "task": "pruningbench_register_tasks",
    "metric": "pruningbench_register_metrics",
    "dataset": "pruningbench_register_datasets",
    "recipe": "pruningbench_register_recipes",
    "attribution-method": "pruningbench_register_attribution_methods",
    "discovery-method": "pruningbench_register_discovery_methods",
}
KINDS = tuple(HOOKS)
"""The kinds of components that `new_plugin` knows."""
PREFIX = "pruningbench-"
TEMPLATE = Path(__file__).parent / "template"
LONGEST = 60
"""Maximum length of a name, so that paths stay short."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, kind: str, parent: Path) -> Path:
    """Write a pip-installable package with a working component of `kind`, and return its folder.

    The folder is ``PARENT/pruningbench-NAME``; the component is registered as ``NAME``. It appears whole or not at all.

    Args:
        name: kebab-case name, with or without the prefix ``pruningbench-``.
        kind: one of `KINDS`; ``method`` means ``attribution-method``.
        parent: existing folder in which the package's folder is made.

    Raises:
        UsageError: for a wrong name or kind, if the folder exists or cannot be written, or if copier is not installed.
    """
    name = name.removeprefix(PREFIX)
    kind = "attribution-method" if kind == "method" else kind
    module = f"pruningbench_{name.replace('-', '_')}"
    if not _NAME.fullmatch(name) or len(name) > LONGEST or keyword.iskeyword(module):
        raise UsageError(
            f"plugin name {name[: LONGEST + 1]!r} is not kebab-case of at most {LONGEST} characters; "
            "use small letters, digits and single hyphens, such as 'my-pruner'"
        )
    if kind not in HOOKS:
        hint = did_you_mean(kind, KINDS) or f"; kinds are: {', '.join(KINDS)}"
        raise UsageError(f"unknown kind {kind!r}{hint}")
    target = parent / f"{PREFIX}{name}"
    if not parent.is_dir():
        raise UsageError(f"{parent}: no such folder; create it first, or name another with --in")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target}: exists already; choose another name, or remove it")
    answers = {
        "distribution": target.name,
        "module": module,
        "name": name,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "kind": kind,
        "hook": HOOKS[kind],
        "contract": CONTRACT_VERSION,
        "version": __version__,
    }
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".pruningbench-new-") as scratch:
            made = Path(scratch) / target.name
            _copy(made, answers)
            shutil.move(made, target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror or error})") from None
    return target


def _copy(destination: Path, answers: dict[str, str]) -> None:
    try:
        from copier import run_copy
    except ImportError:
        raise UsageError("`plugin new` needs copier: pip install 'pruningbench[plugin]'") from None
    # a local template of ours, without tasks or extensions: nothing in it is executed
    run_copy(str(TEMPLATE), destination, data=answers, defaults=True, quiet=True, unsafe=False)
