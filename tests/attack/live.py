"""Probes of live updates, states and pub/sub: what one tenant does is not told to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import sqlalchemy as sa

from polyplane.domains.laboratory.models import Experiment, Learning
from polyplane.live import OPERATION, Events, Rows, States, Update
from polyplane.runtime.live import LiveEvents, LivePubSub, LiveStates, News
from tests.attack.ground import Ground, Side
from tests.attack.report import Report
from tests.flow.deeds import Deed

Probe = Callable[[Ground, Random], Awaitable[Any]]

WITHIN_S: Final = 30.0
SPARE: Final = (1_000, 2_000)
"""Deeds that are made and deleted here: one of mine, one of theirs."""


def _acting(ground: Ground) -> Any:
    return ground.plane.acting(ground.mine.caller)


async def _followed(ground: Ground, dice: Random) -> Any:
    """What is theirs, named in every way that there is, is told nothing of when it is followed."""
    theirs = ground.theirs
    wanted = dice.choice(
        [
            States(OPERATION, theirs.canary),
            Rows(Deed, str(dice.choice(theirs.deeds))),
            Rows(Experiment, theirs.ids["experiment_id"]),
            Events("laboratory", theirs.ids["experiment_id"]),
        ]
    )
    async with _acting(ground).events.follow(wanted) as news:
        batch = await news.next(wait_s=0.0)
        return list(batch.updates) if batch else []


async def _state(ground: Ground, dice: Random) -> Any:
    return await _acting(ground).state.get(OPERATION, ground.theirs.canary)


async def _states(ground: Ground, dice: Random) -> Any:
    found = await _acting(ground).state.get_many(OPERATION, [ground.theirs.canary, "same"])
    return [it for it in found.values() if it["status"] != ground.mine.canary]


def _writes(verb: str) -> Probe:
    """Whatever is written under their names is mine; theirs is what it was."""

    async def probe(ground: Ground, dice: Random) -> Any:
        state: Any = _acting(ground).state
        fields = {} if verb == "end" else {"status": "stolen"}
        await getattr(state, verb)(OPERATION, ground.theirs.canary, **fields)
        if verb != "end":
            await state.end(OPERATION, ground.theirs.canary)
        of_theirs = ground.plane.acting(ground.theirs.caller).state
        held = await of_theirs.get(OPERATION, ground.theirs.canary)
        return [] if held and held["status"] == ground.theirs.canary else ["it is another one"]

    return probe


async def _published(ground: Ground, dice: Random) -> Any:
    """What I say is not heard in their channel of the same name."""
    by = dice.choice(["nats", "valkey"])
    theirs = ground.plane.acting(ground.theirs.caller).pubsub
    async with theirs.subscribe("room", transport=by) as heard:
        await _acting(ground).pubsub.publish("room", b"forged", transport=by)
        await theirs.publish("room", b"end", transport=by)
        said = await heard.next(wait_s=WITHIN_S)
    return [] if said and said.body == b"end" else [said]


async def _subscribed(ground: Ground, dice: Random) -> Any:
    """What they say is not heard in mine."""
    by = dice.choice(["nats", "valkey"])
    mine = _acting(ground).pubsub
    async with mine.subscribe("room", transport=by) as heard:
        theirs = ground.plane.acting(ground.theirs.caller).pubsub
        await theirs.publish("room", ground.theirs.canary.encode(), transport=by)
        await mine.publish("room", b"end", transport=by)
        said = await heard.next(wait_s=WITHIN_S)
    return [] if said and said.body == b"end" else [said]


LIVE_PROBES: Final[dict[tuple[type[Any], str], Probe]] = {
    (LiveEvents, "follow"): _followed,
    (LiveStates, "get"): _state,
    (LiveStates, "get_many"): _states,
    (LiveStates, "set"): _writes("set"),
    (LiveStates, "merge"): _writes("merge"),
    (LiveStates, "end"): _writes("end"),
    (LivePubSub, "publish"): _published,
    (LivePubSub, "subscribe"): _subscribed,
}


async def probe_live(ground: Ground, report: Report) -> None:
    """Each tenant does the same things while both follow all: nobody is told of the other's."""
    wanted = (Rows(Deed), Rows(Experiment), Rows(Learning), Events("laboratory"), States(OPERATION))
    named = (
        Rows(Deed, str(SPARE[1])),
        Rows(Experiment, ground.theirs.ids["experiment_id"]),
        States(OPERATION, ground.theirs.canary),
    )
    follow = ground.plane.acting(ground.mine.caller).events.follow
    async with (
        follow(*wanted, *named) as mine,
        ground.plane.acting(ground.theirs.caller).events.follow(*wanted) as theirs,
    ):
        for side, key in ((ground.theirs, SPARE[1]), (ground.mine, SPARE[0])):
            await _busy(ground, side, key)
        for side, news, key in ((ground.mine, mine, SPARE[0]), (ground.theirs, theirs, SPARE[1])):
            other = ground.theirs if side is ground.mine else ground.mine
            for update in await _until_gone(news, str(key)):
                leak = other.canary in str(update) or update.key in (
                    *other.ids.values(),
                    *map(str, other.deeds),
                    str(SPARE[1] if side is ground.mine else SPARE[0]),
                )
                report.probed("live", f"{side.tenant} was told {update}" if leak else "")


async def _busy(ground: Ground, side: Side, key: int) -> None:
    """Change, make and delete: everything that is followed."""
    acting = ground.plane.acting(side.caller)
    experiment = side.ids["experiment_id"]
    async with acting.write() as tx:
        same = sa.update(Experiment).values(updated_at=Experiment.updated_at)
        await tx.execute(same.where(Experiment.id == experiment))
        await tx.execute(sa.update(Deed).values(body=Deed.body))
        tx.emit("laboratory.probed", {"canary": side.canary}, subject=experiment)
        tx.add(Deed(id=key, whose=side.tenant, body=side.canary))
    await acting.state.merge(OPERATION, side.canary, progress=0.5)
    async with acting.write() as tx:
        await tx.execute(sa.delete(Deed).where(Deed.id == key))


async def _until_gone(news: News, key: str) -> list[Update]:
    """All that is told until that deed is gone, and an event and a state of our own were told."""
    found: list[Update] = []
    async with asyncio.timeout(WITHIN_S):
        while not (
            any(it.key == key and it.gone for it in found)
            and any(it.event for it in found)
            and any(it.state for it in found)
        ):
            batch = await news.next(wait_s=WITHIN_S)
            found += batch.updates if batch else ()
    return found
