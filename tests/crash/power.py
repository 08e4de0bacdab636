"""Power cuts of a whole home, under load: `python -m tests.crash.power --cuts 20 [--seed 7]`.

The home lies on a disk of its own (`loop`); the writers and their journals, each line synced, lie
elsewhere. After every cut the plane must come back by itself within RECOVERY_MAX_S, with nothing
lost of what was acknowledged and no drift. Writes bench/results/power.json, exits 1 when anything
was wrong, and then leaves the disk with all it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, Final

from tests.crash import judge, trips
from tests.crash.children import Child, Died, Life
from tests.crash.declared import NAMESPACE
from tests.crash.ground import Ground
from tests.crash.journal import read
from tests.crash.judge import Verdict
from tests.crash.loop import Loop
from tests.crash.nursery import Nursery
from tests.crash.objects import lost_objects
from tests.crash.points import named_steps
from tests.crash.raw import Vectors, cards

RECOVERY_MAX_S: Final = 60.0
WRITERS: Final = 2
ANSWER_S: Final = 90.0
STEP_S: Final = 10.0
ENGINES: Final = ("postgres", "nats", "valkey", "seaweedfs")
STEPS: Final = ("relay.", "projector.", "ingest.")
"""Rooms whose steps a plane at work comes to by itself."""
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "power.json"

Say = Callable[[str], None]


class Power:
    """One home on a disk that can be cut, its plane, and writers elsewhere."""

    def __init__(self, folder: Path, seed: int, say: Say) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.disk = Loop(folder)
        self.home = self.disk.at / "home"
        self.ground = Ground(self.home)
        self.nursery = Nursery(folder)
        self.owner = Life(self.nursery.bear, self._order, say)
        self.owner.pause_s = lambda: 1.0
        self.load: Child | None = None
        self.cuts = Counter[str]()
        self.verdicts: list[Verdict] = []
        self.recoveries_s: list[float] = []
        self.objects = 0
        self._say = say
        self._number = 0
        self._steps = [step for step in named_steps() if step.startswith(STEPS)]
        self._began = monotonic()

    def _order(self) -> dict[str, Any]:
        self._number += 1
        return {
            "home": str(self.home),
            "notes": str(self.folder),
            "role": "owner",
            "number": self._number,
            "engines": ENGINES,
        }

    def tell(self, line: str) -> None:
        self._say(f"{monotonic() - self._began:7.1f} s  {line}")

    def prepare(self) -> str:
        """Make the disk; why that cannot be, or nothing."""
        return self.disk.make()

    async def start(self) -> str:
        """All of it, at work; why that cannot be here, or nothing."""
        if why := self.prepare():
            return why
        await self.nursery.start()
        self.owner.begin()
        await self._alive()
        urls = {"home": str(self.home), "namespace": NAMESPACE, **self.owner.told["admins"]}
        log = self.folder / "others.err"
        seed = self.chance.randrange(1 << 30)
        self.load = await Child.start("load", log, self.folder, seed, WRITERS, "synced")
        self.disk.spared.add(self.load.pid)
        self.load.say(json.dumps(urls))
        await self.work(True)
        return ""

    async def _alive(self) -> None:
        async with asyncio.timeout(ANSWER_S):
            await self.owner.open.wait()

    async def work(self, on: bool) -> None:
        assert self.load is not None
        for what in ("rows", "points", "objects"):
            await self.load.ask(f"{what} {'on' if on else 'off'}", "done", ANSWER_S)
        await self.ask(f'write {{"on": {json.dumps(on)}}}')

    async def ask(self, question: str) -> dict[str, Any]:
        assert self.owner.now is not None
        found: dict[str, Any] = await self.owner.now.ask(question, "answer", ANSWER_S)
        return found

    # Cuts

    async def cut(self, how: str) -> None:
        """Wait for the moment, and cut; nothing runs afterwards."""
        found = await CUTS[how](self)
        self.owner.may_start.clear()
        child = self.owner.now
        programs = [child.pid] if child is not None and not child.gone.is_set() else []
        await asyncio.to_thread(self.disk.cut, programs)
        if child is not None:
            await child.gone.wait()
        self.cuts[how] += 1
        self.tell(f"power cut {how}: {found}")

    async def at_work(self) -> str:
        """At any moment."""
        await asyncio.sleep(self.chance.uniform(0, 1))
        return "at work"

    async def at_a_step(self) -> str:
        """Where it was about to note what it had done, or had just done so."""
        step = self.chance.choice(self._steps)
        order = {"step": step, "by": "SIGSTOP", "nth": self.chance.choice((1, 2, 3))}
        before = self.owner.paused[step]
        await self.ask(f"arm {json.dumps(order)}")
        with suppress(TimeoutError):
            async with asyncio.timeout(STEP_S):
                while self.owner.paused[step] == before:
                    await asyncio.sleep(0.005)
        return step if self.owner.paused[step] > before else f"nobody came to {step}"

    async def rebuilding(self) -> str:
        """While the vectors are built anew beside those that are read."""
        return await self._while("rebuild", self.chance.uniform(0.1, 6))

    async def rebuilding_graph(self) -> str:
        """While nodes and edges are loaded beside those that are read."""
        return await self._while('rebuild {"graph": true}', self.chance.uniform(0.1, 6))

    async def compacting(self) -> str:
        """While the vectors and the graph are compacted."""
        return await self._while("compact", self.chance.uniform(0.02, 0.6))

    async def _while(self, question: str, after_s: float) -> str:
        asking = asyncio.create_task(self.ask(question))
        done, _ = await asyncio.wait([asking], timeout=after_s)
        asking.cancel()
        return f"{after_s:.2f} s after the begin" + (", when it was done" if done else "")

    async def coming_back(self) -> str:
        """While it recovers from a cut."""
        after_s = self.chance.uniform(0.2, 6)
        await self._switch_on()
        await asyncio.sleep(after_s)
        return f"{after_s:.2f} s after the start"

    # What comes after

    async def _switch_on(self) -> None:
        await asyncio.to_thread(self.disk.mount)
        self.owner.open.clear()
        self.owner.may_start.set()

    async def recover(self) -> Verdict:
        """Switch on, wait until nothing is behind, rest, and compare everything with everything."""
        began = monotonic()
        await self._switch_on()
        await self._alive()
        opened_s = monotonic() - began
        verdict = Verdict()
        found = await self.ask('caught_up {"timeout_s": 60}')
        recovery_s = monotonic() - began
        if "error" in found:
            verdict.wrong.append(f"did not catch up: {found['error']}")
        await self.work(False)
        await self.ask('caught_up {"timeout_s": 60}')
        self.recoveries_s.append(recovery_s)
        if recovery_s > RECOVERY_MAX_S:
            verdict.wrong.append(f"slow: {recovery_s:.1f} s")
        await self.judge(verdict)
        self.verdicts.append(verdict)
        self.tell(
            f"back in {opened_s:.1f} s, nothing behind in {recovery_s:.1f} s:"
            f" {verdict.acknowledged} acknowledged, {verdict.rows} rows, {verdict.points} points,"
            f" {self.objects} objects, {verdict.nodes} nodes, {verdict.edges} edges"
        )
        for wrong in verdict.wrong:
            self.tell(f"WRONG: {wrong}")
        return verdict

    async def judge(self, verdict: Verdict) -> None:
        urls = self.owner.told["admins"]
        told = await self.ask("check")
        if "error" in told:
            verdict.wrong.append(told["error"])
            return
        rows = await judge.truth(urls["postgres"])
        expected = judge.judge_rows(self.folder, rows, verdict)
        audited = await self.ask("audited")
        if "error" in audited:
            verdict.wrong.append(f"audit: {audited['error']}")
        else:
            judge.judge_audit(audited, expected, verdict)
        judge.judge_drift(told, verdict)
        judge.judge_points(self.folder, told, verdict)
        vectors = await Vectors(self.home / "lancedb").held(told["collection"])
        held = await cards(urls["valkey"], f"{NAMESPACE}:default:thing:")
        judge.judge_store("vectors", rows, vectors, verdict, empty_too=False, may_lack=False)
        judge.judge_store("cards", rows, held, verdict, empty_too=True, may_lack=True)
        graph = await self.ask("graph")
        if "error" in graph:
            verdict.wrong.append(f"graph: {graph['error']}")
        else:
            judge.judge_graph(await judge.effects(urls["postgres"]), graph, verdict)
        begun = trips.acknowledged(self.folder)
        verdict.sagas, faults = await trips.judge(urls["postgres"], begun)
        verdict.wrong += faults
        self.objects, lost, wrong = await asyncio.to_thread(lost_objects, urls["s3"], self.folder)
        verdict.breach("lost", "objects that cannot be read", lost)
        verdict.breach("phantom", "objects with another content", wrong)

    async def resume(self, work_s: float) -> None:
        """Writers work, so that there is something to lose."""
        await self.work(True)
        await asyncio.sleep(work_s)

    async def stop(self) -> None:
        """Everything, in order; the disk stays for whoever wants to look."""
        with suppress(Died, TimeoutError):
            await self.owner.stop()
        if self.load is not None:
            await self.load.end()
        await self.nursery.stop()

    def report(self) -> dict[str, Any]:
        """All that was done and found."""
        last = self.verdicts[-1] if self.verdicts else Verdict()
        restarts = list(read(self.folder / "program.log"))
        events = Counter(str(it["event"]) for it in restarts)
        return {
            "cuts": sum(self.cuts.values()),
            "cut": dict(sorted(self.cuts.items())),
            "lost": sum(it.lost for it in self.verdicts),
            "phantom": sum(it.phantom for it in self.verdicts),
            "drift": sum(it.drift for it in self.verdicts),
            "wrong": [wrong for it in self.verdicts for wrong in it.wrong],
            "acknowledged": last.acknowledged,
            "unknown": last.unknown,
            "rows": last.rows,
            "points": last.points,
            "objects": self.objects,
            "nodes": last.nodes,
            "edges": last.edges,
            "sagas": last.sagas,
            "recovery_s_max": round(max(self.recoveries_s, default=0), 2),
            "recoveries_s": [round(it, 2) for it in self.recoveries_s],
            "sometimes": dict(sorted(events.items())),
        }


CUTS: Final[dict[str, Callable[[Power], Awaitable[str]]]] = {
    "at work": Power.at_work,
    "at a step": Power.at_a_step,
    "rebuilding": Power.rebuilding,
    "rebuilding the graph": Power.rebuilding_graph,
    "compacting": Power.compacting,
    "coming back": Power.coming_back,
}
FIRST: Final = tuple(how for how in CUTS if how != "coming back")


async def run(power: Power, cuts: int, work_s: tuple[float, float]) -> str:
    """Cuts, of each kind in its turn; why there were none, or nothing. Stops at the first wrong."""
    if why := await power.start():
        return why
    turn = 0
    while sum(power.cuts.values()) < cuts:
        await asyncio.sleep(power.chance.uniform(*work_s))
        await power.cut(FIRST[turn % len(FIRST)])
        while sum(power.cuts.values()) < cuts and power.chance.random() < 0.35:
            await power.cut("coming back")
        if (await power.recover()).wrong:
            break
        turn += 1
        if sum(power.cuts.values()) < cuts:
            await power.resume(0)
    return ""


async def _main(folder: Path, seed: int, cuts: int) -> dict[str, Any]:
    power = Power(folder, seed, lambda line: print(line, flush=True))
    began = monotonic()
    try:
        if why := await run(power, cuts, (2, 6)):
            sys.exit(f"NO DISK CAN BE CUT HERE: {why}")
    finally:
        await power.stop()
        if power.disk.mounted and not any(it.wrong for it in power.verdicts):
            power.disk.discard()
    return {"seed": seed, "minutes": round((monotonic() - began) / 60, 1), **power.report()}


def main() -> None:
    """Parse, run, write down, exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.power", description=__doc__)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--no-result", action="store_true", help="write no file of results")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    folder = Path(mkdtemp(prefix="polyplane-power-"))
    folder.chmod(0o755)
    report = asyncio.run(_main(folder, asked.seed, asked.cuts))
    text = json.dumps(report, indent=1)
    print(text)
    if not asked.no_result:
        RESULT.write_text(text + "\n")
    if report["wrong"]:
        sys.exit(f"Wrong. Again: make power SEED={asked.seed}. What is left: {folder}")
    rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
