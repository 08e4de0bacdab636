"""Accounts at OAuth providers: consent, tokens that are kept, refreshed, and never shown."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter

from polyplane.domains.assistant.matters import consents, granting, tokens
from polyplane.domains.assistant.matters.desk import AtDesk
from polyplane.domains.assistant.matters.models_people import OAuthToken
from polyplane.domains.assistant.matters.shapes import (
    ConsentFinished,
    ConsentGiven,
    ConsentShown,
    TokenGiven,
    TokenShown,
)
from polyplane.domains.assistant.permissions import READ, WRITE
from polyplane.marks import Secret
from polyplane.web import After, Limit, Page, problem_responses, repeatable

router = APIRouter()


@router.get("/oauth/providers", dependencies=[READ])
async def list_providers(desk: AtDesk) -> list[str]:
    """The providers at which accounts can be connected."""
    return sorted(desk.plane.settings.oauth)


# Neither of the next two can be repeated: what goes out and what comes back counts once.


@router.post(
    "/oauth/consents", dependencies=[WRITE], status_code=201, responses=problem_responses(409)
)
async def begin_consent(given: ConsentGiven, desk: AtDesk) -> ConsentShown:
    """Begin to connect an account: send the browser to the URL that comes back."""
    async with desk.plane.acting(desk.caller).write() as tx:
        begun = await consents.begin(tx, desk.plane, given.provider, given.account)
    desk.token.give(tx.token)
    return ConsentShown(url=begun.url, state=begun.state)


@router.post("/oauth/consents/finish", dependencies=[WRITE], responses=problem_responses(409))
async def finish_consent(given: ConsentFinished, desk: AtDesk) -> TokenShown:
    """End it with what the browser came back with. Whoever began it, once, within ten minutes."""
    code = given.code.get_secret_value()
    row = await consents.finish(desk.plane, desk.caller, given.state, code)
    return TokenShown.model_validate(row)


@router.post(
    "/oauth/tokens",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def bring_tokens(given: TokenGiven, desk: AtDesk) -> TokenShown:
    """Keep tokens that somebody has already. Conflict when there are some for this account."""
    granting.check_known(desk.plane.settings.oauth, given.provider)
    refresh = given.refresh_token
    async with desk.plane.acting(desk.caller).write() as tx:
        now = await tokens.clock(tx.session)
        row = OAuthToken(
            tenant_id=desk.tenant,
            owner_id=desk.owner(given.owner_id),
            provider=given.provider,
            account=given.account,
            access_token=Secret(given.access_token.get_secret_value()),
            refresh_token=None if refresh is None else Secret(refresh.get_secret_value()),
            scopes=given.scopes,
            expires_at=None
            if given.expires_s is None
            else now + timedelta(seconds=given.expires_s),
        )
        tx.add(row)
    return desk.written(row, tx, TokenShown)


@router.get("/oauth/tokens", dependencies=[READ])
async def list_tokens(desk: AtDesk, after: After = None, limit: Limit = 50) -> Page[TokenShown]:
    """The accounts that are connected, newest first; of their tokens, nothing."""
    return await desk.page(OAuthToken, TokenShown, after, limit)


@router.get("/oauth/tokens/{token_id}", dependencies=[READ], responses=problem_responses(404))
async def read_token(token_id: UUID, desk: AtDesk) -> TokenShown:
    """What is known of the tokens for one account."""
    return await desk.read(OAuthToken, token_id, TokenShown)


@router.post(
    "/oauth/tokens/{token_id}/refresh",
    dependencies=[WRITE],
    responses=problem_responses(404, 409),
)
async def refresh_token(token_id: UUID, desk: AtDesk) -> TokenShown:
    """See to it that the access token holds; refresh it if it does not. Conflict when nothing but
    the owner's consent helps.
    """
    await tokens.access_token(desk.plane, desk.caller, token_id)
    return await desk.read(OAuthToken, token_id, TokenShown)


@router.delete(
    "/oauth/tokens/{token_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def forget_tokens(token_id: UUID, desk: AtDesk) -> None:
    """Forget the tokens of an account. The provider is not told."""
    await desk.delete(OAuthToken, token_id)
