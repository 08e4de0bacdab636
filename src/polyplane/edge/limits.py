"""How often one may ask: by address before it is known who asks, by caller afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from math import ceil
from typing import Final, NamedTuple, cast

from fastapi import Request
from fastapi.requests import HTTPConnection

from polyplane.edge.routes import RouteMarks, marks_of
from polyplane.errors import TooOften
from polyplane.plane import Plane
from polyplane.security.backoff import place_of
from polyplane.security.rates import Asked, Rate, Verdict, rate_of

LIMITS: Final = "polyplane.limits"
"""Where a request's scope has what was said of it."""
_ADDRESS_MAX: Final = 64
"""Characters of what is no address, and is counted as it is given."""


class Counted(NamedTuple):
    """One limit that a request was counted against, and what was said."""

    policy: str
    rate: Rate
    verdict: Verdict


async def count_address(request: HTTPConnection) -> None:
    """Count a request, or a WebSocket, for its address and for everybody. Raises TooOften.

    Who comes from this machine is bounded by limits of routes alone: behind a proxy that the
    settings do not name, that is everybody.
    """
    plane, marks = cast(Plane, request.app.state.plane), marks_of(request)
    address = request.client.host if request.client else ""
    place = f"address:{place_of(address)[:_ADDRESS_MAX]}"
    general = None if _is_here(address) else rate_of(plane.settings.limit_address)
    counted = [] if general is None else [("address", Asked(place, general))]
    counted += _of_route(marks, "address", f"{place}:")
    counted += _of_route(marks, "everybody", "route:")
    await _count(request, plane, counted)


async def count_caller(request: Request, actor: str, *, is_operator: bool) -> None:
    """Count a request against what its caller may. Raises TooOften.

    The operator of the home is bounded by limits of routes alone.
    """
    plane, marks = cast(Plane, request.app.state.plane), marks_of(request)
    general = None if is_operator else rate_of(plane.settings.limit_caller)
    counted = [] if general is None else [("caller", Asked(actor, general))]
    await _count(request, plane, [*counted, *_of_route(marks, "caller", f"{actor}:")])


def _of_route(marks: RouteMarks, by: str, before: str) -> list[tuple[str, Asked]]:
    """Limits that the route declares. The second of a kind has a name of its own."""
    rates = [it.rate for it in marks.limits if it.by == by]
    return [
        (f"route-{by}{n or ''}", Asked(f"{before}{marks.name}{f':{n}' if n else ''}", rate))
        for n, rate in enumerate(rates)
    ]


async def _count(request: HTTPConnection, plane: Plane, asked: Sequence[tuple[str, Asked]]) -> None:
    if not asked:
        return
    verdicts = await plane.limits.check_all([it for _, it in asked])
    counted = [
        Counted(policy, it.rate, said) for (policy, it), said in zip(asked, verdicts, strict=True)
    ]
    request.scope.setdefault(LIMITS, []).extend(counted)
    refused = [it for it in counted if not it.verdict.allowed]
    if refused:
        longest = max(refused, key=lambda it: it.verdict.retry_after_s)
        rate = longest.rate
        raise TooOften(
            f"More than {rate.limit:,} requests in {rate.period_s:g} s ({longest.policy}).",
            retry_after_s=longest.verdict.retry_after_s,
        )


def fields_of(counted: Sequence[Counted]) -> dict[str, str]:
    """The fields RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10)."""
    policies = [f'"{it.policy}";q={it.rate.limit};w={ceil(it.rate.period_s)}' for it in counted]
    said = [
        f'"{it.policy}";r={it.verdict.remaining};t={ceil(it.verdict.reset_s)}' for it in counted
    ]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(said)}


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return not address  # over a socket of this machine
