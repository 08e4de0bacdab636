"""Consents: somebody is sent to a provider, comes back with a code, and the code becomes tokens.

What they come back with holds for who was sent, once, for ten minutes (state and PKCE).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final, NamedTuple

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.matters import granting, tokens
from polyplane.domains.assistant.matters.granting import Denied
from polyplane.domains.assistant.matters.models_people import OAuthConsent, OAuthToken
from polyplane.marks import Secret

CONSENT_S: Final = 600


class Begun(NamedTuple):
    """Where to send somebody, and the state they come back with."""

    url: str
    state: str


async def begin(tx: pp.Write, plane: pp.Plane, provider: str, account: str) -> Begun:
    """Begin to have the caller consent to the use of `account` at a provider. Raises Refused."""
    declared = granting.check_known(plane.settings.oauth, provider)
    state, verifier = token_urlsafe(32), token_urlsafe(48)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    now = await tokens.clock(tx.session)
    await tx.execute(
        sa.delete(OAuthConsent).where(
            OAuthConsent.tenant_id == tx.tenant, OAuthConsent.expires_at < now - timedelta(days=1)
        )
    )
    tx.add(
        OAuthConsent(
            tenant_id=tx.tenant,
            owner_id=tx.caller.user,
            provider=provider,
            account=account,
            state_hash=_hashed(state),
            verifier=Secret(verifier),
            expires_at=now + timedelta(seconds=CONSENT_S),
        )
    )
    return Begun(granting.consent_url(declared, state=state, challenge=challenge), state)


async def finish(plane: pp.Plane, caller: pp.Caller, state: str, code: str) -> OAuthToken:
    """Keep the tokens that `code` stands for, in the place of those there were of that account.

    Raises Conflict for a state that does not hold (any more), Refused or Unavailable when the
    provider gives none; then one begins anew.
    """
    caller = replace(caller, repeat=None)
    async with plane.acting(caller).write() as tx:
        asked = (
            sa.select(OAuthConsent)
            .where(
                OAuthConsent.state_hash == _hashed(state), OAuthConsent.tenant_id == caller.tenant
            )
            .with_for_update()
        )
        consent: OAuthConsent | None = (await tx.scalars(asked)).one_or_none()
        now = await tokens.clock(tx.session)
        # Of whoever sees all, too, only their own: the code is somebody's who was sent.
        if (
            consent is None
            or consent.owner_id != caller.user
            or consent.finished_at is not None
            or consent.expires_at < now
        ):
            raise pp.Conflict(
                "This consent was not begun, is over, or came too late.",
                field="state",
                fix="Begin anew.",
            )
        consent.finished_at = now
        verifier = consent.verifier.reveal()
    provider = granting.check_known(plane.settings.oauth, consent.provider)
    answer = await granting.exchange(provider, code=code, verifier=verifier)
    if isinstance(answer, Denied):
        why = f"{consent.provider} gives no token: {answer.why}."
        if answer.for_good:
            raise pp.Refused(why, field="code", fix="Begin anew.")
        raise pp.Unavailable(why, fix="Begin anew.")
    async with plane.acting(caller).write() as tx:
        row = await _row_for(tx, consent)
        tokens.keep(row, answer, await tokens.clock(tx.session))
        tx.add(row)
        await tx.flush()
        tx.audit("oauth.consented", "assistant.oauth_tokens", str(row.id))
    return row


async def _row_for(tx: pp.Write, consent: OAuthConsent) -> OAuthToken:
    """The row of this account, locked, with a fence of its own; or a new one."""
    asked = (
        sa.select(OAuthToken)
        .where(
            OAuthToken.tenant_id == tx.tenant,
            OAuthToken.owner_id.is_not_distinct_from(consent.owner_id),
            OAuthToken.provider == consent.provider,
            OAuthToken.account == consent.account,
        )
        .with_for_update()
    )
    known: OAuthToken | None = (await tx.scalars(asked)).one_or_none()
    if known is None:
        return OAuthToken(
            tenant_id=tx.tenant,
            owner_id=consent.owner_id,
            provider=consent.provider,
            account=consent.account,
        )
    known.fence += 1  # whoever is at refreshing it has lost their turn
    return known


def _hashed(state: str) -> str:
    return sha256(state.encode()).hexdigest()
