"""What the routes of an API declare by their dependencies, looked up once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection
from fastapi.routing import APIRoute, iter_route_contexts

from polyplane.errors import Misconfigured
from polyplane.security.rates import Rate

Whose = Literal["caller", "address", "everybody"]

_LIMIT: Final = "polyplane.limit"
_REPEATABLE: Final = "polyplane.repeatable"


@dataclass(frozen=True, slots=True)
class RouteLimit:
    """How often a route may be asked, and by whom together."""

    rate: Rate
    by: Whose


@dataclass(frozen=True, slots=True)
class RouteMarks:
    """What one route declares. `name` is its method and path."""

    name: str = ""
    limits: tuple[RouteLimit, ...] = ()
    is_repeatable: bool = False


_NONE: Final = RouteMarks()


def limited(
    limit: int, period_s: float = 60.0, *, burst: int | None = None, by: Whose = "caller"
) -> Any:
    """A dependency that bounds how often a route is asked: `dependencies=[limited(30)]`.

    `limit` requests in `period_s` seconds by each caller (or address, or by everybody together), at
    most `burst` of them at once (None: all); beyond the general limits of the settings. Raises
    Misconfigured for what is no rate.
    """
    if by not in ("caller", "address", "everybody"):
        raise Misconfigured(f"{by!r} is nobody to limit.", fix="caller, address or everybody.")

    async def declare() -> None:
        """Nothing: it is looked up, and counted with the others in one call."""

    vars(declare)[_LIMIT] = RouteLimit(Rate(limit, period_s, burst), by)
    return Depends(declare)


def repeatable_by(call: Any) -> Any:
    """A dependency on `call` that marks a route as repeatable."""
    vars(call)[_REPEATABLE] = True
    return Depends(call)


def marks_of(request: HTTPConnection) -> RouteMarks:
    """What the route of `request` declares."""
    state = request.app.state
    if not hasattr(state, "route_marks"):
        state.route_marks = _marked(request.app)
    found: RouteMarks = state.route_marks.get(id(request.scope.get("route")), _NONE)
    return found


def _marked(app: FastAPI) -> dict[int, RouteMarks]:
    return {
        id(it.original_route): RouteMarks(
            f"{'|'.join(sorted(it.methods or ()))}:{it.path}",
            tuple(_found(it.dependant, _LIMIT)),
            any(_found(it.dependant, _REPEATABLE)),
        )
        for it in iter_route_contexts(app.routes)
        if isinstance(it.original_route, APIRoute)
    }


def _found(dependant: Any, mark: str) -> Iterator[Any]:
    own = getattr(dependant.call, "__dict__", {}).get(mark)
    if own is not None:
        yield own
    for it in dependant.dependencies:
        yield from _found(it, mark)
