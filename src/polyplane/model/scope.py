"""Whose items a reader may see, and how an item says whose it is.

The marks of a row (`marks.tenant()`, `marks.owner()`) travel with all that follows from it, under
reserved names. A `Scope` turns a caller into a filter on them and into the check of what comes
back. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

import sqlalchemy as sa

from polyplane.errors import Refused, ScopeViolated
from polyplane.model.caller import Caller
from polyplane.model.marks import owner_column, tenant_column
from polyplane.model.table import Model, table_of

TENANT_ID: Final = "tenant_id"
OWNER_ID: Final = "owner_id"
RESERVED: Final = (TENANT_ID, OWNER_ID)
"""What no tag of an application can be called."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a reader sees: items of `tenant`, and of those what is of `owner` or of nobody.

    With `sees_all` the owner does not matter. `Scope.everything` is for the plane's own work, for
    what belongs to nobody, and for the tests of stores; no caller gets it.
    """

    tenant: str | None
    owner: str | None = None
    sees_all: bool = False

    everything: ClassVar[Scope]

    @classmethod
    def of(cls, caller: Caller) -> Self:
        """What `caller` sees."""
        owner = None if caller.user is None else str(caller.user)
        return cls(caller.tenant, owner, caller.sees_all)

    @property
    def is_everything(self) -> bool:
        """Whether it has no limits at all."""
        return self.tenant is None

    def limits(self, marks: Collection[str]) -> dict[str, Any]:
        """The filter on items that carry `marks`: name -> value, or values, as in `Where`."""
        if self.is_everything:
            return {}
        found: dict[str, Any] = {TENANT_ID: self.tenant} if TENANT_ID in marks else {}
        if OWNER_ID in marks and not self.sees_all:
            found[OWNER_ID] = [None, self.owner] if self.owner else [None]
        return found

    def sees(self, marks: Collection[str], whose: Mapping[str, Any]) -> bool:
        """Whether an item that should carry `marks`, and says `whose` it is, is to be seen.

        One that does not say its tenant is nobody's.
        """
        if self.is_everything:
            return True
        if TENANT_ID in marks and whose.get(TENANT_ID) != self.tenant:
            return False
        return (
            OWNER_ID not in marks
            or self.sees_all
            or whose.get(OWNER_ID) is None
            or whose.get(OWNER_ID) == self.owner
        )

    def check_key(self, key: str) -> None:
        """Raise ScopeViolated unless the object `key` (`<tenant>/...`) is the tenant's."""
        if self.is_everything:
            return
        first, *rest = key.split("/")
        # A server may take `..` as the way out of a folder.
        if first != self.tenant or not rest or not {"", ".", ".."}.isdisjoint(rest):
            raise ScopeViolated(f"The object {key} is not of the tenant {self.tenant}.")


Scope.everything = Scope(None, None, sees_all=True)


@dataclass(frozen=True, slots=True)
class Whose:
    """How the rows of a model say whose they are: the attributes that hold it, if they do."""

    tenant: str | None = None
    owner: str | None = None

    @classmethod
    def of(cls, model: type[Model]) -> Self:
        """As the marks of `model`'s columns say."""
        table, mapper = table_of(model), sa.inspect(model)

        def attribute(column: sa.Column[Any] | None) -> str | None:
            return None if column is None else mapper.get_property_by_column(column).key

        return cls(attribute(tenant_column(table)), attribute(owner_column(table)))

    @property
    def marks(self) -> tuple[str, ...]:
        """The names under which items carry it; none when nobody is said to own the rows."""
        named = ((TENANT_ID, self.tenant), (OWNER_ID, self.owner))
        return tuple(name for name, attribute in named if attribute is not None)

    def read(self, row: Any) -> dict[str, str | None]:
        """What `row` says, as items carry it: texts, or None."""
        found = {}
        for name, attribute in ((TENANT_ID, self.tenant), (OWNER_ID, self.owner)):
            if attribute is not None:
                value = getattr(row, attribute)
                found[name] = None if value is None else str(value)
        return found


def check_unreserved(names: Collection[str] | Mapping[str, Any], what: str) -> None:
    """Raise Refused when `names` has a reserved one; `what` names the culprit."""
    for name in RESERVED:
        if name in names:
            raise Refused(
                f"{what} {name!r} is given by the plane.",
                field=name,
                fix="Mark the column instead: polyplane.marks.tenant() and .owner().",
            )


def segment(tenant: str) -> str:
    """`tenant` as a part of a cache key: no colon, and never empty."""
    return quote(tenant, safe="") or "%"


def versioned(version: int, marks: Sequence[str]) -> str:
    """A version and what its items carry, as a definition says it: marks are no small change."""
    return "+".join([str(version), *marks])
