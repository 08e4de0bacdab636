"""Documents as truth: taken in, many in one transaction, known again, and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.arrivals import Arrival, Known, Landed, Outcome, Place, Taken
from polyplane.domains.assistant.bulk import any_of, given, table
from polyplane.domains.assistant.models import REASON_MAX, Document
from polyplane.domains.assistant.parsing.parsed import CHUNKER_VERSION
from polyplane.domains.assistant.processing import Given, ReadDocuments
from polyplane.domains.assistant.removing import tried
from polyplane.domains.assistant.room import options_of, room_of

WAITS_S_MAX: Final = 3 * 3_600.0
"""Longer than a document can wait to be read: its saga gives up before that."""

_DOCUMENTS: Final = table(Document)
_COLUMNS: Final = ("source", "name", "blob_id", "sha256", "size", "file_stamp", "media_type")
_KEY: Final = ("tenant_id", "owner_id", "source", "name")


async def known_below(
    plane: pp.Plane,
    caller: pp.Caller,
    source: str,
    below: str = "",
    *,
    after: str = "",
    limit: int = 5_000,
) -> dict[str, Known]:
    """What is known of documents without an owner whose names begin with `below`, by name, in the
    order of names, behind `after`.
    """
    it = Document
    query = _known(plane).where(
        it.tenant_id == caller.tenant,
        it.owner_id.is_(None),
        it.source == source,
        it.name.startswith(below, autoescape=True),
        it.name > after,
    )
    async with plane.acting(caller).read() as session:
        rows = await session.execute(query.order_by(it.name).limit(limit))
        return {row[1]: Known._make([*row][2:]) for row in rows}


async def take(
    plane: pp.Plane,
    caller: pp.Caller,
    arrivals: Sequence[Arrival],
    *,
    owner: UUID | None = None,
    again: bool = False,
    id: UUID | None = None,
) -> Taken:
    """Take in what has come, in one transaction: contents are durable then, and read by a saga.

    What is known by its content is left as it is, unless it is to be read `again`, or was read
    otherwise than documents are read now. `id` is for one arrival that is new, else it has one.
    Raises Refused when two have one name; Conflict when another document has this id.
    """
    places = [Place(it.source, it.name) for it in arrivals]
    if len({*places}) != len(places):
        raise pp.Refused("Two documents have the same name.", field="name")
    return await tried(lambda: _taken(plane, caller, arrivals, owner, again=again, id=id))


async def _taken(
    plane: pp.Plane,
    caller: pp.Caller,
    arrivals: Sequence[Arrival],
    owner: UUID | None,
    *,
    again: bool,
    id: UUID | None,
) -> Taken:
    acting = plane.acting(caller)
    async with acting.read() as session:
        before = await _find(plane, session, caller, owner, arrivals, locked=False)
    coming = [it for it in arrivals if _is_news(it, before.get(Place(it.source, it.name)))]
    files = [(it.name[-200:], it.media_type, it.content) for it in coming if it.content is not None]
    async with acting.blobs.staged(files) as staged:
        async with acting.write() as tx:
            ids = iter(await staged.commit(tx))
            blobs = {
                Place(it.source, it.name): next(ids) for it in coming if it.content is not None
            }
            batch = _Batch(plane, caller, owner, tx, again=again, id=id)
            landed, unread = await batch.take(arrivals, blobs)
            work = None
            if unread:
                asked = Given(documents=[str(it) for it in unread])
                work = await acting.sagas.start(ReadDocuments, asked, tx=tx)
                tx.audit("documents.received", "assistant.documents", detail={"n": len(unread)})
        if work is not None:
            room = await room_of(plane)
            for it in coming:
                if it.content is not None:
                    room.contents.keep(it.sha256, it.content)
    return Taken(tuple(landed), work, tx.token)


def _is_news(arrival: Arrival, known: Known | None) -> bool:
    """Whether the content of an arrival has to be stored."""
    return known is None or arrival.content is None or known.sha256 != arrival.sha256


class _Batch:
    """The rows of one transaction. They are locked in the order of their names."""

    def __init__(
        self,
        plane: pp.Plane,
        caller: pp.Caller,
        owner: UUID | None,
        tx: pp.Write,
        *,
        again: bool,
        id: UUID | None,
    ) -> None:
        self._plane = plane
        self._caller = caller
        self._owner = owner
        self._tx = tx
        self._again = again
        self._id = id

    async def take(
        self, arrivals: Sequence[Arrival], blobs: Mapping[Place, UUID]
    ) -> tuple[list[Landed], list[UUID]]:
        """What became of each, in the order given; and the documents that are to be read."""
        by_place = {Place(it.source, it.name): it for it in arrivals}
        ordered = [by_place[place] for place in sorted(by_place)]
        made = await self._insert(ordered, blobs)
        others = [it for it in ordered if Place(it.source, it.name) not in made]
        known = await _find(
            self._plane, self._tx.session, self._caller, self._owner, others, locked=True
        )
        landed: dict[Place, Landed] = {
            place: Landed(place.name, Outcome.NEW, id) for place, id in made.items()
        }
        stamped: list[tuple[UUID, str | None]] = []
        changed: list[tuple[Arrival, Known]] = []
        reread: list[UUID] = []
        for it in others:
            place, was = Place(it.source, it.name), known.get(Place(it.source, it.name))
            outcome = self._outcome(it, was, stored=place in blobs)
            landed[place] = Landed(it.name, outcome, None if was is None else was.id)
            if was is None or outcome is Outcome.SKIPPED:
                continue
            if outcome is Outcome.CHANGED:
                changed.append((it, was))
            elif outcome is Outcome.AGAIN:
                reread.append(was.id)
            if outcome is not Outcome.CHANGED and it.file_stamp != was.file_stamp:
                stamped.append((was.id, it.file_stamp))
        old = await self._change(changed, blobs)
        await self._mark(stamped, reread)
        used = {place for place in blobs if landed[place].outcome in (Outcome.NEW, Outcome.CHANGED)}
        old += [blobs[place] for place in blobs.keys() - used]
        await self._plane.acting(self._caller).blobs.delete_many(self._tx, old)
        unread = [
            it.id
            for place, it in landed.items()
            if it.id is not None
            and it.outcome in (Outcome.NEW, Outcome.CHANGED, Outcome.AGAIN)
            and by_place[place].content is not None
        ]
        return [landed[Place(it.source, it.name)] for it in arrivals], unread

    def _outcome(self, it: Arrival, was: Known | None, *, stored: bool) -> Outcome:
        if it.content is None:  # what there is of it stays as it is
            return Outcome.SKIPPED
        if was is None:
            raise pp.Conflict("A document was removed just now.", fix="Do it again.")
        if was.sha256 != it.sha256:
            if not stored:  # it had this content when it was looked at
                raise pp.Conflict("A document was changed just now.", fix="Do it again.")
            return Outcome.CHANGED
        is_read = was.state in ("ready", "failed")
        if is_read and (self._again or not was.is_current):
            return Outcome.AGAIN
        return Outcome.UNCHANGED

    async def _insert(
        self, arrivals: Sequence[Arrival], blobs: Mapping[Place, UUID]
    ) -> dict[Place, UUID]:
        """Those that are new; what could not be taken, as failed."""
        columns = (*_COLUMNS, "state", "failure_code", "failure_reason")
        rows = []
        for it in arrivals:
            if it.content is not None and Place(it.source, it.name) not in blobs:
                continue  # known, and to be looked at again behind the lock
            state = "received" if it.content is not None else "failed"
            why = (it.code, it.reason[:REASON_MAX]) if it.content is None else (None, None)
            rows.append((*_row(it, blobs), state, *why))
        if not rows:
            return {}
        source = given(Document, columns, rows)
        whose: tuple[Any, ...] = (
            sa.bindparam("tenant", self._caller.tenant, sa.String),
            sa.bindparam("owner", self._owner, sa.Uuid),
        )
        names = [*columns, "tenant_id", "owner_id"]
        if self._id is not None:
            whose, names = (*whose, sa.bindparam("own", self._id, sa.Uuid)), [*names, "id"]
        picked = sa.select(*source.c, *whose).order_by(source.c.source, source.c.name)
        made = (
            insert(_DOCUMENTS)
            .from_select(names, picked)
            .on_conflict_do_nothing(index_elements=list(_KEY))
            .returning(_DOCUMENTS.c.id, _DOCUMENTS.c.source, _DOCUMENTS.c.name)
        )
        found: Sequence[Any] = (await self._tx.execute(made)).all()
        return {Place(row[1], row[2]): row[0] for row in found}

    async def _change(
        self, changed: Sequence[tuple[Arrival, Known]], blobs: Mapping[Place, UUID]
    ) -> list[UUID]:
        """Give documents another content; the blobs they had."""
        if not changed:
            return []
        query = sa.select(_DOCUMENTS.c.blob_id).where(
            _DOCUMENTS.c.id == any_of([was.id for _, was in changed])
        )
        old = [row[0] for row in await self._tx.execute(query) if row[0] is not None]
        columns = ("id", *_COLUMNS)
        source = given(Document, columns, [(was.id, *_row(it, blobs)) for it, was in changed])
        put = {name: source.c[name] for name in _COLUMNS[2:]}
        await self._tx.execute(
            sa.update(_DOCUMENTS).where(_DOCUMENTS.c.id == source.c.id).values(**put, **_RECEIVED)
        )
        return old

    async def _mark(
        self, stamped: Sequence[tuple[UUID, str | None]], reread: Sequence[UUID]
    ) -> None:
        if stamped:
            source = given(Document, ("id", "file_stamp"), stamped)
            await self._tx.execute(
                sa.update(_DOCUMENTS)
                .where(_DOCUMENTS.c.id == source.c.id)
                .values(file_stamp=source.c.file_stamp)
            )
        if reread:
            await self._tx.execute(
                sa.update(_DOCUMENTS).where(_DOCUMENTS.c.id == any_of(reread)).values(**_RECEIVED)
            )


_RECEIVED: Final[dict[str, Any]] = {
    "state": "received",
    "failure_code": None,
    "failure_reason": None,
    "updated_at": sa.func.now(),
}


def _row(it: Arrival, blobs: Mapping[Place, UUID]) -> tuple[Any, ...]:
    blob = blobs.get(Place(it.source, it.name))
    size, sha256 = len(it.content or b""), it.sha256 or None
    return (it.source, it.name, blob, sha256, size, it.file_stamp, it.media_type)


def _known(plane: pp.Plane) -> Any:
    """Source, name, and the columns of `Known`."""
    it, options = Document, options_of(plane)
    is_current = sa.func.coalesce(
        (it.chunker_version == CHUNKER_VERSION)
        & (it.chunk_size == options.size)
        & (it.chunk_overlap == options.overlap),
        sa.false(),
    )
    return sa.select(it.source, it.name, it.id, it.sha256, it.file_stamp, it.state, is_current)


async def _find(
    plane: pp.Plane,
    session: AsyncSession,
    caller: pp.Caller,
    owner: UUID | None,
    arrivals: Sequence[Arrival],
    *,
    locked: bool,
) -> dict[Place, Known]:
    """What is known of these, in the order of their names."""
    if not arrivals:
        return {}
    it = Document
    source = given(Document, ("source", "name"), [(it.source, it.name) for it in arrivals])
    query = (
        _known(plane)
        .join(source, (it.source == source.c.source) & (it.name == source.c.name))
        .where(it.tenant_id == caller.tenant, it.owner_id.is_not_distinct_from(owner))
        .order_by(it.source, it.name)
    )
    if locked:
        query = query.with_for_update(of=it)
    found = await session.execute(query)
    return {Place(row[0], row[1]): Known._make([*row][2:]) for row in found}


def is_left() -> sa.ColumnElement[bool]:
    """The condition that nobody is going to read a document, though it waits to be."""
    it = Document
    waits = it.state.in_(("received", "parsing"))
    return waits & (it.updated_at < sa.func.now() - timedelta(seconds=WAITS_S_MAX))


async def read_again(
    plane: pp.Plane, caller: pp.Caller, ids: Sequence[UUID]
) -> tuple[UUID | None, pp.Token | None]:
    """Have documents read anew from the files that are kept: the saga that does, and the token.

    Those being read, and those without a file, are left as they are; but not those that have waited
    longer than any saga takes: somebody has cancelled theirs.
    """
    it = Document
    query = (
        sa.select(it.id)
        .where(
            it.id == any_of(ids),
            it.tenant_id == caller.tenant,
            it.blob_id.is_not(None),
            it.state.in_(("ready", "failed")) | is_left(),
        )
        .order_by(it.source, it.name)
        .with_for_update()
    )
    acting = plane.acting(caller)
    work = None
    async with acting.write() as tx:
        found = [row[0] for row in await tx.execute(query)]
        if found:
            change = sa.update(_DOCUMENTS).where(_DOCUMENTS.c.id == any_of(found))
            await tx.execute(change.values(**_RECEIVED))
            asked = Given(documents=[str(id) for id in found])
            work = await acting.sagas.start(ReadDocuments, asked, tx=tx)
            tx.audit("documents.read_again", "assistant.documents", detail={"n": len(found)})
    return work, tx.token
