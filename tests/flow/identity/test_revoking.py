"""Revocations by the thousand, while the cache is wiped and goes deaf: nobody is in 1 s later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import pytest

import polyplane as pp
from polyplane.access.door import Door
from polyplane.errors import Forbidden, StoreDown, Unauthenticated
from polyplane.security.tokens import hash_of, new_key, new_session_token
from tests.flow.identity.conftest import Street
from tests.flow.identity.test_sessions import cache_of
from tests.flow.things import by_hand

AT_ONCE: Final = 20
REVOKED_S: Final = 1.0
CAME_S: Final = 30.0
MAY: Final = "house.open"

KINDS: Final = ("session", "key", "role", "member", "disabled", "deleted")


async def came_in(street: Street, n: int) -> tuple[UUID, UUID, str, str, str]:
    """Somebody new, an editor: their id, session and key, past all that takes time."""
    token, key = new_session_token(), new_key()
    email = f"r{n}.{key.id}@example.org"
    [(user,)] = await by_hand(
        street.plane,
        "INSERT INTO polyplane.users (email, email_key) VALUES (%s, %s) RETURNING id",
        email,
        email,
    )
    member = "INSERT INTO polyplane.members (user_id, tenant_id, role) VALUES (%s, %s, %s)"
    await by_hand(street.plane, member, user, "default", "editor")
    [(session,)] = await by_hand(
        street.plane,
        "INSERT INTO polyplane.sessions (user_id, token_hash, expires_at)"
        " VALUES (%s, %s, clock_timestamp() + interval '1 day') RETURNING id",
        user,
        hash_of(token),
    )
    await by_hand(
        street.plane,
        "INSERT INTO polyplane.api_keys"
        " (id, tenant_id, client, user_id, secret_hash, made_by, expires_at)"
        " VALUES (%s, 'default', 'long', %s, %s, 'test', clock_timestamp() + interval '1 day')",
        key.id,
        user,
        hash_of(key.text),
    )
    return user, session, token, key.id, key.text


async def revoke(street: Street, kind: str, who: tuple[UUID, UUID, str, str, str]) -> list[str]:
    """Take it away; the credentials that may open nothing any more."""
    user, session, token, key_id, key = who
    identity = street.plane.identity
    every = identity.permissions.everything
    caller = pp.Caller("operator", "default", None, every)
    match kind:
        case "session":
            await identity.accounts.end_session(pp.Caller("x", user=user), session)
            return [token]
        case "key":
            await identity.keys.revoke(caller, key_id)
            return [key]
        case "role":
            await identity.members.set(caller, user, "viewer")
        case "member":
            await identity.members.remove(caller, user)
        case "disabled":
            await identity.people.set_status(caller, user, "disabled")
        case "deleted":
            await identity.people.delete(caller, user)
    return [token, key]


async def may(door: Door, credential: str) -> bool:
    """Whether it opens the house."""
    try:
        return (await door.admit(credential)).caller.may(MAY)
    except (Unauthenticated, Forbidden):
        return False


async def last_let_in(street: Street, kind: str, n: int) -> float:
    """Seconds after the revocation at which somebody was last let in; 0: nobody was."""
    who = await came_in(street, n)
    doors = [plane.identity.door for plane in street.planes]
    ended = asyncio.Event()

    async def keep_asking(door: Door, credential: str, came: asyncio.Event) -> float:
        last = 0.0
        while not ended.is_set():
            if await may(door, credential):
                last = perf_counter()
                came.set()
            await asyncio.sleep(0.02)
        return last

    _, _, token, _, key = who
    places = [(door, it, asyncio.Event()) for door in doors for it in (token, key)]
    asking = [asyncio.create_task(keep_asking(*place)) for place in places]
    async with asyncio.timeout(CAME_S):
        await asyncio.gather(*(came.wait() for *_, came in places))
    await asyncio.sleep(random.uniform(0, 0.5))
    gone = await revoke(street, kind, who)
    revoked_at = perf_counter()
    await asyncio.sleep(REVOKED_S + 0.2)
    ended.set()
    lasts = await asyncio.gather(*asking)
    of_gone = [last for last, (_, it, _) in zip(lasts, places, strict=True) if it in gone]
    return max(0.0, *(last - revoked_at for last in of_gone))


@pytest.mark.parametrize("rounds", [3, pytest.param(168, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
async def test_nobody_is_let_in_a_second_after_it_was_taken(
    street: Street, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(rounds)
    words = street.plane.cache.words
    heard: Callable[..., Awaitable[None]] = words.take_back

    async def half_deaf(*what: Any, **how: Any) -> None:
        if chance.random() < 0.3:
            raise StoreDown("It did not hear.")
        await heard(*what, **how)

    monkeypatch.setattr(words, "take_back", half_deaf)

    async def wipe() -> None:
        async with await cache_of(street) as cache:
            while True:
                await asyncio.sleep(chance.uniform(0.05, 0.5))
                if keys := await cache.keys(f"{street.plane.namespace}:*"):
                    await cache.delete(*keys)

    wiping = asyncio.create_task(wipe())
    try:
        waiting = [(kind, n) for n in range(rounds) for kind in KINDS]
        lasts: list[float] = []
        while waiting:
            now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            lasts += await asyncio.gather(*(last_let_in(street, *it) for it in now))
    finally:
        wiping.cancel()
    late = sum(it > 0.05 for it in lasts)
    print(
        f"{len(lasts)} revocations, the last let in after {max(lasts):.3f} s, {late} after 0.05 s"
    )
    assert max(lasts) < REVOKED_S
