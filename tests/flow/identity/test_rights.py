"""Roles, keys and organizations: what is taken away is gone at once, and nobody gives too much."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

import polyplane as pp
from polyplane.errors import Conflict
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


async def test_a_changed_role_holds_at_once_on_every_plane(
    street: Street, person_of: PersonOf
) -> None:
    owner = await person_of("owner")
    bob = await person_of("editor", tenant=owner.tenant)
    boss = street.client(owner.token)
    places = [street.client(bob.token, at=at) for at in (0, 1)]
    path = f"organizations/{owner.tenant}/members/{bob.id}"
    for role, may in (("viewer", 403), ("editor", 200), ("auditor", 403), ("operator", 200)):
        await done(boss.put(path, json={"role": role}))
        assert [(await it.post("house/door")).status_code for it in places] == [may, may]
    await done(boss.delete(path))
    assert [(await it.post("house/door")).status_code for it in places] == [403, 403]
    named = {"X-Tenant": owner.tenant}
    assert [(await it.get(WHO, headers=named)).status_code for it in places] == [403, 403]
    assert (await places[1].get("auth/me")).status_code == 200  # still somebody


async def test_who_is_disabled_or_deleted_is_out_at_once_with_their_keys(
    street: Street, person_of: PersonOf
) -> None:
    operator = street.operator()
    for ending in ("disable", "delete"):
        bob = await person_of("editor")
        given = {"client": "script", "scopes": ["house.see"]}
        key = (await done(street.client(bob.token).post("auth/api-keys", json=given))).json()
        places = [street.client(it, at=at) for it in (bob.token, key["key"]) for at in (0, 1)]
        assert [await seen(it) for it in places] == [200] * 4
        if ending == "disable":
            change = {"status": "disabled"}
            await done(operator.patch(f"ops/users/{bob.id}", json=change))
        else:
            await done(operator.delete(f"ops/users/{bob.id}"))
        assert [await seen(it) for it in places] == [401] * 4
        given = {"email": bob.email, "password": PASSWORD}
        assert (await street.client().post("auth/sign-in", json=given)).status_code == 401
        if ending == "disable":
            await done(operator.patch(f"ops/users/{bob.id}", json={"status": "active"}))
            assert [await seen(it) for it in places] == [401, 401, 200, 200]


async def test_a_key_may_what_its_user_may_now_and_no_more(
    street: Street, person_of: PersonOf
) -> None:
    owner = await person_of("owner")
    bob = await person_of("editor", tenant=owner.tenant)
    given = {"client": "script", "scopes": ["house.see", "house.open", "members.manage"]}
    made = (await done(street.client(bob.token).post("auth/api-keys", json=given))).json()
    assert made["key"].startswith(f"pp_{made['id']}_")
    by_key = street.client(made["key"], at=1)
    known = (await done(by_key.get("auth/me"))).json()
    assert known["actor"] == f"key:{made['id']}"
    assert known["permissions"] == ["house.open", "house.see"]
    path = f"organizations/{owner.tenant}/members/{bob.id}"
    await done(street.client(owner.token).put(path, json={"role": "viewer"}))
    assert (await by_key.post("house/door")).status_code == 403
    assert await seen(by_key) == 200
    for asked in (
        by_key.post("auth/api-keys", json=given),
        by_key.get("auth/sessions"),
        by_key.delete("auth/sessions"),
        by_key.post("auth/password", json={"old": PASSWORD, "new": "another long one"}),
    ):
        assert (await asked).status_code == 403
    await done(street.client(owner.token).delete(path))
    assert await seen(by_key) == 401


async def test_a_client_has_two_keys_to_change_from_one_to_the_other(
    street: Street, person_of: PersonOf
) -> None:
    owner = await person_of("owner")
    boss, stranger = street.client(owner.token), street.client((await person_of("owner")).token)
    given = {"client": "ingest", "role": "service_writer"}
    keys = [(await done(boss.post("auth/api-keys", json=given))).json() for _ in range(2)]
    assert (await boss.post("auth/api-keys", json=given)).status_code == 409
    used = [street.client(it["key"], at=1) for it in keys]
    assert [await seen(it) for it in used] == [200, 200]
    assert (await used[0].post("house/door")).status_code == 200
    assert (await used[0].get(f"organizations/{owner.tenant}/members")).status_code == 403
    listed = (await done(boss.get("auth/api-keys", params={"every": True}))).json()["items"]
    assert {it["id"]: it["used_at"] is not None for it in listed} == {it["id"]: True for it in keys}
    assert "key" not in listed[0] and keys[0]["key"] not in str(listed)
    assert (await stranger.delete(f"auth/api-keys/{keys[0]['id']}")).status_code == 404
    await done(boss.delete(f"auth/api-keys/{keys[0]['id']}"))
    assert [await seen(it) for it in used] == [401, 200]
    await done(boss.post("auth/api-keys", json=given))
    # Where one key ends, another of the same id and another secret does not begin.
    forged = f"pp_{keys[1]['id']}_{'A' * 43}"
    assert await seen(street.client(forged)) == 401
    await by_hand(
        street.plane,
        "UPDATE polyplane.api_keys SET expires_at = clock_timestamp() WHERE id = %s",
        keys[1]["id"],
    )
    await becomes(lambda: seen(used[1]), 401, within_s=1)


@pytest.mark.parametrize(
    "given, field",
    [
        ({"role": "owner"}, "role"),
        ({"role": "service_writer", "scopes": ["plane.operate"]}, "scopes"),
        ({"scopes": ["house.nothing"]}, "scopes"),
    ],
)
async def test_a_key_for_what_there_is_not_is_refused(
    street: Street, person_of: PersonOf, given: dict[str, Any], field: str
) -> None:
    owner = await person_of("owner")
    answer = await street.client(owner.token).post("auth/api-keys", json={"client": "x", **given})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_nobody_gives_away_what_they_have_not(street: Street, person_of: PersonOf) -> None:
    owner = await person_of("owner")
    admin = await person_of("admin", tenant=owner.tenant)
    editor = await person_of("editor", tenant=owner.tenant)
    boss, deputy, writer = (street.client(it.token) for it in (owner, admin, editor))
    members = f"organizations/{owner.tenant}/members"
    for person in (admin, editor):
        answer = await deputy.put(f"{members}/{person.id}", json={"role": "owner"})
        assert (answer.status_code, answer.json()["field"]) == (422, "role")
    assert (await deputy.put(f"{members}/{owner.id}", json={"role": "viewer"})).status_code == 422
    assert (await deputy.delete(f"{members}/{owner.id}")).status_code == 422
    assert (await writer.put(f"{members}/{editor.id}", json={"role": "admin"})).status_code == 403
    given = {"client": "x", "role": "service_reader"}
    assert (await writer.post("auth/api-keys", json=given)).status_code == 403
    for last in (
        boss.put(f"{members}/{owner.id}", json={"role": "admin"}),
        boss.delete(f"{members}/{owner.id}"),
    ):
        assert (await last).status_code == 409
    assert (await done(deputy.get(members))).json()["items"][0]["email"]
    assert (await writer.get("ops/users")).status_code == 403
    assert (await writer.post("organizations", json={"id": "x", "name": "x"})).status_code == 403
    await done(writer.delete(f"{members}/{editor.id}"))  # anybody may leave


async def test_owners_who_leave_at_once_leave_one(street: Street, person_of: PersonOf) -> None:
    owners = [await person_of("owner")]
    owners += [await person_of("owner", tenant=owners[0].tenant) for _ in range(3)]
    members = f"organizations/{owners[0].tenant}/members"
    answers = await asyncio.gather(
        *(street.client(it.token).delete(f"{members}/{it.id}") for it in owners)
    )
    assert sorted(it.status_code for it in answers) == [204, 204, 204, 409]


async def test_an_organization_is_not_seen_from_another(
    street: Street, person_of: PersonOf
) -> None:
    ada, bob = await person_of("owner"), await person_of("owner")
    client = street.client(ada.token)
    for tenant in (bob.tenant, "nowhere"):
        path = f"organizations/{tenant}/members"
        given = {"email": ada.email, "role": "owner"}
        for answer in (
            await client.get(path),
            await client.post(path, json=given),
            await client.put(f"{path}/{bob.id}", json={"role": "viewer"}),
            await client.delete(f"{path}/{bob.id}"),
            await client.get(path, headers={"X-Tenant": ada.tenant}),
        ):
            assert answer.status_code == 403
    session = (await done(street.client(bob.token).get("auth/sessions"))).json()[0]["id"]
    assert (await client.delete(f"auth/sessions/{session}")).status_code == 404
    assert await seen(street.client(bob.token)) == 200


async def test_an_administrator_acts_for_any_tenant_until_it_is_taken(
    street: Street, person_of: PersonOf
) -> None:
    ada, bob = await person_of("viewer"), await person_of("viewer")
    operator, client = street.operator(), street.client(ada.token, at=1)
    assert (await client.get("ops/users")).status_code == 403
    for is_one, status in ((True, 200), (False, 403)):
        change = {"is_administrator": is_one}
        if not is_one:  # somebody else has to stay
            other = {"email": f"{uuid4().hex}@example.org", "password": PASSWORD}
            await done(operator.post("ops/users", json=other | {"is_administrator": True}))
        await done(operator.patch(f"ops/users/{ada.id}", json=change))
        assert (await client.get("ops/users")).status_code == status
        answer = await client.get(WHO, headers={"X-Tenant": bob.tenant})
        assert answer.status_code == status
    key = {"client": "x", "role": "service_reader", "scopes": ["plane.operate"]}
    assert (await operator.post("auth/api-keys", json=key)).status_code == 422


async def test_there_is_one_first_administrator_however_many_begin(street: Street) -> None:
    people = [plane.identity.people for plane in street.planes]
    taken = "UPDATE polyplane.users SET is_administrator = false"
    await by_hand(street.plane, taken)
    hashed = await people[0].hash_of("first@example.org", PASSWORD)
    emails = [f"first{n}@example.org" for n in range(6)]
    made = await asyncio.gather(
        *(people[n % 2].first_administrator(email, hashed) for n, email in enumerate(emails))
    )
    [first] = [it for it in made if it is not None]
    assert first.is_administrator
    operator = street.operator()
    for change in ({"is_administrator": False}, {"status": "disabled"}):
        answer = await operator.patch(f"ops/users/{first.id}", json=change)
        assert answer.status_code == 409
    assert (await operator.delete(f"ops/users/{first.id}")).status_code == 409
    client = street.client(await signed_in_as(street.client(), first.email))
    assert (await done(client.get(WHO))).json()["tenant"] == "default"
    with pytest.raises(Conflict):
        await people[1].set_administrator(pp.Caller("test"), first.id, False)
