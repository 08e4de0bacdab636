"""`python -m tests.crash.limits [--kills 100]`: clients of the limits are killed, and their server.

Eight processes ask as fast as they can for the same few clients of Valkey, and are killed at any
moment, the server with them now and then. No key may ever be without an expiry, and nobody may get
more than the rate and the burst allow. Writes bench/results/limits_crash.json; exits 1 when
anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from polyplane.errors import StoreDown
from polyplane.security.rates import Asked, Rate
from polyplane.stores.cache.valkey import connect
from tests.conftest import SharedEngines

PROCESSES: Final = 8
CLIENTS: Final = 5
RATE: Final = Rate(200, 1.0, 40)
BY_ALL: Final = Rate(700, 1.0, 100)
"""A second limit that every request is counted against, too."""
READY_S: Final = 30.0
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "limits_crash.json"


async def ask(url: str, prefix: str, told: Path, seed: int) -> None:
    """Ask until killed; write down whose requests passed, each before the next is asked."""
    cache, chance = await connect(url, prefix=prefix, timeout_s=2), random.Random(seed)
    with told.open("ab", buffering=0) as file:
        while True:
            client = chance.randrange(CLIENTS)
            try:
                said = await cache.limits.check_all(
                    [Asked(f"c{client}", RATE), Asked("everybody", BY_ALL)]
                )
            except StoreDown:
                await asyncio.sleep(0.05)
                continue
            if all(it.allowed for it in said):
                os.write(file.fileno(), b"%d" % client)


class Asking:
    """One process that asks, and is begun again when it is dead."""

    def __init__(self, url: str, prefix: str, folder: Path, number: int) -> None:
        self._args = [url, prefix, str(folder / f"told{number}")]
        self._lives = number * 1_000
        self.process: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        """A new process."""
        self._lives += 1
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crash.limits", "--ask", *self._args, str(self._lives)),
            cwd=Path(__file__).parents[2],
        )

    async def kill(self) -> None:
        """End it, wherever it is."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


async def run(
    url: str,
    folder: Path,
    *,
    kills: int,
    seed: int,
    processes: int = PROCESSES,
    kill_server: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """Kill so many of them; what was found."""
    chance, prefix = random.Random(seed), f"crash{uuid4().hex[:8]}:default:"
    raw: Redis = Redis.from_url(url)
    asking = [Asking(url, prefix, folder, n) for n in range(processes)]
    began, servers, immortal, keys = monotonic(), 0, 0, 0

    async def look() -> None:
        nonlocal immortal, keys
        left = [await raw.pttl(name) async for name in raw.scan_iter(f"{prefix}*", count=1_000)]
        immortal, keys = immortal + left.count(-1), max(keys, len(left))

    try:
        for it in asking:
            await it.begin()
        await _all_ask(folder, processes)
        for n in range(kills):
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            if kill_server is not None and n % 20 == 19:
                servers += 1
                await kill_server()
            doomed = chance.choice(asking)
            await doomed.kill()
            with suppress(RedisError):  # it is on its way back
                await look()
            await doomed.begin()
    finally:
        for it in asking:
            if it.process is not None and it.process.returncode is None:
                await it.kill()
    took_s = monotonic() - began
    await _answered(look)
    await raw.aclose()
    passed = [_passed(folder, client) for client in range(CLIENTS)]
    # A server that lost its last second gives that again.
    again = servers + 1
    most = {
        "client": RATE.limit * took_s + RATE.at_once * again + RATE.limit * servers,
        "all": BY_ALL.limit * took_s + BY_ALL.at_once * again + BY_ALL.limit * servers,
    }
    wrong = [f"{it} of one client in {took_s:.1f} s" for it in passed if it > most["client"]]
    if sum(passed) > most["all"]:
        wrong.append(f"{sum(passed)} requests of all in {took_s:.1f} s")
    if immortal:
        wrong.append(f"{immortal} keys without an expiry")
    if not all(passed):
        wrong.append("somebody never passed: nothing is proven")
    return {
        "seed": seed,
        "kills": kills,
        "servers_killed": servers,
        "took_s": round(took_s, 2),
        "keys": keys,
        "without_expiry": immortal,
        "passed": passed,
        "most": {name: round(it) for name, it in most.items()},
        "wrong": wrong,
    }


async def _answered(look: Callable[[], Awaitable[None]]) -> None:
    """Look until there is an answer: the server may have been killed a moment ago."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                await look()
                return
            except RedisError:
                await asyncio.sleep(0.1)


async def _all_ask(folder: Path, processes: int) -> None:
    """Wait until each process has been let in once."""
    async with asyncio.timeout(READY_S * processes):
        while any(not _told(folder, n) for n in range(processes)):
            await asyncio.sleep(0.02)


def _told(folder: Path, number: int) -> bytes:
    path = folder / f"told{number}"
    return path.read_bytes() if path.exists() else b""


def _passed(folder: Path, client: int) -> int:
    return sum(_told(folder, n).count(b"%d" % client) for n in range(PROCESSES))


async def main(kills: int, seed: int) -> dict[str, Any]:
    """On a server of its own."""
    home = Path(mkdtemp(prefix="polyplane-limits-"))
    engines = SharedEngines(home / "engines", wanted=("valkey",))
    try:
        await engines.start()
        url = engines.urls["valkey"]

        async def kill_server() -> None:
            raw: Redis = Redis.from_url(url)
            try:
                pid = (await raw.info("server"))["process_id"]
            except RedisError:  # it is on its way back
                return
            finally:
                await raw.aclose()
            os.kill(pid, signal.SIGKILL)

        return await run(url, home, kills=kills, seed=seed, kill_server=kill_server)
    finally:
        await engines.stop()
        rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.crash.limits", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--ask", nargs=4, metavar=("URL", "PREFIX", "TOLD", "SEED"))
    asked = parser.parse_args()
    if asked.ask:
        where, before, notes, number = asked.ask
        asyncio.run(ask(where, before, Path(notes), int(number)))
    report = asyncio.run(main(asked.kills, asked.seed))
    text = json.dumps(report, indent=1)
    print(text)
    RESULT.write_text(text + "\n")
    if report["wrong"]:
        sys.exit("Wrong.")
