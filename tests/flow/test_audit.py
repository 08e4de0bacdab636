"""Who did what: in the same transaction, by field name, without what is personal, and sealed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.marks import personal, tenant
from polyplane.model.audit import AUDITED
from polyplane.model.caller import Caller
from polyplane.truth import session
from tests.conftest import PlaneOf
from tests.flow.things import by_hand


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Patient(Base):
    """Belongs to a tenant, so that its writes are audited."""

    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = tenant()
    name: Mapped[str] = personal()
    ward: Mapped[str | None]
    visits: Mapped[int] = mapped_column(default=0)
    score: Mapped[float | None]
    notes: Mapped[Any | None] = mapped_column(sa.JSON)
    seen_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))


class Plain(Base):
    """Belongs to nobody: no audit."""

    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class Said(Base):
    """Belongs to nobody, and says so itself."""

    __tablename__ = "said"
    __table_args__ = {"info": {AUDITED: True}}  # noqa: RUF012
    a: Mapped[str] = mapped_column(primary_key=True)
    b: Mapped[int] = mapped_column(primary_key=True)


MODELS = [Patient, Plain, Said]


async def lines(plane: pp.Plane) -> list[tuple[Any, ...]]:
    """(action, resource, id, before, after, detail) in order, past the plane."""
    return await by_hand(
        plane,
        "SELECT action, resource_type, resource_id, before, after, detail"
        " FROM polyplane.audit ORDER BY seq",
    )


async def test_a_write_leaves_who_did_what_to_which_row(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    seen = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    caller = Caller("user:ada", "clinic", request_id="r-1", address="10.0.0.9")
    opened = plane.opened
    async with session.write(opened.database, caller=caller, epoch=opened.epoch) as tx:
        tx.add(Patient(id=1, tenant_id="clinic", name="Joe", ward="A", score=3.0, seen_at=seen))
        tx.add(Plain(id=1, body="x"))
        tx.add(Said(a="x", b=2))
    async with plane.write(actor="bob", tenant="clinic") as tx:
        row = await tx.get(Patient, 1)
        assert row is not None
        row.name, row.ward, row.visits = "Joseph", "B", 1
        await tx.flush()
        row.notes = {"x": [1, 2.5, None, "\ud800\0"]}
    async with plane.write(actor="bob", tenant="clinic") as tx:
        row = await tx.get(Patient, 1)
        assert row is not None
        row.ward = "B"  # as it is
        await tx.delete(row)
    found = await lines(plane)
    assert [it[:3] for it in found] == [
        ("row.created", "public.patient", "1"),
        ("row.created", "public.said", '["x",2]'),
        ("row.changed", "public.patient", "1"),
        ("row.changed", "public.patient", "1"),
        ("row.deleted", "public.patient", "1"),
    ]
    created, _, changed, noted, deleted = (it[3:5] for it in found)
    assert created[0] is None
    assert created[1] == {
        "id": 1,
        "tenant_id": "clinic",
        "name": "***",
        "ward": "A",
        "visits": 0,
        "score": 3,
        "seen_at": "2026-01-02T03:04:05.000006+00:00",
    }
    assert changed == (
        {"name": "***", "ward": "A", "visits": 0},
        {"name": "***", "ward": "B", "visits": 1},
    )
    assert noted == ({"notes": None}, {"notes": {"x": [1, 2.5, None, "?\ufffd"]}})
    assert deleted[0]["name"] == "***" and deleted[1] is None
    who = "SELECT DISTINCT tenant, actor, request_id, address, outcome FROM polyplane.audit"
    assert sorted(await by_hand(plane, who)) == [
        ("clinic", "bob", "", "", "done"),
        ("clinic", "user:ada", "r-1", "10.0.0.9", "done"),
    ]
    assert "Jos" not in str(await by_hand(plane, "SELECT a::text FROM polyplane.audit a"))


async def test_what_is_rolled_back_leaves_nothing(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    with pytest.raises(pp.Conflict):
        async with plane.write(actor="bob") as tx:
            tx.add(Said(a="x", b=1))
            tx.audit("door.opened", "door", "7")
            await tx.execute(sa.insert(Said), [{"a": "x", "b": 1}])
    assert await lines(plane) == []


async def test_what_is_rolled_back_to_a_savepoint_leaves_nothing_either(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    async with plane.write(actor="bob") as tx:
        tx.add(Said(a="x", b=1))
        with pytest.raises(sa.exc.IntegrityError):
            async with tx.session.begin_nested():
                tx.add(Said(a="y", b=1))
                await tx.flush()
                await tx.execute(sa.insert(Said), [{"a": "x", "b": 1}])
        async with tx.session.begin_nested():
            tx.add(Said(a="z", b=1))
    assert [it[2] for it in await lines(plane)] == ['["x",1]', '["z",1]']


async def test_writes_in_bulk_leave_one_line_each(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    async with plane.write(actor="bob") as tx:
        await tx.execute(sa.insert(Said), [{"a": "x", "b": n} for n in range(7)])
        await tx.execute(sa.insert(Plain).values(id=1, body=""))
        await tx.execute(sa.update(Said).where(Said.b > 3).values(a="y"))
        await tx.scalars(sa.delete(Said).where(Said.b == 0).returning(Said.b))
        await tx.execute(sa.text("DELETE FROM said WHERE b = 1"))  # nobody reads SQL here
    assert [(it[0], it[1], it[2], it[5]) for it in await lines(plane)] == [
        ("rows.created", "public.said", None, {"rows": 7}),
        ("rows.changed", "public.said", None, {"rows": 3}),
        ("rows.deleted", "public.said", None, {"rows": 1}),
    ]


async def test_what_only_the_database_knows_is_said_to_be_computed(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    async with plane.write(actor="bob") as tx:
        tx.add(Patient(id=1, name="Joe"))
    async with plane.write(actor="bob") as tx:
        row = await tx.get(Patient, 1)
        assert row is not None
        row.visits = Patient.visits + 1
    assert (await lines(plane))[-1][:5] == (
        "row.changed",
        "public.patient",
        "1",
        {},
        {"visits": "(computed)"},
    )


async def test_audit_is_only_ever_added_to(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    async with plane.write(actor="bob") as tx:
        tx.audit("door.opened", "door", detail={"key": "brass"})
    for statement in (
        "UPDATE polyplane.audit SET actor = 'eve'",
        "DELETE FROM polyplane.audit",
        "TRUNCATE polyplane.audit",
        "DELETE FROM polyplane.audit_seal",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await by_hand(plane, statement)
    assert len(await lines(plane)) == 1
    seen = "SELECT user_id, action, resource_type, details->'detail' FROM polyplane.audit_logs"
    assert await by_hand(plane, seen) == [(None, "door.opened", "door", {"key": "brass"})]
