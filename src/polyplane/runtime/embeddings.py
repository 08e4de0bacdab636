"""Vectors that cost money: kept, so that no text is paid for twice; and what was spent.

Only what is derived is kept, for the tenant whose it is, and never what is derived from secrets.
What people search for is neither kept nor looked up: how fast an answer comes must tell nobody
what others have. That the rows of kept vectors cannot be used fails no embedding.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final

import numpy as np
import structlog

from polyplane.errors import PolyplaneError
from polyplane.runtime.embedders import open_embedder_at
from polyplane.settings import Settings
from polyplane.stores.protocol import Embedder, Spent
from polyplane.truth.embeddings import EmbeddingRows, EmbeddingUsage, mac_of

_log = structlog.get_logger(__name__)

NOTED_EVERY_S: Final = 5.0
"""What a killed process has not noted is of so many seconds at most."""
AGAIN_S: Final = 10.0
"""For how long nothing is kept or looked up after it could not be."""
_SLICE_TEXTS: Final = 512
_REQUESTS: Final = 4
_MILLION: Final = 1_000_000

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Embeddings:
    """What keeps vectors, notes what was spent, and forgets."""

    def __init__(self, rows: EmbeddingRows, settings: Settings) -> None:
        self._rows = rows
        self._settings = settings
        self._days = settings.embedder_cache_days
        self._most = settings.embedder_cache_rows
        self._price = settings.embedder_price
        self._slice = max(_SLICE_TEXTS, _REQUESTS * settings.embedder_batch_texts)
        self._key = b""
        self._out_until_s = float("-inf")
        self._watched: list[Embedder] = []
        self._noted: dict[int, Spent] = {}
        self._kept: defaultdict[str, int] = defaultdict(int)
        self._kept_noted: defaultdict[str, int] = defaultdict(int)
        self._noting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    # Embedding

    async def embed(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        tenants: Sequence[str],
        *,
        anew: bool = False,
    ) -> Vectors:
        """As `embedder.embed`, but for texts whose vectors are kept; of one text once.

        A vector is kept for the tenant whose text it is. `anew`: each text is embedded, and its
        vector kept in place of what was. Vectors are kept as they come, so that what fails half way
        is not paid for again. Raises what the embedder raises.
        """
        if not embedder.costs or not self._keeps or not (key := await self._keyed()):
            found: Vectors = await embedder.embed(texts)
            return found
        vectors = np.empty((len(texts), embedder.dimensions), dtype=np.float32)
        for start in range(0, len(texts), self._slice):
            part = slice(start, start + self._slice)
            vectors[part] = await self._part(embedder, key, texts[part], tenants[part], anew)
        return vectors

    async def _part(
        self,
        embedder: Embedder,
        key: bytes,
        texts: Sequence[str],
        tenants: Sequence[str],
        anew: bool,
    ) -> list[Vectors]:
        pairs = list(zip(tenants, texts, strict=True))
        macs = [mac_of(key, embedder.identity, tenant, text) for tenant, text in pairs]
        of = dict(zip(macs, pairs, strict=True))
        known = {} if anew else await self._known(embedder, list(of))
        new = [mac for mac in of if mac not in known]
        if new:
            embedded = await embedder.embed([of[mac][1] for mac in new])
            known |= zip(new, embedded, strict=True)
            await self._keep({mac: of[mac][0] for mac in new}, {mac: known[mac] for mac in new})
        self._kept[embedder.identity] += len(texts) - len(new)
        return [known[mac] for mac in macs]

    async def _known(self, embedder: Embedder, macs: Sequence[bytes]) -> dict[bytes, Vectors]:
        if not self._is_in:
            return {}
        try:
            found = await self._rows.find(macs)
        except PolyplaneError as error:
            self._out(error)
            return {}
        size = 4 * embedder.dimensions
        return {
            mac: np.frombuffer(vector, dtype="<f4")
            for mac, vector in found.items()
            if len(vector) == size
        }

    async def _keep(self, tenants: dict[bytes, str], vectors: dict[bytes, Vectors]) -> None:
        if not self._is_in:
            return
        as_bytes = {mac: vector.astype("<f4").tobytes() for mac, vector in vectors.items()}
        try:
            await self._rows.keep(tenants, as_bytes)
        except PolyplaneError as error:
            self._out(error)

    async def _keyed(self) -> bytes:
        """What macs are keyed with; nothing while it cannot be read."""
        if not self._key and self._is_in:
            try:
                self._key = await self._rows.key()
            except PolyplaneError as error:
                self._out(error)
        return self._key

    @property
    def _keeps(self) -> bool:
        return bool(self._days and self._most)

    @property
    def _is_in(self) -> bool:
        return asyncio.get_running_loop().time() >= self._out_until_s

    def _out(self, error: PolyplaneError) -> None:
        self._out_until_s = asyncio.get_running_loop().time() + AGAIN_S
        _log.warning("embeddings.not_kept", error=error.message)

    # What was spent

    async def open(self, url: str) -> Embedder:
        """What embeds texts there, watched. Raises Misconfigured."""
        embedder = await open_embedder_at(url, self._settings)
        self.watch(embedder)
        return embedder

    def watch(self, embedder: Embedder) -> None:
        """Note what `embedder` spends, from now on until `close`."""
        if not embedder.costs:
            return
        self._watched.append(embedder)
        self._noted[id(embedder)] = Spent(**asdict(embedder.spent))
        if self._task is None:
            self._task = asyncio.create_task(self._keep_noting())

    def spent(self) -> dict[str, tuple[Spent, int, Decimal]]:
        """Model -> what this process asked it for since it opened, how many texts it did not send
        since their vectors were kept, and the cost.
        """
        found: dict[str, Spent] = {}
        for embedder in self._watched:
            total = found.setdefault(embedder.identity, Spent())
            for name, value in asdict(embedder.spent).items():
                setattr(total, name, getattr(total, name) + value)
        return {it: (spent, self._kept[it], self._cost(spent)) for it, spent in found.items()}

    async def usage(self, days: int = 30) -> list[EmbeddingUsage]:
        """What was spent in the last so many days (UTC), by day and model, today's first: by every
        process of the plane, but for the last seconds of others. Raises TruthDown.
        """
        await self._note()
        return await self._rows.usage(days)

    def _cost(self, spent: Spent) -> Decimal:
        return spent.tokens * self._price / _MILLION

    async def _keep_noting(self) -> None:
        while True:
            await asyncio.sleep(NOTED_EVERY_S)
            try:
                await self._note()
            except PolyplaneError as error:  # it is noted the next time
                _log.warning("embeddings.not_noted", error=error.message)

    async def _note(self) -> None:
        async with self._noting:
            for embedder in self._watched:
                was, now = self._noted[id(embedder)], Spent(**asdict(embedder.spent))
                kept = self._kept[embedder.identity]
                counts = {it: value - getattr(was, it) for it, value in asdict(now).items()}
                counts["kept"] = kept - self._kept_noted[embedder.identity]
                if any(counts.values()):
                    cost = self._cost(Spent(tokens=counts["tokens"]))
                    await self._rows.note(embedder.identity, counts, cost)
                    self._noted[id(embedder)] = now
                    self._kept_noted[embedder.identity] = kept

    # Forgetting

    async def sweep(self) -> int:
        """Forget what has not been used for long, and what is too many; how many."""
        return await self._rows.sweep(days=self._days, rows=self._most)

    async def forget(self, *, tenant: str | None = None, texts: Sequence[str] = ()) -> int:
        """Forget the vectors of a tenant ('' is what belongs to none), or of its `texts` only, or,
        with neither, all; how many there were. Raises TruthDown.
        """
        if not texts:
            return await self._rows.forget(tenant=tenant)
        key = self._key or await self._rows.key()
        models = {it.identity for it in self._watched} | set(await self._rows.models())
        macs = [mac_of(key, it, tenant or "", text) for it in models for text in texts]
        return await self._rows.forget(macs=macs)

    async def close(self) -> None:
        """Note what is left. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            async with self._noting:  # not between what is noted and knowing that it is
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            try:
                await self._note()
            except PolyplaneError as error:
                _log.warning("embeddings.not_noted", error=error.message)
        self._watched.clear()
