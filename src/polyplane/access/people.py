"""What administrators of the plane do with users."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from polyplane.access.accounts import Writes
from polyplane.access.audited import audited
from polyplane.access.hashing import Hasher
from polyplane.access.standing import Standings
from polyplane.errors import Conflict, NotFound
from polyplane.model.caller import Caller
from polyplane.security.emails import checked_email, email_key
from polyplane.security.passwords import check_password
from polyplane.truth.database import Database
from polyplane.truth.session import Write
from polyplane.truth.statements import clause, statement

FIRST: Final = Caller("setup")
"""Who makes the first administrator."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in."""

    id: UUID
    email: str
    name: str
    status: str
    is_administrator: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Membership:
    """An organization somebody is a member of, and as what."""

    tenant: str
    name: str
    role: str


class People:
    """All users of the plane. What is taken from one holds at once, on every plane."""

    def __init__(
        self, database: Database, write: Writes, standings: Standings, hasher: Hasher
    ) -> None:
        self._database = database
        self._write = write
        self._standings = standings
        self._hasher = hasher

    async def add(
        self,
        caller: Caller,
        email: str,
        password: str,
        *,
        name: str = "",
        is_administrator: bool = False,
    ) -> User:
        """Add a user, a member of nothing. Conflict when the address is taken."""
        email = checked_email(email)
        check_password(password, email)
        password_hash = await self._hasher.hash(password)
        async with self._write(caller) as tx:
            user = await _add(tx, email, password_hash, name, is_administrator)
            if user is None:
                raise Conflict("There is a user with this e-mail address.", field="email")
        return await self.user(user)

    async def first_administrator(self, email: str, password_hash: str) -> User | None:
        """Make the first administrator of the plane, an owner of `default`, unless there is one.

        Raises Conflict when a user without these powers has the address.
        """
        async with self._write(FIRST) as tx:
            await tx.execute(clause("identity", "only_one"), {"what": "administrator"})
            if (await tx.execute(clause("identity", "has_administrator"))).scalar():
                return None
            user = await _add(tx, checked_email(email), password_hash, "", True)
            if user is None:
                raise Conflict("There is a user with this e-mail address.", field="email")
            member = {"user": user, "tenant": "default", "role": "owner"}
            await tx.execute(clause("identity", "set_member"), member)
        return await self.user(user)

    async def has_administrator(self) -> bool:
        """Whether the plane has one."""
        row = await self._database.row(statement("identity", "has_administrator"))
        return bool(row and row[0])

    async def hash_of(self, email: str, password: str) -> str:
        """The hash of a password for `email`; Refused when it is not taken."""
        check_password(password, checked_email(email))
        return await self._hasher.hash(password)

    async def user(self, user: UUID) -> User:
        """One user; NotFound when there is none."""
        row = await self._database.row(statement("identity", "user"), {"user": user})
        if row is None:
            raise _nobody()
        return User(*row[:7])

    async def memberships(self, user: UUID) -> list[Membership]:
        """The organizations they are a member of, the first first."""
        rows = await self._database.rows(statement("identity", "memberships"), {"user": user})
        return [Membership(*row) for row in rows]

    async def list(self, *, after: UUID | None = None, limit: int = 50) -> list[User]:
        """Users by id, those behind `after`."""
        asked = {"after": after, "limit": limit}
        return [
            User(*row) for row in await self._database.rows(statement("identity", "users"), asked)
        ]

    async def find(self, email: str) -> UUID:
        """The user with this address; NotFound when there is none."""
        asked = {"email_key": email_key(email)}
        row = await self._database.row(statement("identity", "find_user"), asked)
        if row is None:
            raise _nobody()
        found: UUID = row[0]
        return found

    async def set_status(self, caller: Caller, user: UUID, status: str) -> User:
        """Make a user `active` or `disabled`. Disabled, their sessions end and keys rest.

        Conflict for the last administrator.
        """
        change = {"user": user, "status": status}
        if status == "disabled":
            await self._changed(caller, user, "set_status", change, may_be_last=False)
        else:
            await self._changed(caller, user, "set_status", change)
        return await self.user(user)

    async def set_administrator(self, caller: Caller, user: UUID, is_administrator: bool) -> User:
        """Give or take the powers over the whole plane. Conflict for the last who has them."""
        change = {"user": user, "is_administrator": is_administrator}
        await self._changed(caller, user, "set_administrator", change, may_be_last=is_administrator)
        return await self.user(user)

    async def set_password(self, caller: Caller, user: UUID, password: str) -> None:
        """Give a user another password, and end all their sessions."""
        check_password(password, (await self.user(user)).email)
        change = {"user": user, "password_hash": await self._hasher.hash(password)}
        await self._changed(caller, user, "set_password", change, ends=True)

    async def delete(self, caller: Caller, user: UUID) -> None:
        """Delete a user with their sessions and keys. Conflict for the last administrator."""
        await self._changed(caller, user, "delete_user", {"user": user}, may_be_last=False)

    async def _changed(
        self,
        caller: Caller,
        user: UUID,
        what: str,
        change: dict[str, Any],
        *,
        may_be_last: bool = True,
        ends: bool = False,
    ) -> None:
        """Do `what` to a user, and have nobody believe what was known of them before."""
        async with self._write(caller) as tx:
            await tx.execute(clause("identity", "only_one"), {"what": "administrator"})
            await tx.execute(clause("identity", "hold_user"), {"user": user})
            # Before the change: it may take them away.
            rows = (await tx.execute(clause("identity", "credentials_of"), {"user": user})).all()
            if not may_be_last:
                await _check_not_last(tx, user)
            if (await tx.execute(clause("identity", what), change)).first() is None:
                raise _nobody()
            if ends or change.get("status") == "disabled":
                await tx.execute(clause("identity", "end_sessions"), {"user": user, "but": None})
            shown = {k: v for k, v in change.items() if k not in ("user", "password_hash")}
            audited(tx, f"user.{what}", f"user:{user}", **shown)
        await self._standings.forget([(row.kind, bytes(row.hashed)) for row in rows])


async def _add(
    tx: Write, email: str, password_hash: str, name: str, is_administrator: bool
) -> UUID | None:
    row = {
        "email": email,
        "email_key": email_key(email),
        "name": name,
        "password_hash": password_hash,
        "is_administrator": is_administrator,
    }
    made = (await tx.execute(clause("identity", "add_user"), row)).first()
    if made is None:
        return None
    audited(tx, "user.added", f"user:{made[0]}", is_administrator=is_administrator)
    found: UUID = made[0]
    return found


async def _check_not_last(tx: Write, user: UUID) -> None:
    found = (await tx.execute(clause("identity", "user"), {"user": user})).first()
    if found is None or not found.is_administrator:
        return
    others = (await tx.execute(clause("identity", "other_administrators"), {"user": user})).scalar()
    if not others:
        raise Conflict("They are the last administrator.", fix="Make another one first.")


def _nobody() -> NotFound:
    return NotFound("There is no such user.", field="user_id")
