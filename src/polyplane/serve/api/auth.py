"""One's own account over HTTP: sign up, in and out, sessions, the password."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from polyplane.access.accounts import SignedIn
from polyplane.access.attempts import Origin
from polyplane.access.door import Admitted
from polyplane.edge.places import leave_place
from polyplane.errors import Forbidden
from polyplane.model.caller import Caller
from polyplane.security.emails import EMAIL_MAX
from polyplane.security.passwords import LENGTH_MAX
from polyplane.web import (
    SECURE_SESSION_COOKIE,
    SESSION_COOKIE,
    PlaneOf,
    admitted,
    problem_responses,
)

DEVICE_COOKIE: Final = "pp_device"
DEVICE_S: Final = 365 * 86_400
PATH: Final = "/api/v1/auth"

router = APIRouter(tags=["auth"])

AdmittedOf = Annotated[Admitted, Depends(admitted)]
Password = Annotated[str, Field(min_length=1, max_length=LENGTH_MAX)]
Email = Annotated[str, Field(min_length=3, max_length=EMAIL_MAX, examples=["ada@example.org"])]


class SignUp(BaseModel):
    """A new account."""

    email: Email
    password: Password
    name: str = Field(default="", max_length=200)


class Accepted(BaseModel):
    """What is answered whether the address was free or not."""

    status: str = "accepted"


class SignIn(BaseModel):
    """Who one says one is."""

    email: Email
    password: Password
    cookie: bool = Field(default=False, description="Keep the token in a cookie; for browsers.")


class Opened(BaseModel):
    """A session that was begun."""

    token: str | None = Field(description="Send it as a bearer token; null when it is a cookie.")
    session_id: UUID
    user_id: UUID
    expires_at: datetime


class SessionShown(BaseModel):
    """A session that has not ended."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    created_at: datetime
    used_at: datetime = Field(description="To the minute.")
    expires_at: datetime
    address: str
    agent: str
    current: bool = Field(default=False, description="Whether it is the one that asks.")


class PasswordChange(BaseModel):
    """The password, and the one to take for it."""

    old: Password
    new: Password


class MembershipShown(BaseModel):
    """An organization one is a member of."""

    model_config = ConfigDict(from_attributes=True)

    tenant: str
    name: str
    role: str


class Me(BaseModel):
    """Who one is here."""

    actor: str
    tenant: str
    permissions: list[str]
    user_id: UUID | None = None
    email: str = ""
    name: str = ""
    is_administrator: bool = False
    organizations: list[MembershipShown] = []


class Ended(BaseModel):
    """How many sessions were ended."""

    sessions: int


@router.post(
    "/sign-up",
    status_code=202,
    summary="Make an account",
    responses=problem_responses(403, 429),
)
async def sign_up(given: SignUp, plane: PlaneOf, request: Request) -> Accepted:
    """Where the setting `sign_up` is on. The answer is the same when the address is taken."""
    leave_place(request.scope)  # what hashes passwords has a queue of its own
    accounts = plane.identity.accounts
    await accounts.sign_up(given.email, given.password, given.name, origin_of(request))
    return Accepted()


@router.post("/sign-in", summary="Begin a session", responses=problem_responses(401, 429))
async def sign_in(given: SignIn, plane: PlaneOf, request: Request, response: Response) -> Opened:
    """One answer, after the same time, for an unknown address and a wrong password.

    After five failures from one place one has to wait, there and for that account only.
    """
    leave_place(request.scope)
    origin = origin_of(request)
    begun = await plane.identity.accounts.sign_in(given.email, given.password, origin)
    keep(request, response, begun, given.cookie)
    return Opened(
        token=None if given.cookie else begun.token,
        session_id=begun.session_id,
        user_id=begun.user_id,
        expires_at=begun.expires_at,
    )


@router.post(
    "/sign-out", status_code=204, summary="End this session", responses=problem_responses(401, 403)
)
async def sign_out(plane: PlaneOf, who: AdmittedOf, request: Request, response: Response) -> None:
    """At once, on every plane."""
    caller, session_id = by_session(who)
    await plane.identity.accounts.end_session(caller, session_id)
    for name in (SESSION_COOKIE, SECURE_SESSION_COOKIE):
        response.delete_cookie(name, secure=is_secure(request), httponly=True, samesite="strict")


@router.get("/me", summary="Who I am here", responses=problem_responses(401, 403))
async def me(plane: PlaneOf, who: AdmittedOf) -> Me:
    """The actor, tenant and permissions that the credential stands for; the person, if one."""
    caller, people = who.caller, plane.identity.people
    shown = Me(actor=caller.actor, tenant=caller.tenant, permissions=sorted(caller.permissions))
    if caller.user is None:
        return shown
    user = await people.user(caller.user)
    member = [MembershipShown.model_validate(it) for it in await people.memberships(user.id)]
    return shown.model_copy(
        update={
            "user_id": user.id,
            "email": user.email,
            "name": user.name,
            "is_administrator": user.is_administrator,
            "organizations": member,
        }
    )


@router.post(
    "/password",
    status_code=204,
    summary="Change my password",
    responses=problem_responses(401, 403, 429),
)
async def password(
    given: PasswordChange, plane: PlaneOf, who: AdmittedOf, request: Request
) -> None:
    """Ends all other sessions."""
    caller, session_id = by_session(who)
    leave_place(request.scope)
    origin = origin_of(request)
    accounts = plane.identity.accounts
    await accounts.change_password(caller, session_id, given.old, given.new, origin)


@router.get("/sessions", summary="My sessions", responses=problem_responses(401, 403))
async def sessions(plane: PlaneOf, who: AdmittedOf) -> list[SessionShown]:
    """The last used first; at most 50 live at a time."""
    caller, session_id = by_session(who)
    assert caller.user is not None
    found = [
        SessionShown.model_validate(it)
        for it in await plane.identity.accounts.sessions(caller.user)
    ]
    return [it.model_copy(update={"current": it.id == session_id}) for it in found]


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="End one of my sessions",
    responses=problem_responses(401, 403, 404),
)
async def end_session(plane: PlaneOf, who: AdmittedOf, session_id: UUID) -> None:
    """At once, on every plane."""
    caller, _ = by_session(who)
    await plane.identity.accounts.end_session(caller, session_id)


@router.delete("/sessions", summary="End all my sessions", responses=problem_responses(401, 403))
async def end_sessions(plane: PlaneOf, who: AdmittedOf) -> Ended:
    """This one, too."""
    caller, _ = by_session(who)
    return Ended(sessions=await plane.identity.accounts.end_sessions(caller))


def origin_of(request: Request) -> Origin:
    """Where a request comes from."""
    address = request.client.host if request.client else ""
    agent = request.headers.get("user-agent", "")
    return Origin(address, agent, request.cookies.get(DEVICE_COOKIE))


def by_session(who: Admitted) -> tuple[Caller, UUID]:
    """The caller and their session. Forbidden by another credential: a key is not a person."""
    if who.session_id is None:
        raise Forbidden("Only who has signed in can do this.", fix="Sign in with the password.")
    return who.caller, UUID(who.session_id)


def keep(request: Request, response: Response, begun: SignedIn, in_cookie: bool) -> None:
    """The cookies of a sign-in: the device, so that nobody else's failures are counted with it."""
    secure = is_secure(request)
    response.set_cookie(
        DEVICE_COOKIE,
        begun.device,
        max_age=DEVICE_S,
        path=PATH,
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    if in_cookie:
        response.set_cookie(
            SECURE_SESSION_COOKIE if secure else SESSION_COOKIE,
            begun.token,
            expires=begun.expires_at,
            secure=secure,
            httponly=True,
            samesite="strict",
        )


def is_secure(request: Request) -> bool:
    """Whether cookies are for HTTPS only: everywhere but on loopback."""
    if request.url.scheme == "https":
        return True
    host = request.url.hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
