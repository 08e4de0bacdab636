"""Every failure as a problem document (RFC 9457) that says what is known and what to do.

Nothing of the request's values is echoed, and what only an operator may know (addresses, engine
messages, traces) goes to the log, under the request id the document carries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from polyplane.errors import (
    Forbidden,
    NotSettled,
    ObjectLost,
    PolyplaneError,
    Refused,
    SecretDestroyed,
    TooOften,
    Unauthenticated,
    Unavailable,
)
from polyplane.web import PROBLEM_TYPE, FieldProblem, Problem

log = structlog.get_logger("polyplane.api")

BODY_MAX_BYTES: Final = 8 * 2**20
RETRY_AFTER_S: Final = 1


def install(app: FastAPI) -> None:
    """Make `app` answer every failure with a problem document."""
    app.add_exception_handler(PolyplaneError, _of_ours)
    app.add_exception_handler(TimeoutError, _of_a_deadline)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unexpected)


def respond(
    request: HTTPConnection,
    status: int,
    detail: str,
    *,
    kind: str = "",
    title: str = "",
    fix: str = "",
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem document. `kind` is the last part of its type; both follow from `status`."""
    known = KINDS.get(status, ("http", f"HTTP status {status}"))
    problem = Problem(
        type=f"urn:polyplane:problem:{kind or known[0]}",
        title=title or known[1],
        status=status,
        detail=detail,
        instance=request.scope.get("path", ""),
        request_id=request.scope.get("polyplane.request_id", ""),
        fix=fix,
        field=errors[0].field if errors else "",
        errors=list(errors),
    )
    return Response(
        problem.model_dump_json(exclude_defaults=True),
        status,
        headers=headers,
        media_type=PROBLEM_TYPE,
    )


# Python's own phrases change from version to version; a client compares these.
KINDS: Final = {
    400: ("malformed", "The request cannot be understood"),
    401: ("unauthenticated", "A credential is needed, or it does not hold"),
    403: ("forbidden", "The caller may not do this"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "Another method is needed"),
    408: ("too-slow", "The request took too long to arrive"),
    413: ("too-large", "More than the stated bound"),
    414: ("url-too-long", "The URL is longer than is read"),
    415: ("unsupported-media-type", "Another media type is needed"),
    421: ("misdirected", "Another host was meant"),
    422: ("refused", "The request is wrong and nothing was stored"),
    431: ("head-too-large", "The headers are more than is read"),
    500: ("unexpected", "A defect of ours"),
    503: ("deadline", "The answer was not ready in time"),
}


def kind_of(cls: type[PolyplaneError]) -> str:
    """The last part of the type of the problem that an error becomes."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()


async def of_error(request: Request, error: Exception) -> Response:
    """What an error becomes that is not raised through the routes."""
    if isinstance(error, PolyplaneError):
        return await _of_ours(request, error)
    if isinstance(error, TimeoutError):
        return await _of_a_deadline(request, error)
    log.error("request_failed", error=type(error).__name__)
    return await _unexpected(request, error)


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, PolyplaneError)
    cls = type(error)
    title = (cls.__doc__ or cls.__name__).splitlines()[0].split(". ")[0].rstrip(".")
    kind = kind_of(cls)
    if isinstance(error, Unauthenticated | Forbidden):
        headers = _CHALLENGE if isinstance(error, Unauthenticated) else None
        return respond(
            request, error.status, error.message, title=title, fix=error.fix, headers=headers
        )
    if isinstance(error, Refused):
        errors = [_located(error.field, error.message)] if error.field else []
        return respond(
            request,
            error.status,
            error.message,
            kind=kind,
            title=title,
            fix=error.fix,
            errors=errors,
            headers=_wait_of(error),
        )
    if isinstance(error, Unavailable):
        log.warning("unavailable", error=str(error), kind=kind)
        detail = error.message if isinstance(error, NotSettled) else f"{title}."
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return respond(request, error.status, detail, kind=kind, title=title, headers=headers)
    if isinstance(error, ObjectLost | SecretDestroyed):
        log.error(kind.replace("-", "_"), error=str(error))
        return respond(request, error.status, error.message, kind=kind, title=title, fix=error.fix)
    log.error("request_failed", error=str(error), kind=kind)
    return respond(request, error.status, _UNEXPECTED, kind="unexpected", title=title)


_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


def _wait_of(error: Refused) -> dict[str, str] | None:
    return {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooOften) else None


async def _of_a_deadline(request: Request, error: Exception) -> Response:
    """A deadline of a call inside a route: what it called did not answer in time."""
    return await _of_ours(request, Unavailable(str(error) or "A call took too long."))


def _located(field: str, detail: str) -> FieldProblem:
    pointer = "#/" + field.replace(".", "/")
    return FieldProblem(field=field, pointer=pointer, location="body", detail=detail)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if _is_wrong_media_type(request, found):
        return respond(
            request,
            415,
            "The body is not JSON, by its Content-Type.",
            fix="Send Content-Type: application/json.",
        )
    if any(e["type"] == "json_invalid" for e in found):
        return respond(request, 400, f"The body is not JSON: {_malformed(found[0])}.")
    errors = [_field_problem(e) for e in found]
    first = errors[0]
    detail = f"{first.field}: {first.detail}" if first.field else first.detail
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return respond(request, 422, detail + more, errors=errors)


def _is_wrong_media_type(request: Request, found: Sequence[Any]) -> bool:
    """FastAPI hands a body that is not declared JSON to validation as bytes."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    has_body = request.headers.get("content-length", "1") != "0"
    return not is_json and has_body and any(tuple(e["loc"]) == ("body",) for e in found)


def _malformed(error: Any) -> str:
    reason = str(error.get("ctx", {}).get("error", "malformed"))
    return f"{reason[:1].lower()}{reason[1:]} at character {error['loc'][-1]}"


def _field_problem(error: Any) -> FieldProblem:
    location, *path = (str(part) for part in error["loc"])
    pointer = "#" + "".join(f"/{_escaped(part)}" for part in path) if location == "body" else ""
    return FieldProblem(
        field=".".join(path) or location,
        pointer=pointer,
        location=location,
        detail=str(error["msg"]),
    )


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


_DETAILS: Final = {
    400: "The body cannot be parsed.",
    404: "There is nothing at this address.",
    405: "This address does not know this method.",
    413: f"The body is larger than this address takes (usually {BODY_MAX_BYTES >> 20} MiB).",
}

_FIXES: Final = {413: "Send less at once: several requests, or smaller batches."}


def too_large(request: HTTPConnection) -> Response:
    """The problem of a body over the limit."""
    return respond(request, 413, _DETAILS[413], fix=_FIXES[413])


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    detail = _DETAILS.get(status, error.detail)
    headers = {"Allow": _allowed(request)} if status == 405 else error.headers
    return respond(request, status, detail, fix=_FIXES.get(status, ""), headers=headers)


def _allowed(request: Request) -> str:
    """The methods of an address: the framework names those of its first route only. Those of
    `/things/{key}` are none of `/things/search`, which is a thing of its own.
    """
    path, found, own = request.scope["path"], set[str](), set[str]()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and (match := route.path_regex.match(path)):
            found |= route.methods
            own |= set() if match.groupdict() else route.methods
    return ", ".join(sorted(own or found))


_UNEXPECTED: Final = "Something failed that should not have; the log has it under the request id."


async def _unexpected(request: Request, error: Exception) -> Response:
    return respond(request, 500, _UNEXPECTED)
