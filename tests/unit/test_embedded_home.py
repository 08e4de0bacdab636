"""Who holds a home: decided by the kernel, told without a gap."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from polyplane import embedded
from polyplane.embedded import Engines, running
from polyplane.errors import HomeBusy, Misconfigured


async def test_a_home_is_held_from_start_to_stop(tmp_path: Path) -> None:
    engines = Engines(tmp_path / "home", wanted=[])
    await engines.start()
    owner = running(tmp_path / "home")
    assert owner is not None
    assert (owner.pid, owner.api_url) == (os.getpid(), None)
    engines.publish_owner("http://127.0.0.1:8000")
    published = running(tmp_path / "home")
    assert published is not None
    assert (published.started_at, published.api_url) == (owner.started_at, "http://127.0.0.1:8000")
    with pytest.raises(HomeBusy, match=f"process {os.getpid()}"):
        await Engines(tmp_path / "home", wanted=[]).start()
    await engines.stop()
    assert running(tmp_path / "home") is None
    with pytest.raises(Misconfigured, match="not held"):
        engines.publish_owner("http://127.0.0.1:8000")


def test_what_a_dead_owner_wrote_is_not_believed(tmp_path: Path) -> None:
    hold_and_die = (
        "import os, sys, pathlib, polyplane.embedded.home as h;"
        "h.Home(pathlib.Path(sys.argv[1])).take(); os._exit(9)"
    )
    argv = [sys.executable, "-c", hold_and_die, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(embedded.__file__).parents[2])}
    assert subprocess.run(argv, env=environment, timeout=30, check=False).returncode == 9
    assert (tmp_path / "owner.json").read_text()
    assert running(tmp_path) is None


async def test_asking_never_gets_in_the_way_of_a_start(tmp_path: Path) -> None:
    over = threading.Event()
    seen: set[int | None] = set()

    def ask() -> None:
        while not over.wait(0.001):
            owner = running(tmp_path)
            seen.add(None if owner is None else owner.pid)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            engines = Engines(tmp_path, wanted=[])
            await engines.start()
            await engines.stop()
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=10)
    assert seen == {None, os.getpid()}
