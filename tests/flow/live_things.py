"""Rows of tenants and owners, events and states that can be followed; and how they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import orjson
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.live import OPERATION, Batch, Events, Rows, States, Topic, Update
from polyplane.runtime.live import News
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from tests.flow.deeds import Base, Deed

WITHIN_S: Final = 20.0
"""For what usually takes some tenths of a second."""


class Board(Base):
    """Nobody's: everybody may see it."""

    __tablename__ = "board"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


application = pp.Application(
    name="deeds",
    models=(Deed, Board),
    permissions={"deeds.read": "viewer", "deeds.all": "admin"},
    topics=(
        Topic("deeds", Rows(Deed), "deeds.read"),
        Topic("boards", Rows(Board), "deeds.read"),
        Topic("happened", Events("deeds"), "deeds.read"),
        Topic("operations", States(OPERATION), "deeds.read"),
        Topic("secret", Rows(Deed), "deeds.all"),
    ),
)


async def do(plane: pp.Plane, caller: pp.Caller, *deeds: Deed, event: str = "") -> None:
    """Write some deeds, and say so."""
    async with plane.acting(caller).write() as tx:
        tx.add_all(list(deeds))
        if event:
            tx.emit("deeds.done", {"what": event}, subject=event)


async def heard(news: News, is_enough: Callable[[list[Update]], bool]) -> list[Update]:
    """All that is told until that is enough."""
    found: list[Update] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            while not is_enough(found):
                batch = await news.next(wait_s=WITHIN_S)
                found += batch.updates if batch is not None else ()
    except TimeoutError:
        raise AssertionError(f"only {found} was told") from None
    return found


async def next_batch(news: News) -> Batch:
    """The next that is told."""
    batch = await news.next(wait_s=WITHIN_S)
    assert batch is not None
    return batch


def things(updates: list[Update]) -> list[tuple[str, str, bool]]:
    """(topic, key, gone) of each."""
    return [(it.topic, it.key, it.gone) for it in updates]


def state_of(updates: list[Update]) -> dict[str, Any]:
    """The last state that was told."""
    return dict(updates[-1].state or {}) if updates else {}


@asynccontextmanager
async def served(plane: pp.Plane, *, ends: bool = True) -> AsyncIterator[tuple[str, Server]]:
    """The plane's API on a socket; its address, and the server, which `ends` all who follow."""
    with bind("127.0.0.1", 0, or_any=False) as at:
        app = create_app(plane, plane.declared.applications)
        server = Server(app, hub=plane.opened.live.hub if ends else None)
        serving = asyncio.create_task(server.serve(sockets=[at]))
        try:
            yield f"127.0.0.1:{at.getsockname()[1]}", server
        finally:
            server.should_exit = True
            await serving


class Stream:
    """What comes in an answer of Server-Sent Events."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.position = ""

    async def next(self) -> tuple[str, Any]:
        """The next event: its kind and its content. The position moves as a browser's does."""
        kind, data, position = "", "", None
        async with asyncio.timeout(WITHIN_S):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                match name:
                    case "event":
                        kind = value
                    case "data":
                        data = value
                    case "id":
                        position = value
                    case "":
                        if position is not None:
                            self.position, position = position, None
                        if data:
                            return kind, orjson.loads(data)
        raise EOFError

    async def until(self, kind: str) -> Any:
        """The content of the next event of that kind."""
        while True:
            found, content = await self.next()
            if found == kind:
                return content


@asynccontextmanager
async def listening(
    at: str, token: str, *topics: str, after: str = "", **query: Any
) -> AsyncIterator[Stream]:
    """Follow over HTTP while the block lasts; `ready` is read already."""
    headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": after} if after else {})
    asked = {"topic": list(topics), **query}
    timeout = httpx.Timeout(WITHIN_S)
    async with (
        httpx.AsyncClient(base_url=f"http://{at}", timeout=timeout) as client,
        client.stream("GET", "/api/v1/events", params=asked, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = Stream(answer.aiter_lines())
        assert (await stream.next())[0] == "ready"
        yield stream
