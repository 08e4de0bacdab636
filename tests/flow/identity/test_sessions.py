"""Signing in and out: sessions in truth, with a cache in front that may vanish and may lie."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import pytest
import redis.asyncio as redis
from httpx import AsyncClient

from polyplane.errors import StoreDown
from polyplane.security.tokens import hash_of
from tests.flow.identity.conftest import (
    PASSWORD,
    WHO,
    Person,
    Street,
    done,
    seen,
    signed_in_as,
)
from tests.flow.things import becomes, by_hand

PersonOf = Callable[..., Awaitable[Person]]
REVOKED_S = 1.0


async def cache_of(street: Street) -> redis.Redis:
    """The cache, past the plane."""
    return redis.Redis.from_url(str(street.plane.settings.url("cache_url")))


def cached_as(street: Street, token: str, kind: str = "session") -> str:
    """Where the cache has what is known of a credential."""
    return f"{street.plane.namespace}:default:{kind}:{hash_of(token).hex()}"


async def test_a_session_is_opened_used_listed_and_ended(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("editor")
    client = street.client(ada.token, address="10.9.9.9")
    known = (await done(client.get(WHO, headers={"X-Request-ID": "one-two-three"}))).json()
    assert known == {
        "actor": f"user:{ada.id}",
        "tenant": ada.tenant,
        "user": ada.id,
        "address": "10.9.9.9",
        "request_id": "one-two-three",
    }
    me = (await done(client.get("auth/me"))).json()
    assert (me["email"], me["organizations"][0]["role"]) == (ada.email, "editor")
    assert me["permissions"] == ["graph.read", "house.open", "house.see", "members.read"]
    other = await signed_in_as(street.client(address="10.8.8.8"), ada.email)
    listed = (await done(client.get("auth/sessions"))).json()
    assert [(it["current"], it["address"]) for it in listed] == [
        (False, "10.8.8.8"),
        (True, "10.1.1.1"),
    ]
    [foreign] = [it["id"] for it in listed if not it["current"]]
    await done(client.delete(f"auth/sessions/{foreign}"))
    assert (await client.delete(f"auth/sessions/{foreign}")).status_code == 404
    assert await seen(street.client(other)) == 401
    assert await seen(client) == 200
    await done(client.post("auth/sign-out"))
    assert await seen(client) == 401


async def test_nothing_is_kept_that_would_let_a_reader_in(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("viewer")
    assert await seen(street.client(ada.token)) == 200
    rows = await by_hand(street.plane, "SELECT s::text FROM polyplane.sessions s")
    rows += await by_hand(street.plane, "SELECT u::text FROM polyplane.users u")
    assert ada.token not in str(rows) and PASSWORD not in str(rows)
    async with await cache_of(street) as cache:
        keys: list[Any] = []
        async with asyncio.timeout(20):  # what the cache knows is good for a moment only
            while cached_as(street, ada.token).encode() not in keys:
                assert await seen(street.client(ada.token)) == 200
                keys = await cache.keys(f"{street.plane.namespace}:*")
                words = [await cache.get(key) for key in keys]
    assert ada.token not in str([keys, words])


async def test_two_people_at_once_are_never_each_other(street: Street, person_of: PersonOf) -> None:
    ada, bob = await person_of("editor"), await person_of("viewer")
    clients = [(who, street.client(who.token, at=at)) for who in (ada, bob) for at in (0, 1)]

    async def asks(who: Person, client: AsyncClient) -> None:
        for _ in range(10):
            assert (await client.get(WHO)).json()["user"] == who.id
            opened = await client.post("house/door")
            assert opened.status_code == (200 if who is ada else 403)

    await asyncio.gather(*(asks(who, client) for who, client in clients))
    assert (await clients[0][1].get(WHO, headers={"X-Tenant": bob.tenant})).status_code == 403


async def test_what_is_revoked_is_refused_at_once_on_every_plane(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("viewer")
    for _ in range(3):
        token = await signed_in_as(street.client(), ada.email)
        here, there = street.client(token), street.client(token, at=1)
        assert (await seen(here), await seen(there)) == (200, 200)
        await done(here.post("auth/sign-out"))
        assert (await seen(here), await seen(there)) == (401, 401)


async def test_a_revocation_the_cache_does_not_hear_of_holds_within_a_second(
    street: Street, person_of: PersonOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person_of("viewer")
    here, there = street.client(ada.token), street.client(ada.token, at=1)
    assert await seen(there) == 200

    async def down(*_: Any, **__: Any) -> None:
        raise StoreDown("It is down.")

    words = street.plane.cache.words
    monkeypatch.setattr(words, "take_back", down)
    began = perf_counter()
    await done(here.post("auth/sign-out"))

    async def there_now() -> int:
        return await seen(there)

    await becomes(there_now, 401, within_s=REVOKED_S)
    assert perf_counter() - began < REVOKED_S + 5


async def test_a_wiped_cache_logs_nobody_in_and_leaves_nobody_in(
    street: Street, person_of: PersonOf
) -> None:
    ada, bob = await person_of("viewer"), await person_of("viewer")
    stays, goes = street.client(ada.token, at=1), street.client(bob.token, at=1)

    async def wipe() -> None:
        async with await cache_of(street) as cache:
            await cache.delete(*await cache.keys(f"{street.plane.namespace}:*"))

    assert (await seen(stays), await seen(goes)) == (200, 200)
    await wipe()
    assert (await seen(stays), await seen(goes)) == (200, 200)
    await done(street.client(bob.token).post("auth/sign-out"))
    await wipe()
    assert (await seen(stays), await seen(goes)) == (200, 401)


async def test_a_cache_that_brings_old_words_back_or_makes_words_up_is_not_believed(
    street: Street, person_of: PersonOf
) -> None:
    ada, bob = await person_of("owner"), await person_of("viewer")
    here, there = street.client(bob.token), street.client(bob.token, at=1)
    async with await cache_of(street) as cache:
        assert await seen(there) == 200
        old = await cache.get(cached_as(street, bob.token))
        assert isinstance(old, bytes)
        assert await seen(street.client(ada.token)) == 200
        of_ada = await cache.get(cached_as(street, ada.token))
        assert isinstance(of_ada, bytes)
        await done(here.post("auth/sign-out"))
        for word in (of_ada, b"\0" * 32 + old[32:], old[:-1], b"x", old):
            await asyncio.sleep(0)
            await cache.set(cached_as(street, bob.token), word, ex=3600)
            if word is old:  # the one that was true once: not in the next moment
                await becomes(lambda: seen(there), 401, within_s=REVOKED_S)
            else:
                assert await seen(there) == 401
        # Nobody is let in by a word about a token that nobody was given.
        made_up = f"ps_{'A' * 43}"
        await cache.set(cached_as(street, made_up), of_ada, ex=3600)
        assert await seen(street.client(made_up)) == 401


async def test_without_a_cache_truth_answers_alone(
    street: Street, person_of: PersonOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person_of("viewer")

    async def down(*_: Any, **__: Any) -> None:
        raise StoreDown("It is down.")

    for verb in ("hear", "say", "take_back"):
        monkeypatch.setattr(street.plane.cache.words, verb, down)
    client = street.client(ada.token)
    assert await seen(client) == 200
    await done(client.post("auth/sign-out"))
    assert await seen(client) == 401


@pytest.mark.parametrize(
    "aged",
    ["used_at = used_at - interval '12 hours 1 second'", "expires_at = clock_timestamp()"],
)
async def test_a_session_ends_when_it_is_idle_and_when_it_is_old(
    street: Street, person_of: PersonOf, aged: str
) -> None:
    ada = await person_of("viewer")
    client = street.client(ada.token)
    assert await seen(client) == 200
    await by_hand(street.plane, f"UPDATE polyplane.sessions SET {aged} WHERE user_id = %s", ada.id)
    await becomes(lambda: seen(client), 401, within_s=REVOKED_S)
    assert (await street.client(ada.token).get("auth/sessions")).status_code == 401


async def test_use_is_noted_now_and_then(street: Street, person_of: PersonOf) -> None:
    ada = await person_of("viewer")
    client = street.client(ada.token)
    used = "SELECT used_at FROM polyplane.sessions WHERE user_id = %s"
    before = await by_hand(street.plane, used, ada.id)
    assert await seen(client) == 200
    assert await by_hand(street.plane, used, ada.id) == before
    await by_hand(
        street.plane,
        "UPDATE polyplane.sessions SET used_at = used_at - interval '2 minutes' WHERE user_id = %s",
        ada.id,
    )
    assert await seen(street.client(await signed_in_as(street.client(), ada.email))) == 200

    async def noted() -> bool:
        await seen(client)
        return min(await by_hand(street.plane, used, ada.id)) >= min(before)

    await becomes(noted, True, within_s=REVOKED_S)


async def test_many_sessions_end_the_longest_unused(street: Street, person_of: PersonOf) -> None:
    ada = await person_of("viewer")
    await by_hand(
        street.plane,
        "INSERT INTO polyplane.sessions (user_id, token_hash, expires_at)"
        " SELECT %s, sha256(n::text::bytea || %s::bytea), clock_timestamp() + interval '1 day'"
        " FROM generate_series(1, 60) n",
        ada.id,
        ada.id.encode(),
    )
    token = await signed_in_as(street.client(), ada.email)
    listed = (await done(street.client(token).get("auth/sessions"))).json()
    assert len(listed) == 50
    assert listed[0]["current"]
    ended = (await done(street.client(token).delete("auth/sessions"))).json()
    assert ended == {"sessions": 50}
    assert await seen(street.client(token)) == 401


async def test_a_browsers_session_is_a_cookie_that_scripts_and_other_sites_cannot_use(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("editor")
    given = {"email": ada.email, "password": PASSWORD, "cookie": True}
    client = street.client()
    answer = await done(client.post("auth/sign-in", json=given))
    assert answer.json()["token"] is None
    cookies = [it.lower() for it in answer.headers.get_list("set-cookie")]
    assert {it.partition("=")[0] for it in cookies} == {"pp_session", "pp_device"}
    assert all("httponly" in it and "samesite=strict" in it for it in cookies)
    assert not any("secure" in it for it in cookies)  # on loopback, where no TLS is
    assert await seen(client) == 200
    for foreign in (
        {"Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ):
        assert (await client.post("house/door", headers=foreign)).status_code == 403
    own = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("house/door", headers=own)).status_code == 200
    await done(client.post("auth/sign-out"))
    assert await seen(client) == 401
    away = street.client()
    away.base_url = "https://plane.example/api/v1/"
    cookies = (await done(away.post("auth/sign-in", json=given))).headers.get_list("set-cookie")
    assert any(it.startswith("__Host-pp_session=") for it in cookies)
    assert all("Secure" in it for it in cookies)
