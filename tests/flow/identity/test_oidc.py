"""Signing in by a provider: who comes in, as whom, and who does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from httpx import AsyncClient
from joserfc.jwk import OctKey

from polyplane.access import provider as providing
from tests.flow.identity.browsing import browser, comes_back, comes_by, leaves, shows, somebody
from tests.flow.identity.conftest import Person, Street, done, seen, signed_in_as
from tests.flow.identity.forger import SECRET, Forger, new_key
from tests.flow.things import by_hand

PersonOf = Callable[..., Awaitable[Person]]


async def test_somebody_elses_provider_lets_people_in(street: Street, honest: str) -> None:
    """All of it, with a program that is not ours."""
    sub, email = somebody()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as away:
        known = {"email": email, "email_verified": True, "name": "Ada"}
        assert (await away.put(f"{honest}/users/{sub}", json=known)).is_success
        users = []
        for _ in range(2):
            client = browser(street)
            begun = await client.get("auth/oidc/honest/start", params={"return_to": "/docs?a=b#c"})
            asked = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
            assert asked["code_challenge_method"] == "S256" and asked["scope"].startswith("openid")
            agreed = await away.post(begun.headers["location"], data={"sub": sub})
            back = agreed.headers["location"]
            assert back.startswith("http://127.0.0.1/api/v1/auth/oidc/honest/callback?")
            answer = await client.get(back)
            assert answer.status_code == 200, answer.text
            assert 'content="0;url=/docs?a=b#c"' in answer.text
            assert answer.headers["cache-control"] == "no-store"
            me = (await done(client.get("auth/me"))).json()
            assert (me["email"], me["name"], me["is_administrator"]) == (email, "Ada", False)
            [member] = me["organizations"]
            assert (member["tenant"], member["role"]) == ("default", "editor")
            users.append(me["user_id"])
        assert users[0] == users[1]
    listed = (await done(client.get("auth/sessions"))).json()
    assert [it["current"] for it in listed] == [True, False]
    await done(client.post("auth/sign-out", headers={"Origin": "http://127.0.0.1"}))
    assert await seen(client) == 401
    told = "SELECT action FROM polyplane.audit WHERE actor = %s"
    actions = [it[0] for it in await by_hand(street.plane, told, f"user:{users[0]}")]
    assert actions.count("user.signed_in") == 2


async def test_a_session_by_a_provider_is_kept_as_any(street: Street, forger: Forger) -> None:
    """In the same cookie, revoked with the same calls."""
    sub, email = somebody()
    client = browser(street)
    answer = await comes_by(client, forger, "open", sub, email)
    cookies = {it.partition("=")[0]: it.lower() for it in answer.headers.get_list("set-cookie")}
    assert cookies.keys() == {"pp_session", "pp_device", "pp_oidc"}
    assert "samesite=strict" in cookies["pp_session"] and "httponly" in cookies["pp_session"]
    assert "max-age=0" in cookies["pp_oidc"] and "samesite=lax" in cookies["pp_oidc"]
    assert await seen(client) == 403  # known, and a member of nothing
    me = (await done(client.get("auth/me"))).json()
    assert me["organizations"] == []
    change = {"status": "disabled"}
    await done(street.operator().patch(f"ops/users/{me['user_id']}", json=change))
    assert await seen(client) == 401
    assert (await comes_by(browser(street), forger, "open", sub, email)).status_code == 401
    # Nothing of the sign-in is left that would help a reader.
    rows = await by_hand(street.plane, "SELECT e::text FROM polyplane.external_identities e")
    assert sub in str(rows) and email not in str(rows)


HOUR = 3600
WRONG: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://elsewhere.example"},
    "without an issuer": {"iss": None},
    "for another client": {"aud": "another"},
    "for nobody": {"aud": None},
    "for several, by nobody": {"aud": ["the-plane", "another"]},
    "for several, by another": {"aud": ["the-plane", "another"], "azp": "another"},
    "expired": {"exp": 1_000_000},
    "without an end": {"exp": None},
    "that ends in words": {"exp": "never"},
    "of the future": {"iat": 32_000_000_000, "exp": 32_000_000_300},
    "not valid yet": {"nbf": 32_000_000_000},
    "of another sign-in": {"nonce": "another"},
    "of no sign-in": {"nonce": None},
    "of nobody": {"sub": None},
    "of nobody in words": {"sub": ""},
    "of a number": {"sub": 7},
    "of too long a name": {"sub": "x" * 256},
    "for another access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    "that is none": {"token": {"id_token": "not.a.token"}},
    "that is a number": {"token": {"id_token": 7}},
    "signed by nobody": {"header": {"alg": "none"}},
    "by a stranger's key": {"key": "first"},
    "by an unknown key": {"key": "unknown"},
    "by our own secret": {"header": {"alg": "HS256"}, "key": "shared"},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
async def test_a_token_that_does_not_hold_lets_nobody_in(
    street: Street, forger: Forger, claims: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providing, "KEYS_AGAIN_S", 0.0)
    claims = dict(claims)
    match claims.pop("key", None):
        case "shared":
            claims["key"] = OctKey.import_key(SECRET)
        case str(name):
            claims["key"] = new_key(name)
    sub, email = somebody()
    client = browser(street)
    answer = await comes_by(client, forger, "open", claims.pop("sub", sub), email, **claims)
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "pp_session" not in client.cookies
    asked = "SELECT count(*) FROM polyplane.users WHERE email = %s"
    assert await by_hand(street.plane, asked, email) == [(0,)]


async def test_only_the_browser_that_left_comes_back(street: Street, forger: Forger) -> None:
    sub, email = somebody()
    client, other = browser(street), browser(street)
    said: dict[str, Any] = {"sub": sub, "email": email, "email_verified": True}

    async def tried(by: AsyncClient, provider: str, asked: dict[str, str], **more: str) -> int:
        code = more.pop("code", "") or forger.agrees(asked, provider, **said)
        return (await comes_back(by, provider, asked, code, **more)).status_code

    asked = await leaves(client, "open")
    assert await tried(other, "open", asked) == 401  # no cookie: somebody was sent a link
    theirs = await leaves(other, "open")
    assert theirs["state"] != asked["state"] and theirs["nonce"] != asked["nonce"]
    assert await tried(other, "open", asked) == 401  # a cookie of another sign-in
    assert await tried(client, "open", asked, state="") == 401
    assert await tried(client, "open", asked, iss="https://elsewhere.example") == 401
    assert await tried(client, "closed", asked) == 401  # another provider than it was begun with
    assert await tried(client, "open", asked, code="made-up") == 401
    assert await tried(client, "open", asked, error="access_denied") == 401
    held = client.cookies["pp_oidc"]
    at = len(held) // 2  # of its last character some bits mean nothing
    shows(client, held[:at] + ("A" if held[at] != "A" else "B") + held[at + 1 :])
    assert await tried(client, "open", asked) == 401
    assert "pp_session" not in client.cookies and "pp_session" not in other.cookies
    asked = await leaves(client, "open")
    code = forger.agrees(asked, "open", **said)
    kept = client.cookies["pp_oidc"]
    right = {"iss": forger.issuer("open")}
    assert (await comes_back(client, "open", asked, code, **right)).status_code == 200
    assert "pp_oidc" not in client.cookies
    assert (await comes_back(client, "open", asked, code)).status_code == 401
    shows(client, kept)  # who kept it finds the code used up
    assert (await comes_back(client, "open", asked, code)).status_code == 401


async def test_a_code_is_of_no_use_without_its_verifier(street: Street, forger: Forger) -> None:
    """Somebody saw another's code, and begins a sign-in of their own with it."""
    sub, email = somebody()
    victim, thief = browser(street), browser(street)
    asked = await leaves(victim, "open")
    code = forger.agrees(asked, "open", sub=sub, email=email, email_verified=True)
    own = await leaves(thief, "open")
    assert (await comes_back(thief, "open", own, code)).status_code == 401
    assert "pp_session" not in thief.cookies


EVIL = [
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "javascript:alert(1)",
    'x"><script>',
    '/"><script>alert(1)</script>',
    "evil",
    "",
    "/" + "a" * 500,
]


@pytest.mark.parametrize("path", EVIL)
async def test_nobody_is_sent_elsewhere(street: Street, path: str) -> None:
    answer = await browser(street).get("auth/oidc/open/start", params={"return_to": path})
    assert answer.status_code == 422


async def test_keys_are_kept_and_new_ones_are_found(
    street: Street, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub, email = somebody()
    client = browser(street)
    assert (await comes_by(client, forger, "open", sub, email)).status_code == 200
    before = forger.calls["keys"], forger.calls["about"]
    assert (await comes_by(client, forger, "open", sub, email)).status_code == 200
    assert (forger.calls["keys"], forger.calls["about"]) == before
    old, newer = forger.key, new_key("second")
    forger.key, forger.published[:] = newer, [newer]
    try:
        monkeypatch.setattr(providing, "KEYS_AGAIN_S", HOUR)  # asked for a moment ago
        assert (await comes_by(client, forger, "open", sub, email)).status_code == 401
        monkeypatch.setattr(providing, "KEYS_AGAIN_S", 0.0)
        assert (await comes_by(client, forger, "open", sub, email)).status_code == 200
        same = new_key("second")  # another one under the same name
        forger.key, forger.published[:] = same, [same]
        assert (await comes_by(client, forger, "open", sub, email)).status_code == 200
    finally:
        forger.key, forger.published[:] = old, [old]
    assert (await comes_by(client, forger, "open", sub, email)).status_code == 200


async def test_a_provider_that_is_down_is_said_to_be_and_hinders_nobody(
    street: Street, forger: Forger, person_of: PersonOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await person_of("viewer")
    client = browser(street)
    assert (await client.get("auth/oidc/nobody/start")).status_code == 404
    gone = await client.get("auth/oidc/gone/start")
    assert gone.status_code == 503 and gone.headers["retry-after"]
    monkeypatch.setattr(providing, "LEFT_ALONE_S", 0.0)
    monkeypatch.setattr(providing, "CALL_S", 0.2)
    forger.hangs = True
    try:
        assert (await client.get("auth/oidc/failing/start")).status_code == 503
    finally:
        forger.hangs = False
    monkeypatch.setattr(providing, "CALL_S", 5.0)
    for wrong in (
        {"issuer": forger.issuer("open")},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"filler": "x" * (2 << 20)},
    ):
        forger.about = wrong
        assert (await client.get("auth/oidc/failing/start")).status_code == 503
    forger.about = {}
    assert (await client.get("auth/oidc/failing/start")).status_code == 303
    assert await signed_in_as(browser(street), ada.email)
    names = (await done(client.get("auth/oidc"))).json()["providers"]
    assert names == ["closed", "failing", "gone", "honest", "open", "ours"]
    assert await seen(street.client(ada.token)) == 200
