"""Rows of truth -> items of a store: the one place where `derive` is called.

Projecting, backfill and verify all come through here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from polyplane.errors import DeriveFailed, Misconfigured
from polyplane.model.digest import digest
from polyplane.model.items import Entry, Item, Vector
from polyplane.model.projection import Projection
from polyplane.stores.protocol import Embedder
from polyplane.truth.scan import Row


class Deriver(Protocol):
    """How one projection's rows become items."""

    definition: str
    """What digests depend on besides the row: kind, version, embedder."""

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """(key, digest) for each row; None where nothing follows from the row. Pure."""
        ...

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """The items to put, and the keys from whose rows nothing follows."""
        ...


def _derive(projection: Projection[Any], key: str, row: Any) -> Any:
    try:
        return projection.derive(row)
    except Exception as error:
        raise DeriveFailed(projection.name, key, error) from error


class VectorDeriver:
    """Vectors: the text is embedded unless `derive` brings its own embedding."""

    def __init__(self, projection: Projection[Any], embedder: Embedder | None) -> None:
        self._projection = projection
        self._embedder = embedder
        self._by = embedder.identity if embedder else "own"
        self.definition = f"vector/{projection.name}/{projection.version}/{self._by}"

    def _derived(self, rows: Iterable[Row]) -> Iterable[tuple[str, Vector[Any] | None, str | None]]:
        for key, row in rows:
            vector = _derive(self._projection, key, row)
            if vector is None:
                yield key, None, None
                continue
            own = vector.embedding
            by = self._by if own is None else np.asarray(own, "<f4").tobytes().hex()
            try:
                yield key, vector, digest([vector.text, vector.tags, by])
            except TypeError as error:
                raise DeriveFailed(self._projection.name, key, error) from error

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """See `Deriver.digests`."""
        return ((key, found) for key, _, found in self._derived(rows))

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """See `Deriver.items`; all texts of a call are embedded together."""
        puts: list[Item] = []
        drops: list[str] = []
        for key, vector, found in self._derived(rows):
            if vector is None or found is None:
                drops.append(key)
            else:
                puts.append(Item(key, found, vector))
        bare = [item for item in puts if item.content.embedding is None]
        if bare:
            if self._embedder is None:
                raise Misconfigured(
                    f"{self._projection.name} derives no embedding and there is no embedder.",
                    fix="Set dimensions and return Vector(..., embedding=...), or set an embedder.",
                )
            vectors = await self._embedder.embed([item.content.text for item in bare])
            for item, embedding in zip(bare, vectors, strict=True):
                item.content = Vector(item.content.text, item.content.tags, embedding)
        return puts, drops


class EntryDeriver:
    """Cache entries."""

    def __init__(self, projection: Projection[Any]) -> None:
        self._projection = projection
        self.definition = f"cache/{projection.name}/{projection.version}"

    def _derived(self, rows: Iterable[Row]) -> Iterable[tuple[str, Entry | None, str | None]]:
        for key, row in rows:
            entry = _derive(self._projection, key, row)
            try:
                yield key, entry, None if entry is None else digest(entry.value)
            except TypeError as error:
                raise DeriveFailed(self._projection.name, key, error) from error

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """See `Deriver.digests`."""
        return ((key, found) for key, _, found in self._derived(rows))

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """See `Deriver.items`."""
        puts: list[Item] = []
        drops: list[str] = []
        for key, entry, found in self._derived(rows):
            if entry is None or found is None:
                drops.append(key)
            else:
                puts.append(Item(key, found, entry))
        return puts, drops
