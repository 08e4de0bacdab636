"""Roles and what they may: permissions are declared in code, with the least role that has each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from polyplane.errors import Misconfigured, Refused
from polyplane.model.caller import ALL_ROWS

OPERATOR: Final = "operator"
"""Who shows the secret of the home, as events and audit name them."""

OPERATE: Final = "plane.operate"
"""To operate the whole plane, for all tenants: only its administrators."""

GRAPH_READ: Final = "graph.read"
"""To ask the graph over HTTP for what one may see."""
GRAPH_CYPHER: Final = "graph.cypher"
"""To ask it freely, where nothing in it belongs to tenants or owners."""

ROLES: Final = ("viewer", "auditor", "editor", "operator", "admin", "owner")
"""What a member of an organization may be."""

_HAS: Final[dict[str, frozenset[str]]] = {
    "viewer": frozenset({"viewer"}),
    "auditor": frozenset({"viewer", "auditor"}),
    "editor": frozenset({"viewer", "editor"}),
    "operator": frozenset({"viewer", "editor", "operator"}),
    "admin": frozenset({"viewer", "auditor", "editor", "operator", "admin"}),
    "owner": frozenset(ROLES),
}
"""Role -> the roles whose permissions it has."""

PROGRAM_ROLES: Final = {
    "service_reader": "viewer",
    "service_writer": "editor",
    "service_operator": "operator",
}
"""What a program may be, and whose permissions in applications it has. Of the plane's own it has
those to ask the graph.
"""

OWN: Final[dict[str, str]] = {
    "members.read": "viewer",
    "members.manage": "admin",
    "keys.manage": "admin",
    "organization.manage": "owner",
    "audit.read": "auditor",
    GRAPH_READ: "viewer",
    GRAPH_CYPHER: "operator",
    ALL_ROWS: "admin",
}
"""The plane's own permissions, and the least role that has each."""

_FORM: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


@dataclass(frozen=True, slots=True)
class Permissions:
    """What every role may, in one table."""

    of_role: Mapping[str, frozenset[str]]
    everything: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, applications: Iterable[tuple[str, Mapping[str, str]]]) -> Permissions:
        """The table for applications: each one's name, and permission -> least role.

        Raises Misconfigured for a permission outside of its application, or an unknown role.
        """
        declared: dict[str, str] = {}
        for application, permissions in applications:
            for name, least in permissions.items():
                if not _FORM.fullmatch(name) or name.partition(".")[0] != application:
                    raise Misconfigured(
                        f"The permission {name!r} is not the application {application}'s.",
                        fix=f"Name it {application}.<something>.",
                    )
                if least not in ROLES:
                    raise Misconfigured(f"{least!r}, which is to have {name}, is no role.")
                declared[name] = least
        every = {**OWN, **declared}
        table = {role: _held(every, _HAS[role]) for role in ROLES}
        theirs = declared | {name: OWN[name] for name in (GRAPH_READ, GRAPH_CYPHER)}
        table |= {role: _held(theirs, _HAS[as_]) for role, as_ in PROGRAM_ROLES.items()}
        return cls(table, frozenset({*every, OPERATE}))

    def check_scopes(self, scopes: Iterable[str]) -> None:
        """Raise Refused for a scope that is no permission, or one that no key may have."""
        for scope in scopes:
            if scope not in self.everything or scope == OPERATE:
                raise Refused(f"{scope!r} is no permission that a key can have.", field="scopes")

    def check_grant(self, role: str, held: Iterable[str]) -> None:
        """Raise Refused when `role` may what who gives it away may not."""
        if self.of_role[role] - set(held):
            raise Refused(
                f"The role {role} may more than you.", field="role", fix="Ask who has more."
            )


def _held(declared: Mapping[str, str], roles: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name, least in declared.items() if least in roles)
