"""How applications search one collection: by meaning, by words, or by both.

What a store gives is ranked, paged and marked here, the same for every engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, Final, Generic

import structlog
from typing_extensions import TypeVar

from polyplane.errors import Misconfigured, NotFound, Refused, StoreDown, Unavailable
from polyplane.model.found import Found, Match, Mode, Rerank
from polyplane.model.fusion import fused
from polyplane.model.items import Hit, Where
from polyplane.model.projection import Projection
from polyplane.model.scope import Scope, check_unreserved
from polyplane.model.terms import PLAIN, asked, highlights
from polyplane.runtime.alarms import Alarms
from polyplane.runtime.generations import Reading
from polyplane.stores.protocol import VectorStore

P = TypeVar("P", bound=Projection[Any])

_log = structlog.get_logger(__name__)

LIMIT_MAX: Final = 1_000
"""The most hits of one answer, those before its page included."""
QUESTION_MAX: Final = 4_000
"""Characters of a question; a longer text is searched for by what is like it (`similar`)."""
FUSED: Final = 100
"""So many of the best by meaning, and by words, are ranked together: always as many, so that the
pages of one question are of one order."""
EMBEDDED_S: Final = 8.0
"""An endpoint that was asked too much holds back everybody, for a minute; who asks waits no longer
than this.
"""
RERANKED: Final = 50
"""So many of the best are given to a re-ranking."""
_TIES: Final = 16
"""Asked for beyond what is wanted, to have all that are equal to the last one."""
_STORE_MAX: Final = 10_000

_Ask = Callable[[int], Awaitable[list[Hit]]]


class VectorReader(Generic[P]):
    """Search in the collection of one `Vectors` projection."""

    def __init__(
        self,
        scope: Scope,
        marks: tuple[str, ...],
        reading: Callable[[], Reading],
        refresh: Callable[[], Awaitable[None]],
        store: VectorStore,
        alarms: Alarms,
        *,
        full_text: str = "",
    ) -> None:
        """`marks` is what its items say of whose they are. `refresh` has `reading` give what the
        journal knows. `full_text` is what the projection declares."""
        self._scope = scope
        self._marks = marks
        self._reading = reading
        self._refresh = refresh
        self._store = store
        self._alarms = alarms
        self._full_text = full_text

    async def search(
        self, query: str | Sequence[float], *, limit: int = 10, tags: Where | None = None
    ) -> list[Hit]:
        """The items nearest to `query` (a text, or an embedding) that satisfy `tags`, best first.

        Raises Refused for an unknown tag or a limit outside 1 to 1,000, StoreDown while the
        collection is being filled: what it lacks would be no answer.
        """
        self._check(limit, 0, tags)
        reading = await self._whole()  # throughout, whatever is switched meanwhile
        embedding = await _embedded(reading, query) if isinstance(query, str) else query
        return await self._near(reading, embedding, tags, exact=False)(limit)

    async def find(
        self,
        question: str,
        *,
        mode: Mode | None = None,
        limit: int = 10,
        offset: int = 0,
        tags: Where | None = None,
        exact: bool = False,
        rerank: Rerank | None = None,
        rerank_timeout_s: float = 2.0,
    ) -> Found:
        """A page of what answers `question`: by meaning ("vector"), by words ("text"), or by both
        ("hybrid", reciprocal rank fusion of the best 100 of each; the default with full text).

        Pages of one question do not overlap while nothing is written. With `exact` no index may
        miss anything. `rerank` orders the first 50 anew; when it fails, or takes longer than
        `rerank_timeout_s`, the answer is in the order it had and is marked `degraded`, as is one
        by words alone because the embedder does not answer.

        Raises Refused for an unknown tag, mode or page, or a question of more than 4,000
        characters; StoreDown while the collection is being filled.
        """
        self._check(limit, offset, tags)
        _check_question(question, mode)
        reading = await self._whole()
        ways, poorer = self._ways(reading, mode)
        ranked, failed = await self._ranked(reading, question, ways, limit + offset, tags, exact)
        language = reading.collection.full_text or PLAIN
        looked_for = asked(question, language)
        matches = [Match(hit.key, hit.score, hit.text, hit.tags, ranks) for hit, ranks in ranked]
        if rerank is not None and matches:
            matches, unranked = await _reranked(question, matches, rerank, rerank_timeout_s)
            failed = failed or unranked
        page = [
            Match(
                it.key,
                it.score,
                it.text,
                it.tags,
                it.ranks,
                highlights(it.text, looked_for, language),
            )
            for it in matches[offset : offset + limit]
        ]
        more = len(matches) > offset + limit
        return Found(tuple(page), mode or ways, more, failed or poorer)

    async def similar(
        self,
        key: Any,
        *,
        limit: int = 10,
        offset: int = 0,
        tags: Where | None = None,
        exact: bool = False,
    ) -> Found:
        """A page of what is most like the item under `key`, which is left out.

        Raises NotFound when there is no such item to be seen, else as `find`.
        """
        self._check(limit, offset, tags)
        reading, named = await self._whole(), str(key)
        seen = self._checked(await self._store.get(reading.collection, self._scope, [named]))
        held = await self._store.contents(reading.collection, [named]) if seen else []
        embedding = next((it.content.embedding for it in held if it.content is not None), None)
        if embedding is None:
            raise NotFound(f"There is nothing under {named!r:.80}.", field="key")
        near = self._near(reading, embedding, tags, exact=exact)
        hits = [hit for hit in await _best(near, offset + limit + 2) if hit.key != named]
        page = [
            Match(hit.key, hit.score, hit.text, hit.tags, {"vector": place})
            for place, hit in enumerate(hits, 1)
        ]
        return Found(tuple(page[offset : offset + limit]), "vector", len(hits) > offset + limit)

    async def get(self, keys: Sequence[Any]) -> list[Hit]:
        """The items under `keys` that exist, in the order of `keys`."""
        collection, named = (await self._whole()).collection, [str(key) for key in keys]
        return self._checked(await self._store.get(collection, self._scope, named))

    # How it is ranked

    def _ways(self, reading: Reading, mode: Mode | None) -> tuple[Mode, str]:
        """What `mode` comes to in this collection; why it is less than was asked for, if it is."""
        has_words = bool(reading.collection.full_text)
        if has_words or mode == "vector":
            return mode or "hybrid", ""
        if not self._full_text:
            if mode is not None:
                raise Refused("This collection has no full text.", field="mode")
            return "vector", ""
        if mode == "text":
            raise StoreDown(
                f"The full text of {reading.collection.name} is being built.",
                fix="See: polyplane projections list",
            )
        return "vector", "The full text is being built: by meaning alone."

    async def _ranked(
        self,
        reading: Reading,
        question: str,
        ways: Mode,
        count: int,
        tags: Where | None,
        exact: bool,
    ) -> tuple[list[tuple[Hit, dict[str, int]]], str]:
        """More hits than `count` where there are, best first, with their places; what failed."""
        depth = count + 1
        parts: dict[str, list[Hit]] = {}
        failed = ""
        by_words = self._worded(reading, question, tags)
        if ways == "text":
            parts["text"] = await _best(by_words, depth)
        else:
            depth = depth if ways == "vector" else max(FUSED, depth - count)
            try:
                embedding = await _embedded(reading, question)
            except Unavailable:
                if ways == "vector":
                    raise
                failed = "The embedder does not answer: by words alone."
                parts["text"] = await _best(by_words, depth)
            else:
                near = self._near(reading, embedding, tags, exact=exact)
                if ways == "vector":
                    parts["vector"] = await _best(near, depth)
                else:
                    parts["vector"], parts["text"] = await asyncio.gather(
                        _best(near, depth), _best(by_words, depth)
                    )
        if len(parts) == 1:
            [(name, hits)] = parts.items()
            return [(hit, {name: place}) for place, hit in enumerate(hits, 1)], failed
        by_key = {hit.key: hit for hits in parts.values() for hit in hits}
        keys = {name: [hit.key for hit in hits] for name, hits in parts.items()}
        return [
            (by_key[it.key]._replace(score=it.score), dict(it.ranks)) for it in fused(keys)
        ], failed

    def _near(
        self, reading: Reading, embedding: Sequence[float], tags: Where | None, *, exact: bool
    ) -> _Ask:
        async def ask(limit: int) -> list[Hit]:
            return self._checked(
                await self._store.search(
                    reading.collection,
                    self._scope,
                    embedding,
                    limit=limit,
                    where=tags,
                    exact=exact,
                )
            )

        return ask

    def _worded(self, reading: Reading, question: str, tags: Where | None) -> _Ask:
        async def ask(limit: int) -> list[Hit]:
            return self._checked(
                await self._store.match(
                    reading.collection, self._scope, question, limit=limit, where=tags
                )
            )

        return ask

    # What may be asked, and what may be seen

    def _check(self, limit: int, offset: int, tags: Where | None) -> None:
        if not 1 <= limit <= LIMIT_MAX:
            raise Refused("limit must be from 1 to 1,000.", field="limit")
        if not 0 <= offset <= LIMIT_MAX - limit:
            raise Refused("offset and limit together must be at most 1,000.", field="offset")
        if tags and self._marks:
            check_unreserved(tags, "The tag")

    async def _whole(self) -> Reading:
        """The collection to read, which holds all of truth; else StoreDown."""
        if not self._is_whole(reading := self._reading()):
            await self._refresh()
            if not self._is_whole(reading := self._reading()):
                raise StoreDown(
                    f"{reading.collection.target} is being filled.",
                    fix="Try again in a moment; `polyplane status` shows how far it is.",
                )
        return reading

    def _is_whole(self, reading: Reading) -> bool:
        """One of before, whose items do not say whose they are, is for nobody to read."""
        return reading.filled and set(self._marks) <= set(reading.collection.marks)

    def _checked(self, hits: list[Hit]) -> list[Hit]:
        if self._marks:
            for hit in hits:
                if not self._scope.sees(self._marks, hit.tags):
                    place = self._reading().collection.name
                    raise self._alarms.violated(place, f"item {hit.key}")
        return hits


def _check_question(question: str, mode: Mode | None) -> None:
    if mode not in (None, "vector", "text", "hybrid"):
        raise Refused(f"There is no mode {mode!r:.40}.", field="mode")
    if len(question) > QUESTION_MAX:
        raise Refused(f"A question has at most {QUESTION_MAX:,} characters.", field="question")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise Refused("The question is no text.", field="question") from None


async def _embedded(reading: Reading, question: str) -> Sequence[float]:
    if reading.embedder is None:
        raise Misconfigured("A text cannot be searched for without an embedder.")
    try:
        async with asyncio.timeout(EMBEDDED_S):
            (embedding,) = await reading.embedder.embed([question])
    except TimeoutError:
        raise StoreDown(f"The embedder does not answer within {EMBEDDED_S:g} s.") from None
    return embedding  # type: ignore[no-any-return]


async def _best(ask: _Ask, count: int) -> list[Hit]:
    """The first `count` of all hits, equal ones by key: the same first ones for every count.

    A store breaks ties at its limit as it likes. So it is asked for more, until those that equal
    the last one wanted are all there.
    """
    limit = count + _TIES
    while True:
        limit = min(limit, _STORE_MAX)
        hits = await ask(limit)
        is_whole = len(hits) < limit or hits[-1].score < hits[count - 1].score
        if is_whole or limit == _STORE_MAX:
            return sorted(hits, key=lambda hit: (-hit.score, hit.key))[:count]
        limit *= 4


async def _reranked(
    question: str, matches: list[Match], rerank: Rerank, timeout_s: float
) -> tuple[list[Match], str]:
    """`matches` with the first ones in the order of `rerank`; or as they are, and why."""
    first = matches[:RERANKED]
    try:
        async with asyncio.timeout(timeout_s):
            scores = [float(score) for score in await rerank(question, tuple(first))]
        if len(scores) != len(first) or not all(map(isfinite, scores)):
            raise ValueError(f"{len(scores)} finite scores for {len(first)} hits were given.")
    except Exception as error:  # whatever it is: the answer without it is one, too
        why = "it took too long" if isinstance(error, TimeoutError) else type(error).__name__
        _log.warning("search.not_reranked", error=repr(error)[:200])
        return matches, f"Not ranked again: {why}."
    placed = sorted(zip(scores, range(len(first)), strict=True), key=lambda it: (-it[0], it[1]))
    return [*(replace(first[i], score=score) for score, i in placed), *matches[RERANKED:]], ""
