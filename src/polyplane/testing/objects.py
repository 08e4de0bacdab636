"""The contract of object stores: inherit it, say how to open the bucket, and how to look past it.

    class TestMine(ObjectStoreContract):
        async def open(self, bucket):
            return await mine.connect(url, bucket=bucket)

        def raw(self, bucket):
            ...  # the bucket, with another client

What a test stores it looks at with `raw`, so an adapter cannot agree with itself in error. Needs
pytest with pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import md5
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import httpx
import pytest

from polyplane.errors import NotFound, Refused, ScopeViolated
from polyplane.model.blob import composite_etag
from polyplane.model.scope import Scope
from polyplane.stores.object_protocol import HeldPart, ObjectStore
from polyplane.testing.samples import ALL

MB = 1 << 20
LEAST_PART = 5 * MB


class RawVersion(NamedTuple):
    """One version as the server has it; `content` is None in a delete marker."""

    key: str
    version: str
    content: bytes | None
    content_type: str
    is_latest: bool


class RawBucket(Protocol):
    """A bucket past the adapter. All calls block."""

    def versions(self) -> list[RawVersion]:
        """Every version of every object."""
        ...

    def parts(self, key: str, upload: str) -> list[tuple[int, int, str]]:
        """(number, size, MD5) of the parts of an upload."""
        ...

    def uploads(self) -> list[tuple[str, str]]:
        """(key, upload) of those that are not complete."""
        ...

    def put(self, key: str, content: bytes) -> str:
        """Put an object; its version."""
        ...

    def hide(self, key: str) -> None:
        """Delete the latest version, which leaves a delete marker."""
        ...

    def is_versioned(self) -> bool:
        """Whether it keeps versions."""
        ...

    def rules(self) -> list[dict[str, Any]]:
        """Its lifecycle rules."""
        ...

    def add_rule(self, rule: dict[str, Any]) -> None:
        """One rule more, of somebody else."""
        ...


async def read(store: ObjectStore, key: str, **how: Any) -> bytes:
    """All of it."""
    return b"".join([piece async for piece in store.read(ALL, key, **how)])


class ObjectStoreContract(ABC):
    """What every object store does. Subclass it as `Test...`."""

    @abstractmethod
    async def open(self, bucket: str) -> ObjectStore:
        """The adapter on a bucket that need not be there."""

    @abstractmethod
    def raw(self, bucket: str) -> RawBucket:
        """The same bucket, past the adapter."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        """A store on a bucket of the test's own."""
        store = await self.open(f"t-{uuid4().hex[:20]}")
        await store.prepare()
        yield store
        await store.close()

    async def look(self, store: ObjectStore, verb: str, *given: Any) -> Any:
        """Ask the raw bucket."""
        return await asyncio.to_thread(getattr(self.raw(store.bucket), verb), *given)

    async def test_a_bucket_keeps_versions_and_has_its_rules(self, store: ObjectStore) -> None:
        assert await self.look(store, "is_versioned")
        rules = await self.look(store, "rules")
        acts = {name for rule in rules for name in rule if rule["Status"] == "Enabled"}
        assert {"AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"} <= acts
        assert "Expiration" not in acts
        assert len(await store.rules()) == len(rules)

    async def test_preparing_again_changes_nothing_and_leaves_rules_of_others(
        self, store: ObjectStore
    ) -> None:
        before = await self.look(store, "rules")
        await store.prepare()
        assert await self.look(store, "rules") == before
        theirs = {
            "ID": "theirs",
            "Status": "Enabled",
            "Filter": {"Prefix": "logs/"},
            "Expiration": {"Days": 3},
        }
        await self.look(store, "add_rule", theirs)
        await store.prepare()
        named = {rule["ID"] for rule in await self.look(store, "rules")}
        assert named == {"theirs", *(rule["ID"] for rule in before)}

    async def test_a_small_object_is_put_whole(self, store: ObjectStore) -> None:
        put = await store.put("a/1", b"hello", content_type="text/plain")
        (held,) = await self.look(store, "versions")
        assert (held.key, held.version) == ("a/1", put.version)
        assert (held.content, held.content_type) == (b"hello", "text/plain")
        assert (put.size, put.etag) == (5, md5(b"hello").hexdigest())

    async def test_an_empty_object_is_one(self, store: ObjectStore) -> None:
        put = await store.put("empty", b"", content_type="text/plain")
        assert (await store.head(ALL, "empty")).size == put.size == 0
        assert await read(store, "empty") == b""

    async def test_each_version_can_be_read(self, store: ObjectStore) -> None:
        first = await store.put("k", b"1", content_type="text/plain")
        second = await self.look(store, "put", "k", b"22")
        assert await read(store, "k", version=first.version) == b"1"
        assert (await store.head(ALL, "k")).version == second
        assert (await store.head(ALL, "k", version=first.version)).size == 1
        await self.look(store, "hide", "k")
        assert await read(store, "k", version=first.version) == b"1"
        with pytest.raises(NotFound):
            await store.head(ALL, "k")

    async def test_a_range_is_read_and_no_more(self, store: ObjectStore) -> None:
        content = bytes(range(256)) * 20_000
        await store.put("k", content, content_type="text/plain")
        for start, end in ((0, 1), (5, 5), (0, len(content)), (4_999_999, 5_000_001)):
            assert await read(store, "k", start=start, end=end) == content[start:end]
        assert await read(store, "k", start=5_119_990) == content[5_119_990:]

    async def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        with pytest.raises(NotFound):
            await store.head(ALL, "nothing")
        with pytest.raises(NotFound):
            await read(store, "nothing")
        with pytest.raises(NotFound):
            await store.parts("nothing", "0" * 32)
        await store.abort("nothing", "0" * 32)

    async def test_parts_become_one_object(self, store: ObjectStore) -> None:
        contents = {1: b"a" * LEAST_PART, 2: b"b" * LEAST_PART, 3: b"c"}
        upload = await store.begin("p", content_type="video/mp4")
        sent = [await store.put_part("p", upload, n, contents[n]) for n in (2, 1, 3)]
        assert await self.look(store, "versions") == []
        held = await store.parts("p", upload)
        assert held == sorted(sent)
        raw = [(n, len(it), md5(it).hexdigest()) for n, it in contents.items()]
        assert await self.look(store, "parts", "p", upload) == raw
        assert [(it.number, it.size, it.etag) for it in held] == raw
        await store.complete("p", upload, held)
        (whole,) = await self.look(store, "versions")
        assert whole.content == b"".join(contents.values())
        assert whole.content_type == "video/mp4"
        head = await store.head(ALL, "p")
        assert (head.version, head.size) == (whole.version, 2 * LEAST_PART + 1)
        assert head.etag == composite_etag([it.etag for it in held])

    async def test_completing_again_makes_no_second_one(self, store: ObjectStore) -> None:
        upload = await store.begin("p", content_type="text/plain")
        part = await store.put_part("p", upload, 1, b"a")
        await store.complete("p", upload, [part])
        with suppress(NotFound):
            await store.complete("p", upload, [part])
        assert len(await self.look(store, "versions")) == 1

    async def test_parts_that_are_not_there_make_no_object(self, store: ObjectStore) -> None:
        upload = await store.begin("p", content_type="text/plain")
        await store.put_part("p", upload, 1, b"a" * LEAST_PART)
        missing = HeldPart(2, 1, md5(b"b").hexdigest())
        with pytest.raises(Refused):
            await store.complete("p", upload, [*await store.parts("p", upload), missing])
        assert await self.look(store, "versions") == []

    async def test_an_aborted_upload_is_gone(self, store: ObjectStore) -> None:
        upload = await store.begin("p", content_type="text/plain")
        await store.put_part("p", upload, 1, b"a")
        (begun,) = await store.uploads()
        assert (begun.key, begun.upload) == ("p", upload)
        assert await store.uploads("other") == []
        assert await self.look(store, "uploads") == [("p", upload)]
        await store.abort("p", upload)
        assert await self.look(store, "uploads") == []
        assert await store.uploads() == []
        await store.abort("p", upload)

    async def test_every_version_is_listed_in_the_order_of_keys(self, store: ObjectStore) -> None:
        keys = [f"{'abc'[n % 3]}/{n:04}" for n in range(30)]
        for key in keys:
            await store.put(key, key.encode(), content_type="text/plain")
        await self.look(store, "put", keys[3], b"again")
        await self.look(store, "hide", keys[4])
        listed = [it async for page in store.every() for it in page]
        assert [it.key for it in listed] == sorted(it.key for it in listed)
        raw = await self.look(store, "versions")
        assert {(it.key, it.version, it.gone) for it in listed} == {
            (it.key, it.version, it.content is None) for it in raw
        }
        sizes = {(it.key, it.version): len(it.content or b"") for it in raw}
        assert {(it.key, it.version): it.size for it in listed} == sizes
        behind = [it.key async for page in store.every(after="b/0001") for it in page]
        assert behind == [it.key for it in listed if it.key > "b/0001"]
        assert len(await store.versions_of(keys[3])) == 2
        assert len(await store.versions_of("a")) == 0

    async def test_one_version_is_deleted_for_good(self, store: ObjectStore) -> None:
        first = await store.put("k", b"1", content_type="text/plain")
        second = await self.look(store, "put", "k", b"22")
        await store.delete("k", version=first.version)
        assert [it.version for it in await self.look(store, "versions")] == [second]
        await store.delete("k", version=first.version)
        await store.delete("k", version=second)
        assert await self.look(store, "versions") == []

    async def test_a_url_is_good_for_one_object_and_one_method(self, store: ObjectStore) -> None:
        put = await store.put("k", b"hello", content_type="text/plain")
        await store.put("other", b"secret", content_type="text/plain")
        url = store.url_to_get(ALL, "k", version=put.version, expires_s=60, name="ä b.txt")
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(url)
            assert answer.content == b"hello"
            assert "%C3%A4%20b.txt" in answer.headers["content-disposition"]
            assert (await client.put(url, content=b"x")).status_code == 403
            assert (await client.delete(url)).status_code == 403
            assert (await client.get(url.replace("/k?", "/other?"))).status_code == 403
        assert len(await self.look(store, "versions")) == 2

    async def test_a_url_takes_one_object_of_its_size_and_type(self, store: ObjectStore) -> None:
        url = store.url_to_put(ALL, "k", size=5, content_type="text/plain", expires_s=60)
        typed = {"Content-Type": "text/plain"}
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.put(url, content=b"hello!", headers=typed)).status_code == 403
            other = {"Content-Type": "text/html"}
            assert (await client.put(url, content=b"hello", headers=other)).status_code == 403
            elsewhere = url.replace("/k?", "/l?")
            assert (await client.put(elsewhere, content=b"hello", headers=typed)).is_error
            assert (await client.get(url)).status_code == 403
            assert (await client.put(url, content=b"hello", headers=typed)).status_code == 200
        (held,) = await self.look(store, "versions")
        assert (held.key, held.content, held.content_type) == ("k", b"hello", "text/plain")

    async def test_a_url_ends(self, store: ObjectStore) -> None:
        await store.put("k", b"hello", content_type="text/plain")
        url = store.url_to_get(ALL, "k", version=None, expires_s=1, name="k")
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(50):
                if (await client.get(url)).status_code == 403:
                    break
                await asyncio.sleep(0.1)
            assert (await client.get(url)).status_code == 403
        for too_long in (0, 901):
            with pytest.raises(Refused):
                store.url_to_get(ALL, "k", version=None, expires_s=too_long, name="k")

    # Whose it is

    async def test_a_scope_opens_its_own_tenant_only(self, store: ObjectStore) -> None:
        for key in ("acme/1", "acmes/1", "Acme/1"):
            await store.put(key, key.encode(), content_type="text/plain")
        scope = Scope("acme")
        assert (await store.head(scope, "acme/1")).size == 6
        assert b"".join([it async for it in store.read(scope, "acme/1")]) == b"acme/1"
        named: dict[str, Any] = {"version": None, "expires_s": 60, "name": "n"}
        assert store.url_to_get(scope, "acme/1", **named)
        sized: dict[str, Any] = {"size": 1, "content_type": "text/plain", "expires_s": 60}
        assert store.url_to_put(scope, "acme/2", **sized)
        strange = ("acme/../acmes/1", "acme//1", "acme/", "acme/.", "acme")
        for key in ("acmes/1", "Acme/1", "1", "/acme/1", "", *strange):
            with pytest.raises(ScopeViolated):
                await store.head(scope, key)
            with pytest.raises(ScopeViolated):
                await anext(store.read(scope, key))
            with pytest.raises(ScopeViolated):
                store.url_to_get(scope, key, **named)
            with pytest.raises(ScopeViolated):
                store.url_to_put(scope, key, **sized)

    async def test_a_barrier_and_a_ping_return(self, store: ObjectStore) -> None:
        await store.ping()
        await asyncio.gather(*(store.barrier() for _ in range(5)))
