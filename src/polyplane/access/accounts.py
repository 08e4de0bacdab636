"""What people do with their own account: sign up, in and out, sessions, the password."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from polyplane.access.attempts import Attempts, Origin
from polyplane.access.audited import audited
from polyplane.access.hashing import Hasher
from polyplane.access.standing import SESSION, Standings, credentials
from polyplane.errors import Forbidden, NotFound, Refused, Unauthenticated
from polyplane.model.caller import Caller
from polyplane.security.emails import checked_email, email_key
from polyplane.security.passwords import check_password
from polyplane.security.tokens import hash_of, new_device, new_session_token
from polyplane.truth.database import Database
from polyplane.truth.session import Write
from polyplane.truth.statements import clause, statement

SESSIONS_MAX: Final = 50
"""Of one user; the longest unused ends when there are more."""
_TEXT_MAX: Final = 300

Writes = Callable[[Caller], AbstractAsyncContextManager[Write]]
"""Begins a transaction of truth for who acts."""
Secret = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that was begun. The token is shown once; the device may keep `device`."""

    token: str
    session_id: UUID
    user_id: UUID
    expires_at: datetime
    device: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has not ended."""

    id: UUID
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    address: str
    agent: str


class Accounts:
    """One's own account. No answer, and no time it takes, tells whether an address is known."""

    def __init__(
        self,
        database: Database,
        write: Writes,
        standings: Standings,
        hasher: Hasher,
        attempts: Attempts,
        secret: Secret,
        *,
        idle_s: float,
        max_s: float,
        is_open: bool,
    ) -> None:
        """Sessions end `idle_s` after they were last used and `max_s` after they began.

        Anybody may sign up when it `is_open`.
        """
        self._database = database
        self._write = write
        self._standings = standings
        self._hasher = hasher
        self._attempts = attempts
        self._secret = secret
        self._idle_s, self._max_s = idle_s, max_s
        self._is_open = is_open

    async def sign_up(self, email: str, password: str, name: str, origin: Origin) -> None:
        """Make an account, a member of nothing; nothing happens when the address is taken.

        Raises Forbidden when it is not open to all, Refused for a password that is not taken.
        """
        if not self._is_open:
            raise Forbidden("Nobody can sign up here.", fix="Ask an administrator for an account.")
        email = checked_email(email)
        check_password(password, email)
        key = email_key(email)
        # Counted and never forgiven: whoever makes accounts in numbers is slowed down.
        await self._attempts.begin(await self._attempts.account(f"new {key}"), origin)
        password_hash = await self._hasher.hash(password)
        async with self._write(visitor(origin)) as tx:
            row = {
                "email": email,
                "email_key": key,
                "name": name,
                "password_hash": password_hash,
                "is_administrator": False,
            }
            made = (await tx.execute(clause("identity", "add_user"), row)).first()
            if made is not None:
                audited(tx, "user.signed_up", f"user:{made[0]}")

    async def sign_in(self, email: str, password: str, origin: Origin) -> SignedIn:
        """Begin a session.

        Raises Unauthenticated, always the same, for an unknown address, a wrong password or a
        disabled user; TooOften while attempts from this place have to wait.
        """
        key = email_key(email)
        account = await self._attempts.account(key)
        attempt = await self._attempts.begin(account, origin)
        row = await self._database.row(statement("identity", "account"), {"email_key": key})
        user, known = row if row else (None, None)
        checked = await self._hasher.check(known, password)
        if not checked.is_right:
            async with self._write(visitor(origin)) as tx:
                audited(tx, "user.sign_in_failed", f"account:{account.hex()[:16]}")
            raise _wrong()
        await self._attempts.forgive(attempt)

        async def may(tx: Write) -> bool:
            asked = {"user": user, "password_hash": known}
            if (await tx.execute(clause("identity", "still"), asked)).first() is None:
                return False
            if checked.rehashed is not None:
                asked["password_hash"] = checked.rehashed
                await tx.execute(clause("identity", "rehash"), asked)
            return True

        begun = await self.begin(user, account, origin, may)
        if begun is None:
            raise _wrong()
        return begun

    async def begin(
        self,
        user: UUID,
        account: bytes,
        origin: Origin,
        may: Callable[[Write], Awaitable[bool]],
        **detail: Any,
    ) -> SignedIn | None:
        """Begin a session of `user`, whose attempts are counted under `account`.

        None when they may not, as `may` says within the transaction, where it holds on to what it
        looked at. `detail` goes to audit.
        """
        token = new_session_token()
        caller = Caller(f"user:{user}", "default", user, address=origin.address)
        async with self._write(caller) as tx:
            if not await may(tx):
                return None
            row = {
                "user": user,
                "hash": hash_of(token),
                "max_s": self._max_s,
                "address": origin.address[:_TEXT_MAX],
                "agent": origin.agent[:_TEXT_MAX],
            }
            made = (await tx.execute(clause("identity", "make_session"), row)).one()
            sweep = {"user": user, "idle_s": self._idle_s, "keep": SESSIONS_MAX}
            ended = (await tx.execute(clause("identity", "sweep_sessions"), sweep)).all()
            audited(tx, "user.signed_in", f"session:{made.id}", **detail)
        await self._standings.forget(credentials(SESSION, ended))
        device = new_device(await self._secret(), account)
        return SignedIn(token, made.id, user, made.expires_at, device)

    async def sessions(self, user: UUID) -> list[Session]:
        """Their sessions, the last used first."""
        asked = {"user": user, "idle_s": self._idle_s}
        found = await self._database.rows(statement("identity", "sessions"), asked)
        return [Session(*row) for row in found]

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        """End one of the caller's sessions, everywhere and at once. Raises NotFound."""
        async with self._write(caller) as tx:
            asked = {"user": caller.user, "id": session_id}
            ended = (await tx.execute(clause("identity", "end_session"), asked)).all()
            if not ended:
                raise NotFound("There is no such session.", field="session_id")
            audited(tx, "session.ended", f"session:{session_id}")
        await self._standings.forget(credentials(SESSION, ended))

    async def end_sessions(self, caller: Caller, *, but: UUID | None = None) -> int:
        """End all sessions of the caller, `but` one perhaps; their number."""
        async with self._write(caller) as tx:
            asked = {"user": caller.user, "but": but}
            ended = (await tx.execute(clause("identity", "end_sessions"), asked)).all()
            audited(tx, "sessions.ended", f"user:{caller.user}", sessions=len(ended))
        await self._standings.forget(credentials(SESSION, ended))
        return len(ended)

    async def change_password(
        self, caller: Caller, session_id: UUID, old: str, new: str, origin: Origin
    ) -> None:
        """Take `new` for `old`, and end all other sessions of the caller.

        Raises Refused when `old` is wrong or `new` is not taken.
        """
        email, known = await self._password_of(caller)
        check_password(new, email)
        await self._prove(session_id, known, old, origin, field="old")
        password_hash = await self._hasher.hash(new)
        async with self._write(caller) as tx:
            asked = {"user": caller.user, "password_hash": known}
            if (await tx.execute(clause("identity", "still"), asked)).first() is None:
                raise Refused("The password was changed meanwhile.", field="old")
            asked["password_hash"] = password_hash
            await tx.execute(clause("identity", "set_password"), asked)
            but = {"user": caller.user, "but": session_id}
            ended = (await tx.execute(clause("identity", "end_sessions"), but)).all()
            audited(tx, "user.password_changed", f"user:{caller.user}", sessions=len(ended))
        await self._standings.forget(credentials(SESSION, ended))

    async def prove(self, caller: Caller, session_id: UUID, password: str, origin: Origin) -> None:
        """Return when it is the caller's password: who found an open session does not know it.

        Raises Refused when it is not, TooOften while attempts by this session have to wait.
        """
        _, known = await self._password_of(caller)
        await self._prove(session_id, known, password, origin, field="password")

    async def _password_of(self, caller: Caller) -> tuple[str, str]:
        """The caller's address, and the hash of their password. Raises Refused without one."""
        row = await self._database.row(statement("identity", "user"), {"user": caller.user})
        if row is None or row[7] is None:
            raise Refused("This account has no password.", fix="Ask an administrator for one.")
        return row[1], row[7]

    async def _prove(
        self, session_id: UUID, known: str, password: str, origin: Origin, *, field: str
    ) -> None:
        # By session: who found an open one may not guess on, and makes nobody else wait.
        account = await self._attempts.account(f"session {session_id}")
        attempt = await self._attempts.begin(account, origin)
        if not (await self._hasher.check(known, password)).is_right:
            raise Refused("This is not the password.", field=field)
        await self._attempts.forgive(attempt)


def visitor(origin: Origin) -> Caller:
    """Somebody who has not said who they are, or not yet."""
    return Caller("visitor", address=origin.address)


def _wrong() -> Unauthenticated:
    return Unauthenticated("The e-mail address or the password is wrong.")
