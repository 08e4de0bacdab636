"""What the stores really hold, read past the product."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import redis.asyncio as redis


@dataclass(frozen=True, slots=True)
class Held:
    """One item: its position, and its row's version and body; None for both in a tombstone."""

    position: int
    version: int | None
    body: str | None


class Vectors:
    """The tables in a LanceDB folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database: Any = None

    async def tables(self) -> list[str]:
        """Their names."""
        if not self._folder.exists():
            return []
        if self._database is None:
            self._database = await lancedb.connect_async(
                str(self._folder), read_consistency_interval=timedelta(0)
            )
        return list((await self._database.list_tables()).tables)

    async def held(self, table: str) -> dict[str, Held]:
        """All items of a table. Raises ValueError for two items under a key."""
        await self.tables()
        opened = await self._database.open_table(table)
        try:
            names = ["key", "position", "digest", "text", "version"]
            found = await opened.query().select(names).to_arrow()
        finally:
            opened.close()
        rows = zip(*(found[name].to_pylist() for name in names), strict=True)
        held = {
            key: Held(position, *((version, text) if digest is not None else (None, None)))
            for key, position, digest, text, version in rows
        }
        if len(held) != found.num_rows:
            raise ValueError(f"{table}: {found.num_rows} items under {len(held)} keys")
        return held


async def cards(url: str, start: str) -> dict[str, Held]:
    """All entries of the cache whose key begins with `start`."""
    client = redis.from_url(url, socket_timeout=3, socket_connect_timeout=3)
    try:
        names = [name async for name in client.scan_iter(f"{start}*", count=5_000)]
        held: dict[str, Held] = {}
        for first in range(0, len(names), 2_000):
            piece = names[first : first + 2_000]
            async with client.pipeline(transaction=False) as pipe:
                for name in piece:
                    pipe.hmget(name, "p", "v")
                found = await pipe.execute()
            for name, (position, value) in zip(piece, found, strict=True):
                if position is not None:
                    card = json.loads(value) if value else {}
                    key = name.decode().removeprefix(start)
                    held[key] = Held(int(position), card.get("version"), card.get("body"))
        return held
    finally:
        await client.aclose()
