"""Transactions of many tenants and users at once, some of which fail or are given up."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.truth import session
from tests.flow.owned import ADA, BOB, Letter

TENANTS: Final = ("a", "b", "c", "d", "e")
AT_ONCE: Final = 8
_NOBODY = (
    "SELECT (SELECT count(*) FROM letter), coalesce(current_setting('polyplane.tenant', true), '')"
)
_CONTEXT = sa.text(
    "SELECT current_setting('polyplane.tenant'), current_setting('polyplane.user'),"
    " current_setting('polyplane.sees_all'), current_setting('polyplane.actor')"
)


class Meant(Exception):
    """What a transaction fails with on purpose."""


@dataclass
class Mixed:
    """What was done, and what was seen that must not be: `leaks`."""

    done: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        """One more of them."""
        self.done[what] = self.done.get(what, 0) + 1


async def fill(plane: pp.Plane) -> None:
    """Letters of each tenant: of nobody, and of two users."""
    for tenant in TENANTS:
        async with plane.write(actor="fill", tenant=tenant) as tx:
            owners: tuple[UUID | None, ...] = (None, ADA, BOB)
            tx.add_all([Letter(tenant_id=tenant, owner_id=it, body=tenant) for it in owners])


async def mix(plane: pp.Plane, count: int, seed: int) -> Mixed:
    """`count` transactions, a few at a time, and looks by nobody between them."""
    mixed, left = Mixed(), iter(range(count))

    async def work(lane: int) -> None:
        chance = random.Random(f"{seed} {lane}")
        for _ in left:
            await _one(plane, chance, mixed)

    async with asyncio.TaskGroup() as group:
        for lane in range(AT_ONCE):
            group.create_task(work(lane))
    return mixed


async def _one(plane: pp.Plane, chance: random.Random, mixed: Mixed) -> None:
    """One transaction that ends well, fails, or is given up at any moment; or a look by nobody."""
    user = chance.choice([None, ADA, BOB])
    may = frozenset({"rows.all"}) if chance.random() < 0.2 else frozenset[str]()
    caller = pp.Caller(f"actor {chance.random()}", chance.choice(TENANTS), user, may)
    kind = chance.choices(
        ["read", "write", "error", "sql error", "cancel", "nobody"], [3, 3, 2, 1, 2, 2]
    )[0]
    work = asyncio.create_task(_act(plane, caller, kind, mixed))
    if kind == "cancel":
        await asyncio.wait([work], timeout=chance.random() * 0.012)
        kind = "ended before" if work.done() else kind
        work.cancel()
    with suppress(Meant, asyncio.CancelledError, pp.Refused):
        await work
    mixed.count(kind)


async def _act(plane: pp.Plane, caller: pp.Caller, kind: str, mixed: Mixed) -> None:
    database = plane.opened.database
    if kind == "nobody":
        row = await database.row(_NOBODY)
        if row != (0, ""):
            mixed.leaks.append(f"nobody saw {row}")
    elif kind == "read":
        async with session.read(database, caller=caller) as reading:
            await _look(reading, caller, mixed)
    else:
        async with session.write(database, caller=caller, epoch=1) as tx:
            await _look(tx.session, caller, mixed)
            tx.add(Letter(tenant_id=caller.tenant, owner_id=caller.user, body=caller.tenant))
            await tx.flush()
            await _look(tx.session, caller, mixed)
            if kind == "error":
                raise Meant
            if kind == "sql error":
                await tx.execute(sa.text("SELECT 1 / 0"))


async def _look(reading: Any, caller: pp.Caller, mixed: Mixed) -> None:
    """Whatever is seen is the caller's, and the transaction knows who that is."""
    found = (await reading.execute(sa.select(Letter.tenant_id, Letter.owner_id).distinct())).all()
    may_see = {None, ADA, BOB} if caller.sees_all else {None, caller.user}
    for tenant, owner in found:
        if tenant != caller.tenant or owner not in may_see:
            mixed.leaks.append(f"{caller} saw {tenant} {owner}")
    if not found:
        mixed.leaks.append(f"{caller} saw nothing")
    context = tuple((await reading.execute(_CONTEXT)).one())
    told = (
        caller.tenant,
        str(caller.user or ""),
        "on" if caller.sees_all else "",
        caller.actor,
    )
    if context != told:
        mixed.leaks.append(f"{told} was {context}")
