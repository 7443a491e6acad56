"""What a plugin changes in the process while it is loaded is named and set back; endless imports end."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from kit.installs import GOOD, PARTS, Install

from pruningbench.plugins import build_registry, containment
from pruningbench.plugins.containment import contained

CHANGES = {
    "import torch; torch.set_num_threads(3)": "the number of threads was changed",
    "import torch; torch.set_default_dtype(torch.float64)": "the default dtype was changed",
    "import torch; torch.set_grad_enabled(False)": "autograd was switched on or off",
    "import torch; torch.manual_seed(3)": "torch's random state was changed",
    "import numpy; numpy.random.seed(3)": "NumPy's random state was changed",
    "import random; random.seed(3)": "the state of `random` was changed",
    "import matplotlib; matplotlib.use('svg')": "the backend of matplotlib was changed",
    "import warnings; warnings.simplefilter('ignore')": "the filters of all warnings were changed",
    "import warnings; warnings.resetwarnings()": "the filters of all warnings were changed",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)": "signal handlers were changed",
    "import sys; sys.setrecursionlimit(5000)": "the recursion limit was changed",
    "import sys; sys.excepthook = print": "hooks of the interpreter were replaced",
    "import os; os.chdir('/')": "the working folder was changed",
    "print('hello', flush=True)": "it printed 'hello'",
}


def process() -> tuple[object, ...]:
    """Return the state that the changes concern."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return (
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(), random.getstate(), dict.__getitem__(mpl.rcParams, "backend"),
        list(warnings.filters), handlers, sys.getrecursionlimit(), sys.excepthook, Path.cwd(), sys.stdout, sys.stderr,
        len(sys.meta_path), signal.getsignal(signal.SIGALRM),
    )  # fmt: skip


@pytest.mark.parametrize("source", CHANGES)
def test_a_change_is_named_and_set_back(install: Install, source: str) -> None:
    before = process()
    install("toy_good", GOOD)
    registry = build_registry(install("toy_rude", f"    {source}\n{GOOD}"))
    assert process() == before
    (found,) = registry.contained
    assert (found.plugin.name, found.reason) == ("toy_rude", CHANGES[source])
    assert not registry.broken
    assert registry.names("pruner") == ["toy-good", "toy-rude"]  # it still works


# what a component prints goes where its caller's output goes
@pytest.mark.parametrize("source", [source for source in CHANGES if not source.startswith("print")])
def test_a_component_that_is_imported_later_is_contained_too(install: Install, source: str) -> None:
    registry = build_registry(install("toy_late", GOOD, parts=f"    {source}\n{PARTS}"))
    assert not registry.contained
    before = process()
    with pytest.warns(UserWarning, match="pruner 'toy-late' of plugin toy_late .* while it was imported: ") as found:
        component = registry.entry("pruner", "toy-late").load()
    assert CHANGES[source] in str(found[0].message)
    assert component.__name__ == "Good"
    assert process() == before


def test_a_library_that_the_plugin_imports_is_read_before_the_plugin_changes_it(tmp_path: Path) -> None:
    """In a process of its own, where neither torch nor NumPy nor matplotlib is imported before."""
    script = textwrap.dedent("""
        import json, sys
        from pruningbench.plugins.containment import contained
        found = []
        assert not {"torch", "numpy", "matplotlib"} & set(sys.modules)
        with contained("plugin rude", found.append):
            import matplotlib, numpy, numpy.random, torch
            state = numpy.random.get_state()[1].tolist(), torch.get_num_threads(), torch.get_rng_state().tolist()
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.set_default_dtype(torch.float64)
            torch.manual_seed(3)
            numpy.random.seed(3)
            matplotlib.use("svg")
        assert state == (numpy.random.get_state()[1].tolist(), torch.get_num_threads(), torch.get_rng_state().tolist())
        assert torch.get_default_dtype() == torch.float32
        assert dict.__getitem__(matplotlib.rcParams, "backend") != "svg"
        print(json.dumps([words for words in found if "took" not in words]))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == sorted(
        CHANGES[source] for source in CHANGES if source.startswith(("import torch", "import numpy", "import matplotlib"))
        and "grad" not in source
    )  # fmt: skip


def test_filters_that_libraries_add_for_their_own_warnings_stay() -> None:
    found: list[str] = []
    with warnings.catch_warnings():
        with contained("plugin good", found.append):
            warnings.filterwarnings("ignore", message="numpy.dtype size changed")
            warnings.filterwarnings("ignore", module="toy_module")
        assert not found
        assert len([f for f in warnings.filters if f[1] or f[3]]) >= 2


def test_long_imports_are_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "SLOW", 0.05)
    monkeypatch.setattr(containment, "PATIENCE", 0.1)
    points = install("toy_slow", f"    import time; time.sleep(.4)\n{GOOD}")
    with pytest.warns(UserWarning, match=r"plugin toy_slow \(toy_slow-dist 1.2\) has been importing for 0.1 s"):
        registry = build_registry(points)
    (found,) = registry.contained
    assert found.reason.startswith("it took 0.")
    assert "import libraries in methods" in found.reason
    assert registry.names("pruner") == ["toy-slow"]


def test_an_endless_import_ends() -> None:
    """In a process of its own, whose alarm nobody else uses."""
    script = textwrap.dedent("""
        import signal
        from pruningbench.errors import PluginError
        from pruningbench.plugins import containment
        containment.LONGEST = 0.3
        found = []
        try:
            with containment.contained("plugin stuck", found.append):
                while True:
                    pass
        except PluginError as error:
            print(error)
        print(signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, found)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == ["plugin stuck takes longer than 0.3 s to import", "(0.0, 0.0) True []"]


def test_threads_that_stay_are_named() -> None:
    found: list[str] = []
    script = "import threading, time\nthreading.Thread(target=time.sleep, args=[1], daemon=True).start()"
    with contained("plugin rude", found.append):
        exec(script)
    assert found == ["a thread was started or ended, which stays"]


def test_an_alarm_that_somebody_else_set_is_left_alone() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    try:
        with contained("plugin good", rung.append):  # type: ignore[arg-type]
            assert callable(signal.getsignal(signal.SIGALRM))
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]
