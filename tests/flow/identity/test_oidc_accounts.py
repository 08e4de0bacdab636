"""Whose account a provider's identity is, and whose it never becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from httpx import AsyncClient, Response

from tests.flow.identity.browsing import browser, comes_back, comes_by, somebody
from tests.flow.identity.conftest import PASSWORD, Person, Street, done, seen, signed_in_as
from tests.flow.identity.forger import Forger
from tests.flow.things import by_hand

PersonOf = Callable[..., Awaitable[Person]]


async def test_who_comes_twice_at_once_for_the_first_time_is_one(
    street: Street, forger: Forger
) -> None:
    """On two planes, by two identities with one address."""
    _, email = somebody()
    clients = [browser(street, at=number % 2) for number in range(6)]
    subjects = [f"{email}-{number // 4}" for number in range(6)]
    answers = await asyncio.gather(
        *(
            comes_by(client, forger, "open", sub, email)
            for client, sub in zip(clients, subjects, strict=True)
        )
    )
    assert [it.status_code for it in answers] == [200] * 6
    users = {(await client.get("auth/me")).json()["user_id"] for client in clients}
    assert len(users) == 1
    [(identities,)] = await by_hand(
        street.plane,
        "SELECT count(*) FROM polyplane.external_identities WHERE user_id = %s",
        users.pop(),
    )
    assert identities == 2


async def test_an_address_may_come_from_userinfo(street: Street, forger: Forger) -> None:
    """Of the same person, and not of another."""
    sub, email = somebody()
    told = {"email": email, "email_verified": True, "name": "Ada\x07"}
    client = browser(street)
    no = {"email_verified": None}
    other = {"told": {**told, "sub": "another"}}
    answer = await comes_by(client, forger, "open", sub, None, token=other, **no)
    assert answer.status_code == 401
    answer = await comes_by(client, forger, "open", sub, None, token={"told": dict(told)}, **no)
    assert answer.status_code == 200, answer.text
    me = (await done(client.get("auth/me"))).json()
    assert (me["email"], me["name"]) == (email, "Ada")


async def test_who_is_not_let_in_does_not_learn_why(
    street: Street, forger: Forger, person_of: PersonOf
) -> None:
    """Unknown, unverified, of another domain, with a password, disabled: one answer."""
    ada = await person_of("viewer")
    gone = await person_of("viewer")
    change = {"status": "disabled"}
    await done(street.operator().patch(f"ops/users/{gone.id}", json=change))
    sub, email = somebody()
    tries: list[tuple[str, str | None, dict[str, Any]]] = [
        ("closed", email, {}),
        ("open", ada.email, {}),
        ("open", gone.email, {}),
        ("open", email, {"email_verified": False}),
        ("open", email, {"email_verified": "true"}),
        ("open", email, {"email_verified": None}),
        ("open", "no address", {}),
        ("ours", "x@example.org", {}),
        ("ours", "x@example.com.evil.example", {}),
        ("ours", email, {"email_verified": False}),
    ]
    answers = []
    for provider, address, claims in tries:
        answer = await comes_by(browser(street), forger, provider, sub, address, **claims)
        assert answer.status_code == 401, (provider, address, claims)
        problem = answer.json()
        answers.append((problem["detail"], problem["fix"], problem["title"]))
    assert len(set(answers)) == 1
    failed = "SELECT detail->>'why' FROM polyplane.audit WHERE action = 'user.sign_in_failed'"
    whys = {it[0] for it in await by_hand(street.plane, failed)}
    assert whys >= {"unknown", "needs proof", "no verified address", "domain"}
    assert (await comes_by(browser(street), forger, "ours", sub, email)).status_code == 200


async def test_an_account_with_a_password_is_linked_by_who_knows_it(
    street: Street, forger: Forger, person_of: PersonOf
) -> None:
    ada, bob = await person_of("viewer"), await person_of("viewer")
    sub, email = somebody()
    client = street.client(ada.token)
    given = {"password": "not the password", "return_to": "/docs"}
    assert (await client.post("auth/oidc/closed/link", json=given)).status_code == 422
    evil = {"password": PASSWORD, "return_to": "//evil.example"}
    assert (await client.post("auth/oidc/closed/link", json=evil)).status_code == 422
    assert (await browser(street).post("auth/oidc/closed/link", json=given)).status_code == 401
    given["password"] = PASSWORD

    async def link(by: AsyncClient, sub: str, *, ends_first: bool = False) -> Response:
        begun = await done(by.post("auth/oidc/closed/link", json=given))
        asked = dict(parse_qsl(urlsplit(begun.json()["url"]).query))
        if ends_first:
            await done(by.post("auth/sign-out"))
        code = forger.agrees(asked, "closed", sub=sub, email=email)
        return await comes_back(by, "closed", asked, code)

    assert (await link(client, sub)).status_code == 200
    assert (await link(client, sub)).status_code == 200  # again is no harm
    hers = browser(street)
    assert (await comes_by(hers, forger, "closed", sub, None)).status_code == 200
    assert (await done(hers.get("auth/me"))).json()["email"] == ada.email
    assert (await link(street.client(bob.token), sub)).status_code == 409  # it is Ada's
    second = street.client(await signed_in_as(browser(street), bob.email))
    assert (await link(second, "another", ends_first=True)).status_code == 401
    [identity] = (await done(client.get("auth/oidc/identities"))).json()
    assert (identity["issuer"], identity["subject"]) == (forger.issuer("closed"), sub)
    other = street.client(bob.token)
    assert (await other.delete(f"auth/oidc/identities/{identity['id']}")).status_code == 404
    await done(client.delete(f"auth/oidc/identities/{identity['id']}"))
    assert (await seen(hers), await seen(client)) == (401, 200)
    assert (await comes_by(hers, forger, "closed", sub, ada.email)).status_code == 401


async def test_accounts_of_providers_are_one_by_a_verified_address_but_no_administrators(
    street: Street, forger: Forger
) -> None:
    sub, email = somebody()
    first, second = browser(street), browser(street)
    assert (await comes_by(first, forger, "open", sub, email)).status_code == 200
    mine = (await done(first.get("auth/me"))).json()["user_id"]
    # A subject is its issuer's: the same one elsewhere is somebody else, until the address says so.
    assert (await comes_by(second, forger, "closed", sub, email.upper())).status_code == 200
    assert (await done(second.get("auth/me"))).json()["user_id"] == mine
    operator = street.operator()
    listed = (await done(operator.get(f"ops/users/{mine}/identities"))).json()
    assert [it["issuer"] for it in listed] == [forger.issuer("open"), forger.issuer("closed")]
    await done(operator.delete(f"ops/users/{mine}/identities/{listed[0]['id']}"))
    assert (await seen(first), await seen(second)) == (401, 401)
    only = f"ops/users/{mine}/identities/{listed[1]['id']}"
    assert (await operator.delete(only)).status_code == 409
    power = "UPDATE polyplane.users SET is_administrator = %s WHERE id = %s"
    await by_hand(street.plane, power, True, mine)
    try:  # who has power over all is not given away for an address; by what is linked they come in
        assert (await comes_by(first, forger, "open", sub, email)).status_code == 401
        assert (await comes_by(second, forger, "closed", sub, None)).status_code == 200
    finally:
        await by_hand(street.plane, power, False, mine)
    await done(operator.delete(f"ops/users/{mine}"))
    assert await seen(second) == 401
