"""Blobs proven: each committed row has its object, and each object its row.

Rows and objects are read in the order of their keys and merged. What is not right is looked at
again, for a blob may have been put or deleted meanwhile. Without `deep` an object is known by its
size and ETag, as its store says them; with it, by the digest of what it really holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from polyplane.errors import NotFound
from polyplane.model.blob import NOT_BLOBS, BlobState
from polyplane.model.drift import BlobPart, Orphan
from polyplane.model.scope import Scope
from polyplane.stores.object_protocol import HeldObject, ObjectStore
from polyplane.truth.blobs import Owned, Told

ORPHANS_MAX: Final = 1_000
"""So many are named."""
AGAIN_S: Final = 0.5
"""Before a second look: an object is put a moment before its row says so."""
_LOOK: Final = 500

Tell = Callable[[int], None]
"""Called with the number of rows compared so far."""


class TruthOfBlobs(Protocol):
    """What truth says of blobs."""

    def objects(self) -> AsyncIterator[list[Owned]]:
        """All committed blobs in the order of their objects' keys."""
        ...

    async def told(self, keys: Sequence[str], ids: Sequence[UUID]) -> list[Told]:
        """What there is of these keys and ids, in any state."""
        ...

    async def pending_uploads(self, uploads: Sequence[str]) -> set[str]:
        """Which of these uploads a pending blob waits for."""
        ...

    async def count_expired(self) -> int:
        """How many blobs are pending beyond their time."""
        ...


class _Key(NamedTuple):
    """What both sides have under one key."""

    key: str
    owned: list[Owned]
    held: list[HeldObject]


class Strays(NamedTuple):
    """Versions of objects that no committed blob refers to."""

    waiting: list[HeldObject]
    """Their blob is pending or deleted."""
    spare: list[HeldObject]
    """Their blob has the object of another one, of the same content."""
    orphans: list[HeldObject]
    """No row knows them, or somebody has put them in the place of a blob's."""


@dataclass(slots=True)
class _Tally:
    """What was compared, and what was not right at first sight."""

    rows: int = 0
    objects: int = 0
    bytes: int = 0
    deep: int = 0
    truth: Any = field(default_factory=sha256)
    store: Any = field(default_factory=sha256)
    lost: list[Owned] = field(default_factory=list)
    damaged: list[Owned] = field(default_factory=list)
    strays: list[HeldObject] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)


async def prove_blobs(
    truth: TruthOfBlobs, store: ObjectStore, *, deep: bool = False, told: Tell | None = None
) -> BlobPart:
    """Compare all rows with all objects."""
    started, tally = perf_counter(), _Tally()
    async for both in _merged(truth.objects(), _of_blobs(store)):
        await _compare(both, store, tally, deep)
        if told is not None and both.owned:
            told(tally.rows)
    if tally.lost or tally.damaged or tally.strays:
        await asyncio.sleep(AGAIN_S)
    lost, damaged = await _certain(truth, store, tally)
    found = await sort_strays(truth, tally.strays)
    orphans = [it for it in found.orphans if await _is_held(store, it)]
    return BlobPart(
        store.bucket,
        tally.rows,
        tally.objects,
        tally.bytes,
        tally.truth.hexdigest(),
        tally.store.hexdigest(),
        lost=lost,
        damaged=damaged,
        orphaned=len(orphans),
        orphans=tuple(
            Orphan(it.key, it.version, it.size, it.modified) for it in orphans[:ORPHANS_MAX]
        ),
        whole=tuple(tally.whole),
        waiting=len(found.waiting) + len(found.spare),
        expired=await truth.count_expired(),
        uploads=len(await stray_uploads(truth, store)),
        deep=tally.deep,
        duration_s=perf_counter() - started,
    )


async def strays(truth: TruthOfBlobs, store: ObjectStore) -> AsyncIterator[HeldObject]:
    """The versions of objects that no blob is or will be made of, as of now."""
    async for both in _merged(truth.objects(), _of_blobs(store)):
        if some := _strays(both):
            found = await sort_strays(truth, some)
            for it in (*found.spare, *found.orphans):
                yield it


async def stray_uploads(truth: TruthOfBlobs, store: ObjectStore) -> list[tuple[str, str]]:
    """(key, upload) of uploads in parts that no pending blob waits for."""
    begun = await store.uploads()
    wanted = await truth.pending_uploads([it.upload for it in begun]) if begun else set()
    return [(it.key, it.upload) for it in begun if it.upload not in wanted]


async def sort_strays(truth: TruthOfBlobs, found: Sequence[HeldObject]) -> Strays:
    """Whose they are; those that were committed meanwhile are left out."""
    sorted_ = Strays([], [], [])
    for start in range(0, len(found), _LOOK):
        some = found[start : start + _LOOK]
        ids = {it.key: _id_in(it.key) for it in some}
        rows = await truth.told(list(ids), [it for it in ids.values() if it is not None])
        for it in some:
            own = [row for row in rows if row.id == ids[it.key]]
            here = [row for row in rows if row.key == it.key and _is_committed(row)]
            if any(row.version == it.version for row in here):
                continue
            if any(not _is_committed(row) for row in own):
                sorted_.waiting.append(it)
            elif own and not here:
                sorted_.spare.append(it)
            else:
                sorted_.orphans.append(it)
    return sorted_


def _is_committed(row: Told) -> bool:
    return row.state is BlobState.COMMITTED


def _id_in(key: str) -> UUID | None:
    """The id of the blob whose object was put under `key`, if it is one of ours."""
    try:
        return UUID(key.rpartition("/")[2])
    except ValueError:
        return None


def _strays(both: _Key) -> list[HeldObject]:
    known = {it.version for it in both.owned}
    return [it for it in both.held if it.gone or it.version not in known]


async def _compare(both: _Key, store: ObjectStore, tally: _Tally, deep: bool) -> None:
    held = {it.version: it for it in both.held if not it.gone}
    tally.strays += _strays(both)
    tally.rows += len(both.owned)
    for version, group in groupby(sorted(both.owned, key=_version), key=_version):
        rows = list(group)
        tally.truth.update(_line(rows[0]))
        found = held.get(version)
        if found is None:
            tally.lost += rows
            continue
        tally.objects += 1
        tally.bytes += found.size
        tally.store.update(_line(found))
        right = [it for it in rows if (it.size, it.etag) == (found.size, found.etag)]
        if deep and right:
            tally.deep += 1
            if await digest_of(store, both.key, version) != right[0].sha256:
                right = []
        tally.damaged += [it for it in rows if it not in right]
        # What is damaged may look right: only who has read it can say that it is whole.
        marks = ("lost", "damaged") if deep else ("lost",)
        tally.whole += [str(it.id) for it in right if it.fault in marks]


async def digest_of(store: ObjectStore, key: str, version: str) -> str | None:
    """The SHA-256 of what an object really holds, in hexadecimal; None when it is not there."""
    digest = sha256()
    try:
        async for piece in store.read(Scope.everything, key, version=version):
            digest.update(piece)
    except NotFound:
        return None
    return digest.hexdigest()


async def _certain(
    truth: TruthOfBlobs, store: ObjectStore, tally: _Tally
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which blobs are lost or damaged that are committed still, with the same object."""
    suspects = {it.id: it for it in [*tally.lost, *tally.damaged]}
    found: set[UUID] = set()
    for start in range(0, len(suspects), _LOOK):
        ids = list(suspects)[start : start + _LOOK]
        for row in await truth.told([], ids):
            was = suspects[row.id]
            if (row.key, row.version) == (was.key, was.version) and _is_committed(row):
                found.add(row.id)
    lost = [str(it.id) for it in tally.lost if it.id in found and not await _is_there(store, it)]
    return tuple(lost), tuple(str(it.id) for it in tally.damaged if it.id in found)


async def _is_there(store: ObjectStore, it: Owned) -> bool:
    try:
        found = await store.head(Scope.everything, it.key, version=it.version)
    except NotFound:
        return False
    return (found.size, found.etag) == (it.size, it.etag)


async def _of_blobs(store: ObjectStore) -> AsyncIterator[list[HeldObject]]:
    """Every version of every object, but for what we keep there that is no blob."""
    async for page in store.every():
        yield [it for it in page if not it.key.startswith(NOT_BLOBS)]


async def _is_held(store: ObjectStore, it: HeldObject) -> bool:
    """Whether it was not collected meanwhile, row and all."""
    return any(held.version == it.version for held in await store.versions_of(it.key))


def _version(it: Owned) -> str:
    return it.version


def _line(it: Owned | HeldObject) -> bytes:
    return f"{it.key}\0{it.version}\0{it.size}\0{it.etag}\n".encode()


async def _merged(
    owned: AsyncIterator[list[Owned]], held: AsyncIterator[list[HeldObject]]
) -> AsyncIterator[_Key]:
    """Both sides, key by key."""
    rows, objects = _by_key(owned), _by_key(held)
    row, found = await anext(rows, None), await anext(objects, None)
    while row is not None or found is not None:
        key = min((it[0].key for it in (row, found) if it), key=str.encode)
        here = row if row is not None and row[0].key == key else []
        there = found if found is not None and found[0].key == key else []
        yield _Key(key, list(here), list(there))
        if here:
            row = await anext(rows, None)
        if there:
            found = await anext(objects, None)


async def _by_key(pages: AsyncIterator[Iterable[Any]]) -> AsyncIterator[list[Any]]:
    """What is under one key, all of it, wherever pages end."""
    here: list[Any] = []
    async for page in pages:
        for it in page:
            if here and here[-1].key != it.key:
                yield here
                here = []
            here.append(it)
    if here:
        yield here
