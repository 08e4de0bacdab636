"""Disks that are full, and disks that fail: `python -m tests.crash.full [--rounds 2] [--seed 7]`.

Each engine of a home has a small disk of its own. One after the other is filled to the last byte
under load and emptied again; then fsync fails now and then for PostgreSQL and NATS (strace). Health
must say so, writes must go on, and nothing that was acknowledged may be lost. Writes
bench/results/full.json, exits 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

import psutil
import psycopg

from tests.crash.children import Died
from tests.crash.ground import empty, fill, small_disk
from tests.crash.journal import read
from tests.crash.judge import Verdict
from tests.crash.loop import users_of
from tests.crash.objects import BUCKET
from tests.crash.power import ANSWER_S, Power, Say
from tests.flow.embedded_s3 import client_of

DISKS: Final = {
    "postgres": ("engines/postgres", 1024),
    "nats": ("engines/nats", 1600),  # 1 GB is reserved for each stream
    "valkey": ("engines/valkey", 128),
    "seaweedfs": ("engines/seaweedfs", 512),
    "clickhouse": ("clickhouse", 256),
    "lancedb": ("lancedb", 256),
}
SAID_MAX_S: Final = 5.0
RESUMED_MAX_S: Final = 30.0
FULL_S: Final = 6.0
FAILS_S: Final = 3.0
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "full.json"
PROBE: Final = "INSERT INTO public.thing VALUES (%s, %s, %s)"


@dataclass
class Round:
    """What came of one fault. Seconds until health said so, and until every write went on."""

    engine: str
    fault: str
    said_s: float | None = None
    said: str = ""
    resumed_s: float | None = None
    faults: int = 1


class Full(Power):
    """A home each of whose engines has a disk of its own."""

    def __init__(self, folder: Path, seed: int, say: Say) -> None:
        super().__init__(folder, seed, say)
        self.rounds: list[Round] = []
        self.disks = {name: self.home / at for name, (at, _) in DISKS.items()}
        self._probe = 8_000_000

    def prepare(self) -> str:
        """Mount them; why that cannot be, or nothing."""
        for name, (at, size_mb) in DISKS.items():
            if why := small_disk(self.home / at, size_mb):
                return f"{name}: {why}"
        self.home.chmod(0o755)
        return ""

    def discard(self) -> None:
        """Unmount them all, and leave nothing."""
        for process in users_of(self.home):
            process.kill()
        for disk in self.disks.values():
            subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True, timeout=9)

    async def filled(self, name: str) -> Round:
        """One disk is full for a while."""
        found = Round(name, "full")
        disk = self.disks[name]
        await asyncio.to_thread(fill, disk)
        began = monotonic()  # the memory of a gigabyte takes seconds to be had
        try:
            while monotonic() - began < FULL_S:
                if found.said_s is None and (said := await self._said()):
                    found.said, found.said_s = said, round(monotonic() - began, 2)
                await asyncio.sleep(0.1)
                await asyncio.to_thread(fill, disk)  # what the engine has freed meanwhile
        finally:
            empty(disk)
        return await self._resumed(found)

    async def failing(self, name: str) -> Round | None:
        """fsync fails now and then, for all processes of an engine."""
        family = self.ground.family(name)
        log = self.folder / f"strace-{name}.log"
        every = self.chance.choice((3, 10, 30))
        tracing = _failing(family, self.chance.randrange(1, every), every, log)
        found = Round(name, "EIO")
        began = monotonic()
        try:
            while monotonic() - began < FAILS_S:
                if found.said_s is None and (said := await self._said()):
                    found.said, found.said_s = said, round(monotonic() - began, 2)
                await asyncio.sleep(0.1)
        finally:
            with suppress(ProcessLookupError):
                tracing.send_signal(signal.SIGINT)
            tracing.wait(20)
        found.faults = log.read_text(errors="replace").count("INJECTED")
        return await self._resumed(found)

    async def _said(self) -> str:
        """What health says when it is not well."""
        try:
            found = await self.ask("health")
        except (Died, TimeoutError):
            return ""
        if found.get("health") == "healthy":
            return ""
        return "; ".join(f"{k}: {it}" for k, it in found["engines"].items() if it[0] != "healthy")

    async def _resumed(self, found: Round) -> Round:
        """Wait until a row, a batch of points and an object are taken, and all is applied."""
        began = monotonic()
        before = self._points()
        urls = self.owner.told["admins"]
        while monotonic() - began < 2 * RESUMED_MAX_S:
            try:
                await self._row(urls["postgres"])
                await asyncio.to_thread(self._object, urls["s3"])
                caught_up = await self.ask('caught_up {"timeout_s": 10}')
                if self._points() > before and "error" not in caught_up:
                    found.resumed_s = round(monotonic() - began, 2)
                    break
            except Exception as error:
                self.tell(f"not yet: {type(error).__name__}: {str(error)[:200]}")
            await asyncio.sleep(0.3)
        self.rounds.append(found)
        self.tell(f"{found}")
        return found

    async def _row(self, url: str) -> None:
        self._probe += 1
        async with asyncio.timeout(5):
            connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
            async with connection:
                await connection.execute("DELETE FROM public.thing WHERE id = %s", [self._probe])

    def _points(self) -> int:
        found: list[int] = [it["points"] for it in read(self.folder / "points.jsonl")]
        return max(found, default=0)

    def _object(self, url: str) -> None:
        client_of(url).put_object(Bucket=BUCKET, Key="probe", Body=b"probe")

    async def judged(self) -> Verdict:
        """At rest: is anything lost?"""
        verdict = Verdict()
        await self.work(False)
        await self.ask('caught_up {"timeout_s": 60}')
        await self.judge(verdict)
        self.verdicts.append(verdict)
        for it in self.rounds:
            if it.resumed_s is None or it.resumed_s > RESUMED_MAX_S:
                verdict.wrong.append(f"slow: {it}")
            if it.fault == "full" and (it.said_s is None or it.said_s > SAID_MAX_S):
                verdict.wrong.append(f"not said: {it}")
        return verdict


def _failing(
    family: list[psutil.Process], first: int, every: int, log: Path
) -> subprocess.Popen[bytes]:
    """A process that has every so many fsync of each process fail."""
    command = ["strace", "-f", "-q", "-o", str(log), "-e", "trace=fsync,fdatasync", "-e"]
    command += [f"inject=fsync,fdatasync:error=EIO:when={first}+{every}"]
    command += [f"-p{process.pid}" for process in family]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


async def run(full: Full, rounds: int, engines: list[str]) -> str:
    """Each disk in its turn; then failures, where there is strace. Why not, or nothing."""
    if why := await full.start():
        return why
    for _ in range(rounds):
        for name in engines:
            await asyncio.sleep(full.chance.uniform(0.5, 2))
            await full.filled(name)
    if shutil.which("strace") is None:
        full.tell("THERE IS NO strace HERE: FAILING DISKS ARE LEFT OUT")
    else:
        for _ in range(rounds):
            for name in ("postgres", "nats"):
                if name in engines:
                    await asyncio.sleep(full.chance.uniform(0.5, 2))
                    await full.failing(name)
    await full.judged()
    return ""


async def play(seed: int, rounds: int, engines: list[str], say: Say) -> dict[str, Any]:
    """All of it, cleaned up; the report."""
    folder = Path(mkdtemp(prefix="polyplane-power-"))
    folder.chmod(0o755)
    full = Full(folder, seed, say)
    (folder / "disk").mkdir()
    try:
        async with asyncio.timeout(ANSWER_S * 10 * rounds):
            why = await run(full, rounds, engines)
    finally:
        await full.stop()
        full.discard()
    report = full.report()
    names = ("lost", "phantom", "drift", "wrong", "acknowledged", "points", "objects")
    if not report["wrong"]:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "seed": seed,
        "why_not": why,
        "faults": sum(it.faults for it in full.rounds),
        **{name: report[name] for name in names},
        "said_s_max": max((it.said_s or 0 for it in full.rounds if it.fault == "full"), default=0),
        "resumed_s_max": max((it.resumed_s or 0 for it in full.rounds), default=0),
        "rounds": [asdict(it) for it in full.rounds],
    }


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.full", description=__doc__)
    parser.add_argument("engines", nargs="*", help=f"any of: {', '.join(DISKS)}; default all")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    engines = asked.engines or list(DISKS)
    say = partial(print, flush=True)
    report = asyncio.run(play(asked.seed, asked.rounds, engines, say))
    text = json.dumps(report, indent=1)
    print(text)
    if report["why_not"]:
        sys.exit(f"NO SMALL DISK CAN BE MOUNTED HERE: {report['why_not']}")
    if not asked.no_result:
        RESULT.write_text(text + "\n")
    if report["wrong"]:
        sys.exit("Wrong.")


if __name__ == "__main__":
    main()
