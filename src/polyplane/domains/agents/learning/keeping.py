"""Truth of what is learned: what is known of files, and a plan of differences written in bulk."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.agents.learning.findings import View, discussion_id
from polyplane.domains.agents.learning.merging import (
    Appearance,
    Around,
    Before,
    Concept,
    FileRow,
    LearnedFile,
    Plan,
    Relation,
    after,
    concerned,
    plan,
)
from polyplane.domains.agents.learning.models import LearnedFileRow
from polyplane.domains.agents.models import (
    Base,
    Concept as ConceptRow,
    ConceptAppearance,
    ConceptRelation,
    Discussion,
)

ROWS_MAX: Final = 10_000
"""Rows of one statement."""

_LOCK: Final = "polyplane.agents.learning:"
_IDS: Final = ARRAY(sa.Uuid())


@dataclass(frozen=True, slots=True)
class Kept:
    """What one transaction wrote: rows by table and verb; its token, when it wrote anything."""

    touched: Mapping[str, int] = field(default_factory=dict)
    token: pp.Token | None = None


async def known_files(
    plane: pp.Plane, caller: pp.Caller, path: str, *, after: str = "", limit: int | None = None
) -> dict[str, str]:
    """Path -> digest of the files that are known at `path` and below, in the order of the paths;
    at most `limit` of those that come after `after`.
    """
    column, below = LearnedFileRow.path, f"{path.rstrip('/')}/"
    query = (
        sa.select(column, LearnedFileRow.digest)
        .where(
            LearnedFileRow.tenant_id == caller.tenant,
            column > after,
            (column == path) | column.startswith(below, autoescape=True),
        )
        .order_by(column)
        .limit(limit)
    )
    async with plane.acting(caller).read() as session:
        return {it.path: it.digest for it in await session.execute(query)}


async def count_files(plane: pp.Plane, caller: pp.Caller) -> int:
    """How many files the tenant has learned."""
    query = sa.select(sa.func.count()).where(LearnedFileRow.tenant_id == caller.tenant)
    async with plane.acting(caller).read() as session:
        return (await session.execute(query)).scalar_one()


async def totals(plane: pp.Plane, caller: pp.Caller) -> tuple[int, int]:
    """How many concepts and relations the tenant has."""
    counts = [
        sa.select(sa.func.count()).where(it.tenant_id == caller.tenant).scalar_subquery()
        for it in (ConceptRow, ConceptRelation)
    ]
    async with plane.acting(caller).read() as session:
        concepts, relations = (await session.execute(sa.select(*counts))).one()
    return concepts, relations


async def take(plane: pp.Plane, caller: pp.Caller, files: Sequence[LearnedFile]) -> Kept:
    """Learn these files in one transaction; one at a time of a tenant does so.

    What is known is read behind the lock, so a run that was overtaken counts nothing twice. What
    takes long without waiting is done in a thread: others are served meanwhile.
    """
    now = await asyncio.to_thread(after, caller.tenant, files)
    async with plane.acting(caller).write() as tx:
        lock = sa.func.hashtextextended(f"{_LOCK}{caller.tenant}", 0)
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        ids = [discussion_id(caller.tenant, it.path) for it in files]
        before = await _before(tx.session, ids)
        concepts, relations = await asyncio.to_thread(concerned, before, now)
        around = await _around(tx.session, ids, sorted(concepts), sorted(relations))
        made = await asyncio.to_thread(plan, before, now, around)
        await _write(tx, made)
    return Kept(_touched(made), tx.token)


# What is known


async def _before(session: AsyncSession, ids: Sequence[UUID]) -> Before:
    row, discussion, it = LearnedFileRow, Discussion, ConceptAppearance
    found = await session.execute(
        sa.select(row.discussion_id, row.path, discussion.title, row.digest, row.relations)
        .join(discussion, discussion.id == row.discussion_id)
        .where(row.discussion_id == _any_of(ids))
    )
    files = {
        id: FileRow(id, path, title, digest, {UUID(key): n for key, n in relations.items()})
        for id, path, title, digest, relations in found
    }
    seen = await session.execute(
        sa.select(it.concept_id, it.discussion_id, it.mentions, it.category, it.summary).where(
            it.discussion_id == _any_of(list(files))
        )
    )
    appearances = {
        (concept, file): Appearance(concept, file, mentions, View(category, summary))
        for concept, file, mentions, category, summary in seen
    }
    return Before(files, appearances)


async def _around(
    session: AsyncSession,
    files: Sequence[UUID],
    concept_ids: Sequence[UUID],
    relation_ids: Sequence[UUID],
) -> Around:
    it, relation, seen = ConceptRow, ConceptRelation, ConceptAppearance
    concepts: dict[UUID, Concept] = {}
    relations: dict[UUID, Relation] = {}
    views: dict[UUID, list[tuple[UUID, View]]] = defaultdict(list)
    columns = (it.id, it.name, it.category, it.summary, it.source, it.mentions)
    for ids in _chunks(concept_ids):
        for row in await session.execute(sa.select(*columns).where(it.id == _any_of(ids))):
            concepts[row.id] = Concept(*row[:4], row.source or "", row.mentions)
        elsewhere = sa.select(seen.concept_id, seen.discussion_id, seen.category, seen.summary)
        elsewhere = elsewhere.where(
            seen.concept_id == _any_of(ids),
            seen.category.is_not(None),
            seen.discussion_id != sa.all_(_array(files)),
        )
        for concept, file, category, summary in await session.execute(elsewhere):
            views[concept].append((file, View(category, summary)))
    ends = (relation.id, relation.source_id, relation.target_id, relation.type, relation.mentions)
    for ids in _chunks(relation_ids):
        for found in await session.execute(sa.select(*ends).where(relation.id == _any_of(ids))):
            relations[found.id] = Relation(*found)
    return Around(concepts, relations, views)


def _any_of(ids: Sequence[UUID]) -> Any:
    return sa.any_(_array(ids))


def _array(ids: Sequence[UUID]) -> Any:
    """As one text: to send them one by one takes longer."""
    text = sa.bindparam(None, ",".join(it.hex for it in ids), sa.Text)
    return sa.cast(sa.func.string_to_array(text, ","), _IDS)


# What is to be written


async def _write(tx: pp.Write, made: Plan) -> None:
    """What refers to something goes before it, and comes after it."""
    await _drop(tx, ConceptRelation, ["id"], [(it,) for it in made.lost_relations])
    pair = ["concept_id", "discussion_id"]
    await _drop(tx, ConceptAppearance, pair, made.lost_appearances)
    await _drop(tx, ConceptRow, ["id"], [(it,) for it in made.lost_concepts])
    await _drop(tx, LearnedFileRow, ["discussion_id"], [(it,) for it in made.lost_files])
    await _drop(tx, Discussion, ["id"], [(it,) for it in made.lost_files])
    await _put(
        tx,
        Discussion,
        ["id"],
        ["id", "title", "source"],
        [(it.id, it.title, it.path) for it in made.discussions],
    )
    await _put(tx, ConceptRow, ["id"], list(Concept._fields), made.concepts)
    await _put(
        tx,
        ConceptRelation,
        ["source_id", "target_id", "type"],
        ["id", "source_id", "target_id", "type", "mentions", "strength"],
        [(*it, it.strength) for it in made.relations],
    )
    await _put(
        tx,
        ConceptAppearance,
        pair,
        [*pair, "mentions", "category", "summary"],
        [(*it[:3], it.view.category, it.view.summary) for it in made.appearances],
    )
    await _put(
        tx,
        LearnedFileRow,
        ["discussion_id"],
        ["discussion_id", "path", "digest", "relations"],
        [
            (it.id, it.path, it.digest, {str(key): n for key, n in it.relations.items()})
            for it in made.files
        ],
    )


async def _put(
    tx: pp.Write,
    model: type[Base],
    key: Sequence[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Insert the rows, or change those that are there under `key`, many with each statement."""
    for part in _chunks(list(rows)):
        given = _given(model, columns, part)
        source = sa.select(*given.c, sa.bindparam("tenant", tx.tenant, sa.String))
        made = insert(_table(model)).from_select([*columns, "tenant_id"], source)
        changes: dict[str, Any] = {it: made.excluded[it] for it in columns if it not in key}
        own = None
        if "id" in changes:  # a row of another id is somebody's own, and stays as it is
            own = _table(model).c["id"] == changes.pop("id")
        changes["updated_at"] = sa.func.now()
        await tx.execute(
            made.on_conflict_do_update(index_elements=list(key), set_=changes, where=own)
        )


async def _drop(
    tx: pp.Write, model: type[Base], key: Sequence[str], rows: Sequence[Sequence[UUID]]
) -> None:
    """Delete the rows under these keys, many with each statement."""
    table = _table(model)
    for part in _chunks(rows):
        given = _given(model, key, part)
        same = [table.c[name] == given.c[name] for name in key]
        await tx.execute(sa.delete(table).where(*same))


def _given(model: type[Base], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """The rows as a table of a statement: one document, since a value at a time takes longer."""
    text = orjson.dumps([dict(zip(columns, row, strict=True)) for row in rows]).decode()
    named = [sa.column(name, _table(model).c[name].type) for name in columns]
    document = sa.cast(sa.bindparam(None, text, sa.Text), postgresql.JSON)
    found = sa.func.json_to_recordset(document).table_valued(*named, name="given")
    return found.render_derived(with_types=True)


def _table(model: type[Base]) -> sa.Table:
    table = model.__table__
    assert isinstance(table, sa.Table)
    return table


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + ROWS_MAX] for start in range(0, len(rows), ROWS_MAX))


def _touched(made: Plan) -> dict[str, int]:
    """Rows by what was done with them."""
    counts = {
        "concepts_new": made.new_concepts,
        "concepts_changed": len(made.concepts) - made.new_concepts,
        "concepts_gone": len(made.lost_concepts),
        "relations_new": made.new_relations,
        "relations_changed": len(made.relations) - made.new_relations,
        "relations_gone": len(made.lost_relations),
        "appearances": len(made.appearances) + len(made.lost_appearances),
        "discussions": len(made.discussions) + len(made.lost_files),
    }
    return {name: rows for name, rows in counts.items() if rows}
