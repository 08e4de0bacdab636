"""verify finds rows without objects and objects without rows; collect takes only what may go."""

from __future__ import annotations

import asyncio

import pytest

import polyplane as pp
from polyplane import Plane
from polyplane.errors import ObjectLost
from polyplane.model.blob import PART_BYTES, BlobState
from polyplane.model.drift import BlobPart
from tests.conftest import PlaneOf
from tests.flow.albums import Picture, bucket_of, content, pieces, read


@pytest.fixture
async def plane(plane_of: PlaneOf) -> Plane:
    """A plane that keeps files."""
    return await plane_of(models=[Picture])


async def proven(plane: Plane, **how: bool) -> BlobPart:
    """What verify says of the files."""
    drift = await plane.verify(pp.Blob, **how)  # type: ignore[arg-type]
    (part,) = drift.blobs
    counts = len(part.lost), len(part.damaged), part.orphaned
    assert (drift.missing, drift.stale, drift.extra) == counts
    return part


async def test_what_is_right_is_clean_and_has_one_digest(plane: Plane) -> None:
    for n in range(5):
        await plane.blobs.put(f"{n % 3}".encode())
    part = await proven(plane, deep=True)
    assert (part.rows, part.objects, part.bytes, part.deep) == (5, 3, 3, 3)
    assert part.truth_digest == part.store_digest
    assert (part.lost, part.damaged, part.orphaned, part.waiting, part.uploads) == ((), (), 0, 0, 0)
    assert (await plane.verify()).blobs[0].rows == 5


async def test_a_row_without_its_object_is_lost_and_marked_and_found_again(plane: Plane) -> None:
    kept, gone = await plane.blobs.put(b"kept"), await plane.blobs.put(b"gone")
    bucket = bucket_of(plane)
    bucket.remove(gone.key, gone.version or "")
    assert (await proven(plane)).lost == (str(gone.id),)
    mended = await plane.repair()
    assert mended.left.missing == 1
    assert (await plane.verify(pp.Blob)).missing == 1
    with pytest.raises(ObjectLost, match="lost"):
        await plane.blobs.head(gone.id)
    assert (await plane.blobs.head(kept.id)).fault == ""
    # The same content, put anew, does not come from the object that is lost.
    anew = await plane.blobs.put(b"gone")
    assert await read(plane, anew) == b"gone"


async def test_another_content_in_its_place_is_damage(plane: Plane) -> None:
    blob, same_size = await plane.blobs.put(b"12345"), await plane.blobs.put(b"abcde")
    change = "UPDATE polyplane.blob SET {} WHERE id = %s"
    database = plane.opened.database
    await database.rows(change.format("size = 4"), [blob.id])
    rotten = change.format("sha256 = sha256('other'::bytea)")
    await database.rows(rotten, [same_size.id])
    assert (await proven(plane)).damaged == (str(blob.id),)
    deep = await proven(plane, deep=True)
    assert set(deep.damaged) == {str(blob.id), str(same_size.id)}
    await plane.repair(pp.Blob, deep=True)
    with pytest.raises(ObjectLost, match="damaged"):
        await plane.blobs.head(same_size.id)
    # Whole again, it is only unmarked by a look at what it holds.
    await database.rows("UPDATE polyplane.blob SET sha256 = sha256('abcde'::bytea), size = 5")
    assert (await proven(plane)).whole == ()
    assert str(same_size.id) in (await proven(plane, deep=True)).whole
    await plane.repair(pp.Blob, deep=True)
    assert (await plane.blobs.head(same_size.id)).fault == ""


async def test_what_no_row_knows_is_an_orphan_until_it_is_old(plane: Plane) -> None:
    blob = await plane.blobs.put(b"ours")
    bucket = bucket_of(plane)
    bucket.put("by/hand", b"12")
    overwritten = bucket.put(blob.key, b"by hand")
    part = await proven(plane)
    assert part.orphaned == 2
    assert {(it.key, it.version) for it in part.orphans} >= {(blob.key, overwritten)}
    assert await read(plane, blob) == b"ours"
    young = await plane.blobs.collect()
    assert (young.objects, young.young) == (0, 2)
    looked = await plane.blobs.collect(grace_s=0, dry=True)
    assert (looked.orphans, looked.bytes, len(bucket.versions())) == (2, 9, 3)
    done = await plane.blobs.collect(grace_s=0)
    assert (done.orphans, done.objects) == (2, 2)
    (left,) = bucket.versions()
    assert (left.key, left.is_latest) == (blob.key, True)
    assert (await proven(plane)).orphaned == 0


async def test_a_hidden_object_is_still_read_and_found(plane: Plane) -> None:
    blob = await plane.blobs.put(b"ours")
    bucket_of(plane).hide(blob.key)
    assert await read(plane, blob) == b"ours"
    assert (await proven(plane)).orphaned == 1
    await plane.blobs.collect(grace_s=0)
    assert [it.is_latest for it in bucket_of(plane).versions()] == [True]


async def test_a_deleted_blob_waits_and_goes(plane: Plane) -> None:
    small = await plane.blobs.put(b"1")
    large = await plane.blobs.put(pieces(content(PART_BYTES + 1)))
    for it in (small, large):
        await plane.blobs.delete(it.id)
    part = await proven(plane)
    assert (part.waiting, part.orphaned, part.rows) == (2, 0, 0)
    assert (await plane.blobs.collect()).objects == 0
    assert (await plane.blobs.collect(grace_s=0)).objects == 2
    assert bucket_of(plane).versions() == []
    assert await plane.blobs.list(states=list(BlobState)) == []


async def test_what_is_pending_too_long_is_given_up(plane: Plane) -> None:
    made = await plane.blobs.upload_url("x", 1)
    store = plane.opened.stores.objects
    assert store is not None
    (pending,) = await plane.blobs.list(states=[BlobState.PENDING])
    await store.put(pending.key, b"1", content_type="text/plain")
    part = await proven(plane)
    assert (part.waiting, part.expired, part.orphaned) == (1, 0, 0)
    assert (await plane.blobs.collect(grace_s=0)).objects == 0
    await plane.opened.database.rows("UPDATE polyplane.blob SET expires_at = now()")
    assert (await proven(plane)).expired == 1
    done = await plane.blobs.collect(grace_s=0)
    assert (done.expired, done.blobs, done.objects) == (1, 1, 1)
    with pytest.raises(pp.NotFound):
        await plane.blobs.confirm(made.blob)


async def test_an_upload_of_nobody_is_aborted(plane: Plane) -> None:
    await plane.blobs.put(b"1")
    store = plane.opened.stores.objects
    assert store is not None
    upload = await store.begin("default/x", content_type="text/plain")
    await store.put_part("default/x", upload, 1, b"1")
    assert (await proven(plane)).uploads == 1
    assert (await plane.blobs.collect()).young == 1
    assert (await plane.blobs.collect(grace_s=0)).uploads == 1
    assert await store.uploads() == []


async def test_a_verify_beside_puts_and_deletes_finds_nothing(plane: Plane) -> None:
    async def churn(n: int) -> None:
        for turn in range(8):
            blob = await plane.blobs.put(f"{n} {turn % 3}".encode())
            if turn % 2:
                await plane.blobs.delete(blob.id)
                await plane.blobs.collect(grace_s=0)

    churning = asyncio.gather(*(churn(n) for n in range(4)))
    looks = 0
    while not churning.done() or not looks:
        part = await proven(plane, deep=True)
        assert (part.lost, part.damaged, part.orphans) == ((), (), ())
        looks += 1
    await churning
