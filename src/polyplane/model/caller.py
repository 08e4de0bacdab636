"""Who acts: made at the edge from a credential, and handed down to whatever is done for them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from uuid import UUID

from polyplane.errors import Forbidden

ALL_ROWS = "rows.all"
"""The permission to see and change rows of every owner in one's tenant."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who acts, for which tenant, and what they may.

    `actor` is how audit and events name them (`user:<id>`, `key:<id>`, `service:<name>`).
    `user` is the person whose rows they own; None for a program. `permissions` are names as
    applications declare them (`laboratory.write`). `request_id` and `address` say where it came
    from, as far as that is known. `repeat` is for truth: what must be done once only.
    """

    actor: str
    tenant: str = "default"
    user: UUID | None = None
    permissions: Set[str] = frozenset()
    request_id: str = ""
    address: str = ""
    repeat: object | None = field(default=None, compare=False, repr=False)

    def may(self, permission: str) -> bool:
        """Whether they have `permission`."""
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise Forbidden unless they have `permission`."""
        if not self.may(permission):
            raise Forbidden(
                f"This needs the permission {permission}.",
                fix="Ask an administrator of your organization for a role that has it.",
            )

    @property
    def sees_all(self) -> bool:
        """Whether rows of every owner of the tenant are theirs to see: programs, and who may."""
        return self.user is None or ALL_ROWS in self.permissions
