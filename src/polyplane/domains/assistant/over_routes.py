"""Ingest by a program that reads files where it is, and sends what is news over the API."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

import polyplane as pp
from polyplane.domains.assistant.arrivals import Arrival, Known, Taken, Work
from polyplane.domains.assistant.course import (
    ALL,
    IngestReport,
    Tell,
    Wanted,
    as_json,
    ingest_into,
)
from polyplane.domains.assistant.shapes import KnownPage, TakenShown, WorkShown

__all__ = ["IngestReport", "OverRoutes", "Wanted", "as_json", "ingest_over"]

PAGE: Final = 5_000
IN_JSON_MAX: Final = 4 << 20
"""Bytes of a file that goes with others; a larger one is sent by itself."""
WAIT_S: Final = 10.0


class Call(Protocol):
    """Asks a route below `/api/v1/`."""

    async def __call__(self, method: str, path: str, **given: Any) -> Any:
        """What it answers; `parameters` of the query, `json`, `headers`. Raises its problem."""
        ...


class OverRoutes:
    """The documents of a tenant, behind the routes of the application."""

    def __init__(self, call: Call, tenant: str) -> None:
        self._call = call
        self._headers = {"X-Tenant": tenant}

    async def known(self, below: str) -> Mapping[str, Known]:
        """See `Library`."""
        found: dict[str, Known] = {}
        after: str | None = ""
        while after is not None:
            asked = {"below": below, "limit": PAGE, **({"after": after} if after else {})}
            answer = await self._asked("GET", "known", parameters=asked)
            page = KnownPage.model_validate(answer)
            found.update((it.name, it.known()) for it in page.items)
            after = page.next
        return found

    async def take(self, arrivals: Sequence[Arrival], *, again: bool) -> Taken:
        """See `Library`."""
        if len(arrivals) == 1 and len(arrivals[0].content or b"") > IN_JSON_MAX and not again:
            return await self._alone(arrivals[0])
        files = await asyncio.to_thread(lambda: [*map(_file, arrivals)])
        body = orjson.dumps({"source": "folder", "again": again, "files": files})
        headers = {"Content-Type": "application/json"}
        return _taken(await self._asked("POST", "batch", content=body, headers=headers))

    async def _alone(self, it: Arrival) -> Taken:
        asked = {"name": it.name, "source": it.source, "shared": True}
        if it.file_stamp:
            asked["file_stamp"] = it.file_stamp
        headers = {"Content-Type": it.media_type}
        return _taken(
            await self._asked("POST", "", parameters=asked, content=it.content, headers=headers)
        )

    async def work(self, work: UUID, wait_s: float) -> Work:
        """See `Library`."""
        answer = await self._asked("GET", f"readings/{work}", parameters={"wait_s": wait_s})
        return WorkShown.model_validate(answer).work()

    async def remove(self, ids: Sequence[UUID]) -> int:
        """See `Library`."""
        answer = await self._asked("POST", "remove", json={"ids": [str(it) for it in ids]})
        return int(answer["removed"])

    async def settled(self, timeout_s: float) -> None:
        """See `Library`."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            answer = await self._asked("POST", "settle", parameters={"wait_s": WAIT_S})
            if answer["is_settled"]:
                return
        raise pp.NotSettled(f"The vector store was behind after {timeout_s:g} s.")

    async def _asked(self, method: str, path: str, **given: Any) -> Any:
        headers = {**self._headers, **given.pop("headers", {})}
        path = f"assistant/documents/{path}".rstrip("/")
        return await self._call(method, path, headers=headers, **given)


async def ingest_over(
    call: Call,
    tenant: str,
    paths: Sequence[Path],
    wanted: Wanted = ALL,
    *,
    tell: Tell | None = None,
    report: IngestReport | None = None,
) -> IngestReport:
    """As `ingest`, for who has only the routes: files are read here, documents are kept there."""
    return await ingest_into(OverRoutes(call, tenant), paths, wanted, tell=tell, report=report)


def _file(it: Arrival) -> dict[str, Any]:
    told: dict[str, Any] = {"name": it.name, "media_type": it.media_type}
    if it.file_stamp is not None:
        told["file_stamp"] = it.file_stamp
    if it.content is None:
        return told | {"code": it.code, "reason": it.reason}
    return told | {"content": b64encode(it.content).decode()}


def _taken(answer: Any) -> Taken:
    shown = TakenShown.model_validate(answer)
    token = pp.Token.parse(shown.token) if shown.token else None
    return Taken(tuple(it.landed() for it in shown.landed), shown.work, token)
