"""Each named step in its turn, then each engine: what a storm may miss."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from tests.crash.children import Died, Life
from tests.crash.faults import wipe_transport
from tests.crash.ground import ENGINES
from tests.crash.ring import Ring
from tests.crash.rooms import ONE_REBUILD, ONLY_OWNER, WHEN_ASKED, in_turn

STEP_S = 25.0
ALWAYS = "relay."
"""Some ways of recovery are taken only when a relay has died in the middle of a page."""
REBUILD_S = 90.0
NOTICED_S = 15.0
OVERTAKEN_S = 6.0
"""Longer than a relay's lease, and than another needs to take over and publish."""
OVERTAKEN_MAX = 5
"""The other program may have nothing to publish just then, and so does not get ahead."""


async def walk(ring: Ring, share: float = 1.0) -> list[str]:
    """Have a program die at each named step, or at a random `share` of them; the steps at which
    none has.
    """
    steps = [it for it in ring.steps if ring.chance.random() < share or it.startswith(ALWAYS)]
    writing = asyncio.create_task(ring.keep_writing())
    ring.armed = False
    try:
        for step in in_turn(steps, ring.chance):
            await _die_at(ring, step)
        await _die_rebuilding(ring, [step for step in ONE_REBUILD if step in steps])
        for step in [it for it in steps if not ring.killed(it)]:
            await _die_at(ring, step)  # the machine was busy with something else
        for name in (*(f"kill {engine}" for engine in ENGINES), "cut nats"):
            await _at_work(ring)
            await ring.do(name)
            if name == "kill nats":  # what comes next begins every reader anew
                await _logged(ring, "reader.begins_again")
        # Purged streams that all have read end no epoch; deleted ones, which begin at 1 again, do.
        ring.tell(f"wipe both: {await wipe_transport('changes', 'events', deleted=True)(ring)}")
        await _at_work(ring)
        await _logged(ring, "epoch.bumped")
        for _ in range(OVERTAKEN_MAX):
            await _overtake(ring)
            if ring.sometimes().get("relay.fenced"):
                break
    finally:
        ring.armed = True
        writing.cancel()
        await asyncio.wait([writing])
    return [step for step in steps if not ring.killed(step)]


async def _at_work(ring: Ring) -> None:
    """Give both programs the time to be done with the last fault, so that the next one hits."""
    for life in (ring.owner, ring.worker):
        with suppress(TimeoutError):
            async with asyncio.timeout(STEP_S):
                while not await _is_at_work(ring, life):
                    await asyncio.sleep(0.1)


async def _is_at_work(ring: Ring, life: Life) -> bool:
    await ring.alive(life)
    try:
        return "error" not in await _ask(life, 'caught_up {"timeout_s": 20}')
    except Died:
        return False


async def _logged(ring: Ring, event: str) -> None:
    """Give the product the time to notice; the test asks at its end whether it has."""
    with suppress(TimeoutError):
        async with asyncio.timeout(NOTICED_S):
            while not ring.sometimes().get(event):
                await asyncio.sleep(0.2)


async def _die_at(ring: Ring, step: str) -> None:
    """Either program, at a step that both pass; the owner, where only it does."""
    before = ring.killed(step)
    lives = [ring.owner] if step.startswith(ONLY_OWNER) else [ring.owner, ring.worker]
    order = json.dumps({"step": step})
    for life in lives:
        await ring.alive(life)
        with suppress(Died, TimeoutError):
            await _ask(life, f"arm {order}")
    asking: asyncio.Task[Any] | None = None
    if room := next((it for it in WHEN_ASKED if step.startswith(it)), None):
        asking = asyncio.create_task(_ask(ring.owner, WHEN_ASKED[room]))
    with suppress(TimeoutError):
        async with asyncio.timeout(STEP_S):
            while ring.killed(step) == before:
                await asyncio.sleep(0.02)
    if asking is not None:
        await asyncio.wait([asking])
        asking.exception()  # it died, most likely
    if ring.killed(step) == before:
        ring.tell(f"nobody came to {step}")
    for life in lives:
        with suppress(Died, TimeoutError):
            await _ask(life, "arm")


async def _die_rebuilding(ring: Ring, steps: list[str]) -> None:
    """One rebuild, begun by one owner and gone on with by the next, each of which dies in it."""
    if not steps:
        return
    ring.worker.may_start.clear()  # it would do the owner's work
    ring.worker.kill()
    try:
        await ring.alive(ring.owner)
        first, *ring.forced = steps
        await _ask(ring.owner, f"arm {json.dumps({'step': first})}")
        with suppress(Died, TimeoutError):
            await _ask(ring.owner, "rebuild")
        with suppress(TimeoutError):
            async with asyncio.timeout(REBUILD_S):
                while not all(ring.killed(step) for step in steps):
                    await asyncio.sleep(0.02)
    finally:
        ring.forced = []
        ring.worker.may_start.set()
    await ring.alive(ring.owner)
    await ring.alive(ring.worker)


async def _overtake(ring: Ring) -> None:
    """The relay that leads is paused while it publishes; another leads; then it wakes."""
    leader = await _leader(ring)
    if leader is None:
        return
    ring.pause_s = OVERTAKEN_S
    with suppress(Died, TimeoutError):
        await _ask(leader, 'arm {"step": "relay.read", "by": "SIGSTOP"}')
        before = leader.paused["relay.read"]
        async with asyncio.timeout(STEP_S):
            while leader.paused["relay.read"] == before:
                await asyncio.sleep(0.02)
        await asyncio.sleep(OVERTAKEN_S + 1)
    ring.pause_s = None


async def _leader(ring: Ring) -> Life | None:
    """Who relays; None if nobody has begun to in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STEP_S):
            while True:
                for life in (ring.owner, ring.worker):
                    with suppress(Died):
                        await ring.alive(life)
                        if (await _ask(life, "leading"))["leading"]:
                            return life
                await asyncio.sleep(0.1)
    return None


async def _ask(life: Life, question: str) -> dict[str, Any]:
    """Ask, when it may die instead of answering."""
    assert life.now is not None
    found: dict[str, Any] = await life.now.ask(question, "answer", STEP_S)
    return found
