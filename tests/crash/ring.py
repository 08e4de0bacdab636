"""The crash ring: everything is killed, paused, cut and wiped under load; then it must be right."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tests.crash import judge, trips
from tests.crash.children import Child, Died, Life, of_home
from tests.crash.declared import NAMESPACE
from tests.crash.faults import KILLS, OTHERS
from tests.crash.ground import ENGINES, Ground
from tests.crash.journal import Expected
from tests.crash.judge import EVENTS_FROM, Verdict
from tests.crash.nursery import Nursery
from tests.crash.points import named_steps
from tests.crash.proxy import Proxy
from tests.crash.raw import Held, Vectors, cards
from tests.crash.rooms import ELSEWHERE, ONLY_OWNER, WHEN_ASKED

WRITERS = 2
ALIVE_S = 60.0
CHECK_S = 120.0
SOMETIMES = (
    "engine_adopted",
    "engine_restarted",
    "epoch.bumped",
    "feed.reconnected",
    "ingest.finishes_range",
    "reader.begins_again",
    "relay.fenced",
    "relay.finishes_page",
)
"""What the product says when it takes a way of recovery: each must have been taken."""


def never_taken(report: dict[str, Any]) -> list[str]:
    """The ways of recovery that a run has not led to."""
    return [name for name in SOMETIMES if not report["sometimes"].get(name)]


class Down(Exception):
    """A program says that an engine does not answer."""


class Ring:
    """One home with its engines, two programs, the writers, the observer, and what befalls them."""

    def __init__(self, home: Path, seed: int, say: Callable[[str], None]) -> None:
        self.home = home
        self.seed = seed
        self.chance = random.Random(seed)
        self.ground = Ground(home)
        self.proxies = {name: Proxy(partial(self.ground.port, name)) for name in ENGINES}
        self.nursery = Nursery(home)
        self.owner = Life(self.nursery.bear, lambda: self._order("owner"), self.tell)
        self.worker = Life(self.nursery.bear, lambda: self._order("worker"), self.tell)
        self.load: Child
        self.observer: Child
        self.faults = Counter[str]()
        self.verdicts: list[Verdict] = []
        self.recoveries_s: list[float] = []
        self.events_wiped = False
        self.steps = [it for it in named_steps() if not it.startswith(ELSEWHERE)]
        self._say = say
        self.forced: list[str] = []
        """Steps at which the next owners are to die, one each."""
        self.pause_s: float | None = None
        self.armed = True
        self._number = 0
        self._events_since = EVENTS_FROM
        self._other: asyncio.Task[None] | None = None
        self._began = asyncio.get_running_loop().time()

    # The programs

    def _order(self, role: str) -> dict[str, Any]:
        self._number += 1
        armed = self.armed and self.chance.random() < 0.3
        step = self.next_step(role) if armed else ""
        nth = self.chance.choice((1, 1, 2, 3, 5, 8, 20))
        if role == "owner" and self.forced:
            step, nth = self.forced.pop(0), 1
        pauses = role == "worker" and self.chance.random() < 0.4
        return {
            "home": str(self.home),
            "role": role,
            "number": self._number,
            "ports": {name: proxy.port for name, proxy in self.proxies.items()},
            "urls": self.owner.told.get("urls", {}) if role == "worker" else {},
            "step": step,
            "nth": nth,
            "signal": "SIGSTOP" if pauses else "SIGKILL",
        }

    def next_step(self, role: str) -> str:
        """A step that comes by itself."""
        steps = [it for it in self.steps if not it.startswith(tuple(WHEN_ASKED))]
        if role == "worker":
            steps = [it for it in steps if not it.startswith(ONLY_OWNER)]
        return self.chance.choice(steps)

    def killed(self, step: str) -> int:
        return self.owner.blown[step] + self.worker.blown[step]

    def direct(self, engine: str) -> str:
        """The URL of an engine, past its proxy."""
        return self.ground.url(engine, self.owner.told["admins"][engine])

    async def start(self) -> None:
        """All of it, at work."""
        if not self.ground.mount():
            self._say("NO SMALL DISK CAN BE MOUNTED HERE: `fill disk` IS LEFT OUT")
        for proxy in self.proxies.values():
            await proxy.start()
        await self.nursery.start()
        self.armed = False  # the writers need a table
        self.owner.begin()
        await self.alive(self.owner)
        self.armed = True
        urls = {name: self.direct(name) for name in ENGINES}
        told = json.dumps({**urls, "home": str(self.home), "namespace": NAMESPACE})
        log = self.home / "others.err"
        self.load = await Child.start("load", log, self.home, self.seed, WRITERS)
        self.observer = await Child.start("observer", log)
        self.load.say(told)
        self.observer.say(told)
        self.worker.begin()
        self.worker.pause_s = self.owner.pause_s = lambda: self.pause_s or self.chance.uniform(2, 7)
        await self._work(True)

    async def alive(self, life: Life) -> None:
        async with asyncio.timeout(ALIVE_S):
            await life.open.wait()

    async def _work(self, on: bool) -> None:
        how = "on" if on else "off"
        for what in ("rows", "points"):
            await self.load.ask(f"{what} {how}", "done", ALIVE_S)

    async def keep_writing(self) -> None:
        """Whenever the owner is open it writes, too."""
        child: Child | None = None
        while True:
            await self.owner.open.wait()
            if self.owner.now is not child and (child := self.owner.now) is not None:
                with suppress(Died, TimeoutError):
                    await child.ask('write {"on": true}', "answer", 20)
            await asyncio.sleep(0.05)

    # Faults

    async def storm(self, duration_s: float, pause_s: tuple[float, float]) -> None:
        """Faults, until `duration_s` is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + duration_s
        writing = asyncio.create_task(self.keep_writing())
        try:
            while loop.time() < until:
                await asyncio.sleep(self.chance.uniform(*pause_s))
                if self.chance.random() < 0.45 and self._other is None:
                    name = self.chance.choice(sorted(OTHERS))
                    self._other = asyncio.create_task(self.do(name))
                elif self.chance.random() < 0.7:
                    await self.do(self.chance.choice(sorted(KILLS)))
            if self._other is not None:
                await self._other
        finally:
            writing.cancel()
            await asyncio.wait([writing])

    async def do(self, name: str) -> None:
        try:
            told = await {**KILLS, **OTHERS}[name](self)
        finally:
            if name in OTHERS:
                self._other = None
        if told is not None:
            self.faults[name] += 1
            self.tell(f"{name}: {told}")

    def tell(self, line: str) -> None:
        self._say(f"{asyncio.get_running_loop().time() - self._began:7.1f} s  {line}")

    async def heal(self) -> float:
        """No faults any more; how long it took from the last one until nothing was waiting."""
        self.armed = False
        loop = asyncio.get_running_loop()
        last = loop.time()
        async with asyncio.timeout(CHECK_S):
            for life in (self.owner, self.worker):
                while True:
                    try:
                        await self._disarm(life)
                        await self._ask(life, 'caught_up {"timeout_s": 60}')
                        break
                    except Died:
                        continue  # at a step it was set to die at
                    except Down:
                        await asyncio.sleep(0.1)  # an engine that was killed last is on its way
        return loop.time() - max(last, self.owner.changed_at, self.worker.changed_at)

    async def _disarm(self, life: Life) -> None:
        await self.alive(life)
        await self._ask(life, "arm")

    async def arm(self, role: str) -> str | None:
        """Have a program that works die at a step; which, if it has."""
        life = self.owner if role == "owner" else self.worker
        step = self.next_step(role)
        before = life.blown[step]
        order = {"step": step, "nth": self.chance.choice((1, 1, 2, 5))}
        if not step or not life.open.is_set() or life.now is None:
            return None
        with suppress(Died, TimeoutError):
            await life.now.ask(f"arm {json.dumps(order)}", "answer", 5)
            async with asyncio.timeout(4):
                await life.now.gone.wait()
        return step if life.blown[step] > before else None

    async def _ask(self, life: Life, question: str) -> dict[str, Any]:
        assert life.now is not None
        found: dict[str, Any] = await life.now.ask(question, "answer", CHECK_S)
        if found.get("is_down"):
            raise Down(found["error"])
        if "error" in found:
            raise AssertionError(f"{question}: {found['error']}")
        return found

    # Judgement

    async def check(self, recovery_max_s: float) -> Verdict:
        """Heal, rest, and compare everything with everything."""
        verdict = Verdict()
        recovery_s = await self.heal()
        self.recoveries_s.append(recovery_s)
        if recovery_s > recovery_max_s:
            verdict.wrong.append(f"slow: {recovery_s:.1f} s until nothing was waiting")
        await self._work(False)
        await self._ask(self.owner, 'write {"on": false}')
        await self._ask(self.owner, 'caught_up {"timeout_s": 60}')
        told = await self._ask(self.owner, "check")
        rows = await judge.truth(self.direct("postgres"))
        expected = judge.judge_rows(self.home, rows, verdict)
        judge.judge_audit(await self._ask(self.owner, "audited"), expected, verdict)
        judge.judge_drift(told, verdict)
        judge.judge_points(self.home, told, verdict)
        vectors, cached = await self._stores(told["collection"])
        for name, held, is_cache in (("vectors", vectors, False), ("cards", cached, True)):
            judge.judge_store(name, rows, held, verdict, empty_too=is_cache, may_lack=is_cache)
        begun = trips.acknowledged(self.home)
        verdict.sagas, faults = await trips.judge(self.direct("postgres"), begun)
        verdict.wrong += [f"saga {it}" for it in faults]
        await self._check_readers(expected, verdict)
        self.verdicts.append(verdict)
        self.tell("at rest")
        counts = {k: v for k, v in asdict(verdict).items() if k != "wrong"}
        self._say(f"checked: {counts}, recovered in {recovery_s:.1f} s")
        for wrong in verdict.wrong:
            self._say(f"WRONG, seed {self.seed}: {wrong}")
        return verdict

    async def _stores(self, table: str) -> tuple[dict[str, Held], dict[str, Held]]:
        vectors = await Vectors(self.home / "lancedb").held(table)
        return vectors, await cards(self.direct("valkey"), f"{NAMESPACE}:default:thing:")

    async def _check_readers(self, expected: Expected, verdict: Verdict) -> None:
        """The observer may still be reading."""
        unseen: list[int] = []
        for _ in range(50):
            report = await self.observer.ask("report", "report", ALIVE_S)
            part = Verdict()
            unseen = judge.judge_readers(report, expected, self._events_since, part)
            if not unseen or self.events_wiped:
                break
            await asyncio.sleep(0.2)
        verdict.inversions += part.inversions
        verdict.wrong += part.wrong
        if not self.events_wiped:
            verdict.breach("lost", "events that nobody published", unseen)
        self._events_since = max([EVENTS_FROM, *expected.transactions])
        self.events_wiped = False

    async def resume(self) -> None:
        """Writers work and faults may come again."""
        self.armed = True
        await self._work(True)

    async def stop(self) -> None:
        """Everything, in order."""
        await self.worker.stop()
        status = await self.owner.stop()
        for child in (self.load, self.observer):
            await child.end()
        await self.nursery.stop()
        for proxy in self.proxies.values():
            await proxy.stop()
        self.ground.unmount()
        left = of_home(self.home)
        if status != 0 or left:
            self._say(f"WRONG: the owner ended with {status}; left over: {left}")

    # The figures

    def sometimes(self) -> dict[str, int]:
        """How often each event of the product's log came."""
        found = Counter[str]()
        log = self.home / "program.log"
        for line in log.read_text().splitlines() if log.exists() else ():
            with suppress(ValueError):
                found[json.loads(line)["event"]] += 1
        return dict(sorted(found.items()))

    def report(self) -> dict[str, Any]:
        """All that was done and found."""
        steps = {step: self.killed(step) for step in self.steps}
        named = [name for name in KILLS if not name.startswith("step")]  # counted by the steps
        kills = sum(self.faults[name] for name in named) + sum(steps.values())
        pauses = self.owner.paused + self.worker.paused
        others = sum(self.faults[name] for name in OTHERS) + sum(pauses.values())
        return {
            "seed": self.seed,
            "kills": kills,
            "other_faults": others,
            "lost": sum(it.lost for it in self.verdicts),
            "phantom": sum(it.phantom for it in self.verdicts),
            "inversions": sum(it.inversions for it in self.verdicts),
            "drift": sum(it.drift for it in self.verdicts),
            "wrong": [wrong for it in self.verdicts for wrong in it.wrong],
            "recovery_s_max": round(max(self.recoveries_s, default=0), 2),
            "recoveries_s": [round(it, 2) for it in self.recoveries_s],
            "checks": len(self.verdicts),
            "acknowledged": self.verdicts[-1].acknowledged if self.verdicts else 0,
            "unknown": self.verdicts[-1].unknown if self.verdicts else 0,
            "rows": self.verdicts[-1].rows if self.verdicts else 0,
            "points": self.verdicts[-1].points if self.verdicts else 0,
            "sagas": self.verdicts[-1].sagas if self.verdicts else {},
            "faults": dict(sorted(self.faults.items())),
            "killed_at_steps": steps,
            "paused_at_steps": dict(sorted(pauses.items())),
            "endings": dict(self.owner.deaths + self.worker.deaths),
            "sometimes": self.sometimes(),
        }
