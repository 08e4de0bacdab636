"""How often one may ask: headers, problems, whose limit it is, and what holds without the cache."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from polyplane.stores.cache.server import Server
from tests.conftest import PlaneOf
from tests.flow.counters import application

HERE, THERE = "127.0.0.1", "10.1.1.1"


class Town:
    """A plane, and those who come to it from their addresses with their keys."""

    def __init__(self, plane: pp.Plane) -> None:
        self.plane = plane
        self._app = create_app(plane, plane.declared.applications)
        self._clients: list[AsyncClient] = []

    def client(self, credential: str = "", address: str = HERE) -> AsyncClient:
        """Who comes from `address` with a credential, or with none."""
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        transport = ASGITransport(app=self._app, client=(address, 4711))
        base = "http://127.0.0.1/api/v1/counters/"
        client = AsyncClient(transport=transport, base_url=base, headers=headers)
        self._clients.append(client)
        return client

    def operator(self, address: str = HERE) -> AsyncClient:
        """Who runs it."""
        return self.client(ops_token(self.plane.settings.home), address)

    async def program(self, name: str, role: str = "service_writer") -> str:
        """A new key."""
        by = pp.Caller("operator", permissions=self.plane.identity.permissions.everything)
        made = await self.plane.identity.keys.make(by, name, role=role, scopes=None, expires_s=3600)
        return made.text

    async def close(self) -> None:
        """Everybody goes."""
        for client in self._clients:
            await client.aclose()


@pytest.fixture
async def towns(plane_of: PlaneOf, own_settings: pp.Settings) -> AsyncIterator[Any]:
    """`await towns(limit_caller="5/60")`: one with such settings."""
    opened: list[Town] = []

    async def build(**changed: Any) -> Town:
        given = {name: getattr(own_settings, name) for name in own_settings.model_fields_set}
        settings = pp.Settings.load(environ={}, **{**given, **changed})
        plane = await plane_of(settings=settings, applications=[application], flows=False)
        opened.append(Town(plane))
        return opened[-1]

    yield build
    for town in opened:
        await town.close()


async def codes(client: AsyncClient, path: str, times: int) -> list[int]:
    """What so many requests are answered."""
    return [(await client.get(path)).status_code for _ in range(times)]


def is_told(answer: httpx.Response, policy: str, limit: str) -> bool:
    """Whether a refusal says all that it should."""
    problem = answer.json()
    return (
        answer.status_code == 429
        and answer.headers["content-type"] == "application/problem+json"
        and problem["type"] == "urn:polyplane:problem:too-often"
        and problem["fix"].startswith("Wait for ")
        and int(answer.headers["retry-after"]) >= 1
        and f'"{policy}";r=0;t=' in answer.headers["ratelimit"]
        and f'"{policy}";{limit}' in answer.headers["ratelimit-policy"]
    )


async def test_a_limit_of_a_route_is_each_callers_own(towns: Any) -> None:
    town = await towns()
    one, other = [town.client(await town.program(name)) for name in ("one", "other")]
    first = await one.get("seldom")
    assert first.headers["ratelimit-policy"] == '"caller";q=6000;w=60, "route-caller";q=3;w=3600'
    assert first.headers["ratelimit"] == '"caller";r=5999;t=1, "route-caller";r=2;t=1200'
    assert await codes(one, "seldom", 2) == [200, 200]
    assert is_told(refused := await one.get("seldom"), "route-caller", "q=3;w=3600")
    assert 1_100 < int(refused.headers["retry-after"]) <= 1_200
    assert (await one.get("often")).status_code == 200
    assert await codes(other, "seldom", 4) == [200, 200, 200, 429]
    assert await codes(town.operator(), "seldom", 4) == [200, 200, 200, 429]


async def test_limits_of_addresses_and_of_everybody(towns: Any) -> None:
    town = await towns()
    key = await town.program("one")
    assert await codes(town.client(key, "10.0.0.1"), "places", 3) == [200, 200, 429]
    assert await codes(town.client(key, "10.0.0.2"), "places", 3) == [200, 200, 429]
    # One subscriber has all of an IPv6 network.
    assert await codes(town.client(key, "2001:db8::1"), "places", 1) == [200]
    assert await codes(town.client(key, "2001:db8::ffff:2"), "places", 2) == [200, 429]
    # Before anybody is asked who they are.
    assert await codes(town.client("", "10.0.0.3"), "places", 3) == [401, 401, 429]
    mixed = [town.client(key, "10.0.0.4"), town.operator(), town.client(key, "10.0.0.5")]
    found = [(await client.get("together")).status_code for client in mixed]
    assert found == [200, 200, 429]


async def test_limits_of_the_settings(towns: Any) -> None:
    town = await towns(limit_caller="5/3600", limit_address="20/3600/8")
    key = await town.program("one")
    assert await codes(town.client(key), "often", 6) == [200] * 5 + [429]
    assert is_told(await town.client(key).get("often"), "caller", "q=5;w=3600")
    assert await codes(town.operator(), "often", 9) == [200] * 9
    assert await codes(town.client(""), "often", 9) == [401] * 9  # from this machine
    assert await codes(town.client("", THERE), "often", 9) == [401] * 8 + [429]
    assert is_told(await town.operator(THERE).get("often"), "address", "q=20;w=3600")
    nothing = await towns(limit_caller="", limit_address="")
    free = await nothing.client(await nothing.program("free"), THERE).get("often")
    assert free.status_code == 200 and "ratelimit" not in free.headers


async def test_keys_of_limits_are_the_seeds_behind_the_planes_prefix(towns: Any) -> None:
    """And each has an end."""
    town = await towns(limit_caller="6/3600", limit_address="12/3600")
    key = await town.program("one")
    await town.client(key, THERE).get("seldom")
    prefix = f"{town.plane.namespace}:default:ratelimit:"
    server = Server(town.plane.opened.urls["valkey"], prefix, 5)
    async with server.calls() as raw:
        names = {it.decode(): await raw.pttl(it) async for it in raw.scan_iter(f"{prefix}*")}
    await server.close()
    who = key.split("_")[1]
    assert set(names) == {
        f"{prefix}address:{THERE}",
        f"{prefix}key:{who}",
        f"{prefix}key:{who}:GET:/api/v1/counters/seldom",
    }
    assert all(0 < left_ms <= 1_200_000 for left_ms in names.values())


async def test_without_the_cache_each_process_allows_its_share(towns: Any) -> None:
    with socket.socket() as nobody:  # bound, and never listens
        nobody.bind((HERE, 0))
        dead = f"redis://{HERE}:{nobody.getsockname()[1]}"
        town = await towns(cache_url=dead, limit_caller="10/3600", limit_processes=2)
        key = await town.program("one")
        assert await codes(town.client(key), "often", 7) == [200] * 5 + [429] * 2
        assert await codes(town.client("", THERE), "places", 2) == [401, 429]
        # And whoever guesses passwords has to wait as ever: that is counted in truth.
        stranger = town.client("", THERE)
        guess = {"email": "ada@example.org", "password": "guess"}
        at = "http://127.0.0.1/api/v1/auth/sign-in"
        found = [await stranger.post(at, json=guess) for _ in range(20)]
        assert {it.status_code for it in found} == {401, 429}
        assert any(int(it.headers.get("retry-after", 0)) >= 1 for it in found)
