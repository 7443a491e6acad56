"""The toy plugin's place and suite, and the command line that knows it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from kit.commands import COMMAND

__all__ = ["COMMAND", "TOY", "TOY_SUITE", "Command", "toy_environment"]

TOY = Path(__file__).parents[1] / "toy"
TOY_SUITE = """\
name: toy
models: [toy-net]
pruners: [toy-pruner, {use: toy-pruner, allocation: uniform}]
sparsities: [0, 0.5, 0.9]
recipes: [none, {use: finetune, epochs: 1}]
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
metrics: [toy-margin]
"""
Command = Callable[..., subprocess.CompletedProcess[str]]


def toy_environment() -> dict[str, str]:
    """Return an environment in which the command line finds the toy plugin."""
    path = os.pathsep.join(filter(None, [str(TOY), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "140"}
