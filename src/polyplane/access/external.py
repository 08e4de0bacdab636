"""Signing in by a provider of OpenID Connect, and which of our users its people are.

A provider's identity (issuer and subject) is one user's. Whose, is settled once: by an address that
the provider has verified, or by a user who proves who they are. An account with a password is
never given away for an address: anybody may have made it in another's name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from importlib import import_module
from time import time
from typing import Any, Final, Protocol
from uuid import UUID

from polyplane.access.accounts import Accounts, SignedIn, Writes, visitor
from polyplane.access.attempts import Attempts, Origin
from polyplane.access.audited import audited
from polyplane.access.standing import SESSION, Standings, credentials
from polyplane.errors import Conflict, NotFound, Unauthenticated, Unavailable
from polyplane.model.caller import Caller
from polyplane.providers import OidcProvider
from polyplane.security import handshake as shaking
from polyplane.security.emails import email_key
from polyplane.security.handshake import Handshake, Words
from polyplane.truth.database import Database
from polyplane.truth.session import Write
from polyplane.truth.statements import clause, statement

_PROVIDER: Final = "polyplane.access.provider"
"""Loaded when one is declared: it takes as long to load as all the rest of identity."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a provider names. `email` is one that it has verified, or ''."""

    issuer: str
    subject: str
    email: str
    name: str
    provider: str


class _Provider(Protocol):
    name: str
    declared: OidcProvider

    async def address(self, redirect_uri: str, words: Words) -> str: ...

    async def person(self, code: str, redirect_uri: str, words: Words) -> Person: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and what it keeps until it comes back."""

    address: str
    cookie: str


@dataclass(frozen=True, slots=True)
class CameBack:
    """What a browser brings back from a provider."""

    cookie: str
    state: str
    code: str
    issuer: str = ""
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """Where to go on, and the session that was begun: none when an identity was linked."""

    return_to: str
    begun: SignedIn | None


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """What a provider calls a user of ours."""

    id: UUID
    issuer: str
    subject: str
    created_at: datetime
    used_at: datetime


class External:
    """Sign-in by providers. Who is not let in gets one answer, whatever the reason."""

    def __init__(
        self,
        database: Database,
        write: Writes,
        standings: Standings,
        accounts: Accounts,
        attempts: Attempts,
        secret: Callable[[], Awaitable[bytes]],
        declared: Mapping[str, OidcProvider],
        *,
        idle_s: float,
    ) -> None:
        """Raises Misconfigured for a provider that cannot be trusted as it is declared."""
        self._database = database
        self._write = write
        self._standings = standings
        self._accounts = accounts
        self._attempts = attempts
        self._secret = secret
        self._idle_s = idle_s
        make: Callable[[str, OidcProvider], _Provider] | None = None
        if declared:
            make = import_module(_PROVIDER).Provider
        self._providers = {name: make(name, it) for name, it in declared.items() if make}

    @property
    def names(self) -> list[str]:
        """The providers that are declared."""
        return sorted(self._providers)

    async def close(self) -> None:
        """Close the connections to providers."""
        for provider in self._providers.values():
            await provider.close()

    async def begin(self, name: str, redirect_uri: str, return_to: str) -> Begun:
        """Begin a sign-in that comes back to `redirect_uri` and ends at `return_to`, a path.

        Raises NotFound for a provider that is not declared, Unavailable for one that does not
        answer.
        """
        return await self._begin(shaking.begun(name, redirect_uri, return_to, time()))

    async def begin_link(
        self,
        caller: Caller,
        session_id: UUID,
        password: str,
        name: str,
        redirect_uri: str,
        return_to: str,
        origin: Origin,
    ) -> Begun:
        """The same to link the identity that comes back to the caller, whose password proves them.

        Raises Refused for another password, TooOften, and what `begin` does.
        """
        self._provider(name)
        await self._accounts.prove(caller, session_id, password, origin)
        shaken = shaking.begun(
            name, redirect_uri, return_to, time(), user=caller.user, session=session_id
        )
        return await self._begin(shaken)

    async def _begin(self, shaken: Handshake) -> Begun:
        provider = self._provider(shaken.provider)
        secret = await self._secret()
        words = shaking.words_of(secret, shaken)
        address = await provider.address(shaken.redirect_uri, words)
        return Begun(address, shaking.sealed(secret, shaken))

    async def finish(self, name: str, back: CameBack, origin: Origin) -> Finished:
        """Let in, or link, whom the provider names.

        Raises Unauthenticated when it was not begun by this browser, or the provider does not name
        anybody who is known here; Conflict for an identity of another account; Unavailable when the
        provider does not answer; TooOften.
        """
        provider = self._provider(name)
        secret = await self._secret()
        shaken = shaking.opened(secret, back.cookie, time())
        if shaken is None or shaken.provider != name:
            raise _not_begun()
        words = shaking.words_of(secret, shaken)
        if not compare_digest(words.state.encode(), back.state.encode()):
            raise _not_begun()
        if back.issuer and back.issuer != provider.declared.issuer:  # RFC 9207
            raise _not_begun()
        if back.is_refused or not back.code:
            raise Unauthenticated("The provider has not signed you in.", fix="Sign in again.")
        attempt = await self._attempts.begin_at(origin)
        try:
            person = await provider.person(back.code, shaken.redirect_uri, words)
        except Unavailable:
            await self._attempts.forgive(attempt)
            raise
        if shaken.user is not None:
            await self._link(shaken, provider, person, origin)
            begun = None
        else:
            begun = await self._enter(provider, person, origin)
        await self._attempts.forgive(attempt)
        return Finished(shaken.return_to, begun)

    async def _enter(self, provider: _Provider, person: Person, origin: Origin) -> SignedIn:
        """The session of whom `person` is here. Raises Unauthenticated for nobody."""
        asked = _asked(person)
        why = "" if _is_admitted(provider.declared, person) else "domain"
        known = None
        if not why:
            row = await self._database.row(statement("external", "known"), asked)
            known = (row[0], row[1]) if row else None
        if not why and known is None:
            known, why = await self._settle(provider.declared, person, origin)
        if known is not None:
            account = await self._attempts.account(known[1])
            still = {**asked, "user": known[0]}

            async def may(tx: Write) -> bool:
                if (await tx.execute(clause("external", "still"), still)).first() is None:
                    return False
                await tx.execute(clause("external", "used"), asked)
                return True

            begun = await self._accounts.begin(
                known[0], account, origin, may, provider=provider.name
            )
            if begun is not None:
                return begun
            why = "disabled"
        async with self._write(visitor(origin)) as tx:
            audited(tx, "user.sign_in_failed", f"provider:{provider.name}", why=why)
        raise _unknown()

    async def _settle(
        self, declared: OidcProvider, person: Person, origin: Origin
    ) -> tuple[tuple[UUID, str] | None, str]:
        """Whose an identity is from now on, that was nobody's: (user, key of their address); or
        None, and why.
        """
        async with self._write(visitor(origin)) as tx:
            # One at a time: nobody comes twice for the first time.
            await tx.execute(clause("identity", "only_one"), {"what": "external"})
            row = (await tx.execute(clause("external", "known"), _asked(person))).first()
            if row is not None:
                return (row.user_id, row.email_key), ""
            if not person.email:
                return None, "no verified address"
            key = email_key(person.email)
            found = (await tx.execute(clause("external", "by_email"), {"email_key": key})).first()
            if found is not None and found.needs_proof:
                return None, "needs proof"
            if found is not None and found.status != "active":
                return None, "disabled"
            if found is None and not declared.makes_accounts:
                return None, "unknown"
            user = found.id if found is not None else await self._made(tx, declared, person, key)
            await _linked(tx, user, person)
            return (user, key), ""

    async def _made(self, tx: Write, declared: OidcProvider, person: Person, key: str) -> UUID:
        """A new user without a password, a member of what is declared."""
        row = {
            "email": person.email,
            "email_key": key,
            "name": person.name,
            "password_hash": None,
            "is_administrator": False,
        }
        made = (await tx.execute(clause("identity", "add_user"), row)).first()
        if made is None:
            raise Conflict("Somebody took this address just now.", fix="Sign in again.")
        audited(tx, "user.added", f"user:{made.id}", provider=person.provider)
        if declared.tenant:
            member = {"user": made.id, "tenant": declared.tenant, "role": declared.role}
            await tx.execute(clause("identity", "set_member"), member)
            audited(tx, "member.set", f"user:{made.id}", tenant=declared.tenant, role=declared.role)
        user: UUID = made.id
        return user

    async def _link(
        self, shaken: Handshake, provider: _Provider, person: Person, origin: Origin
    ) -> None:
        """Link `person` to the user who began it, as long as their session has not ended."""
        if not _is_admitted(provider.declared, person):
            raise _unknown()
        caller = Caller(f"user:{shaken.user}", "default", shaken.user, address=origin.address)
        asked = {"user": shaken.user, "session": shaken.session, "idle_s": self._idle_s}
        async with self._write(caller) as tx:
            if (await tx.execute(clause("external", "proven"), asked)).first() is None:
                raise _not_begun()
            row = (await tx.execute(clause("external", "known"), _asked(person))).first()
            if row is not None and row.user_id == shaken.user:
                return
            assert shaken.user is not None
            await _linked(tx, shaken.user, person)

    async def identities(self, user: UUID) -> list[ExternalIdentity]:
        """What providers call a user."""
        asked = {"user": user}
        found = await self._database.rows(statement("external", "of_user"), asked)
        return [ExternalIdentity(*row) for row in found]

    async def unlink(
        self, caller: Caller, user: UUID, identity: UUID, *, but: UUID | None = None
    ) -> None:
        """Take an identity from a user, and end all their sessions `but` one perhaps.

        Raises NotFound, and Conflict where it is the user's only way in.
        """
        asked = {"user": user, "id": identity}
        async with self._write(caller) as tx:
            await tx.execute(clause("identity", "hold_user"), {"user": user})
            others = (await tx.execute(clause("external", "other_ways"), asked)).scalar()
            gone = (await tx.execute(clause("external", "unlink"), asked)).first()
            if gone is None:
                raise NotFound("There is no such identity.", field="identity_id")
            if not others:
                raise Conflict(
                    "It is the only way into this account.",
                    fix="Give the account a password first, or disable it.",
                )
            ending = {"user": user, "but": but}
            ended = (await tx.execute(clause("identity", "end_sessions"), ending)).all()
            audited(tx, "user.unlinked", f"user:{user}", issuer=gone.issuer, sessions=len(ended))
        await self._standings.forget(credentials(SESSION, ended))

    def _provider(self, name: str) -> _Provider:
        found = self._providers.get(name)
        if found is None:
            raise NotFound("There is no such provider to sign in by.", field="provider")
        return found


async def _linked(tx: Write, user: UUID, person: Person) -> None:
    row = {**_asked(person), "user": user}
    if (await tx.execute(clause("external", "link"), row)).first() is None:
        raise Conflict("This identity is another account's.")
    audited(tx, "user.linked", f"user:{user}", issuer=person.issuer)


def _asked(person: Person) -> dict[str, Any]:
    return {"issuer": person.issuer, "subject": person.subject}


def _is_admitted(declared: OidcProvider, person: Person) -> bool:
    """Whether people with this address may come by the provider."""
    domain = email_key(person.email).rpartition("@")[2]
    allowed = {email_key(f"x@{it}").rpartition("@")[2] for it in declared.email_domains}
    return not allowed or (bool(person.email) and domain in allowed)


def _not_begun() -> Unauthenticated:
    return Unauthenticated(
        "This sign-in was not begun in this browser, or too long ago.", fix="Sign in again."
    )


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "Nobody who may come in is known by this sign-in.",
        fix="Sign in with your password and link it, or ask an administrator for an account.",
    )
