"""The audit of a real database, read as a whole and put back otherwise, as its owner can."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

import polyplane as pp
from polyplane.model.audit import AuditRow
from polyplane.security.sealing import Seal
from polyplane.truth.audit import Trail
from tests.flow.audit_tampering import Books
from tests.flow.things import connect

TABLES = ("audit", "audit_seal")


async def read_books(plane: pp.Plane) -> Books:
    """All rows and seals."""
    trail, books = Trail(plane.opened.database), Books()
    async for rows in trail.rows(0, 1 << 62):
        books.rows += rows
    async for lines in trail.seals():
        books.seals += [Seal.parse(line) for line in lines]
    return books


async def put_back(plane: pp.Plane, books: Books) -> None:
    """These, and nothing else, past every trigger."""
    async with await connect(plane) as eve, eve.transaction(), eve.cursor() as cursor:
        for table in TABLES:
            await cursor.execute(f"ALTER TABLE polyplane.{table} DISABLE TRIGGER USER".encode())
            await cursor.execute(f"DELETE FROM polyplane.{table}".encode())
        await cursor.executemany(
            "INSERT INTO polyplane.audit (seq, at, tenant, actor, action, resource_type,"
            " resource_id, before, after, detail, request_id, address, outcome, hash, xid)"
            " OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " decode(%s, 'hex'), %s::text::xid8)",
            [_values(row) for row in books.rows],
        )
        await cursor.executemany(
            "INSERT INTO polyplane.audit_seal VALUES (%s, %s, %s::pg_snapshot, %s, %s)",
            [
                (
                    it.number,
                    Multirange([Range(first, last + 1) for first, last in it.seqs]),
                    it.snapshot,
                    it.pages,
                    it.line,
                )
                for it in books.seals
            ],
        )
        for table in TABLES:
            await cursor.execute(f"ALTER TABLE polyplane.{table} ENABLE TRIGGER USER".encode())


def _values(row: AuditRow) -> list[Any]:
    values = list(astuple(row))
    for at in (7, 8, 9):
        values[at] = None if values[at] is None else Jsonb(values[at])
    return values
