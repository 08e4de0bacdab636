"""`polyplane demo` leaves nothing running, however and whenever it is stopped, and works again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic, sleep

import psutil
import pytest

from polyplane.embedded import running

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40
DEMO_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """One home for all: each run finds what the one before left."""
    folder = Path(mkdtemp(prefix="polyplane-demo-"))
    yield folder
    rmtree(folder, ignore_errors=True)


@contextmanager
def demo_on(home: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process group of its own, as a shell starts it."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "polyplane", "demo", "--json", "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield demo
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.communicate()


def on_home(home: Path) -> list[psutil.Process]:
    """Every process that was started for this home: the demo's, `up`, its engines."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(home) in word for word in process.info["cmdline"] or ())
    ]


def wait_until(is_so: Callable[[], bool], timeout_s: float) -> None:
    """Return when it is so."""
    deadline = monotonic() + timeout_s
    while not is_so():
        assert monotonic() < deadline
        sleep(0.05)


def an_engine_runs(home: Path) -> bool:
    """While the engines are started."""
    return len(on_home(home)) > 2


def a_controller_runs(home: Path) -> bool:
    """In the middle of the experiment."""
    return any("controller" in p.info["cmdline"] for p in on_controllers(home))


def on_controllers(home: Path) -> list[psutil.Process]:
    """The children of the demo itself."""
    demos = [p for p in on_home(home) if "demo" in p.info["cmdline"]]
    children = [child for demo in demos for child in demo.children()]
    for child in children:
        child.info = {"cmdline": ()}
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):  # it has ended just now
            child.info = {"cmdline": child.cmdline()}
    return children


@pytest.mark.parametrize(
    "moment", [pytest.param(an_engine_runs, marks=pytest.mark.long), a_controller_runs]
)
def test_ctrl_c_leaves_nothing_running(home: Path, moment: Callable[[Path], bool]) -> None:
    with demo_on(home) as demo:
        wait_until(lambda: moment(home), START_TIMEOUT_S)
        children = on_controllers(home)
        os.killpg(demo.pid, signal.SIGINT)  # what the terminal does to the whole group
        told, _ = demo.communicate(timeout=STOP_TIMEOUT_S)
    assert demo.returncode == 130
    assert json.loads(told)["data"]["error"] == "interrupted"
    assert on_home(home) == []
    assert [child for child in children if child.is_running()] == []
    assert running(home) is None


@pytest.mark.long
def test_a_killed_demo_takes_its_plane_with_it(home: Path) -> None:
    with demo_on(home) as demo:
        wait_until(lambda: running(home) is not None, START_TIMEOUT_S)
        demo.kill()
    wait_until(lambda: on_home(home) == [], STOP_TIMEOUT_S)


@pytest.mark.timeout(DEMO_TIMEOUT_S + STOP_TIMEOUT_S)
def test_the_next_run_works_and_proves_it(home: Path) -> None:
    with demo_on(home) as demo:
        told, log = demo.communicate(timeout=DEMO_TIMEOUT_S)
    assert demo.returncode == 0, told + log
    done = json.loads(told)["data"]
    assert (done["missing"], done["stale"], done["extra"]) == (0, 0, 0)
    assert done["activities"] >= 20
    assert done["telemetry_points"] >= 20_000
    assert done["learnings"] >= 10
    came = json.loads((home / "senders.json").read_text())["pp"]  # as users of their own
    assert [user.rpartition("~")[0] for user in came] == ["pp~laboratory~default"] * 2
    assert on_home(home) == []
