"""Which columns of a model are secret, and the place that each of their values is bound to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from polyplane.errors import Misconfigured
from polyplane.model.digest import canonical
from polyplane.model.marks import OWNER, SECRET, TENANT, marked
from polyplane.model.table import Model, table_name, table_of

NO_TENANT: Final = "default"
"""Whose the data key is of a table without tenants."""
_KEYS: Final = (sa.Uuid, sa.Integer, sa.String)
_UNSTABLE_KEYS: Final = (sa.CHAR, sa.Enum)


class Scope(NamedTuple):
    """Whose a data key is: a person's, in a tenant; or, without a person, the tenant's."""

    tenant: str
    person: str = ""


class Place(NamedTuple):
    """Where a ciphertext belongs. Anywhere else it cannot be decrypted."""

    table: str
    column: str
    key: tuple[Any, ...]
    tenant: str

    def bound_to(self) -> bytes:
        """The additional data of its encryption."""
        return canonical(["polyplane", "v1", self.table, self.column, list(self.key), self.tenant])


Look = Callable[[str], Any]
"""The value of an attribute of a row."""


@dataclass(frozen=True, slots=True)
class SecretRows:
    """The secrets of one model. Attributes are named as the model does; columns as the table."""

    model: type[Model]
    table: sa.Table
    keys: tuple[str, ...]
    secrets: tuple[tuple[str, str], ...]
    """(attribute, column) of each secret."""
    tenant: str | None
    person: str | None

    @property
    def name(self) -> str:
        """`schema.table`."""
        return table_name(self.table)

    @property
    def decisive(self) -> tuple[str, ...]:
        """The attributes that a ciphertext, or its data key, depends on besides the value."""
        return (*self.keys, *filter(None, (self.tenant, self.person)))

    def place(self, look: Look, column: str) -> Place:
        """Where a value of `column` belongs in the row that `look` looks at."""
        tenant = "" if self.tenant is None else str(look(self.tenant))
        return Place(self.name, column, tuple(look(key) for key in self.keys), tenant)

    def scope(self, look: Look) -> Scope:
        """Whose data key the secrets of a row are encrypted with."""
        tenant = None if self.tenant is None else look(self.tenant)
        person = None if self.person is None else look(self.person)
        return Scope(
            NO_TENANT if tenant is None else str(tenant), "" if person is None else str(person)
        )


def secrets_of(model: type[Model]) -> SecretRows | None:
    """The secrets of `model`, or None when it has none.

    Raises Misconfigured for a key that is not known, for certain, before a row is written.
    """
    table = table_of(model)
    secret = marked(table, SECRET)
    if not secret:
        return None
    mapper: Mapper[Any] = sa.inspect(model)
    for column in table.primary_key.columns:
        if not isinstance(column.type, _KEYS) or isinstance(column.type, _UNSTABLE_KEYS):
            raise Misconfigured(
                f"{model.__name__} has secrets, and a key of the type {column.type!r}.",
                fix="Its key must be of UUIDs, integers or texts: id: Mapped[UUID] = pp.key().",
            )
        if column is table.autoincrement_column:
            raise Misconfigured(
                f"{model.__name__} has secrets, and a key that is known only after it is written.",
                fix="Let it be id: Mapped[UUID] = pp.key(), or give it: autoincrement=False.",
            )

    def attribute(column: sa.Column[Any] | None) -> str | None:
        return None if column is None else mapper.get_property_by_column(column).key

    return SecretRows(
        model,
        table,
        tuple(mapper.get_property_by_column(it).key for it in table.primary_key.columns),
        tuple((mapper.get_property_by_column(it).key, it.name) for it in secret),
        attribute(next(iter(marked(table, TENANT)), None)),
        attribute(next(iter(marked(table, OWNER)), None)),
    )
