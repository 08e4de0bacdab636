"""Row-level security, made from the marks on models: what is to be so on each table.

A table whose model says whose a row is (`marks.tenant`, `marks.owner`) has row security enabled and
forced, and up to three policies. What the application does is held to its tenant, and in it to rows
of its user unless it sees all. The owner of the table, who migrates, sees everything as long as it
acts for nobody: a transaction of the plane always acts for somebody. The plane's own work, which
derives and copies, reads everything and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from polyplane.errors import Misconfigured
from polyplane.model.marks import owner_column, tenant_column
from polyplane.model.table import Model, table_name, table_of
from polyplane.security.logins import quoted

TENANT: Final = "polyplane_tenant"
PROGRAM: Final = "polyplane_program"
SERVICE: Final = "polyplane_service"

# In a sub-select of its own each is asked for once a statement, not once a row; and after a
# transaction that had set it, what was never set is ''.
_TENANT: Final = "(SELECT nullif(current_setting('polyplane.tenant', true), ''))"
_SEES_ALL: Final = "(SELECT current_setting('polyplane.sees_all', true) = 'on')"
_USER: Final = "(SELECT nullif(current_setting('polyplane.user', true), '')::{type})"
_OWNER_TYPES: Final = {"UUID": "uuid", "VARCHAR": "text", "TEXT": "text"}


@dataclass(frozen=True, slots=True)
class Guarded:
    """A table whose rows are a tenant's or a user's: what the columns are called that say whose."""

    schema: str
    name: str
    tenant: str | None
    owner: str | None = None
    owner_type: str = "uuid"

    @property
    def identifier(self) -> str:
        """The quoted `schema.table`."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: for whom, and on which condition rows are seen (and, unless it only reads,
    written).
    """

    name: str
    roles: tuple[str, ...]
    condition: str
    reads_only: bool = False


def guarded(models: Sequence[type[Model]]) -> list[Guarded]:
    """The tables of `models` that are marked with a tenant or an owner, by their names.

    Raises Misconfigured for an owner that is no id of a user.
    """
    found = []
    for table in {table_name(table_of(it)): table_of(it) for it in models}.values():
        tenant, owner = tenant_column(table), owner_column(table)
        if tenant is None and owner is None:
            continue
        kind = "UUID" if owner is None else str(owner.type).partition("(")[0].upper()
        kind = "UUID" if kind == "CHAR" and owner is not None and _is_uuid(owner.type) else kind
        if kind not in _OWNER_TYPES:
            raise Misconfigured(
                f"{table_name(table)}.{owner.name if owner is not None else ''} is of type {kind};"
                " the id of a user is a UUID."
            )
        found.append(
            Guarded(
                table.schema or "public",
                table.name,
                None if tenant is None else tenant.name,
                None if owner is None else owner.name,
                _OWNER_TYPES[kind],
            )
        )
    return sorted(found, key=lambda it: it.identifier)


def _is_uuid(kind: object) -> bool:
    return type(kind).__name__.upper() == "UUID"


def policies(table: Guarded, owner: str, readers: Sequence[str]) -> list[Policy]:
    """The policies of a table that belongs to the role `owner`; `readers` see every row."""
    # Of users of any tenant where it has none; but never for who acts for nobody.
    mine = f"{_TENANT} IS NOT NULL"
    if table.tenant is not None:
        mine = f"{quoted(table.tenant)} = {_TENANT}"
    if table.owner is not None:
        column, user = quoted(table.owner), _USER.format(type=table.owner_type)
        mine = f"{mine} AND ({column} IS NULL OR {column} = {user} OR {_SEES_ALL})"
    found = [
        Policy(TENANT, ("public",), mine),
        Policy(PROGRAM, (owner,), f"{_TENANT} IS NULL"),
    ]
    if others := tuple(sorted({*readers} - {owner})):
        found.append(Policy(SERVICE, others, "true", reads_only=True))
    return found


def statements(relation: str, wanted: Sequence[Policy]) -> list[str]:
    """What makes `relation` (quoted) have exactly the policies `wanted`, of those that are ours."""
    made = [f"DROP POLICY IF EXISTS {name} ON {relation}" for name in (TENANT, PROGRAM, SERVICE)]
    for it in wanted:
        roles = ", ".join("PUBLIC" if role == "public" else quoted(role) for role in it.roles)
        action = "SELECT" if it.reads_only else "ALL"
        check = "" if it.reads_only else f" WITH CHECK ({it.condition})"
        made.append(
            f"CREATE POLICY {it.name} ON {relation} FOR {action} TO {roles}"
            f" USING ({it.condition}){check}"
        )
    made.append(f"ALTER TABLE {relation} ENABLE ROW LEVEL SECURITY")
    made.append(f"ALTER TABLE {relation} FORCE ROW LEVEL SECURITY")
    return made


def definition_of(wanted: Sequence[Policy]) -> str:
    """A short name of what `wanted` says, to tell whether a table has it."""
    return blake2b(repr(list(wanted)).encode(), digest_size=8).hexdigest()


def names_of(wanted: Sequence[Policy]) -> Mapping[str, Policy]:
    """`wanted` by name."""
    return {it.name: it for it in wanted}
