"""Whoever dies while a file is put, it is whole in the end or nothing of it is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

import polyplane as pp
from polyplane import Settings
from polyplane.model.blob import PART_BYTES, BlobState
from tests.conftest import PlaneOf
from tests.crash.children import Died
from tests.crash.nursery import Nursery
from tests.crash.points import named_steps
from tests.flow.albums import bucket_of, content, digest, read
from tests.flow.embedded_s3 import client_of

LARGE = 4 * PART_BYTES + 1
SMALL = 1_000
SMALL_STEPS = ("blob.reserved", "blob.put", "blob.synced", "blob.committed")
MANY_STEPS = (
    "blob.many_reserved",
    "blob.many_put",
    "blob.many_synced",
    "blob.many_committing",
)
LARGE_STEPS = (
    "blob.begun",
    "blob.part_sent",
    "blob.part_noted",
    "blob.sent",
    "blob.completed",
    "blob.durable",
    "blob.committing",
)
OTHER_STEPS = ("blob.aborted", "blob.given_up", "blob.object_gone", "blob.marked")
WAIT_S = 60.0


@pytest.fixture(scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    """Where uploaders are born loaded."""
    nursery = Nursery(Path(mkdtemp(prefix="polyplane-uploaders-")), "uploader")
    await nursery.start()
    yield nursery
    await nursery.stop()


class Uploaders:
    """Processes that put files into one plane, and die of it."""

    def __init__(self, settings: Settings, nursery: Nursery) -> None:
        urls = ("database_url", "nats_url", "cache_url", "objects_url")
        self._given = {name: settings.url(name) for name in urls}
        self._given |= {"home": str(settings.home), "namespace": settings.namespace}
        self._nursery = nursery

    async def one(self, **order: Any) -> str:
        """What it says; "died at" a step, if it did."""
        child = await self._nursery.bear()
        child.say(json.dumps({"settings": self._given, **order}))
        said = ""
        with suppress(Died):
            said = str((await child.hear("done", WAIT_S))["done"])
        if "step" in order:
            with suppress(Died):
                return f"died at {(await child.hear('blown', WAIT_S))['blown']}"
        await asyncio.wait_for(child.gone.wait(), WAIT_S)
        return said


@pytest.fixture
def uploaders(own_settings: Settings, nursery: Nursery) -> Uploaders:
    """Of the test's own plane."""
    return Uploaders(own_settings, nursery)


def test_every_step_is_in_the_list() -> None:
    steps = {it for it in named_steps() if it.startswith("blob.")}
    assert steps == {*SMALL_STEPS, *LARGE_STEPS, *MANY_STEPS, *OTHER_STEPS}


@pytest.mark.timeout(180)
async def test_a_put_that_dies_anywhere_is_gone_on_with(
    uploaders: Uploaders, plane_of: PlaneOf
) -> None:
    # Who dies must be who does the step: any plane that moves goes on with the sagas of others.
    plane = await plane_of(blobs=True, flows=False)
    orders = [
        {"do": "put", "size": size, "seed": n, "key": step, "step": step, "nth": nth}
        for size, steps in ((SMALL, SMALL_STEPS), (LARGE, LARGE_STEPS))
        for n, step in enumerate(steps)
        for nth in [3 if "part" in step else 1]
    ]
    said = [await uploaders.one(**order) for order in orders]
    assert said == [f"died at {order['step']}" for order in orders]
    part = (await plane.verify(pp.Blob, deep=True)).blobs[0]
    assert (part.lost, part.damaged, part.orphans) == ((), (), ())
    await plane.close()
    plane = await plane_of(blobs=True)

    async def again(order: dict[str, Any]) -> None:
        # In threads: to make it takes longer than anybody waits for an answer.
        whole = await asyncio.to_thread(content, order["size"], order["seed"])
        blob = await plane.blobs.put(whole, key=order["key"])
        assert blob.sha256 == await asyncio.to_thread(digest, whole)
        assert await read(plane, blob) == whole

    await asyncio.gather(*map(again, orders))
    part = (await plane.verify(pp.Blob, deep=True)).blobs[0]
    assert (part.rows, part.lost, part.damaged) == (len(orders), (), ())
    assert (part.orphaned, part.waiting, part.uploads, part.expired) == (0, 0, 0, 0)


async def test_many_that_die_together_were_never_there(
    uploaders: Uploaders, plane_of: PlaneOf
) -> None:
    """What is left of them waits for its time to be over; the same files go in again."""
    plane = await plane_of(blobs=True)
    for step in MANY_STEPS:
        assert await uploaders.one(do="many", step=step) == f"died at {step}"
    assert await plane.blobs.list(limit=200) == []
    assert await uploaders.one(do="many") == "12"
    (part,) = (await plane.verify(pp.Blob, deep=True)).blobs
    assert (part.rows, part.lost, part.damaged, part.orphaned) == (12, (), (), 0)
    await plane.opened.database.rows(
        "UPDATE polyplane.blob SET expires_at = now() WHERE state = 'pending'"
    )
    done = await plane.blobs.collect(grace_s=0)
    assert done.expired == 10 * len(MANY_STEPS)
    (part,) = (await plane.verify(pp.Blob, deep=True)).blobs
    assert (part.rows, part.objects, part.lost, part.waiting) == (12, 10, (), 0)


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_no_finished_part_is_sent_again(uploaders: Uploaders, plane_of: PlaneOf) -> None:
    """The server says when each part came: those from before the kill are older than it."""
    plane = await plane_of(blobs=True)
    parts = 8  # more than can be on their way when the third is noted
    size = (parts - 1) * PART_BYTES + 1
    order = {"do": "put", "size": size, "seed": 7, "key": "k"}
    await uploaders.one(**order, step="blob.part_noted", nth=3)
    (waiting,) = await plane.blobs.list(states=[BlobState.PENDING])
    bucket, client = bucket_of(plane), client_of(plane.opened.urls["s3"])
    ((key, upload),) = bucket.uploads()

    def came() -> dict[int, Any]:
        store = plane.opened.stores.objects
        assert store is not None
        page = client.list_parts(Bucket=store.bucket, Key=key, UploadId=upload)
        return {it["PartNumber"]: (it["LastModified"], it["ETag"]) for it in page["Parts"]}

    before = await asyncio.to_thread(came)
    assert 3 <= len(before) < parts
    await asyncio.sleep(1.1)  # the server tells times in seconds
    assert await uploaders.one(**order, step="blob.sent") == "died at blob.sent"
    after = await asyncio.to_thread(came)
    assert len(after) == parts
    assert {number: after[number] for number in before} == before
    newest = max(time for time, _ in before.values())
    # What had come whole may be finished after its sender died: so any, not all, of the rest.
    assert any(time > newest for number, (time, _) in after.items() if number not in before)
    whole = content(size, 7)
    assert (await plane.blobs.resume(waiting.id, whole)).sha256 == digest(whole)


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_what_dies_while_it_takes_away_is_gone_on_with(
    uploaders: Uploaders, plane_of: PlaneOf
) -> None:
    still = await plane_of(blobs=True, flows=False)  # or it might do the step
    wrong = {"do": "put", "size": LARGE, "seed": 1, "sha256": "0" * 64, "key": "wrong"}
    assert await uploaders.one(**wrong, step="blob.aborted", stay=20) == "died at blob.aborted"
    await still.close()
    plane = await plane_of(blobs=True)
    deleted, lost = await plane.blobs.put(b"deleted"), await plane.blobs.put(b"lost")
    await plane.blobs.delete(deleted.id)
    await plane.blobs.upload_url("never", 1)
    await plane.opened.database.rows(
        "UPDATE polyplane.blob SET expires_at = now() WHERE state = 'pending' AND name = 'never'"
    )
    bucket_of(plane).remove(lost.key, lost.version or "")
    for do, step in (
        ("collect", "blob.given_up"),
        ("collect", "blob.object_gone"),
        ("repair", "blob.marked"),
    ):
        assert await uploaders.one(do=do, step=step) == f"died at {step}"
    await plane.blobs.collect(grace_s=0)
    await plane.repair(pp.Blob)
    async with asyncio.timeout(WAIT_S):  # until the saga that died in its undo is undone
        while await plane.blobs.list(states=[BlobState.PENDING]):
            await asyncio.sleep(0.1)
    await plane.blobs.collect(grace_s=0)
    part = (await plane.verify(pp.Blob)).blobs[0]
    assert part.lost == (str(lost.id),)
    assert (part.waiting, part.orphaned, part.uploads) == (0, 0, 0)
    files = [it for it in bucket_of(plane).versions() if not it.key.startswith(".polyplane/")]
    assert files == []  # the rest are seals of the audit
