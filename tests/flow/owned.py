"""Rows that are somebody's, on logins of their own; and what each login sees of them."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks, saga
from polyplane.embedded import Engines
from tests.flow.things import embedding_of

ADA, BOB = UUID(int=0xADA), UUID(int=0xB0B)
LOGINS: Final = ("app", "projector", "relay", "backup", "audit")


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Letter(Base):
    """A row of a tenant, and of one of its users or of none."""

    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = marks.tenant()
    owner_id: Mapped[UUID | None] = marks.owner()
    body: Mapped[str]


class Stamp(Base):
    """A row of a tenant."""

    __tablename__ = "stamp"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = marks.tenant()
    value: Mapped[int] = mapped_column(server_default="1")
    letter_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Letter.id))


class LetterSearch(pp.Vectors[Letter]):
    """What follows from letters."""

    dimensions = 4

    def derive(self, letter: Letter, /) -> pp.Vector:
        """A cheap deterministic embedding."""
        return pp.Vector(letter.body, {"n": letter.id}, embedding_of(letter.body))


class StampEntry(pp.Cached[Stamp]):
    """What follows from stamps."""

    def derive(self, stamp: Stamp, /) -> pp.Entry:
        """Its value."""
        return pp.Entry({"value": stamp.value})


async def _write(tx: pp.Write, context: saga.Context[Any]) -> Any:
    tx.add(Letter(tenant_id=context.tenant, body="by a saga"))
    await tx.flush()
    tx.emit("post.written", {"by": "saga"})
    return len((await tx.scalars(sa.select(Letter))).all())


async def _call(context: saga.Context[Any]) -> Any:
    return context.tenant


class Posting(pp.Saga[dict[str, Any]]):
    """A saga that writes, calls, and writes again."""

    name = "posting"
    steps = (
        saga.local(_write, name="write", undo=None),
        saga.remote(_call, name="call", undo=None),
        saga.local(_write, name="again", undo=None),
    )


def apart(settings: pp.Settings, engines: Engines) -> pp.Settings:
    """`settings` with a login for each kind of work, on the same database."""
    database = make_url(settings.url("database_url") or "").database
    urls = {
        f"database_{name}_url": make_url(engines.logins[f"postgres.{name}"])
        .set(database=database)
        .render_as_string(hide_password=False)
        for name in LOGINS
    }
    given = {it: getattr(settings, it) for it in settings.model_fields_set}
    return pp.Settings.load(environ={}, **{**given, **urls})


async def seen(url: str, table: str, tenant: str | None, **context: str) -> list[str]:
    """The tenants of the rows that a login sees of `table` when it acts for `tenant`."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        if tenant is not None:
            context = {"tenant": tenant, "sees_all": "on", **context}
        for name, value in context.items():
            await connection.execute(
                "SELECT set_config(%s, %s, true)", [f"polyplane.{name}", value]
            )
        cursor = await connection.execute(
            sql.SQL("SELECT tenant_id FROM {} ORDER BY 1").format(sql.Identifier(*table.split(".")))
        )
        return [row[0] for row in await cursor.fetchall()]
