"""SeaweedFS, over S3, keeps the contract of object stores; faults are said in our words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from polyplane.embedded import Engines
from polyplane.errors import EngineMissing, Misconfigured, StoreDown
from polyplane.stores import disk
from polyplane.stores.catalog import open_store
from polyplane.stores.object_protocol import ObjectStore
from polyplane.stores.objects import s3
from polyplane.stores.objects.lifecycle import Lifecycle, merged, same
from polyplane.testing.objects import ObjectStoreContract, RawBucket
from tests.contract.s3_raw import Bucket
from tests.flow.embedded_s3 import client_of


class TestS3(ObjectStoreContract):
    @pytest.fixture(autouse=True)
    def _url(self, engines: Engines) -> None:
        self.url = engines.urls["s3"]

    async def open(self, bucket: str) -> ObjectStore:
        return await s3.connect(self.url, bucket=bucket)

    def raw(self, bucket: str) -> RawBucket:
        return Bucket(client_of(self.url), bucket)


async def test_a_url_without_keys_is_refused() -> None:
    with pytest.raises(Misconfigured, match="keys"):
        await open_store("objects", "http://127.0.0.1:1", bucket="b")
    with pytest.raises(Misconfigured):
        await open_store("objects", "ftp://127.0.0.1:1", bucket="b")
    assert issubclass(EngineMissing, Misconfigured)


async def test_keys_beside_the_url_do_as_well(engines: Engines) -> None:
    keys, _, where = engines.urls["s3"].removeprefix("http://").partition("@")
    access_key, _, secret_key = keys.partition(":")
    store = await s3.connect(
        f"http://{where}", bucket="beside", access_key=access_key, secret_key=secret_key
    )
    await store.prepare()
    assert (await store.put("k", b"1", content_type="text/plain")).size == 1
    await store.close()


async def test_nobody_there_and_wrong_keys_are_told_apart(
    engines: Engines, unused_tcp_port: int
) -> None:
    away = await s3.connect(f"http://a:s3cret@127.0.0.1:{unused_tcp_port}", bucket="away")
    where = engines.urls["s3"].rpartition("@")[2]
    wrong = await s3.connect(f"http://a:s3cret@{where}", bucket="away")
    for store, error in ((away, StoreDown), (wrong, Misconfigured)):
        for work in (
            store.prepare(),
            store.put("k", b"1", content_type="text/plain"),
            store.begin("k", content_type="text/plain"),
        ):
            with pytest.raises(error) as raised:
                await work
            assert "s3cret" not in str(raised.value)
        await store.close()


async def test_a_barrier_of_a_server_of_ours_syncs_its_disk(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes while one sync runs shares the next one, which begins after all of them came."""
    synced: list[Path] = []
    began, may_end = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(folder: Path) -> None:
        synced.append(folder)
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result(10)

    monkeypatch.setattr(disk, "sync", slow)
    store = await s3.connect(engines.urls["s3"], bucket="b", folder=tmp_path)
    first = asyncio.create_task(store.barrier())
    await asyncio.wait_for(began.wait(), 10)
    others = [asyncio.create_task(store.barrier()) for _ in range(5)]
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(first, *others)
    assert synced == [tmp_path, tmp_path]
    monkeypatch.setattr(disk, "sync", _full)
    with pytest.raises(StoreDown, match="refuses"):
        await store.barrier()
    await store.close()


def _full(folder: Path) -> None:
    raise OSError(28, "No space left on device", str(folder))


def test_rules_are_compared_by_what_they_say() -> None:
    wanted = Lifecycle(3, 9).rules()
    said_otherwise = [
        {**{k: v for k, v in rule.items() if k != "Filter"}, "Prefix": ""} for rule in wanted
    ]
    assert same(said_otherwise[::-1], wanted)
    assert not same(Lifecycle(4, 9).rules(), wanted)
    assert not same([], wanted)
    theirs = {"ID": "theirs", "Status": "Enabled", "Expiration": {"Days": 1}}
    assert merged([theirs, *Lifecycle(1, 1).rules()], wanted) == [theirs, *wanted]
