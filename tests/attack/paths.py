"""What leaves a plane by other ways than an answer: subjects, keys of caches, keys of objects."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

import nats
import orjson
from redis.asyncio import Redis

from polyplane.feed.protocol import token, told
from tests.attack.ground import Ground
from tests.attack.live import probe_live
from tests.attack.report import Report
from tests.flow.things import admin_urls

HOSTILE: Final = ["*", ">", "a.b", "", " ", "a b", "%", "%2A", "ü", "a/b", "a\r\nb", "..", "$JS"]
QUIET_S: Final = 1.0
OWN: Final = ".polyplane/"
"""What the plane keeps among the objects for itself; no tenant can be called so."""


async def probe_events(ground: Ground, report: Report) -> None:
    """Who may listen to its own events hears nothing of another's."""
    url = admin_urls(ground.plane)["nats"]
    connection = await nats.connect(url)
    try:
        feed = connection.jetstream()
        subject = f"{ground.plane.namespace}.events.{token(ground.mine.tenant)}.>"
        subscription = await feed.subscribe(subject, ordered_consumer=True)
        heard = 0
        while True:
            try:
                message = await subscription.next_msg(timeout=QUIET_S)
            except nats.errors.TimeoutError:
                break
            heard += 1
            body = message.data.decode()
            leak = ground.theirs.canary in body or ground.theirs.tenant in body
            report.probed("events", f"{message.subject}: {body:.200}" if leak else "")
        assert heard, "there are events of our own"
    finally:
        await connection.close()


async def probe_subjects(ground: Ground, report: Report, dice: Random, probes: int) -> None:
    """What is published for one tenant comes in as that tenant's, whatever it is called."""
    subjects = ground.plane.opened.feed.subjects
    other = ground.theirs.tenant
    for number in range(probes):
        name = HOSTILE[number % len(HOSTILE)] + dice.choice(["", other, f".{other}", "*"])
        for subject in (subjects.event(name, "a.b", ""), subjects.points("meter", name)):
            part = subject.split(".")[2 if ".events." in subject else 3]
            is_right = told(part) == name and not set(part) & set("*> \r\n")
            report.probed("subjects", "" if is_right else f"{name!r} is {subject!r}")


async def probe_inbound(ground: Ground, report: Report) -> None:
    """A message of one tenant that says it is another's, in its subject or in its body."""
    acting, theirs = ground.plane.acting(ground.mine.caller), ground.theirs
    event = {
        "specversion": "1.0",
        "id": theirs.canary,
        "source": "/controllers/x",
        "type": "laboratory.activity.completed",
        "time": "2026-01-01T00:00:00Z",
        "tenant": theirs.tenant,
        "data": {"activity_id": theirs.ids["activity_id"], "attempt": 1},
    }
    for rest in (theirs.ids["controller_id"], f"{theirs.tenant}.{theirs.ids['controller_id']}"):
        await acting.publish(f"laboratory.activity.{rest}", orjson.dumps(event))
        wanted = {"tenant": theirs.tenant, "experiment_id": theirs.ids["experiment_id"]}
        await acting.publish(f"laboratory.analysis.{rest}", orjson.dumps(wanted))
        report.probed("inbound")
    follower = ground.plane.opened.followers["laboratory.activity"]
    async with asyncio.timeout(20):
        while follower.handled_messages < 2:
            await asyncio.sleep(0.02)


async def probe_keys(ground: Ground, report: Report) -> None:
    """Where a value of a tenant lies, its key says so: in the cache and among the objects."""
    plane = ground.plane
    async with Redis.from_url(admin_urls(plane)["valkey"]) as client:
        found = [it async for it in client.scan_iter(f"{plane.namespace}:*", count=1_000)]
        for name in found:
            held = await client.dump(name) or b""
            for side in (ground.mine, ground.theirs):
                inside = side.canary.encode() in held
                theirs = name.startswith(f"{plane.namespace}:{side.tenant}:".encode())
                report.probed("cache keys", f"{name!r}" if inside and not theirs else "")
    store = plane.opened.stores.objects
    assert store is not None
    rows = await plane.opened.database.rows("SELECT key, tenant_id FROM polyplane.blob", {})
    known = {str(key): str(tenant) for key, tenant in rows}
    async for page in store.every():
        for it in page:
            if it.key.startswith(OWN):
                continue
            tenant = known.get(it.key)
            is_said = tenant is not None and it.key.startswith(f"{tenant}/")
            report.probed("object keys", "" if is_said else it.key)


async def probe_paths(ground: Ground, report: Report, probes: int, seed: int) -> None:
    """All of them; `probes` of what can be asked as often as one likes."""
    await probe_events(ground, report)
    await probe_live(ground, report)
    await probe_inbound(ground, report)
    await probe_keys(ground, report)
    await probe_subjects(ground, report, Random(seed), probes)
