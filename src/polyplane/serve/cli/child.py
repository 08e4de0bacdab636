"""A `polyplane up` of our own, as a child that cannot be left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from select import select
from time import monotonic
from typing import Any, Final

from polyplane.errors import PolyplaneError

START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 60.0
LOG: Final = "up.log"


@contextmanager
def child_up(home: Path) -> Iterator[Callable[[], None]]:
    """Run `up` on `home` until the block ends. Yields a function that waits until it is ready.

    It stops in order when its standard input ends, and that ends with this process, however this
    process ends. A Ctrl-C of the terminal reaches only us. The wait raises PolyplaneError with
    what the child said when it does not come up.
    """
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "polyplane", "up", "--json", "--with-stdin"]
    with open(home / LOG, "wb") as log:
        child = subprocess.Popen(
            [*command, "--home", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield partial(_wait_until_ready, child, home / LOG)
    finally:
        _stop(child)


def _wait_until_ready(child: subprocess.Popen[bytes], log: Path) -> None:
    assert child.stdout is not None
    deadline, said = monotonic() + START_TIMEOUT_S, b""
    while not said.endswith(b"\n"):
        if not select([child.stdout], [], [], max(0, deadline - monotonic()))[0]:
            raise PolyplaneError(f"up was not ready within {START_TIMEOUT_S:g} s.", fix=_see(log))
        part = child.stdout.read1(65_536)  # type: ignore[attr-defined]
        if not part:
            raise PolyplaneError("up ended before it was ready.", fix=_see(log))
        said += part
    envelope: dict[str, Any] = json.loads(said)
    if envelope["status"] != "ok":
        raise PolyplaneError(envelope["data"]["message"], fix=envelope["data"]["fix"])


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()  # its engines are stopped or adopted by the next start
        child.wait()
    finally:
        if child.stdout is not None:
            child.stdout.close()


def _see(log: Path) -> str:
    return f"Its log: {log}"
