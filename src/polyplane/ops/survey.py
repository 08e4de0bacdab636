"""What there is in an existing database, and what of it can be captured. Reads only."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from polyplane.errors import Misconfigured, NotFound, Refused
from polyplane.model.table import table_name
from polyplane.ops.declaration import Sample, is_text, key_obstacle
from polyplane.truth.database import Database, in_our_words
from polyplane.truth.statements import statement

SAMPLE_ROWS: Final = 1_000
CATEGORY_LENGTH: Final = 40
CATEGORY_REPEATS: Final = 5
"""A category's values are short, and each stands in so many rows of the sample on average."""
VERSION_MIN: Final = 150_000
TIMEOUT_S: Final = 60.0

_KINDS: Final = {
    "v": "it is a view; project the tables it reads",
    "m": "it is a materialized view; project the tables it reads",
    "f": "it is a foreign table, whose changes happen on another server",
}


class Rights(NamedTuple):
    """Who is connected, where, and what may be done there."""

    database: str
    user: str
    version: int
    is_standby: bool
    may_create: bool
    plane_of_other: str | None
    """Who owns the plane's schema here, when that is somebody else."""


class Relation(NamedTuple):
    """Something people call a table."""

    schema: str
    name: str
    kind: str
    is_partition: bool
    is_unlogged: bool
    owner: str
    is_owned: bool
    hides_rows: bool
    has_key: bool
    has_heirs: bool
    is_of_extension: bool

    @property
    def full_name(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A table that can be adopted, and what its text columns hold."""

    table: sa.Table
    samples: Mapping[str, Sample]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is to be adopted, and `skipped`: name -> why not."""

    rights: Rights
    tables: tuple[Surveyed, ...]
    skipped: Mapping[str, str]


async def survey(database: Database, wanted: Sequence[str] = ()) -> Survey:
    """Look at the tables named `wanted` (`name` or `schema.name`), or at all there are.

    Raises Misconfigured for a missing privilege, with the GRANT that gives it; NotFound or Refused
    for a wanted table that is not there or cannot be captured.
    """
    with in_our_words():
        async with asyncio.timeout(TIMEOUT_S):
            rights = Rights(*(await database.rows(statement("adopt", "rights")))[0])
            check_rights(rights)
            rows = await database.rows(statement("adopt", "relations"))
            chosen, skipped = choose([Relation(*row) for row in rows], wanted, rights.user)
            async with database.engine.connect() as connection:
                tables = [await connection.run_sync(_look_at, relation) for relation in chosen]
    usable = []
    for surveyed in tables:
        if obstacle := key_obstacle(surveyed.table):
            _skip(table_name(surveyed.table), obstacle, wanted, skipped)
        else:
            usable.append(surveyed)
    if not usable:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:5])
        raise Refused(
            f"There is no table to adopt in {rights.database}.", field="tables", fix=reasons
        )
    return Survey(rights, tuple(usable), skipped)


def check_rights(rights: Rights) -> None:
    """Misconfigured when the plane's schema cannot be installed, naming the missing GRANT."""
    if rights.version < VERSION_MIN:
        raise Misconfigured(f"PostgreSQL {rights.version // 10_000} is too old; 15 is the oldest.")
    if rights.is_standby:
        raise Misconfigured(f"{rights.database} is a standby.", fix="Connect to its primary.")
    if rights.plane_of_other:
        raise Misconfigured(
            f"The schema polyplane belongs to {rights.plane_of_other}.",
            fix=f"GRANT {_quoted(rights.plane_of_other)} TO {_quoted(rights.user)};",
        )
    if not rights.may_create:
        raise Misconfigured(
            f"{rights.user} may not create a schema in {rights.database}.",
            fix=f"GRANT CREATE ON DATABASE {_quoted(rights.database)} TO {_quoted(rights.user)};",
        )


def obstacle_of(relation: Relation, user: str) -> str:
    """Why changes of `relation` cannot be captured by `user`; empty when they can."""
    if relation.kind in _KINDS:
        return _KINDS[relation.kind]
    if relation.is_partition:
        return "it is a partition; adopt the table it is a part of"
    if not relation.is_owned:
        grant = f"GRANT {_quoted(relation.owner)} TO {_quoted(user)}"
        return f"triggers are for its owner, {relation.owner}, to make: {grant}"
    if relation.hides_rows:
        return f"row level security hides rows of it from {user}"
    if relation.has_heirs:
        return "tables inherit from it, and writes to those would not be seen"
    if relation.is_of_extension:
        return "it belongs to an extension"
    return "" if relation.has_key else "it has no primary key: ALTER TABLE ... ADD PRIMARY KEY"


def choose(
    relations: Sequence[Relation], wanted: Sequence[str], user: str
) -> tuple[list[Relation], dict[str, str]]:
    """The relations to adopt, and name -> why not of those left aside.

    Raises NotFound for a wanted name that nothing or more than one thing has, Refused for a wanted
    table with an obstacle.
    """
    looked_at = [_named(relations, name) for name in wanted] if wanted else relations
    chosen: list[Relation] = []
    skipped: dict[str, str] = {}
    for relation in dict.fromkeys(looked_at):
        if obstacle := obstacle_of(relation, user):
            _skip(relation.full_name, obstacle, wanted, skipped)
        else:
            chosen.append(relation)
    return chosen, skipped


def _skip(name: str, obstacle: str, wanted: Sequence[str], skipped: dict[str, str]) -> None:
    if wanted:
        raise Refused(f"{name} cannot be adopted: {obstacle}.", field="tables")
    skipped[name] = obstacle


def _named(relations: Sequence[Relation], name: str) -> Relation:
    """The relation called `name`: as it is written, else, like PostgreSQL, in lower case."""
    for spelling in (name, name.replace('"', ""), name.lower()):
        found = [it for it in relations if spelling in (it.full_name, it.name)]
        if len(found) == 1:
            return found[0]
        if found:
            schemas = ", ".join(it.full_name for it in found)
            raise Refused(f"Several tables are called {name}.", field="tables", fix=f"{schemas}?")
    raise NotFound(f"There is no table {name}.", field="tables")


def _look_at(connection: sa.Connection, relation: Relation) -> Surveyed:
    with warnings.catch_warnings():
        # A type SQLAlchemy does not know is left out, and the generated module says so.
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        table = sa.Table(
            relation.name,
            sa.MetaData(),
            schema=relation.schema,
            autoload_with=connection,
            resolve_fks=False,
        )
    texts = [column for column in table.columns if is_text(column)]
    return Surveyed(table, _sample(connection, table, texts))


def _sample(
    connection: sa.Connection, table: sa.Table, texts: Sequence[sa.Column[Any]]
) -> dict[str, Sample]:
    """What the text columns hold in some rows; of an empty table nothing is known."""
    if not texts:
        return {}
    some = sa.select(*texts).limit(SAMPLE_ROWS).subquery()
    measures: list[sa.ColumnElement[int]] = [sa.func.count()]
    for column in texts:
        value = sa.cast(some.c[column.key], sa.Text)
        measures += [
            sa.func.count(sa.func.nullif(sa.func.btrim(value), "")),
            sa.func.coalesce(sa.func.max(sa.func.length(value)), 0),
            sa.func.count(sa.distinct(value)),
        ]
    rows, *counts = connection.execute(sa.select(*measures).select_from(some)).one()
    if not rows:
        return {}
    return {
        column.name: Sample(
            is_filled=filled > 0,
            is_category=0 < distinct * CATEGORY_REPEATS <= filled and length <= CATEGORY_LENGTH,
        )
        for column, filled, length, distinct in zip(
            texts, counts[0::3], counts[1::3], counts[2::3], strict=True
        )
    }


def _quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
