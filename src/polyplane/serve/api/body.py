"""What JSON's parser lets through and no store can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection

from polyplane.web import json_body

NUMBER: Final = "NaN and infinity are not numbers that can be stored"
OFFENDERS_MAX: Final = 20
FILES: Final = "blobs"
"""The tag of routes that take files."""
TEXT: Final = "Text cannot hold a NUL character or half of a surrogate pair"

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")

Path = tuple[str | int, ...]


async def storable(request: HTTPConnection) -> None:
    """Refuse NaN, infinity, NUL and lone surrogates anywhere in the request, by name.

    Python's JSON parser accepts all of them; PostgreSQL and the stores accept none.
    """
    offenders: list[tuple[Path, str]] = [
        (("path", name), TEXT)
        for name, value in request.path_params.items()
        if _UNSTORABLE.search(str(value))
    ]
    offenders += [
        (("query", name), TEXT)
        for name, value in request.query_params.multi_items()
        if _UNSTORABLE.search(value)
    ]
    if isinstance(request, Request):  # and no WebSocket
        offenders += [(("body", *path), why) for path, why in await _unstorable_in_body(request)]
    if offenders:
        raise RequestValidationError(
            [{"type": "unstorable", "loc": loc, "msg": why} for loc, why in offenders]
        )


async def _unstorable_in_body(request: Request) -> list[tuple[Path, str]]:
    if "json" not in request.headers.get("content-type", ""):
        return []
    if FILES in getattr(request.scope.get("route"), "tags", ()):
        return []  # a file is not looked into, and may be larger than the memory
    if not await _is_suspect(request):
        return []
    try:
        value = await request.json()
    except (ValueError, RecursionError):  # the route, which reads the body itself, will refuse it
        return []
    return list(islice(unstorable(value), OFFENDERS_MAX))


async def _is_suspect(request: Request) -> bool:
    """Whether to look closer: orjson is strict, but for NUL, and takes a fifth of Python's time."""
    try:
        await json_body(request)
    except RequestValidationError:
        return True
    return b"\\u0000" in await request.body()


def unstorable(value: Any) -> Iterator[tuple[Path, str]]:
    """Where in a parsed JSON value there is something no store can hold, and why."""
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        match item:
            case float() if not math.isfinite(item):
                yield path, NUMBER
            case str() if _UNSTORABLE.search(item):
                yield path, TEXT
            case list():
                waiting += [((*path, i), part) for i, part in enumerate(item)][::-1]
            case dict() if any(_UNSTORABLE.search(name) for name in item):
                yield path, TEXT  # and no further: such a name cannot be told either
            case dict():
                waiting += [((*path, name), part) for name, part in item.items()][::-1]
