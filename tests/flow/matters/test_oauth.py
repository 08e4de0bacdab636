"""OAuth tokens: consent, encryption, and refreshes that go out once, whoever asks and dies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import orjson
import psycopg
import pytest
from psycopg import sql

import polyplane as pp
from polyplane.domains.assistant.matters import granting, tokens
from polyplane.domains.assistant.matters.granting import Denied, Granted, understood
from polyplane.domains.assistant.matters.tokens import NeedsConsent, access_token
from tests.flow.matters.conftest import ClientOf
from tests.flow.matters.provider import BACK, Provider

WITHIN_S = 60.0


async def consented(client: httpx.AsyncClient, provider: str, account: str) -> httpx.Response:
    """What comes of a consent that is begun, given and finished."""
    asked = {"provider": provider, "account": account}
    begun = (await client.post("oauth/consents", json=asked)).json()
    async with httpx.AsyncClient() as browser:
        back = (await browser.get(begun["url"])).headers["location"]
    assert back.startswith(BACK)
    named = {name: it[0] for name, it in parse_qs(urlsplit(back).query).items()}
    assert named["state"] == begun["state"]
    return await client.post("oauth/consents/finish", json=named)


async def brought(
    client: httpx.AsyncClient, provider: Provider, kind: str = "rotating", **fields: Any
) -> UUID:
    """Tokens that have ended, with a refresh token that holds."""
    given = {"provider": kind, "account": "a", "access_token": "old", "expires_s": 0}
    answer = await client.post(
        "oauth/tokens", json={**given, "refresh_token": provider.gives(), **fields}
    )
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


async def stored(plane: pp.Plane, query: str, *values: object) -> list[Any]:
    """What the table itself has, read past the plane."""
    url = plane.settings.url("database_url")
    assert url is not None
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        found = await connection.execute(sql.SQL(query), values)
        return [] if found.description is None else await found.fetchall()


async def test_a_consent_becomes_tokens_that_nobody_is_shown(
    plane: pp.Plane, client_as: ClientOf, ada: pp.Caller, bob: pp.Caller
) -> None:
    client = client_as(ada)
    finished = await consented(client, "rotating", "ada@example.org")
    assert finished.status_code == 200, finished.text
    row = finished.json()
    assert (row["state"], row["scopes"], row["account"]) == (
        "active",
        ["mail.read"],
        "ada@example.org",
    )
    token = await access_token(plane, ada, UUID(row["id"]))
    assert token.startswith("a-")
    listed = await client.get("oauth/tokens")
    assert token not in finished.text + listed.text
    [kept] = await stored(
        plane,
        "SELECT access_token, refresh_token FROM assistant.oauth_tokens WHERE id = %s",
        row["id"],
    )
    assert all(it.startswith("v1|") for it in kept)
    told = await stored(
        plane,
        "SELECT 1 FROM polyplane.audit WHERE before::text || after::text LIKE %s",
        f"%{token}%",
    )
    assert told == []
    # Nobody else has it.
    assert (await client_as(bob).get("oauth/tokens")).json()["items"] == []
    with pytest.raises(pp.NotFound):
        await access_token(plane, bob, UUID(row["id"]))
    # The same account again is the same row, with new tokens.
    again = (await consented(client, "rotating", "ada@example.org")).json()
    assert again["id"] == row["id"]
    assert await access_token(plane, ada, UUID(row["id"])) != token


async def test_a_state_holds_for_who_began_and_once(
    client_as: ClientOf, ada: pp.Caller, bob: pp.Caller
) -> None:
    client, other = client_as(ada), client_as(bob)
    begun = (
        await client.post("oauth/consents", json={"provider": "steady", "account": "x"})
    ).json()
    theirs = {"state": begun["state"], "code": "x"}
    assert (await other.post("oauth/consents/finish", json=theirs)).status_code == 409
    refused = await client.post("oauth/consents/finish", json=theirs)
    assert (refused.status_code, refused.json()["field"]) == (422, "code")
    assert (await client.post("oauth/consents/finish", json=theirs)).status_code == 409
    unknown = await client.post("oauth/consents", json={"provider": "nobody", "account": "x"})
    assert unknown.status_code == 422
    assert "rotating" in unknown.json()["fix"]


async def test_many_at_once_are_one_request(
    plane: pp.Plane, provider: Provider, client_as: ClientOf, ada: pp.Caller
) -> None:
    token_id = await brought(client_as(ada), provider)
    asked = sum(provider.refreshes.values())
    found = await asyncio.gather(*(access_token(plane, ada, token_id) for _ in range(12)))
    assert len(set(found)) == 1
    assert sum(provider.refreshes.values()) == asked + 1
    assert provider.reused == 0
    # What lives shortly is not refreshed for ever.
    provider.expires_s = 30
    short = await brought(client_as(ada), provider, account="short")
    first = await access_token(plane, ada, short)
    assert await access_token(plane, ada, short) == first


@asynccontextmanager
async def another_process(
    plane: pp.Plane, tenant: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process on the same truth, ready to come for tokens."""
    settings = plane.settings
    named = ("namespace", "database_url", "nats_url", "cache_url", "objects_url", "vector_url")
    given = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name in named
        if (value := getattr(settings, name)) is not None
    }
    oauth = {
        name: {
            **it.model_dump(mode="json"),
            "client_secret": it.client_secret and it.client_secret.get_secret_value(),
        }
        for name, it in settings.oauth.items()
    }
    told = {
        "home": str(settings.home),
        "tenant": tenant,
        "settings": {**given, "oauth": oauth},
    }
    argument = orjson.dumps(told).decode()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.flow.matters.refresher", argument),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await line_of(process) == "ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    """The next line a process prints; empty when it is gone."""
    assert process.stdout is not None
    while True:
        line = (await asyncio.wait_for(process.stdout.readline(), WITHIN_S)).decode()
        if not line or not line.startswith(("20", "{")):  # a line of the log
            return line.strip()


def say(process: asyncio.subprocess.Process, line: object) -> None:
    """Tell a process which token to come for, or to die."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())


async def test_two_processes_at_once_and_one_that_is_killed(
    plane: pp.Plane, provider: Provider, client_as: ClientOf, ada: pp.Caller
) -> None:
    client = client_as(ada)
    token_id = await brought(client, provider)
    asked, reused = sum(provider.refreshes.values()), provider.reused
    async with another_process(plane, ada.tenant) as other:
        # At the same moment: the provider keeps the first one waiting until both have come.
        provider.holds.clear()
        say(other, token_id)
        await asyncio.wait_for(provider.heard.wait(), WITHIN_S)
        mine = asyncio.create_task(access_token(plane, ada, token_id))
        await until_waiting(plane, token_id)
        provider.holds.set()
        assert await line_of(other) == await mine
        assert sum(provider.refreshes.values()) == asked + 1

        # Killed between the provider's answer and the commit.
        await stored(
            plane, "UPDATE assistant.oauth_tokens SET expires_at = now() WHERE id = %s", token_id
        )
        say(other, "die")
        say(other, token_id)
        assert await line_of(other) == ""
        assert await asyncio.wait_for(other.wait(), WITHIN_S) < 0
        assert sum(provider.refreshes.values()) == asked + 2
    # Until its turn is over nobody knows; then it is said, and the token is not sent again.
    with pytest.raises(pp.Unavailable):
        await access_token(plane, ada, token_id, wait_s=0)
    await stored(
        plane, "UPDATE assistant.oauth_tokens SET lease_until = now() WHERE id = %s", token_id
    )
    with pytest.raises(NeedsConsent):
        await access_token(plane, ada, token_id)
    shown = (await client.get(f"oauth/tokens/{token_id}")).json()
    assert shown["state"] == "needs_consent"
    assert "not sent twice" in shown["failure"]
    assert (await client.post(f"oauth/tokens/{token_id}/refresh")).status_code == 409
    assert sum(provider.refreshes.values()) == asked + 2
    assert provider.reused == reused
    # The owner consents, and all is well.
    assert (await consented(client, "rotating", "a")).json()["id"] == str(token_id)
    assert (await access_token(plane, ada, token_id)).startswith("a-")


async def until_waiting(plane: pp.Plane, token_id: UUID) -> None:
    """Return when a process has the turn."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            [[state]] = await stored(
                plane, "SELECT state FROM assistant.oauth_tokens WHERE id = %s", token_id
            )
            if state == "refreshing":
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "kind, status, error, raises, state",
    [
        ("rotating", 400, "invalid_grant", NeedsConsent, "needs_consent"),
        ("rotating", 401, "invalid_client", pp.Unavailable, "active"),
        ("rotating", 503, "", pp.Unavailable, "active"),
        ("rotating", 500, "", NeedsConsent, "needs_consent"),
        ("steady", 500, "", pp.Unavailable, "active"),
        ("gone", 0, "", pp.Unavailable, "active"),
    ],
)
async def test_what_comes_of_a_refusal(
    plane: pp.Plane,
    provider: Provider,
    client_as: ClientOf,
    ada: pp.Caller,
    kind: str,
    status: int,
    error: str,
    raises: type[Exception],
    state: str,
) -> None:
    client = client_as(ada)
    token_id = await brought(client, provider, kind)
    provider.next_status, provider.next_error = status, error
    with pytest.raises(raises):
        await access_token(plane, ada, token_id)
    shown = (await client.get(f"oauth/tokens/{token_id}")).json()
    assert shown["state"] == state
    assert shown["failure"]
    if state == "active" and kind != "gone":  # it can be tried again
        assert (await access_token(plane, ada, token_id)).startswith("a-")
        shown = (await client.get(f"oauth/tokens/{token_id}")).json()
        assert shown["failure"] is None


async def test_an_answer_that_never_comes(
    plane: pp.Plane,
    provider: Provider,
    client_as: ClientOf,
    ada: pp.Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(granting, "CALL_S", 0.5)
    provider.is_silent = True
    client = client_as(ada)
    once = await brought(client, provider)
    with pytest.raises(NeedsConsent):
        await access_token(plane, ada, once)
    often = await brought(client, provider, "steady")
    with pytest.raises(pp.Unavailable):
        await access_token(plane, ada, often)
    provider.is_silent = False
    assert (await access_token(plane, ada, often)).startswith("a-")
    assert provider.reused == 0


async def test_who_is_cancelled_still_keeps_what_was_given(
    plane: pp.Plane, provider: Provider, client_as: ClientOf, ada: pp.Caller
) -> None:
    client = client_as(ada)
    token_id = await brought(client, provider)
    provider.holds.clear()
    going = asyncio.create_task(access_token(plane, ada, token_id))
    await asyncio.wait_for(provider.heard.wait(), WITHIN_S)
    going.cancel()
    provider.holds.set()
    with pytest.raises(asyncio.CancelledError):
        await going
    shown = (await client.get(f"oauth/tokens/{token_id}")).json()
    assert (shown["state"], shown["failure"]) == ("active", None)
    assert (await access_token(plane, ada, token_id)).startswith("a-")
    assert provider.reused == 0


async def test_a_consent_meanwhile_counts(
    plane: pp.Plane, provider: Provider, client_as: ClientOf, ada: pp.Caller
) -> None:
    client = client_as(ada)
    token_id = await brought(client, provider)
    provider.holds.clear()
    going = asyncio.create_task(access_token(plane, ada, token_id))
    await asyncio.wait_for(provider.heard.wait(), WITHIN_S)
    assert (await consented(client, "rotating", "a")).status_code == 200
    newest = await access_token(plane, ada, token_id)
    provider.holds.set()
    await going
    assert await access_token(plane, ada, token_id) == newest


def test_what_an_answer_means() -> None:
    given = b'{"access_token": "a", "token_type": "bearer", "expires_in": "60", "scope": "x y"}'
    assert understood(200, given) == Granted("a", None, 60, ("x", "y"))
    for content in (
        b"",
        b"[]",
        b'{"access_token": 1}',
        b'{"access_token": "a", "token_type": "mac"}',
    ):
        denied = understood(200, content)
        assert isinstance(denied, Denied)
        assert denied.heard  # tokens may have been made
    told = understood(400, b'{"error": "the secret is hunter2"}')
    assert isinstance(told, Denied)
    assert "hunter2" not in told.why
    assert "hunter2" not in repr(Granted("hunter2", "hunter2", 1, None))
    turn = tokens.Turn(UUID(int=0), 1, "x", "hunter2")
    assert "hunter2" not in repr(turn)
