"""One plane with the laboratory for each file of its tests; each test is a tenant of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from psycopg import sql
from sqlalchemy import make_url

import polyplane as pp
from polyplane.domains.laboratory import application
from polyplane.embedded import Engines
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token

BASE = "http://127.0.0.1/api/v1/laboratory/"


@pytest.fixture(scope="module")
async def plane(
    engines: Engines, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """A plane with the laboratory, in a database and a namespace of its own."""
    name, home = f"lab{uuid4().hex[:12]}", tmp_path_factory.mktemp("laboratory")
    url = engines.urls["postgres"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    settings = pp.Settings.load(
        environ={},
        home=home,
        namespace=name,
        database_url=make_url(url).set(database=name).render_as_string(hide_password=False),
        nats_url=engines.urls["nats"],
        cache_url=engines.urls["valkey"],
        objects_url=engines.urls["s3"],
        vector_url=f"lancedb://{home / 'lancedb'}",
        series_url=chdb_url,
    )
    async with pp.Plane(applications=[application], settings=settings) as plane:
        await plane.caught_up()  # what is being filled is not read
        yield plane


@pytest.fixture
def tenant() -> str:
    """A tenant nobody else knows."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def app(plane: pp.Plane) -> FastAPI:
    """Its API: to make one takes longer than most tests."""
    return create_app(plane, plane.declared.applications)


@pytest.fixture
async def client(plane: pp.Plane, app: FastAPI, tenant: str) -> AsyncIterator[AsyncClient]:
    """A client of the laboratory's API, for this test's tenant."""
    transport = ASGITransport(app=app)
    headers = {"X-Tenant": tenant, "Authorization": f"Bearer {ops_token(plane.settings.home)}"}
    async with AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client
