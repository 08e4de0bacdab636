"""Passwords: nobody learns who has an account, and whoever guesses makes only themselves wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from uuid import uuid4

import pytest
from argon2 import PasswordHasher, extract_parameters
from httpx import AsyncClient, Response

from polyplane.access import hashing
from polyplane.access.hashing import NOBODY, Hasher
from polyplane.errors import Unavailable
from polyplane.security.backoff import OF_PLACE
from tests.flow.identity.conftest import PASSWORD, Person, Street, done, seen, signed_in_as
from tests.flow.things import by_hand

PersonOf = Callable[..., Awaitable[Person]]


def nobody() -> str:
    """An address that nobody has."""
    return f"{uuid4().hex}@example.org"


async def tried(client: AsyncClient, email: str, password: str) -> Response:
    """An attempt to sign in."""
    return await client.post("auth/sign-in", json={"email": email, "password": password})


def told(answer: Response) -> tuple[int, dict[str, object]]:
    """What somebody learns from an answer."""
    shown = answer.json()
    shown.pop("request_id")
    return answer.status_code, shown


async def test_an_unknown_address_a_wrong_password_and_a_disabled_user_look_the_same(
    street: Street, person_of: PersonOf
) -> None:
    ada, bob = await person_of("viewer"), await person_of("viewer")
    change = {"status": "disabled"}
    await done(street.operator().patch(f"ops/users/{bob.id}", json=change))
    answers = [
        await tried(street.client(address="10.2.0.1"), email, password)
        for email, password in (
            (nobody(), PASSWORD),
            (ada.email, "not the password"),
            (bob.email, PASSWORD),
            ("no address", PASSWORD),
        )
    ]
    assert told(answers[0])[0] == 401
    assert all(told(it) == told(answers[0]) for it in answers)


async def test_an_unknown_address_takes_as_long_as_a_known_one(
    street: Street, person_of: PersonOf
) -> None:
    """Measured: the medians are printed. The bound only shows that the hash is not left out."""
    ada = await person_of("viewer")
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    for n in range(7):
        for kind, email in (("known", ada.email), ("unknown", nobody())):
            client = street.client(address=f"10.3.{n}.{len(took[kind])}")
            began = perf_counter()
            assert (await tried(client, email, "not the password")).status_code == 401
            took[kind].append(perf_counter() - began)
    known, unknown = median(took["known"]), median(took["unknown"])
    print(f"known {known * 1e3:.1f} ms, unknown {unknown * 1e3:.1f} ms")
    assert 0.5 < known / unknown < 2


async def test_a_stranger_who_guesses_locks_out_only_themselves(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("viewer")
    home = street.client(address="10.4.0.1")
    await signed_in_as(home, ada.email)  # a device that is known from now on
    home.headers.pop("Authorization", None)
    stranger = street.client(address="10.4.0.66")
    codes = [(await tried(stranger, ada.email, f"guess {n}")).status_code for n in range(8)]
    assert codes == [401] * 6 + [429] * 2
    late = await tried(stranger, ada.email, PASSWORD)
    assert (late.status_code, int(late.headers["Retry-After"]) >= 1) == (429, True)
    # Another place, the same place by a device that is known, and another account there.
    await signed_in_as(street.client(address="10.4.0.2"), ada.email)
    neighbour = street.client(address="10.4.0.66")
    neighbour.cookies = home.cookies
    await signed_in_as(neighbour, ada.email)
    bob = await person_of("viewer", signed_in=False)
    await signed_in_as(street.client(address="10.4.0.66"), bob.email)
    # The same for an account that there is not.
    unknown = nobody()
    codes = [(await tried(stranger, unknown, f"guess {n}")).status_code for n in range(8)]
    assert codes == [401] * 6 + [429] * 2
    # A device is known for its own account only.
    assert (await tried(neighbour, bob.email, "guess")).status_code == 401
    kept = await by_hand(street.plane, "SELECT a::text FROM polyplane.sign_in_attempts a")
    assert ada.email not in str(kept) and unknown not in str(kept)


async def test_guesses_at_once_are_all_counted(street: Street, person_of: PersonOf) -> None:
    ada = await person_of("viewer")
    stranger = street.client(address="10.5.0.1")
    answers = await asyncio.gather(*(tried(stranger, ada.email, f"g {n}") for n in range(20)))
    codes = [it.status_code for it in answers]
    assert codes.count(401) == 6 and codes.count(429) == 14


async def test_waits_end_and_grow(street: Street, person_of: PersonOf) -> None:
    ada = await person_of("viewer")
    stranger = street.client(address="10.6.0.1")
    waits: list[int] = []
    while len(waits) < 4:
        answer = await tried(stranger, ada.email, f"guess {len(waits)}")
        if answer.status_code == 429:
            waits.append(int(answer.headers["Retry-After"]))
            await by_hand(
                street.plane,
                "UPDATE polyplane.sign_in_attempts SET blocked_until = clock_timestamp()"
                " WHERE origin = 'address:10.6.0.1'",
            )
    assert waits == [1, 2, 4, 8]
    await signed_in_as(stranger, ada.email)
    assert (await tried(street.client(address="10.6.0.1"), ada.email, "x")).status_code == 401


async def test_who_tries_many_accounts_is_slowed_down(street: Street) -> None:
    stranger = street.client(address="10.7.0.1")
    assert (await tried(stranger, nobody(), PASSWORD)).status_code == 401
    await by_hand(
        street.plane,
        "UPDATE polyplane.sign_in_attempts SET failures = %s"
        " WHERE origin = 'address:10.7.0.1' AND account = ''",
        OF_PLACE.free,
    )
    assert (await tried(stranger, nobody(), PASSWORD)).status_code == 401
    assert (await tried(stranger, nobody(), PASSWORD)).status_code == 429


async def test_a_changed_password_ends_all_other_sessions(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("viewer")
    other = await signed_in_as(street.client(), ada.email)
    here, there = street.client(ada.token), street.client(other, at=1)
    assert await seen(there) == 200
    new = "another long one"
    for old, want, field in (
        ("not it", new, "old"),
        (PASSWORD, "short", "password"),
        (PASSWORD, ada.email, "password"),
    ):
        answer = await here.post("auth/password", json={"old": old, "new": want})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    await done(here.post("auth/password", json={"old": PASSWORD, "new": new}))
    assert (await seen(here), await seen(there)) == (200, 401)
    assert (await tried(street.client(), ada.email, PASSWORD)).status_code == 401
    await signed_in_as(street.client(), ada.email, new)


async def test_a_sign_in_while_the_password_changes_opens_nothing_by_the_old_one(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("viewer")
    here = street.client(ada.token)
    change = {"old": PASSWORD, "new": "another long one"}
    answers = await asyncio.gather(
        here.post("auth/password", json=change),
        *(tried(street.client(at=n % 2), ada.email, PASSWORD) for n in range(4)),
    )
    assert answers[0].status_code == 204
    tokens = [it.json()["token"] for it in answers[1:] if it.status_code == 200]
    assert [await seen(street.client(it)) for it in tokens] == [401] * len(tokens)


async def test_an_old_hash_is_made_anew_at_the_next_sign_in(
    street: Street, person_of: PersonOf
) -> None:
    ada = await person_of("viewer", signed_in=False)
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    kept = "SELECT password_hash FROM polyplane.users WHERE id = %s"
    set_weak = "UPDATE polyplane.users SET password_hash = %s WHERE id = %s"
    await by_hand(street.plane, set_weak, weak, ada.id)
    await signed_in_as(street.client(), ada.email)
    [(now,)] = await by_hand(street.plane, kept, ada.id)
    assert extract_parameters(now) == extract_parameters(NOBODY)
    assert extract_parameters(now).memory_cost == hashing.MEMORY_KIB
    await signed_in_as(street.client(), ada.email)
    assert await by_hand(street.plane, kept, ada.id) == [(now,)]


async def test_no_more_than_a_few_hashes_wait(street: Street, person_of: PersonOf) -> None:
    ada = await person_of("viewer")
    hasher, client = Hasher(), street.client(ada.token)
    try:
        asked = [asyncio.create_task(hasher.check(None, "x")) for _ in range(60)]
        await asyncio.sleep(0)
        assert await seen(client) == 200  # others go on meanwhile
        found = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        hasher.close()
    refused = [it for it in found if isinstance(it, Unavailable)]
    assert len(refused) == 60 - hashing.QUEUE_MAX
    assert len(found) - len(refused) == hashing.QUEUE_MAX


async def test_signing_up_tells_nobody_who_is_there(street: Street, person_of: PersonOf) -> None:
    ada = await person_of("viewer", signed_in=False)
    client, email = street.client(address="10.20.0.1"), nobody()
    answers = [
        await client.post("auth/sign-up", json={"email": it, "password": "my own long one"})
        for it in (email, ada.email.upper(), email)
    ]
    assert [(it.status_code, it.text) for it in answers] == [(202, '{"status":"accepted"}')] * 3
    await signed_in_as(street.client(), email.upper(), "my own long one")
    await signed_in_as(street.client(), ada.email)
    token = await signed_in_as(street.client(), email, "my own long one")
    assert (await seen(street.client(token))) == 403  # a member of nothing
    weak = {"email": nobody(), "password": "1234567"}
    assert (await client.post("auth/sign-up", json=weak)).status_code == 422


@pytest.mark.parametrize("path", ["auth/me", "auth/sessions", "auth/api-keys", "house/who"])
async def test_nothing_is_there_for_nobody(street: Street, path: str) -> None:
    answer = await street.client().get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
