"""Files are put, shared, referred to, read and deleted; whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

import polyplane as pp
from polyplane import Plane, Settings
from polyplane.errors import Conflict, Misconfigured, NotFound, ObjectLost, Refused
from polyplane.model.blob import PART_BYTES, BlobState
from tests.conftest import PlaneOf
from tests.flow.albums import LARGE, Picture, bucket_of, content, digest, pieces, read


@pytest.fixture
async def plane(plane_of: PlaneOf) -> Plane:
    """A plane that keeps files, because a model refers to them."""
    return await plane_of(models=[Picture])


async def test_a_small_file_is_there_as_it_was_put(plane: Plane) -> None:
    blob = await plane.blobs.put(b"hello", name="größe 日本.txt", content_type="text/plain")
    assert (blob.name, blob.content_type, blob.size) == ("größe 日本.txt", "text/plain", 5)
    assert blob.state is BlobState.COMMITTED
    assert blob.sha256 == digest(b"hello")
    assert await plane.blobs.head(blob.id) == blob
    assert await read(plane, blob.id) == b"hello"
    (held,) = bucket_of(plane).versions()
    assert (held.key, held.version, held.content) == (blob.key, blob.version, b"hello")
    assert "hello" not in held.key


async def test_an_empty_file_is_one(plane: Plane) -> None:
    blob = await plane.blobs.put(b"")
    assert (blob.size, blob.sha256) == (0, digest(b""))
    assert await read(plane, blob) == b""


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, LARGE])
async def test_every_source_gives_the_same(plane: Plane, size: int, tmp_path: Path) -> None:
    whole = content(size, size)
    path = tmp_path / "a file.bin"
    path.write_bytes(whole)
    told: list[int] = []
    by_path = await plane.blobs.put(path, progress=told.append)
    assert (by_path.name, by_path.size, by_path.sha256) == ("a file.bin", size, digest(whole))
    assert told[-1] == size and told == sorted(told)
    by_stream = await plane.blobs.put(pieces(whole), name="stream")
    by_file = await plane.blobs.put(BytesIO(whole), name="file")
    assert {by_path.sha256} == {by_stream.sha256, by_file.sha256}
    assert await read(plane, by_file) == whole
    assert len(bucket_of(plane).versions()) == 1
    assert bucket_of(plane).uploads() == []


async def test_a_range_is_read(plane: Plane) -> None:
    whole = content(LARGE)
    blob = await plane.blobs.put(pieces(whole))
    for start, end in ((0, 1), (PART_BYTES - 5, PART_BYTES + 5), (LARGE - 3, LARGE + 99), (7, 7)):
        assert await read(plane, blob, start=start, end=end) == whole[start:end]
    assert await read(plane, blob, start=LARGE) == b""


async def test_equal_contents_share_one_object_until_the_last_is_gone(plane: Plane) -> None:
    first, second = [await plane.blobs.put(b"same", name=name) for name in "ab"]
    other = await plane.blobs.put(b"same", tenant="other")
    assert (first.key, first.version) == (second.key, second.version)
    assert other.key != first.key
    assert len(bucket_of(plane).versions()) == 2
    await plane.blobs.delete(first.id)
    assert (await plane.blobs.collect(grace_s=0)).objects == 0
    assert await read(plane, second) == b"same"
    await plane.blobs.delete(second.id)
    done = await plane.blobs.collect(grace_s=0)
    assert (done.blobs, done.objects, done.bytes) == (1, 1, 4)
    assert [it.key for it in bucket_of(plane).versions()] == [other.key]


async def test_one_content_put_twice_at_once_is_one_object(plane: Plane) -> None:
    whole = content(PART_BYTES + 1)
    puts = [plane.blobs.put(pieces(whole), name=str(n)) for n in range(3)]
    puts += [plane.blobs.put(b"small", name=str(n)) for n in range(5)]
    blobs = await asyncio.gather(*puts)
    assert len({it.id for it in blobs}) == 8
    assert len({it.key for it in blobs}) == 2
    assert len(bucket_of(plane).versions()) == 2
    assert (await plane.verify(pp.Blob)).clean


async def test_only_a_committed_blob_can_be_referred_to_and_then_it_stays(plane: Plane) -> None:
    blob = await plane.blobs.put(b"picture")
    waiting = await plane.blobs.upload_url("x", 3)
    for unknown in (uuid4(), waiting.blob):
        with pytest.raises(Refused):
            async with plane.write(actor="ada") as tx:
                tx.add(Picture(title="t", file=unknown))
    async with plane.write(actor="ada") as tx:
        tx.add(picture := Picture(title="t", file=blob.id))
    with pytest.raises(Conflict, match="picture"):
        await plane.blobs.delete(blob.id)
    async with plane.write(actor="ada") as tx:
        await tx.delete(picture)
    await plane.blobs.delete(blob.id)
    for again in (plane.blobs.delete(blob.id), plane.blobs.head(blob.id)):
        with pytest.raises(NotFound):
            await again


async def test_another_digest_than_was_said_leaves_nothing(plane: Plane) -> None:
    for whole in (b"small", content(PART_BYTES + 1)):
        with pytest.raises(Refused, match="SHA-256"):
            await plane.blobs.put(pieces(whole), sha256=digest(b"other"))
    right = await plane.blobs.put(b"small", sha256=digest(b"small"))
    async with asyncio.timeout(20):
        while bucket_of(plane).uploads():
            await asyncio.sleep(0.05)
    assert [it.key for it in bucket_of(plane).versions()] == [right.key]


async def test_the_same_key_again_is_the_same_blob(plane: Plane) -> None:
    first = await plane.blobs.put(b"one", key="k", name="n")
    assert await plane.blobs.put(b"one", key="k") == first
    with pytest.raises(Conflict):
        await plane.blobs.put(b"two", key="k", sha256=digest(b"two"))
    assert (await plane.blobs.put(b"two", key="k", tenant="other")).id != first.id
    await plane.blobs.delete(first.id)
    assert (await plane.blobs.put(b"one", key="k")).id != first.id


async def test_small_ones_with_one_key_at_once_are_one_blob(plane: Plane) -> None:
    async def put() -> pp.Blob | None:
        try:
            return await plane.blobs.put(b"one", key="k")
        except Conflict:  # the very first moment
            return None

    found = {it.id for it in await asyncio.gather(*(put() for _ in range(8))) if it}
    assert len(found) == 1
    assert await read(plane, found.pop()) == b"one"
    assert len(bucket_of(plane).versions()) == 1
    assert (await plane.verify(pp.Blob, deep=True)).clean


async def test_a_source_that_fails_can_be_gone_on_with(plane: Plane) -> None:
    whole = content(LARGE)

    async def failing() -> AsyncIterator[bytes]:
        yield whole[: 2 * PART_BYTES]
        raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError):
        await plane.blobs.put(failing(), key="k", name="n")
    (waiting,) = await plane.blobs.list(states=[BlobState.PENDING])
    with pytest.raises(Conflict, match="another content"):
        await plane.blobs.resume(waiting.id, content(LARGE, seed=1))
    with pytest.raises(NotFound):
        await read(plane, waiting.id)
    blob = await plane.blobs.resume(waiting.id, whole)
    assert (blob.id, blob.sha256) == (waiting.id, digest(whole))
    assert await plane.blobs.resume(waiting.id, whole) == blob
    assert await plane.blobs.put(whole, key="k") == blob


async def test_two_contents_for_one_upload_are_never_mixed(plane: Plane) -> None:
    """Either is whole, or both are refused."""
    wholes = [content(LARGE, seed) for seed in (1, 2)]
    puts = [plane.blobs.put(pieces(whole), key="k") for whole in wholes]
    done = await asyncio.gather(*puts, return_exceptions=True)
    refused = [it for it in done if isinstance(it, BaseException)]
    assert refused and all(isinstance(it, Conflict) for it in refused)
    for it in done:
        if isinstance(it, pp.Blob):
            assert await read(plane, it) in wholes


async def test_a_put_that_is_cancelled_can_be_gone_on_with(plane: Plane) -> None:
    whole = content(LARGE)
    begun = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield whole[: PART_BYTES + 1]
        begun.set()
        await asyncio.sleep(60)

    putting = asyncio.create_task(plane.blobs.put(slow(), key="k"))
    await asyncio.wait_for(begun.wait(), 20)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert (await plane.blobs.put(whole, key="k")).sha256 == digest(whole)


async def test_a_url_takes_one_content_past_us(plane: Plane) -> None:
    made = await plane.blobs.upload_url("photo", 5, content_type="image/png")
    with pytest.raises(NotFound):
        await plane.blobs.confirm(made.blob)
    async with httpx.AsyncClient(trust_env=False) as client:
        typed = {"Content-Type": made.headers["Content-Type"]}
        wrong = await client.put(made.url, content=b"hello!", headers=typed)
        assert wrong.is_error
        right = await client.put(made.url, content=b"hello", headers=made.headers)
        assert right.status_code == 200
        with pytest.raises(Refused):
            await plane.blobs.confirm(made.blob, sha256=digest(b"other"))
        blob = await plane.blobs.confirm(made.blob)
        assert (blob.size, blob.sha256, blob.name) == (5, digest(b"hello"), "photo")
        assert await plane.blobs.confirm(made.blob) == blob
        # Put again before it ends, it changes nothing: the blob is that version.
        await client.put(made.url, content=b"HELLO", headers=made.headers)
        assert await read(plane, blob) == b"hello"
        url = await plane.blobs.url(blob.id, expires_s=60)
        answer = await client.get(url)
        assert answer.content == b"hello"
        assert answer.headers["content-disposition"].endswith("photo")
        assert (await client.put(url, content=b"x")).status_code == 403
    for refused in (plane.blobs.url(blob.id, expires_s=901), plane.blobs.upload_url("x", 6 << 30)):
        with pytest.raises(Refused):
            await refused


async def test_blobs_are_listed_newest_first_by_tenant(plane: Plane) -> None:
    names = [str(n) for n in range(5)]
    for name in names:
        await plane.blobs.put(name.encode(), name=name)
    await plane.blobs.put(b"x", tenant="other")
    first = await plane.blobs.list(limit=3)
    rest = await plane.blobs.list(after=first[-1].id)
    assert [it.name for it in (*first, *rest)] == names[::-1]
    with pytest.raises(Refused):
        await plane.blobs.list(limit=201)
    with pytest.raises(NotFound):
        await plane.blobs.head(first[0].id, tenant="other")


async def test_what_is_damaged_is_noticed_by_who_reads_it(plane: Plane) -> None:
    """The row is made to expect something else: so it looks when the object has rotted."""
    blob = await plane.blobs.put(content(3_000_000))
    await plane.opened.database.rows(
        "UPDATE polyplane.blob SET sha256 = sha256('x'::bytea) WHERE id = %s", [blob.id]
    )
    came = 0
    with pytest.raises(ObjectLost, match="not what was put"):
        async for piece in plane.blobs.open(blob.id):
            came += len(piece)
    assert came < 3_000_000
    bucket_of(plane).remove(blob.key, blob.version or "")
    with pytest.raises(ObjectLost):
        await read(plane, blob.id)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "x" * 1_025}, {"content_type": "text/plain\n"}, {"sha256": "AB"}, {"name": "a\0"}],
)
async def test_what_cannot_be_kept_is_refused(plane: Plane, wrong: dict[str, str]) -> None:
    with pytest.raises(Refused):
        await plane.blobs.put(b"x", **wrong)  # type: ignore[arg-type]


async def test_no_file_no_content(plane: Plane, tmp_path: Path) -> None:
    for odd in (tmp_path / "nothing", tmp_path, "text", 7):
        with pytest.raises(Refused):
            await plane.blobs.put(odd)  # type: ignore[arg-type]


async def test_scripts_put_and_read_without_a_loop(own_settings: Settings) -> None:
    def script() -> list[bytes]:
        with pp.blocking(Plane(settings=own_settings, blobs=True)) as p:
            blob = p.blobs.put(content(3_000_000))
            return list(p.blobs.open(blob.id))

    found = await asyncio.to_thread(script)
    assert len(found) > 1 and b"".join(found) == content(3_000_000)


async def test_a_plane_without_blobs_says_so(plane_of: PlaneOf) -> None:
    plane = await plane_of()
    with pytest.raises(Misconfigured, match="keeps no blobs"):
        await plane.blobs.put(b"x")
    assert (await plane.verify()).blobs == ()


async def test_health_knows_the_object_store(plane: Plane) -> None:
    roles = {it.role: it.status for it in (await plane.health()).engines}
    assert roles["objects"] == roles["truth"]
