"""What an application's routes are written with: the plane, the caller, pages, ETags, tokens.

An application's `routes()` returns a plain `fastapi.APIRouter`; these are the types of its
parameters and the few functions around them. Errors are raised, never returned: every
`PolyplaneError` becomes a problem document (RFC 9457).
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar, cast
from urllib.parse import urlsplit

import orjson
from fastapi import Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Select, inspect, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.access.door import Admitted
from polyplane.edge.limits import count_caller
from polyplane.edge.places import leave_place
from polyplane.edge.repeats import repeatable as repeatable, with_repeat
from polyplane.edge.routes import limited as limited
from polyplane.errors import Forbidden, PreconditionFailed, Refused
from polyplane.model.caller import Caller as CallerModel
from polyplane.model.digest import canonical, digest
from polyplane.model.position import Token
from polyplane.model.projection import Projection
from polyplane.model.secret import Secret, ciphertext_of
from polyplane.model.table import Model
from polyplane.plane import Plane
from polyplane.providers import OAuthProvider as OAuthProvider
from polyplane.security.fetching import Fetched as Fetched, Fetcher as Fetcher, Rules as Rules
from polyplane.security.redaction import Redactor as Redactor

T = TypeVar("T")
M = TypeVar("M", bound=Model)

PAGE_ITEMS_MAX: Final = 200
SETTLE_TIMEOUT_S: Final = 10.0
TOKEN_HEADER: Final = "Polyplane-Token"
PROBLEM_TYPE: Final = "application/problem+json"


# These are coroutines because FastAPI sends plain functions to a thread each.
async def _plane(request: Request) -> Plane:
    return cast(Plane, request.app.state.plane)


PlaneOf = Annotated[Plane, Depends(_plane)]
"""The open plane: `async def route(plane: PlaneOf)`."""


# Who calls. A tenant becomes a token of a NATS subject and part of cache keys, hence its alphabet.

SESSION_COOKIE: Final = "pp_session"
SECURE_SESSION_COOKIE: Final = f"__Host-{SESSION_COOKIE}"
"""The same where HTTPS is spoken: the browser sees to it that nobody else sets it."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PERMISSION: Final = "polyplane.permission"

_bearer = HTTPBearer(
    auto_error=False,
    description="A session's token, an API key, or the operator's secret in the home.",
)


async def admitted(
    request: Request,
    plane: PlaneOf,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    tenant: Annotated[
        str | None,
        Header(
            alias="X-Tenant",
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="For which of your organizations; else the first.",
        ),
    ] = None,
) -> Admitted:
    """Who comes in, and by what. Raises Unauthenticated, TooOften, or Forbidden for another's
    tenant.
    """
    # A path that names an organization means that one.
    found = await plane.identity.door.admit(
        given.credentials if given else _cookie_of(request),
        tenant=request.path_params.get("acting_for", tenant),
        request_id=request.scope.get("polyplane.request_id", ""),
        address=request.client.host if request.client else "",
    )
    await count_caller(request, found.caller.actor, is_operator=found.standing is None)
    return await with_repeat(request, found)


def credential_of(request: Request) -> str | None:
    """What a request shows: its bearer token, else its session's cookie, as `admitted` takes it."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" and given else _cookie_of(request)


def _cookie_of(request: Request) -> str | None:
    """The token in the session's cookie, unless another site had the browser send it."""
    cookies = request.cookies
    token = cookies.get(SECURE_SESSION_COOKIE) or cookies.get(SESSION_COOKIE)
    if token is not None and request.method not in _SAFE:
        # SameSite=Strict lets other ports and subdomains through.
        site = request.headers.get("sec-fetch-site", "same-origin")
        own = request.headers.get("host", "")
        origin = request.headers.get("origin", f"//{own}")
        if site != "same-origin" or urlsplit(origin).netloc != own:
            raise Forbidden("The request comes from a page of another origin.")
    return token


async def caller_of(admitted: Annotated[Admitted, Depends(admitted)]) -> CallerModel:
    """The caller alone."""
    return admitted.caller


Caller = Annotated[CallerModel, Depends(caller_of)]
"""Who calls, for which tenant, and what they may: from the credential and X-Tenant."""


def permission(name: str) -> Any:
    """A dependency that lets in only who has the permission `name`, as the application declares it.

    Each route of an application has one: `dependencies=[permission("laboratory.read")]`.
    """

    async def check(caller: Caller) -> None:
        caller.require(name)

    vars(check)[_PERMISSION] = name
    return Depends(check)


def permissions_of(dependant: Any) -> set[str]:
    """The permissions that a route asks for, given FastAPI's account of its dependencies."""
    own = getattr(dependant.call, "__dict__", {}).get(_PERMISSION)
    found = {own} if own is not None else set()
    return found.union(*map(permissions_of, dependant.dependencies))


# Pages: keyset pagination, newest first, behind an opaque cursor.

After = Annotated[
    str | None,
    Query(max_length=1_000, description="`next` of the page before; leave out for the first."),
]
Limit = Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX, description="Items of a page.")]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    next: str | None = Field(
        default=None, description="Pass as `after` for the next page; null: no more."
    )


async def paginate(
    session: AsyncSession,
    select: Select[M],
    model: type[M],
    after: str | None,
    limit: int,
    *,
    by: Sequence[str] = ("created_at", "id"),
) -> tuple[list[M], str | None]:
    """The rows of `select` behind the cursor `after`, newest first, and the next cursor.

    `by` names the columns that order the rows; together they must be unique and not null, and an
    index over them keeps every page equally fast. Raises Refused for a cursor that is not one.
    """
    columns = [getattr(model, name) for name in by]
    if after is not None:
        bound = [literal(v, c.type) for v, c in zip(_opened(after, columns), columns, strict=True)]
        select = select.where(tuple_(*columns) < tuple_(*bound))
    select = select.order_by(*(column.desc() for column in columns)).limit(limit + 1)
    rows = list((await session.scalars(select)).all())
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    cursor = canonical([getattr(last, name) for name in by])
    return rows[:limit], urlsafe_b64encode(cursor).rstrip(b"=").decode()


def _opened(cursor: str, columns: Sequence[Any]) -> list[Any]:
    try:
        values = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(columns):
            raise ValueError(cursor)
        return [
            TypeAdapter(column.type.python_type).validate_python(value)
            for value, column in zip(values, columns, strict=True)
        ]
    except (ValueError, ValidationError):
        raise Refused(
            "This cursor was not given by this list.",
            field="after",
            fix="Pass `next` of the page before, unchanged.",
        ) from None


# Versions: an ETag is the digest of the row, so whoever changed it, it is another one.


def etag_of(row: Model) -> str:
    """The strong ETag of `row`: a digest of all its columns, quoted.

    The row must be loaded: `await session.refresh(row)` after a flush that lets the server fill
    columns.
    """
    columns = {c.key: _shown(getattr(row, c.key)) for c in inspect(type(row)).column_attrs}
    return f'"{digest(columns)}"'


def _shown(value: object) -> object:
    """What of a value may be digested for anybody: of a secret, its ciphertext."""
    return ciphertext_of(value) if isinstance(value, Secret) else value


def check_if_match(request: Request, row: Model) -> None:
    """Raise PreconditionFailed unless `If-Match` names the version of `row`, or is not sent.

    Read `row` with `with_for_update=True` in the transaction that changes it; otherwise another
    writer may come between the check and the change.
    """
    wanted = ",".join(request.headers.getlist("if-match"))
    if not wanted or wanted.strip() == "*":
        return
    if etag_of(row) not in (tag.strip() for tag in wanted.split(",")):
        raise PreconditionFailed(
            "This is no longer the version that If-Match names.",
            fix="Read it again, apply your change to what it is now, and send its new ETag.",
        )


# Read your writes: a write answers with its token, a read may wait for it.


class TokenExchange:
    """Gives the token of a write to the caller, and waits for the one the caller brings."""

    def __init__(
        self, plane: Plane, response: Response, wanted: Token | None, scope: Mapping[str, Any]
    ) -> None:
        self._plane = plane
        self._scope = scope
        self._response = response
        self._wanted = wanted

    def give(self, token: Token | None) -> None:
        """Send `token` with the response, if the write had one: it changed something."""
        if token is not None:
            self._response.headers[TOKEN_HEADER] = str(token)

    async def wait(self, *projections: type[Projection[Any]]) -> None:
        """Return when `projections` show the write the caller named, if one was named.

        Raises NotSettled when they do not within 10 s.
        """
        if self._wanted is not None:
            leave_place(self._scope)
            await self._plane.settled(self._wanted, *projections, timeout_s=SETTLE_TIMEOUT_S)

    async def wait_loaded(self) -> None:
        """Return when the request cache gives nothing from before that write, if one was named."""
        if self._wanted is not None:
            cache = self._plane.request_cache
            await cache.settled(self._wanted, timeout_s=SETTLE_TIMEOUT_S)


_TOKEN_PATTERN = r"^[0-9]{1,9}\.[0-9]{1,19}$"


async def _token(
    plane: PlaneOf,
    request: Request,
    response: Response,
    settled: Annotated[
        str | None, Query(pattern=_TOKEN_PATTERN, description="Wait for the write of this token.")
    ] = None,
    sent: Annotated[
        str | None,
        Header(alias=TOKEN_HEADER, pattern=_TOKEN_PATTERN, description="The same, as a header."),
    ] = None,
) -> TokenExchange:
    text = settled or sent
    try:
        wanted = Token.parse(text) if text else None
    except ValueError:  # of the form, and larger than there can be one
        raise Refused("No write has this token.", field="settled") from None
    return TokenExchange(plane, response, wanted, request.scope)


TokenHeader = Annotated[TokenExchange, Depends(_token)]
"""Writes: `token.give(tx.token)`. Reads: `await token.wait(NoteSearch)` before they look."""


# Large bodies.


async def json_body(request: Request) -> Any:
    """The JSON of a request, by a fast and strict parser, once however often it is asked for.

    For routes that take megabytes; `Body` is for all others. Raises RequestValidationError when it
    is no JSON, or not sent as JSON.
    """
    if not hasattr(request.state, "json"):
        if "json" not in request.headers.get("content-type", ""):
            raise _no_json("Input should be JSON, with the content type application/json")
        try:
            request.state.json = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise _no_json(f"JSON decode error: {error.msg}") from error
    return request.state.json


def _no_json(why: str) -> RequestValidationError:
    return RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": why}])


# Deadlines and problem documents.


def within(timeout_s: float | None) -> Any:
    """A dependency that gives a route another deadline: `dependencies=[within(600)]`.

    None is for streams that end when their reader leaves; they bound what they hold for it.
    """

    async def postpone(request: Request) -> None:
        deadline: asyncio.Timeout | None = request.scope.get("polyplane.deadline")
        leave_place(request.scope)
        if deadline is not None:
            now = asyncio.get_running_loop().time()
            deadline.reschedule(None if timeout_s is None else now + timeout_s)

    return Depends(postpone)


class FieldProblem(BaseModel):
    """One field of the request that is wrong."""

    field: str = Field(description="Its dotted name.", examples=["points.3.value"])
    pointer: str = Field(
        default="", description="JSON pointer into the body.", examples=["#/points/3"]
    )
    location: str = Field(default="body", description="body, query, path, header or cookie.")
    detail: str = Field(examples=["Input should be a finite number"])


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(examples=["urn:polyplane:problem:conflict"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["An experiment has this name already."])
    instance: str = Field(default="", examples=["/api/v1/laboratory/experiments"])
    request_id: str = Field(default="", description="What our log calls this request.")
    fix: str = Field(default="", description="What to do about it.")
    field: str = Field(default="", description="The first field that is wrong.", examples=["name"])
    errors: list[FieldProblem] = Field(default_factory=list)


_TITLES: Final = {
    400: "The request cannot be understood",
    401: "A credential is needed, or it does not hold",
    403: "The caller may not do this",
    404: "There is no such thing",
    409: "It changed meanwhile, or exists already",
    410: "The file is lost or damaged",
    412: "If-Match names another version",
    413: "The body is larger than allowed",
    414: "The URL is longer than is read",
    415: "This media type is not accepted",
    416: "Nothing of the file is in this range",
    422: "A field is wrong; nothing was stored",
    429: "More tries than are allowed for now",
    431: "The headers are more than is read",
    500: "A defect of ours; the log has the request id",
    503: "An engine does not answer in time; try again",
    504: "A store has not caught up within the deadline",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route passes as `responses=` for the problems it can end in."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {it: {"description": _TITLES[it], "content": content} for it in statuses}
