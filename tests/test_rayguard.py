"""The guard of a cluster that a run has started: it ends what uses the cluster's folder, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruningbench.harness.rayguard import RayGuard

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="guards need /proc")
NAMED = "import sys, time; time.sleep(60)"
OPEN = "import os, sys, time; place = os.environ.pop('PLACE'); file = open(place + '/log', 'w'); time.sleep(60)"
DRIVER = """
import sys, time
from pathlib import Path
from pruningbench.harness.rayguard import RayGuard
guard = RayGuard(Path(sys.argv[1]))
if sys.argv[2] == "dismiss":
    guard.dismiss()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One that names the folder, one that has a file of it open, and one that has nothing to do with it."""
    place = tmp_path / "place"
    place.mkdir()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen([sys.executable, "-c", NAMED, f"--temp_dir={place}"], **quiet),  # type: ignore[call-overload]
        subprocess.Popen([sys.executable, "-c", OPEN], env={"PLACE": str(place)}, **quiet),  # type: ignore[call-overload]
        subprocess.Popen([sys.executable, "-c", NAMED, str(tmp_path / "other")], **quiet),  # type: ignore[call-overload]
    ]
    while not (place / "log").exists():
        time.sleep(0.02)
    yield started
    for process in started:
        process.kill()
        process.wait()


def driven(tmp_path: Path, how: str) -> subprocess.Popen[bytes]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "place"), how], stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert driver.stdout is not None and driver.stdout.readline() == b"ready\n"
    return driver


def killed(driver: subprocess.Popen[bytes]) -> None:
    driver.kill()
    driver.communicate()


def test_a_killed_driver_takes_its_cluster_along(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    named, opened, other = processes
    killed(driven(tmp_path, "keep"))
    assert named.wait(20) == opened.wait(20) == -9
    deadline = time.monotonic() + 20
    while (tmp_path / "place").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (tmp_path / "place").exists()
    assert other.poll() is None


def test_a_driver_that_has_ended_its_cluster_leaves_everything(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    killed(driven(tmp_path, "dismiss"))
    time.sleep(1)
    assert [process.poll() for process in processes] == [None] * 3
    assert (tmp_path / "place").exists()


def test_a_guard_ends_when_it_is_dismissed(tmp_path: Path) -> None:
    guard = RayGuard(tmp_path / "none")
    process = guard._process
    assert process is not None and process.poll() is None
    guard.dismiss()
    assert process.poll() == 0
    guard.dismiss()
