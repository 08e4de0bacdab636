"""Vectors that cost money, kept under keyed hashes of their texts; and what was spent, by day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

import psycopg

from polyplane.errors import TruthDown
from polyplane.truth.database import Database
from polyplane.truth.statements import statement

MOST: Final = 500
"""Vectors of one statement: some megabytes."""
SWEPT: Final = 5_000
"""Of one statement that only forgets."""
_CALL_S: Final = 5.0
_SWEEP_S: Final = 30.0
"""To count them all takes a while when there are millions."""


@dataclass(frozen=True, slots=True)
class EmbeddingUsage:
    """What one model was asked for on one day (UTC), by every process of the plane.

    `failed` of the `requests` gave nothing. `kept` texts were not sent: their vectors were there.
    `cost` is in the currency of the price that was set.
    """

    day: date
    model: str
    requests: int
    failed: int
    texts: int
    kept: int
    tokens: int
    cost: Decimal


def mac_of(key: bytes, identity: str, tenant: str, text: str) -> bytes:
    """What a text's vector is kept under. Another tenant's, or another model's, is another."""
    mac = blake2b(key=key, digest_size=32, person=b"pp.embedding")
    for part in (identity, tenant):
        told = part.encode(errors="surrogatepass")
        mac.update(len(told).to_bytes(4, "big") + told)
    mac.update(text.encode(errors="surrogatepass"))
    return mac.digest()


class EmbeddingRows:
    """The rows of kept vectors and of usage. Every call raises TruthDown when it cannot be done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def key(self) -> bytes:
        """What macs are keyed with."""
        ((key,),) = await self._rows("key", {})
        return bytes(key)

    async def find(self, macs: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors of `macs` that are kept, as bytes. They count as used."""
        found: dict[bytes, bytes] = {}
        old: list[bytes] = []
        for some in _pieces(macs):
            for mac, vector, is_old in await self._rows("find", {"macs": some}):
                found[bytes(mac)] = bytes(vector)
                if is_old:
                    old.append(bytes(mac))
        if old:
            await self._rows("use", {"macs": old})
        return found

    async def keep(self, tenants: Mapping[bytes, str], vectors: Mapping[bytes, bytes]) -> None:
        """Keep `vectors` (by mac), each for one of `tenants` (by mac), in place of what was."""
        for macs in _pieces(list(vectors)):
            named = {
                "macs": macs,
                "tenants": [tenants[mac] for mac in macs],
                "vectors": [vectors[mac] for mac in macs],
            }
            await self._rows("keep", named)

    async def note(self, model: str, counts: Mapping[str, int], cost: Decimal) -> None:
        """Add `counts` (by the names of `EmbeddingUsage`) to today's."""
        await self._rows("note", {"model": model, "cost": cost, **counts})

    async def usage(self, days: int) -> list[EmbeddingUsage]:
        """The usage of the last so many days, today's first."""
        return [EmbeddingUsage(*row) for row in await self._rows("usage", {"days": days})]

    async def models(self) -> list[str]:
        """Every model that was ever asked."""
        return [str(model) for (model,) in await self._rows("models", {})]

    async def sweep(self, *, days: int, rows: int) -> int:
        """Forget what was not used for `days`, and of more than `rows` the oldest; how many."""
        total = 0
        for name, named in (("expire", {"days": days}), ("bound", {"rows": rows})):
            gone = SWEPT
            while gone >= SWEPT:
                gone = await self._count(name, {**named, "most": SWEPT}, _SWEEP_S)
                total += gone
        return total

    async def forget(
        self, *, tenant: str | None = None, macs: Sequence[bytes] | None = None
    ) -> int:
        """Forget `macs`, or all of a tenant, or all there are; how many."""
        if macs is not None:
            return sum([await self._count("forget", {"macs": it}) for it in _pieces(macs)])
        name = "forget_all" if tenant is None else "forget_tenant"
        total = 0
        while gone := await self._count(name, {"tenant": tenant, "most": SWEPT}):
            total += gone
        return total

    async def _count(self, name: str, named: Mapping[str, Any], timeout_s: float = _CALL_S) -> int:
        ((count,),) = await self._rows(name, named, timeout_s)
        return int(count)

    async def _rows(
        self, name: str, named: Mapping[str, Any], timeout_s: float = _CALL_S
    ) -> list[Any]:
        with _no_worse():
            found = await self._database.rows(
                statement("embeddings", name), named, timeout_s=timeout_s
            )
        return list(found)


@contextmanager
def _no_worse() -> Iterator[None]:
    """Whatever is wrong with the cache is no worse than that it is not there."""
    try:
        yield
    except psycopg.Error as error:
        raise TruthDown(f"Kept embeddings cannot be used: {type(error).__name__}.") from error


def _pieces(macs: Sequence[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(macs), MOST):
        yield list(macs[start : start + MOST])
