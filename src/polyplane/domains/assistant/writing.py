"""Documents that were read, written: their chunks by difference, themselves with the outcome."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.bulk import any_of, given, parts, table
from polyplane.domains.assistant.differences import (
    Differences,
    Held,
    Place,
    chunks_of,
    differences,
    metadata_of,
    storable,
    summary_of,
)
from polyplane.domains.assistant.models import REASON_MAX, TITLE_MAX, Document, DocumentChunk
from polyplane.domains.assistant.parsing.parsed import ChunkOptions, Parsed, Unreadable

PACK_CHUNKS: Final = 5_000
"""Chunks of one transaction, unless one document alone has more."""

_DOCUMENTS: Final = table(Document)
_CHUNKS: Final = table(DocumentChunk)
_PLACE: Final = Place._fields
_OUTCOME: Final = (
    "state",
    "failure_code",
    "failure_reason",
    "media_type",
    "title",
    "summary",
    "metadata",
    "text_length",
    "chunk_count",
)


class Read(NamedTuple):
    """What came of reading the content `sha256` of a document."""

    id: UUID
    name: str
    sha256: str
    result: Parsed | Unreadable


async def write(
    plane: pp.Plane,
    caller: pp.Caller,
    found: Sequence[Read],
    options: ChunkOptions,
    version: int,
) -> Counter[str]:
    """Write what was read of documents that still wait for it and have that content; what was done,
    as `Work` counts it. A document that truth refuses has failed; the others go on.
    """
    done: Counter[str] = Counter()
    pack: list[Read] = []
    chunks = 0
    for it in found:
        size = len(it.result.chunks) if isinstance(it.result, Parsed) else 0
        if pack and chunks + size > PACK_CHUNKS:
            done += await _written(plane, caller, pack, options, version)
            pack, chunks = [], 0
        pack.append(it)
        chunks += size
    if pack:
        done += await _written(plane, caller, pack, options, version)
    return done


async def _written(
    plane: pp.Plane,
    caller: pp.Caller,
    pack: Sequence[Read],
    options: ChunkOptions,
    version: int,
) -> Counter[str]:
    try:
        async with plane.acting(caller).write() as tx:
            return await _Pack(tx, options, version).write(pack)
    except pp.Refused as error:
        if len(pack) > 1:
            done: Counter[str] = Counter()
            for it in pack:
                done += await _written(plane, caller, [it], options, version)
            return done
        if isinstance(pack[0].result, Unreadable):
            raise
        result = Unreadable("damaged", f"what it says cannot be kept: {error.message}")
        return await _written(plane, caller, [pack[0]._replace(result=result)], options, version)


class _Pack:
    """One transaction."""

    def __init__(self, tx: pp.Write, options: ChunkOptions, version: int) -> None:
        self._tx = tx
        self._options = options
        self._version = version

    async def write(self, pack: Sequence[Read]) -> Counter[str]:
        """Lock the documents in the order of their names; write those that are as they were."""
        owners = await self._lock(pack)
        mine = [it for it in pack if it.id in owners]
        if not mine:
            return Counter()
        held = await self._held([it.id for it in mine])
        outcomes, made = [], dict[UUID, Differences]()
        for it in mine:
            outcome, after = _outcome(it)
            outcomes.append((it.id, *outcome))
            made[it.id] = differences(held.get(it.id, ()), after)
        await self._drop([id for it in made.values() for id in it.gone])
        await self._move([moved for it in made.values() for moved in it.moved])
        await self._add(made, owners)
        await self._note(outcomes)
        ready = [str(it.id) for it in mine if isinstance(it.result, Parsed)]
        failed = [str(it.id) for it in mine if isinstance(it.result, Unreadable)]
        self._tx.emit("assistant.documents.read", {"ready": ready, "failed": failed})
        return Counter(
            ready=len(ready),
            chunks_new=sum(len(it.new) for it in made.values()),
            chunks_moved=sum(len(it.moved) for it in made.values()),
            chunks_same=sum(it.same for it in made.values()),
            chunks_gone=sum(len(it.gone) for it in made.values()),
        )

    async def _lock(self, pack: Sequence[Read]) -> dict[UUID, UUID | None]:
        """The owners of those that wait to be read, with the content that was read."""
        it, read = Document, {it.id: it.sha256 for it in pack}
        query = (
            sa.select(it.id, it.sha256, it.owner_id)
            .where(it.id == any_of([*read]), it.state.in_(("received", "parsing")))
            .order_by(it.source, it.name)
            .with_for_update()
        )
        found: Sequence[Any] = (await self._tx.execute(query)).all()
        return {id: owner for id, sha256, owner in found if read[id] == sha256}

    async def _held(self, ids: Sequence[UUID]) -> Mapping[UUID, list[Held]]:
        columns = [_CHUNKS.c[name] for name in _PLACE]
        query = sa.select(_CHUNKS.c.document_id, _CHUNKS.c.id, _CHUNKS.c.digest, *columns)
        held: dict[UUID, list[Held]] = defaultdict(list)
        query = query.where(_CHUNKS.c.document_id == any_of(ids))
        rows: Sequence[Any] = (await self._tx.execute(query)).all()
        for row in rows:
            held[row[0]].append(Held(row[1], row[2], Place._make([*row][3:])))
        return held

    async def _drop(self, ids: Sequence[UUID]) -> None:
        for some in parts(ids):
            await self._tx.execute(sa.delete(_CHUNKS).where(_CHUNKS.c.id == any_of(some)))

    async def _move(self, moved: Sequence[tuple[UUID, Place]]) -> None:
        for some in parts(moved):
            source = given(DocumentChunk, ("id", *_PLACE), [(id, *place) for id, place in some])
            values = {name: source.c[name] for name in _PLACE} | {"updated_at": sa.func.now()}
            change = sa.update(_CHUNKS).where(_CHUNKS.c.id == source.c.id)
            await self._tx.execute(change.values(**values))

    async def _add(
        self, made: Mapping[UUID, Differences], owners: Mapping[UUID, UUID | None]
    ) -> None:
        columns = ("document_id", "owner_id", "digest", "text", *_PLACE)
        rows = [
            (id, owners[id], it.digest, it.text, *it.place)
            for id, them in made.items()
            for it in them.new
        ]
        for some in parts(rows):
            source = given(DocumentChunk, columns, some)
            told = (
                sa.bindparam("tenant", self._tx.tenant, sa.String),
                sa.bindparam("version", self._version, sa.Integer),
            )
            names = [*columns, "tenant_id", "chunker_version"]
            await self._tx.execute(
                sa.insert(_CHUNKS).from_select(names, sa.select(*source.c, *told))
            )

    async def _note(self, outcomes: Sequence[Sequence[Any]]) -> None:
        source = given(Document, ("id", *_OUTCOME), outcomes)
        values: dict[str, Any] = {name: source.c[name] for name in _OUTCOME}
        values |= {
            "chunker_version": self._version,
            "chunk_size": self._options.size,
            "chunk_overlap": self._options.overlap,
            "media_type": sa.func.coalesce(source.c.media_type, _DOCUMENTS.c.media_type),
            "updated_at": sa.func.now(),
        }
        change = sa.update(_DOCUMENTS).where(_DOCUMENTS.c.id == source.c.id)
        await self._tx.execute(change.values(**values))


def _outcome(it: Read) -> tuple[tuple[Any, ...], list[Any]]:
    """The columns `_OUTCOME` of a document, and its chunks."""
    own, result = PurePath(it.name).name or it.name, it.result
    if isinstance(result, Unreadable):
        why = storable(result.reason)[:REASON_MAX]
        return ("failed", str(result.code), why, None, own[:TITLE_MAX], "", {}, 0, 0), []
    title = (storable(result.title).strip() or own)[:TITLE_MAX]
    after = chunks_of(result, title)
    kept = (result.media_type[:255], title, summary_of(result), metadata_of(result))
    return ("ready", None, None, *kept, result.text_length, len(after)), after
