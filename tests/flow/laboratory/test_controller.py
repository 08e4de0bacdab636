"""The shipped controller as the process it is: stopped, cut off, asked twice."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from httpx import AsyncClient

import polyplane as pp
from polyplane.domains.laboratory import controller, measurement
from polyplane.domains.laboratory.controller import run_controller
from polyplane.domains.laboratory.streams import Telemetry

POINTS = measurement.PASSES * measurement.BLOCKS * measurement.BLOCK_METRICS
SETTINGS = [("bz2", level) for level in range(1, 5)]


@pytest.fixture
def nats_url(plane: pp.Plane) -> str:
    """Where NATS is."""
    url = plane.settings.url("nats_url")
    assert url is not None
    return url


@pytest.fixture
async def experiment(client: AsyncClient, tenant: str) -> str:
    """An experiment whose one work order waits for the controller named like the tenant."""
    draft = {"name": "bz2", "hypothesis": "Its level is no matter."}
    experiment = str((await client.post("experiments", json=draft)).json()["id"])
    activities = [
        {"activity_id": f"{c}-{n}", "name": f"{c} {n}", "parameters": {"codec": c, "level": n}}
        for c, n in SETTINGS
    ]
    orders = [{"controller_id": tenant, "activities": activities}]
    answer = await client.post(f"experiments/{experiment}/start", json={"work_orders": orders})
    assert answer.status_code == 202
    return experiment


async def until(look: Callable[[], Awaitable[bool]], *, within_s: float = 60) -> None:
    """Wait until `look()` is true."""
    async with asyncio.timeout(within_s):
        while not await look():
            await asyncio.sleep(0.05)


def completed(client: AsyncClient, experiment: str, number: int) -> Callable[[], Awaitable[bool]]:
    """Whether so many activities are completed."""

    async def look() -> bool:
        summary = (await client.get(f"experiments/{experiment}/summary")).json()
        return bool(summary["activities"].get("completed", 0) >= number)

    return look


async def check_all_is_there_once(plane: pp.Plane, client: AsyncClient, experiment: str) -> None:
    """Every activity completed in its first attempt, every point stored once, learnings written."""

    async def over() -> bool:
        status = (await client.get(f"experiments/{experiment}")).json()["status"]
        return bool(status == "completed")

    await until(over)
    listed = (await client.get(f"experiments/{experiment}/activities")).json()["items"]
    assert {(each["status"], each["retry_count"]) for each in listed} == {("completed", 0)}
    telemetry = plane.acting(pp.Caller("ada", client.headers["X-Tenant"]))[Telemetry]
    assert await telemetry.count({"experiment_id": experiment}) == len(SETTINGS) * POINTS
    learnings = (await client.get("learnings", params={"experiment_id": experiment})).json()
    assert len(learnings["items"]) >= 3


@asynccontextmanager
async def running(nats_url: str, plane: pp.Plane, tenant: str) -> AsyncIterator[asyncio.Event]:
    """A controller in this process; set the event to stop it."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as work:
        work.create_task(
            run_controller(nats_url, tenant, namespace=plane.namespace, tenant=tenant, stop=stop)
        )
        try:
            yield stop
        finally:
            stop.set()


async def test_a_controller_that_is_stopped_leaves_its_work_to_the_next(
    plane: pp.Plane, client: AsyncClient, tenant: str, nats_url: str, experiment: str
) -> None:
    async with running(nats_url, plane, tenant) as stop:
        await until(completed(client, experiment, 1))
        stop.set()
    assert not await completed(client, experiment, len(SETTINGS))()
    async with running(nats_url, plane, tenant):
        await check_all_is_there_once(plane, client, experiment)


async def test_a_work_order_delivered_again_changes_nothing(
    plane: pp.Plane, client: AsyncClient, tenant: str, nats_url: str, experiment: str
) -> None:
    async with running(nats_url, plane, tenant):
        await check_all_is_there_once(plane, client, experiment)
    before = (await client.get(f"experiments/{experiment}/activities")).json()
    connection = await nats.connect(nats_url)
    try:
        durable = f"controller-{tenant}-{tenant}"
        await connection.jetstream().delete_consumer(f"{plane.namespace}-events", durable)
    finally:
        await connection.close()
    idle = await run_controller(
        nats_url,
        tenant,
        namespace=plane.namespace,
        tenant=tenant,
        idle_exit_s=1,
        stop=asyncio.Event(),
    )
    assert idle == 1
    await check_all_is_there_once(plane, client, experiment)
    after = (await client.get(f"experiments/{experiment}/activities")).json()
    results = [(each["activity_id"], each["result"]) for each in before["items"]]
    assert [(each["activity_id"], each["result"]) for each in after["items"]] == results


async def test_a_controller_survives_the_loss_of_its_connection(
    plane: pp.Plane, client: AsyncClient, tenant: str, nats_url: str, experiment: str
) -> None:
    at = urlsplit(nats_url)
    writers: list[asyncio.StreamWriter] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65_536):
            sink.write(chunk)
            await sink.drain()
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(at.hostname, at.port)
        writers.extend((writer, forth))
        await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    through = at._replace(netloc=at.netloc.replace(f":{at.port}", f":{port}")).geturl()
    async with proxy, running(through, plane, tenant):
        for number in (1, 3):
            await until(completed(client, experiment, number))
            while writers:
                writers.pop().transport.abort()
        await check_all_is_there_once(plane, client, experiment)


async def test_the_command_speaks_only_nats_and_stops_cleanly(
    plane: pp.Plane, client: AsyncClient, nats_url: str
) -> None:
    client.headers["X-Tenant"] = "default"
    draft = {"name": "zlib", "hypothesis": "It is fast."}
    experiment = (await client.post("experiments", json=draft)).json()["id"]
    name = f"process-{experiment}"
    activity = {"name": "zlib 1", "parameters": {"codec": "zlib", "level": 1}}
    orders = [{"controller_id": name, "activities": [activity]}]
    await client.post(f"experiments/{experiment}/start", json={"work_orders": orders})
    environ = {name: value for name, value in os.environ.items() if "URL" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "polyplane", "controller", "--id", name, "--json"),
        env=environ | {"POLYPLANE_NATS_URL": nats_url, "POLYPLANE_NAMESPACE": plane.namespace},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await until(completed(client, experiment, 1))
        process.terminate()
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b'"work_orders": 1' in output


async def test_a_controller_without_nats_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "CALL_TIMEOUT_S", 0.5)
    with pytest.raises(pp.Unavailable, match="NATS does not answer"):
        await run_controller("nats://127.0.0.1:9", "bench", stop=asyncio.Event())


@pytest.mark.parametrize("name", ["has.dots", "", "*", "x" * 65])
async def test_a_controller_needs_a_name_that_fits_into_a_subject(name: Any) -> None:
    with pytest.raises(pp.Misconfigured, match="controller"):
        await run_controller("nats://127.0.0.1:9", name, stop=asyncio.Event())
