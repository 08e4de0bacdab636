"""OAuth tokens: kept encrypted, and refreshed by one at a time, whoever asks and wherever.

A refresh is three steps. One transaction takes the turn: the row becomes `refreshing`, with a
fence and a deadline. Then the provider is asked, and no transaction is open. Then another one
writes what it gave, if the turn is still this one's. Everybody else waits for the row.

A provider that rotates refresh tokens takes each of them once. Whoever took the turn and did not
come back (the process died, the network broke off) may have used the token up: nobody knows. It is
not sent again; the row says `needs_consent`, and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.matters import granting
from polyplane.domains.assistant.matters.granting import Denied, Granted
from polyplane.domains.assistant.matters.models_people import OAuthToken
from polyplane.marks import Secret

EARLY_S: Final = 60
"""A token that ends within this time is refreshed."""
LEASE_S: Final = granting.CALL_S + 10.0
"""How long a turn lasts: the request, and as much again for the two commits."""
WAIT_S: Final = LEASE_S + 5.0
POLL_S: Final = 0.05
CUT_OFF: Final = (
    "A refresh was begun and did not come to its end: whether the provider has used the refresh"
    " token up, nobody knows. It is not sent twice."
)


CONSENT_NEEDED: Final = "assistant.consent_needed"


class NeedsConsent(pp.Conflict):
    """Nothing but the owner's consent brings new tokens for this account."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to ask the provider, once."""

    token_id: UUID
    fence: int
    provider: str
    refresh: str

    def __repr__(self) -> str:
        return f"Turn({self.token_id}, {self.fence})"


async def access_token(
    plane: pp.Plane,
    caller: pp.Caller,
    token_id: UUID,
    *,
    early_s: float = EARLY_S,
    wait_s: float = WAIT_S,
) -> str:
    """A token that holds for `early_s` seconds at least (or half its life, if that is less),
    refreshed first if need be.

    Raises NotFound, NeedsConsent, Unavailable when the provider gives none for now, or when who is
    at it does not come to an end within `wait_s` seconds.
    """
    # Held until the answer, a request's own transaction would be open over the network.
    caller = replace(caller, repeat=None)
    until = monotonic() + wait_s
    while True:
        found = await _turn(plane, caller, token_id, early_s)
        if isinstance(found, str):
            return found
        if found is not None:
            return await _to_its_end(_refreshed(plane, caller, found))
        if monotonic() > until:
            raise pp.Unavailable("Another process is at refreshing this token.", fix="Try again.")
        await asyncio.sleep(POLL_S)


async def _to_its_end(work: Coroutine[None, None, str]) -> str:
    """What `work` gives. Who is cancelled meanwhile still sees it to its end: an answer that is
    thrown away may be all there is.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # what came of it stands in the row
        raise


async def _turn(
    plane: pp.Plane, caller: pp.Caller, token_id: UUID, early_s: float
) -> str | Turn | None:
    """The token if it holds, the turn if this is the one to refresh it, None while another is."""
    providers = plane.settings.oauth
    async with plane.acting(caller).read() as session:
        row = _own(await session.get(OAuthToken, token_id), caller)
        if row.state == "active" and holds(row, await clock(session), early_s):
            return row.access_token.reveal()
    async with plane.acting(caller).write() as tx:
        row = _own(await tx.get(OAuthToken, token_id, for_update=True), caller)
        provider, before = granting.check_known(providers, row.provider), row.state
        found = _decided(row, await clock(tx.session), early_s, rotates=provider.rotates)
        if row.state == "needs_consent" != before:
            tx.emit(CONSENT_NEEDED, {"token_id": str(row.id), "provider": row.provider})
    if found is None and row.state == "needs_consent":
        raise NeedsConsent(
            f"{row.provider} wants the consent anew. {row.failure}", fix="Have the owner consent."
        )
    return found


def _decided(row: OAuthToken, now: datetime, early_s: float, *, rotates: bool) -> str | Turn | None:
    """What comes next for the locked row, which is changed accordingly."""
    if row.state == "active" and holds(row, now, early_s):
        return row.access_token.reveal()
    if row.state == "needs_consent":
        return None
    if row.state == "refreshing":
        if row.lease_until is not None and row.lease_until > now:
            return None
        if rotates:
            _lose(row, CUT_OFF)
            return None
    if row.refresh_token is None:
        _lose(row, "The token has ended, and there is none to refresh it with.")
        return None
    row.state, row.fence = "refreshing", row.fence + 1
    row.lease_until = now + timedelta(seconds=LEASE_S)
    return Turn(row.id, row.fence, row.provider, row.refresh_token.reveal())


def holds(row: OAuthToken, now: datetime, early_s: float) -> bool:
    """Whether its access token can still be used, `early_s` seconds before its end excepted."""
    if row.expires_at is None:
        return True
    early = timedelta(seconds=early_s)
    if row.refreshed_at is not None:  # else one that lives shortly would be refreshed for ever
        early = min(early, (row.expires_at - row.refreshed_at) / 2)
    return row.expires_at - early > now


async def _refreshed(plane: pp.Plane, caller: pp.Caller, turn: Turn) -> str:
    """Ask the provider, and write down what came of it."""
    provider = granting.check_known(plane.settings.oauth, turn.provider)
    answer = await granting.refresh(provider, turn.refresh)
    until = monotonic() + LEASE_S
    while True:
        try:
            await _write(plane, caller, turn, answer, rotates=provider.rotates)
            break
        except pp.Unavailable:  # what was given exists nowhere else
            if monotonic() > until or isinstance(answer, Denied):
                raise
            await asyncio.sleep(POLL_S)
    if isinstance(answer, Granted):
        return answer.access
    if answer.for_good or (answer.heard and provider.rotates):
        raise NeedsConsent(
            f"{turn.provider} wants the consent anew: {answer.why}.", fix="Have the owner consent."
        )
    raise pp.Unavailable(f"{turn.provider} gives no token: {answer.why}.", fix="Try again later.")


async def _write(
    plane: pp.Plane, caller: pp.Caller, turn: Turn, answer: Granted | Denied, *, rotates: bool
) -> None:
    async with plane.acting(caller).write() as tx:
        row = await tx.get(OAuthToken, turn.token_id, for_update=True)
        if row is None or row.fence != turn.fence:
            return  # it is gone, or there was a consent meanwhile: that counts
        if isinstance(answer, Granted):
            keep(row, answer, await clock(tx.session))
        elif answer.for_good or (answer.heard and rotates):
            _lose(row, f"At the last refresh, {answer.why}.")
            tx.emit(CONSENT_NEEDED, {"token_id": str(row.id), "provider": row.provider})
        elif row.state == "refreshing":
            row.state, row.lease_until = "active", None
            row.failure = f"At the last refresh, {answer.why}."


def keep(row: OAuthToken, granted: Granted, now: datetime) -> None:
    """Let the row have what was granted."""
    row.access_token = Secret(granted.access)
    if granted.refresh is not None:
        row.refresh_token = Secret(granted.refresh)
    if granted.scopes is not None:
        row.scopes = list(granted.scopes)
    ends = None if granted.expires_s is None else timedelta(seconds=granted.expires_s)
    row.expires_at = None if ends is None else now + ends
    row.refreshed_at, row.state, row.lease_until, row.failure = now, "active", None, None


def _lose(row: OAuthToken, why: str) -> None:
    row.state, row.lease_until, row.failure = "needs_consent", None, why


def _own(row: OAuthToken | None, caller: pp.Caller) -> OAuthToken:
    if row is None or row.tenant_id != caller.tenant:
        raise pp.NotFound("There is no such token.", field="token_id")
    return row


async def clock(session: AsyncSession) -> datetime:
    """The time by PostgreSQL's clock, which is one for all processes."""
    found: datetime = (await session.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    return found
