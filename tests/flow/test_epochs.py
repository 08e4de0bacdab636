"""Epochs: whatever is lost or put back to an older copy, 0 drift, and nobody edits anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any
from uuid import uuid4

import nats
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

import polyplane as pp
from polyplane import Settings
from polyplane.flow.packing import AFTER_HEADER
from polyplane.model.key import bucket_of
from polyplane.runtime import moving
from tests.conftest import PlaneOf
from tests.flow.things import Thing, ThingSearch, by_hand

DECLARED: dict[str, Any] = {"models": [Thing], "projections": [ThingSearch]}


async def copy_of(plane: pp.Plane, own: Settings) -> Settings:
    """Settings as `own`, but on a copy of the database as it is now; `plane` is closed."""
    url = make_url(plane.settings.url("database_url") or "")
    name = f"t{uuid4().hex[:12]}"
    await plane.close()
    at = url.set(database="postgres").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(at, autocommit=True) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {url.database}".encode())
    older = url.set(database=name).render_as_string(hide_password=False)
    return own.model_copy(update={"database_url": SecretStr(older)})


async def write_some(plane: pp.Plane, first: int, count: int) -> None:
    """So many rows more."""
    rows = f"SELECT n, 'body ' || n FROM generate_series({first}, {first + count - 1}) n"
    await by_hand(plane, f"INSERT INTO thing {rows}")


async def in_epoch(plane: pp.Plane, epoch: int) -> None:
    """Return when the plane works in that epoch or a later one."""
    async with asyncio.timeout(20):
        while plane.opened.epoch < epoch:
            await asyncio.sleep(0.05)


async def check(plane: pp.Plane, items: int) -> None:
    """No drift, and so many items."""
    await plane.caught_up(timeout_s=30)
    drift = await plane.verify()
    assert drift.clean, drift.parts
    assert [part.items for part in drift.parts] == [items]


@pytest.mark.parametrize("writes_before", [False, True])
async def test_an_older_postgresql_is_noticed(
    plane_of: PlaneOf, own_settings: Settings, writes_before: bool
) -> None:
    """Rows that it never had go from the stores, those that it has come back."""
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 50)
    await check(plane, 50)
    older = await copy_of(plane, own_settings)
    plane = await plane_of(**DECLARED)
    await write_some(plane, 51, 50)
    await by_hand(plane, "DELETE FROM thing WHERE id <= 10")
    await by_hand(plane, "UPDATE thing SET body = 'later' WHERE id BETWEEN 11 AND 20")
    await check(plane, 90)
    await plane.close()
    if writes_before:  # as after a restore that somebody writes to before the plane is up again
        silent = await plane_of(settings=older, **DECLARED, flows=False)
        await by_hand(silent, "INSERT INTO thing SELECT n, 'new' FROM generate_series(60, 69) n")
        await silent.close()
    plane = await plane_of(settings=older, **DECLARED)
    await in_epoch(plane, 2)
    await check(plane, 60 if writes_before else 50)
    assert len(plane.opened.epochs_ended) == 1
    await write_some(plane, 101, 5)
    await check(plane, 65 if writes_before else 55)


async def test_an_epoch_is_never_begun_twice(plane_of: PlaneOf, own_settings: Settings) -> None:
    """Nor when the stream, which remembers it too, is lost with it: the home does."""
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 20)
    await plane.caught_up()
    older = await copy_of(plane, own_settings)
    plane = await plane_of(**DECLARED)
    for first in (21, 41):  # epochs 2 and 3
        epoch = plane.opened.epoch
        await wipe(plane)
        await in_epoch(plane, epoch + 1)
        await write_some(plane, first, 20)
        await plane.caught_up(timeout_s=30)
    await plane.close()
    await wipe(plane)
    plane = await plane_of(settings=older, **DECLARED)
    assert plane.opened.epoch > 3
    await check(plane, 20)


async def wipe(plane: pp.Plane) -> None:
    """Delete the changes and events streams under the plane."""
    client = await nats.connect(plane.settings.url("nats_url") or "")
    for name in ("changes", "events"):
        await client.jetstream().delete_stream(f"{plane.namespace}-{name}")
    await client.close()


async def test_streams_are_wiped_while_the_plane_works(plane_of: PlaneOf) -> None:
    """What is committed meanwhile comes through in the next epoch."""
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 50)
    await plane.caught_up()
    before = plane.opened.epoch
    await wipe(plane)
    await write_some(plane, 51, 50)
    await in_epoch(plane, before + 1)
    await check(plane, 100)
    assert plane.opened.epochs_ended
    begun = [work for work in (await plane.health()).work if work.state == "begun"]
    assert [(it.what, it.detail) for it in begun] == [
        (f"epoch {plane.opened.epoch}", plane.opened.epochs_ended[-1])
    ]


async def test_a_collection_is_gone_while_nothing_runs(
    plane_of: PlaneOf, own_settings: Settings, tmp_path: Path
) -> None:
    """The whole folder of the store: it is filled again."""
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 50)
    await plane.caught_up()
    await plane.close()
    rmtree(tmp_path / "lancedb")
    plane = await plane_of(**DECLARED)
    await check(plane, 50)


async def test_a_store_is_put_back_to_an_older_copy(
    plane_of: PlaneOf, own_settings: Settings, tmp_path: Path
) -> None:
    """What was deleted since is in it again, what was changed is as it was: it is filled again."""
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 50)
    await plane.caught_up()
    await plane.close()
    copytree(tmp_path / "lancedb", tmp_path / "copy")
    plane = await plane_of(**DECLARED)
    await by_hand(plane, "DELETE FROM thing WHERE id <= 10")
    await by_hand(plane, "UPDATE thing SET body = 'later' WHERE id BETWEEN 11 AND 20")
    await check(plane, 40)
    await plane.close()
    rmtree(tmp_path / "lancedb")
    (tmp_path / "copy").rename(tmp_path / "lancedb")
    plane = await plane_of(**DECLARED)
    await check(plane, 40)


async def test_a_collection_is_deleted_under_the_plane(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is missed, made anew and filled."""
    monkeypatch.setattr(moving, "_LOOK_AT_STORES_EVERY_S", 1.0)
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 50)
    await plane.caught_up()
    store: Any = plane.opened.stores.vector
    await store.forget(plane.opened.targets["thing_search"].collection)
    async with asyncio.timeout(30):
        while not plane.opened.epochs_ended:
            await asyncio.sleep(0.05)
    await check(plane, 50)


async def test_a_message_that_nobody_will_read_is_missed(plane_of: PlaneOf) -> None:
    """As one that was purged before it was read: the next one on its subject names it."""
    plane = await plane_of(**DECLARED)
    await write_some(plane, 1, 50)
    await plane.caught_up()
    key, bucket = next((str(n), bucket_of(str(n))) for n in range(1, 51))
    store: Any = plane.opened.stores.vector
    collection = plane.opened.generations.targets["thing_search"].collection
    await store.bury(collection, [key], 1)  # what was lost with the message
    client = await nats.connect(plane.settings.url("nats_url") or "")
    await client.jetstream().publish(
        plane.opened.feed.subjects.change("public.thing", bucket),
        b'{"table":"public.thing","keys":[]}',
        headers={AFTER_HEADER: "1000000"},
    )
    await client.close()
    async with asyncio.timeout(20):
        while not (await plane.verify()).clean:
            await asyncio.sleep(0.1)
    await check(plane, 50)
