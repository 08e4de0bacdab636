"""Signing in by a provider of OpenID Connect over HTTP.

A browser goes to `start`, from there to the provider, and from there to `callback`, which keeps the
session in its cookie. Where it goes on is a path of ours, and nothing else.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from polyplane.access.external import Begun, CameBack
from polyplane.security.handshake import GOOD_FOR_S
from polyplane.serve.api.auth import (
    AdmittedOf,
    Password,
    by_session,
    is_secure,
    keep,
    origin_of,
)
from polyplane.serve.api.people import IdentityShown
from polyplane.web import PlaneOf, problem_responses

COOKIE: Final = "pp_oidc"
SECURE_COOKIE: Final = f"__Host-{COOKIE}"
_CALLBACK: Final = "oidc_callback"
_OWN_PATH: Final = r"^/(?:[A-Za-z0-9._~%?#-][A-Za-z0-9._~!$&'()*+,;=:@%/?#-]*)?$"
"""A path, and no host: neither `//host` nor `/\\host`, which browsers take for it."""
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Signed in</title>
<meta http-equiv="refresh" content="0;url={to}"><a href="{to}">Go on</a></html>
"""

router = APIRouter(tags=["auth"])

OwnPath = Annotated[str, Field(max_length=500, pattern=_OWN_PATH, examples=["/docs"])]
Brought = Annotated[str, Query(max_length=4_000)]


class Providers(BaseModel):
    """Whom one may sign in by."""

    providers: list[str]


class LinkGiven(BaseModel):
    """Who one is, and where to go on."""

    password: Password
    return_to: OwnPath = "/"


class LinkBegun(BaseModel):
    """Where the browser is to go."""

    url: str


@router.get("", summary="Providers to sign in by")
async def providers(plane: PlaneOf) -> Providers:
    """By name, as they are declared in the settings."""
    return Providers(providers=plane.identity.external.names)


@router.get(
    "/{provider}/start",
    summary="Sign in by a provider",
    status_code=303,
    response_class=RedirectResponse,
    responses=problem_responses(404),
)
async def start(
    plane: PlaneOf,
    request: Request,
    provider: str,
    return_to: Annotated[OwnPath, Query(description="Where to go on; a path.")] = "/",
) -> RedirectResponse:
    """For browsers: sends them to the provider, who sends them to `callback`."""
    begun = await plane.identity.external.begin(provider, _back(request, provider), return_to)
    response = RedirectResponse(begun.address, status_code=303)
    _keep_handshake(request, response, begun)
    return response


@router.get(
    "/{provider}/callback",
    name=_CALLBACK,
    summary="Where a provider sends who has signed in",
    response_class=HTMLResponse,
    responses=problem_responses(401, 404, 409, 429),
)
async def callback(
    plane: PlaneOf,
    request: Request,
    provider: str,
    state: Brought = "",
    code: Brought = "",
    iss: Brought = "",
    error: Brought = "",
) -> HTMLResponse:
    """Begins a session, in a cookie, and goes on at the path that was given to `start`.

    Refused in any other browser than the one that was at `start`, ten minutes later, and a second
    time.
    """
    name = SECURE_COOKIE if is_secure(request) else COOKIE
    back = CameBack(request.cookies.get(name, ""), state, code, iss, bool(error))
    found = await plane.identity.external.finish(provider, back, origin_of(request))
    # A page, not a redirect: the session's cookie is SameSite=Strict, and goes along only where our
    # own page leads.
    response = HTMLResponse(_PAGE.format(to=escape(found.return_to)))
    response.delete_cookie(name, secure=is_secure(request), httponly=True, samesite="lax")
    if found.begun is not None:
        keep(request, response, found.begun, True)
    return response


@router.post(
    "/{provider}/link",
    summary="Sign in by a provider from now on",
    responses=problem_responses(401, 403, 404, 429),
)
async def link(
    given: LinkGiven,
    plane: PlaneOf,
    who: AdmittedOf,
    request: Request,
    response: Response,
    provider: str,
) -> LinkBegun:
    """Where to send this browser, so that what the provider calls me is this account from then on.

    The password shows that it is me: an open session alone would not.
    """
    caller, session_id = by_session(who)
    begun = await plane.identity.external.begin_link(
        caller,
        session_id,
        given.password,
        provider,
        _back(request, provider),
        given.return_to,
        origin_of(request),
    )
    _keep_handshake(request, response, begun)
    return LinkBegun(url=begun.address)


@router.get("/identities", summary="What providers call me", responses=problem_responses(401, 403))
async def identities(plane: PlaneOf, who: AdmittedOf) -> list[IdentityShown]:
    """By which I may sign in; 100 at most."""
    caller, _ = by_session(who)
    assert caller.user is not None
    found = await plane.identity.external.identities(caller.user)
    return [IdentityShown.model_validate(it) for it in found]


@router.delete(
    "/identities/{identity_id}",
    status_code=204,
    summary="Sign in by it no more",
    responses=problem_responses(401, 403, 404, 409),
)
async def unlink(plane: PlaneOf, who: AdmittedOf, identity_id: UUID) -> None:
    """Ends all other sessions. Not the only way into an account."""
    caller, session_id = by_session(who)
    assert caller.user is not None
    external = plane.identity.external
    await external.unlink(caller, caller.user, identity_id, but=session_id)


def _back(request: Request, provider: str) -> str:
    """Where the provider sends people: `callback`, at the address they came to us by.

    It is registered with the provider, which sends nobody anywhere else.
    """
    return str(request.url_for(_CALLBACK, provider=provider))


def _keep_handshake(request: Request, response: Response, begun: Begun) -> None:
    secure = is_secure(request)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        begun.cookie,
        max_age=GOOD_FOR_S,
        secure=secure,
        httponly=True,
        samesite="lax",  # the provider's page leads back to us
    )
