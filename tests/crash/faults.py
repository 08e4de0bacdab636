"""The faults, each a coroutine that does its harm, undoes it, and says what it did.

None is said when there was nothing to harm just then.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import nats.errors
import nats.js.errors

from tests.crash.children import Life
from tests.crash.declared import NAMESPACE, Heat
from tests.crash.ground import is_drained, send, wipe
from tests.crash.proxy import Proxy

if TYPE_CHECKING:
    from tests.crash.ring import Ring

Fault = Callable[["Ring"], Awaitable[str | None]]

DRAIN_S = 8.0
_NATS_AWAY = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)


def kill_program(of: Callable[[Ring], Life]) -> Fault:
    """At a random moment of its work, or of its start."""

    async def fault(ring: Ring) -> str | None:
        life = of(ring)
        state = "at work" if life.open.is_set() else "starting"
        return state if life.kill() else None

    return fault


def kill_engine(name: str) -> Fault:
    """kill -9 of its server."""

    async def fault(ring: Ring) -> str | None:
        return name if ring.ground.kill(name) else None

    return fault


async def kill_backend(ring: Ring) -> str | None:
    """kill -9 of one backend, which makes PostgreSQL recover as from a crash."""
    backends = ring.ground.backends()
    if not backends:
        return None
    reached = send([ring.chance.choice(backends)], signal.SIGKILL)
    return "a backend" if reached else None


async def step_of_owner(ring: Ring) -> str | None:
    """kill -9 of itself at a named step."""
    return await ring.arm("owner")


async def step_of_worker(ring: Ring) -> str | None:
    """As above."""
    return await ring.arm("worker")


def pause_engine(name: str) -> Fault:
    """SIGSTOP, and SIGCONT after a while."""

    async def fault(ring: Ring) -> str | None:
        pause_s = ring.chance.uniform(0.5, 6)
        stopped = send(ring.ground.family(name), signal.SIGSTOP)
        if not stopped:
            return None
        try:
            await asyncio.sleep(pause_s)
        finally:
            send(stopped, signal.SIGCONT)
        return f"{pause_s:.1f} s"

    return fault


def pause_program(of: Callable[[Ring], Life]) -> Fault:
    """As above: leases run out meanwhile."""

    async def fault(ring: Ring) -> str | None:
        pause_s = ring.chance.uniform(0.5, 6)
        child = of(ring).now
        if child is None or not child.send(signal.SIGSTOP):
            return None
        try:
            await asyncio.sleep(pause_s)
        finally:
            child.send(signal.SIGCONT)
        return f"{pause_s:.1f} s"

    return fault


def cut(name: str) -> Fault:
    """Every connection of the planes to an engine breaks, and none is taken for a while."""
    return _between(name, Proxy.cut, (0, 3))


def stall(name: str) -> Fault:
    """Connections stand and say nothing."""
    return _between(name, Proxy.stall, (0.5, 6))


def _between(name: str, harm: Callable[[Proxy], None], lasts_s: tuple[float, float]) -> Fault:
    async def fault(ring: Ring) -> str | None:
        proxy, for_s = ring.proxies[name], ring.chance.uniform(*lasts_s)
        harm(proxy)
        try:
            await asyncio.sleep(for_s)
        finally:
            proxy.mend()
        return f"{for_s:.1f} s"

    return fault


async def _wiped(ring: Ring, stream: str, *, delete: bool) -> bool:
    try:
        return await wipe(ring.direct("nats"), stream, delete=delete)
    except _NATS_AWAY:
        return False


def wipe_transport(*kinds: str, deleted: bool = False) -> Fault:
    """Purge or delete (`deleted`: for certain) `changes`, `events`: while nobody runs, or under
    everybody's feet. In the latter case all are killed soon after.
    """

    async def fault(ring: Ring) -> str | None:
        chance = ring.chance
        under, delete, wait_s = chance.random() < 0.5, chance.random() < 0.5, chance.random()
        delete |= deleted
        lives = (ring.owner, ring.worker)
        done = False
        for life in lives:
            life.may_start.clear()
        try:
            if not under:
                for life in lives:
                    life.kill()
            for kind in kinds:
                done |= await _wiped(ring, f"{NAMESPACE}-{kind}", delete=delete)
            if under:
                await asyncio.sleep(wait_s)
                for life in lives:
                    life.kill()
        finally:
            for life in lives:
                life.may_start.set()
        ring.events_wiped |= "events" in kinds and done
        how = "deleted" if delete else "purged"
        return f"{how} {'at work' if under else 'while down'}" if done else None

    return fault


async def wipe_inbound(ring: Ring) -> str | None:
    """The telemetry stream holds sole copies: wiped only when it is drained."""
    stream = f"{NAMESPACE}-streams-{Heat.name}"
    delete = ring.chance.random() < 0.5
    await ring.load.ask("points off", "done", 60)
    done = False
    try:
        async with asyncio.timeout(DRAIN_S):
            while not await is_drained(ring.direct("nats"), stream):
                await asyncio.sleep(0.1)
        ring.owner.may_start.clear()
        ring.owner.kill()
        done = await _wiped(ring, stream, delete=delete)
    except _NATS_AWAY:
        done = False
    finally:
        ring.owner.may_start.set()
        await ring.load.ask("points on", "done", 60)
    return ("deleted" if delete else "purged") if done else None


async def fill_disk(ring: Ring) -> str | None:
    """Not a byte is left where the vector store writes."""
    if not ring.ground.has_disk:
        return None
    for_s = ring.chance.uniform(0.5, 4)
    ring.ground.fill()
    try:
        await asyncio.sleep(for_s)
    finally:
        ring.ground.empty()
    return f"{for_s:.1f} s"


def _owner(ring: Ring) -> Life:
    return ring.owner


def _worker(ring: Ring) -> Life:
    return ring.worker


KILLS: dict[str, Fault] = {
    "kill owner": kill_program(_owner),
    "kill worker": kill_program(_worker),
    "kill postgres": kill_engine("postgres"),
    "kill backend": kill_backend,
    "kill nats": kill_engine("nats"),
    "kill valkey": kill_engine("valkey"),
    "step of owner": step_of_owner,
    "step of worker": step_of_worker,
}
OTHERS: dict[str, Fault] = {
    "pause owner": pause_program(_owner),
    "pause worker": pause_program(_worker),
    **{f"pause {name}": pause_engine(name) for name in ("postgres", "nats", "valkey")},
    **{f"cut {name}": cut(name) for name in ("postgres", "nats", "valkey")},
    **{f"stall {name}": stall(name) for name in ("postgres", "nats", "valkey")},
    "wipe changes": wipe_transport("changes"),
    "wipe events": wipe_transport("events"),
    "wipe both": wipe_transport("changes", "events"),
    "wipe telemetry": wipe_inbound,
    "fill disk": fill_disk,
}
