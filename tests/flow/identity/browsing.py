"""What a browser does that signs in by a provider."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from httpx import AsyncClient, Response

from tests.flow.identity.conftest import Street
from tests.flow.identity.forger import Forger


def browser(street: Street, *, at: int = 0) -> AsyncClient:
    """One at an address of its own: what fails there makes no other test wait."""
    number = uuid4().int
    return street.client(at=at, address=f"10.{number % 251}.{number // 251 % 251}.7")


async def leaves(client: AsyncClient, provider: str, return_to: str = "/docs") -> dict[str, str]:
    """What the provider is asked by a browser that was sent there."""
    answer = await client.get(f"auth/oidc/{provider}/start", params={"return_to": return_to})
    assert answer.status_code == 303, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


async def comes_back(
    client: AsyncClient, provider: str, asked: dict[str, str], code: str, **more: str
) -> Response:
    """What we answer to the browser that the provider sends back."""
    given = {"state": asked["state"], "code": code} | more
    return await client.get(f"auth/oidc/{provider}/callback", params=given)


async def comes_by(
    client: AsyncClient, forger: Forger, provider: str, sub: str, email: str | None, **claims: Any
) -> Response:
    """All of a sign-in."""
    asked = await leaves(client, provider)
    said: dict[str, Any] = {"sub": sub, "email": email, "email_verified": True, **claims}
    return await comes_back(client, provider, asked, forger.agrees(asked, provider, **said))


def shows(client: AsyncClient, cookie: str) -> None:
    """Have the browser bring this one of a sign-in."""
    client.cookies.set("pp_oidc", cookie, domain="127.0.0.1", path="/")


def somebody() -> tuple[str, str]:
    """A subject, and an address that nobody has."""
    name = uuid4().hex[:12]
    return f"sub-{name}", f"{name}@example.com"
