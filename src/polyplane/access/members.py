"""Organizations, which are the tenants, and who is what in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from polyplane.access.accounts import Writes
from polyplane.access.audited import audited
from polyplane.access.standing import KEY, Standings, credentials
from polyplane.errors import Conflict, NotFound, Refused
from polyplane.model.caller import Caller
from polyplane.security.roles import ROLES, Permissions
from polyplane.truth.database import Database
from polyplane.truth.session import Write
from polyplane.truth.statements import clause, statement


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in an organization."""

    user_id: UUID
    email: str
    name: str
    status: str
    role: str
    created_at: datetime


class Members:
    """Organizations and their members. A changed role holds at once, on every plane.

    An organization keeps an owner, and nobody gives away what they have not.
    """

    def __init__(
        self, database: Database, write: Writes, standings: Standings, permissions: Permissions
    ) -> None:
        self._database = database
        self._write = write
        self._standings = standings
        self._permissions = permissions

    async def add_organization(self, caller: Caller, tenant: str, name: str) -> Organization:
        """Make a tenant; whoever makes it, if a person, owns it. Conflict when there is one."""
        async with self._write(caller) as tx:
            row = {"tenant": tenant, "name": name}
            made = (await tx.execute(clause("identity", "add_organization"), row)).one()
            if caller.user is not None:
                member = {"user": caller.user, "tenant": tenant, "role": "owner"}
                await tx.execute(clause("identity", "set_member"), member)
            audited(tx, "organization.added", f"organization:{tenant}")
        if caller.user is not None:
            await self._forget(caller.user)
        return Organization(*tuple(made))

    async def organization(self, tenant: str) -> Organization:
        """One of them; NotFound when there is none."""
        row = await self._database.row(statement("identity", "organization"), {"tenant": tenant})
        if row is None:
            raise NotFound("There is no such organization.", field="tenant")
        return Organization(*row)

    async def organizations(self, *, after: str = "", limit: int = 50) -> list[Organization]:
        """All of the plane by id, those behind `after`."""
        asked = {"after": after, "limit": limit}
        rows = await self._database.rows(statement("identity", "organizations"), asked)
        return [Organization(*row) for row in rows]

    async def list(
        self, tenant: str, *, after: UUID | None = None, limit: int = 50
    ) -> list[Member]:
        """The members by id, those behind `after`."""
        asked = {"tenant": tenant, "after": after, "limit": limit}
        rows = await self._database.rows(statement("identity", "members"), asked)
        return [Member(*row) for row in rows]

    async def set(self, caller: Caller, user: UUID, role: str) -> None:
        """Make `user` a member of the caller's tenant, or another kind of member.

        Raises Refused for a role that may more than the caller, of the new or of the old one;
        Conflict for the last owner; NotFound for no such user or organization.
        """
        if role not in ROLES:
            raise Refused(f"{role!r} is no role.", field="role", fix=f"One of {', '.join(ROLES)}.")
        async with self._write(caller) as tx:
            await self._check(tx, caller, user, role)
            if (await tx.execute(clause("identity", "user"), {"user": user})).first() is None:
                raise NotFound("There is no such user.", field="user_id")
            row = {"user": user, "tenant": caller.tenant, "role": role}
            await tx.execute(clause("identity", "set_member"), row)
            audited(tx, "member.set", f"user:{user}", role=role)
        await self._forget(user)

    async def remove(self, caller: Caller, user: UUID) -> None:
        """Take `user` out of the caller's tenant, with their keys for it. Raises as `set` does."""
        async with self._write(caller) as tx:
            if await self._check(tx, caller, user, None) is None:
                raise NotFound("They are no member.", field="user_id")
            row = {"user": user, "tenant": caller.tenant}
            keys = (await tx.execute(clause("identity", "remove_keys"), row)).all()
            await tx.execute(clause("identity", "remove_member"), row)
            audited(tx, "member.removed", f"user:{user}")
        await self._standings.forget(credentials(KEY, keys))
        await self._forget(user)

    async def _check(self, tx: Write, caller: Caller, user: UUID, role: str | None) -> str | None:
        """Hold the organization, and see that this change may be; the role they have now."""
        asked = {"user": user, "tenant": caller.tenant}
        if (await tx.execute(clause("identity", "hold_organization"), asked)).first() is None:
            raise NotFound("There is no such organization.", field="tenant")
        found = (await tx.execute(clause("identity", "member"), asked)).first()
        now: str | None = found[0] if found else None
        for each in (now, role):
            if each is not None:
                self._permissions.check_grant(each, caller.permissions)
        if now == "owner" and role != "owner":
            others = (await tx.execute(clause("identity", "other_owners"), asked)).scalar()
            if not others:
                raise Conflict("They are the last owner.", fix="Make another one first.")
        return now

    async def _forget(self, user: UUID) -> None:
        asked = {"user": user}
        rows = await self._database.rows(statement("identity", "credentials_of"), asked)
        await self._standings.forget([(row[0], bytes(row[1])) for row in rows])
