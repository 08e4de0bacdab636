"""What a projection reads besides its own rows: rows of other models that hold its rows' keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import ColumnProperty, InstrumentedAttribute

from polyplane.errors import Misconfigured
from polyplane.model.projection import Projection
from polyplane.model.table import Model, table_of

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

_ALIKE: Final = {
    "SMALLINT": "an integer",
    "INTEGER": "an integer",
    "BIGINT": "an integer",
    "VARCHAR": "a text",
    "TEXT": "a text",
}
"""Types whose equal values have one text, whichever of them a column is of."""
_AMBIGUOUS: Final = ("FLOAT", "REAL", "DOUBLE PRECISION", "NUMERIC", "INTERVAL", "CITEXT", "JSONB")
"""Types with equal values of different texts; a NUMERIC with a scale is none."""


@dataclass(frozen=True, slots=True)
class Touch:
    """The rows of `model` that belong to the row of a projection whose key is in `column`.

    `derive` knows them by `name`.
    """

    name: str
    model: type[Model]
    column: sa.Column[Any]


def touches_of(projection: type[Projection[Any]]) -> tuple[Touch, ...]:
    """The `touches` of `projection`, in its order; Misconfigured for what cannot work."""
    if not projection.touches:
        return ()
    found = tuple(
        _touch(projection, name, attribute) for name, attribute in projection.touches.items()
    )
    try:
        signature(projection.derive).bind(None, None, **{touch.name: () for touch in found})
    except TypeError as error:
        rows = ", ".join(f"{it.name}: Sequence[{it.model.__name__}] = ()" for it in found)
        raise Misconfigured(
            f"{projection.__name__}.derive does not take what it touches: {error}.",
            fix=f"Write: def derive(self, row: {projection.model.__name__}, /, {rows}).",
        ) from None
    return found


def _touch(projection: type[Projection[Any]], name: str, attribute: object) -> Touch:
    """One of the touches, checked against the key of the projection's own model."""
    where, parent = f"{projection.__name__} touches {name!r}", table_of(projection.model)
    if not isinstance(attribute, InstrumentedAttribute) or not isinstance(
        attribute.property, ColumnProperty
    ):
        raise Misconfigured(
            f"{where} by {attribute!r}, which is no column of a model.",
            fix='Name the column that holds the key, as in {"comments": Comment.note_id}.',
        )
    model, column = attribute.class_, attribute.property.columns[0]
    if (
        not isinstance(column, sa.Column)
        or not (isinstance(model, type) and issubclass(model, Model))
        or column.table is not table_of(model)
    ):
        raise Misconfigured(f"{where} by {attribute}, which is no plain column of a model's table.")
    if column.table is parent:
        raise Misconfigured(
            f"{where} by {attribute}, a column of {projection.model.__name__} itself.",
            fix="Touch another model; derive has the row's own columns already.",
        )
    keys = list(parent.primary_key.columns)
    if len(keys) != 1:
        raise Misconfigured(
            f"{where}, but {projection.model.__name__} has a key of {len(keys)} columns, which no"
            " one column can hold.",
            fix=f"Give {projection.model.__name__} a key of one column: id: Mapped[UUID] ="
            " pp.key(), and the present key a UniqueConstraint.",
        )
    kind, wanted = _kind(where, column), _kind(where, keys[0])
    if kind != wanted:
        raise Misconfigured(
            f"{where} by {attribute}, which is {kind}; the key of {projection.model.__name__} is"
            f" {wanted}.",
            fix=f"Give {column} the type of {keys[0]}.",
        )
    return Touch(name, model, column)


def _kind(where: str, column: sa.Column[Any]) -> str:
    """The type of a column, as far as the texts of its values depend on it."""
    try:
        written = column.type.compile(dialect=_DIALECT)
    except sa.exc.CompileError:
        raise Misconfigured(f"{where}, but {column} has no type.", fix="Give it one.") from None
    if written in _AMBIGUOUS:
        raise Misconfigured(
            f"{where}, but {column} is {written}: equal keys of that type may be written in"
            " different ways.",
            fix="Touch a model whose key is a UUID, an integer or a text.",
        )
    if written.startswith("NUMERIC"):
        return written
    bare = re.sub(r"\(.*?\)", "", written)
    return _ALIKE.get(bare, bare)
