"""API keys: what programs come in with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from polyplane.access.accounts import Writes
from polyplane.access.audited import audited
from polyplane.access.standing import KEY, Standings, credentials
from polyplane.errors import Conflict, NotFound, Refused
from polyplane.model.caller import Caller
from polyplane.security.roles import PROGRAM_ROLES, Permissions
from polyplane.security.tokens import hash_of, new_key
from polyplane.truth.database import Database
from polyplane.truth.statements import clause, statement

LIVE_MAX: Final = 2
"""Of one client: the one in use, and the one that is to replace it."""
EXPIRES_S_MAX: Final = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without what is secret of it."""

    id: str
    client: str
    user_id: UUID | None
    role: str | None
    scopes: Sequence[str] | None
    made_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key. `text` is shown once."""

    id: str
    text: str
    expires_at: datetime


class Keys:
    """The API keys of tenants."""

    def __init__(
        self, database: Database, write: Writes, standings: Standings, permissions: Permissions
    ) -> None:
        self._database = database
        self._write = write
        self._standings = standings
        self._permissions = permissions

    async def make(
        self,
        caller: Caller,
        client: str,
        *,
        expires_s: float,
        role: str | None = None,
        scopes: Sequence[str] | None = None,
    ) -> MadeKey:
        """A key for the caller's tenant: the caller's own, or with `role` a program's.

        Narrowed to `scopes` if they are given. Raises Conflict when the client has two that live,
        Refused for a role or scope that is none, or that the caller has not.
        """
        if not 0 < expires_s <= EXPIRES_S_MAX:
            raise Refused("A key lives for a year at most.", field="expires_s")
        user = caller.user if role is None else None
        if role is None and user is None:
            raise Refused("A program's key needs a role.", field="role")
        if role is not None and role not in PROGRAM_ROLES:
            known = ", ".join(PROGRAM_ROLES)
            raise Refused(
                f"{role!r} is no role of a program.", field="role", fix=f"One of {known}."
            )
        if role is not None:
            self._permissions.check_grant(role, caller.permissions)
        self._permissions.check_scopes(scopes or ())
        key = new_key()
        async with self._write(caller) as tx:
            asked = {"tenant": caller.tenant, "client": client, "user": user}
            what = f"keys {caller.tenant} {client}"
            await tx.execute(clause("identity", "only_one"), {"what": what})
            await tx.execute(clause("identity", "sweep_keys"), asked)
            live = (await tx.execute(clause("identity", "live_keys"), asked)).scalar() or 0
            if live >= LIVE_MAX:
                raise Conflict(
                    f"{client} has {live} keys already.", field="client", fix="Revoke one first."
                )
            row = asked | {
                "id": key.id,
                "role": role,
                "scopes": None if scopes is None else list(scopes),
                "hash": hash_of(key.text),
                "made_by": caller.actor,
                "expires_s": expires_s,
            }
            made = (await tx.execute(clause("identity", "make_key"), row)).one()
            audited(tx, "api_key.made", f"key:{key.id}", client=client, role=role or "")
        return MadeKey(key.id, key.text, made.expires_at)

    async def list(
        self, caller: Caller, *, user: UUID | None = None, after: str = "", limit: int = 50
    ) -> list[ApiKey]:
        """Keys for the caller's tenant by id, those behind `after`; of `user`, or all."""
        asked = {"tenant": caller.tenant, "user": user, "after": after, "limit": limit}
        rows = await self._database.rows(statement("identity", "keys"), asked)
        return [ApiKey(*row) for row in rows]

    async def revoke(self, caller: Caller, key_id: str, *, user: UUID | None = None) -> None:
        """End a key of the caller's tenant (only of `user`, if given), everywhere and at once.

        Raises NotFound.
        """
        async with self._write(caller) as tx:
            asked = {"tenant": caller.tenant, "id": key_id, "user": user}
            ended = (await tx.execute(clause("identity", "end_key"), asked)).all()
            if not ended:
                raise NotFound("There is no such key.", field="key_id")
            audited(tx, "api_key.revoked", f"key:{key_id}", client=ended[0].client)
        await self._standings.forget(credentials(KEY, ended))
