"""What vector stores find by words; `VectorStoreContract` inherits it."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import pytest

from polyplane.errors import NotFound, Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Item, Where
from polyplane.model.scope import RESERVED, TENANT_ID, Scope
from polyplane.model.terms import asked, terms
from polyplane.reconcile.deep import is_like
from polyplane.stores.protocol import VectorStore
from polyplane.testing.samples import (
    ALL,
    FILTERS,
    HOSTILE,
    NOTES,
    REFUSED_FILTERS,
    content_of,
    matches,
    note,
    notes,
    query,
)
from polyplane.testing.vector_scoping import OWNED, SCOPES, VectorScopingContract, owned

WORDED: Final = replace(NOTES, name="worded", full_text="english")
PLAIN: Final = replace(NOTES, name="worded_plainly", full_text="plain")
OWNED_WORDED: Final = replace(OWNED, name="owned_worded", full_text="english")

_WORDS: Final = "kettle boiling water steam copper handle lid spout tea leaves cup sugar milk"

HOSTILE_QUESTIONS: Final = [
    *HOSTILE,
    "",
    "\0",
    "kettle\0water",
    '"kettle water"',
    '"kettle',
    "kettle AND NOT water",
    "+kettle -water",
    "(kettle",
    "kettle^9 OR text:water",
    "kettle~2 wat*",
    "*",
    "?",
    "[kettle TO water]",
    "\ud800",
    "the of and",
    " ".join(f"word{i}" for i in range(3_000)),
    "kettle " * 20_000,
    "x" * 1_000_000,
    "\u0301" * 100,
]


def said(count: int, seed: int = 3) -> list[Item]:
    """Items that say a few of a few words, each at least one."""
    dice = random.Random(seed)
    return [
        replace_text(item, " ".join(dice.choices(_WORDS.split(), k=dice.randrange(1, 9))))
        for item in notes(count)
    ]


def replace_text(item: Item, text: str) -> Item:
    """The item with another text."""
    return Item(item.key, item.digest, replace(item.content, text=text))


def having(items: Iterable[Item], question: str, language: str = "english") -> set[str]:
    """The keys of the items that have a word of `question`, by definition."""
    wanted = set(asked(question, language))
    return {it.key for it in items if wanted & set(terms(it.content.text, language))}


class VectorMatchingContract(VectorScopingContract):
    """Items are found by their words, at once and by nothing else."""

    filters: Sequence[Where] = FILTERS
    """What is searched for; an engine that cannot express one of them says so, loudly."""

    @abstractmethod
    async def raw_words(
        self, store: VectorStore, collection: Collection, key: str, other: str
    ) -> None:
        """Have what is held under `key` be found by the words of `other`, past the adapter."""

    async def _matched(
        self,
        store: VectorStore,
        question: str,
        collection: Collection = WORDED,
        limit: int = 1_000,
    ) -> list[str]:
        """The keys of what is found by `question`, after what can be said of any answer."""
        hits = await store.match(collection, ALL, question, limit=limit)
        assert all(hit.score > 0 for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        keys = [hit.key for hit in hits]
        assert len(set(keys)) == len(keys)
        return keys

    @pytest.mark.parametrize("is_maintained", [False, True])
    async def test_match_finds_exactly_what_has_a_word(
        self, store: VectorStore, is_maintained: bool
    ) -> None:
        items = said(120)
        await store.prepare(WORDED)
        await store.apply(WORDED, items[:80], ["gone"], 1)
        if is_maintained:
            await store.maintain(WORDED, full=True)
        await store.apply(WORDED, items[80:], [], 2)
        for question in ("kettle", "boiled milk", "the LEAVES of some tea, please", "absent"):
            assert set(await self._matched(store, question)) == having(items, question), question
        by_key = {item.key: item for item in items}
        for hit in await store.match(WORDED, ALL, "kettle", limit=5):
            assert hit.text == by_key[hit.key].content.text
            assert dict(hit.tags) == content_of(by_key[hit.key])

    async def test_match_prefers_rare_words_and_those_said_often(self, store: VectorStore) -> None:
        await store.prepare(WORDED)
        padding = [note(f"p{i}", "water water water cup cup milk") for i in range(40)]
        some = [
            note("rare", "samovar cup cup cup milk milk"),
            note("often", "steam steam steam cup milk milk"),
            note("once", "steam cup cup cup milk milk"),
            note("both", "samovar steam cup cup milk milk"),
        ]
        await store.apply(WORDED, [*padding, *some], [], 1)
        for _ in range(2):
            assert (await self._matched(store, "samovar water"))[:2] in (
                ["rare", "both"],
                ["both", "rare"],
            )
            assert await self._matched(store, "steam", limit=2) == ["often", "both"] or (
                await self._matched(store, "steam", limit=1) == ["often"]
            )
            assert (await self._matched(store, "samovar steam"))[0] == "both"
            await store.maintain(WORDED, full=True)

    async def test_what_was_applied_is_matched_at_once(self, store: VectorStore) -> None:
        await store.prepare(WORDED)
        for position in (1, 11):
            items = [note(f"{position}-{i}", f"kettle number {i}") for i in range(20)]
            await store.apply(WORDED, items, [], position)
            key = f"{position}-3"
            await store.apply(WORDED, [note(key, "a samovar now")], [], position + 1)
            assert await self._matched(store, "samovar") == [key]
            assert key not in await self._matched(store, "kettles")
            await store.apply(WORDED, [note(key, "kettle again")], [], position)
            assert await self._matched(store, "samovar") == [key]
            await store.apply(WORDED, [], [key, f"{position}-4"], position + 2)
            assert await self._matched(store, "samovar") == []
            assert f"{position}-4" not in await self._matched(store, "kettle")
            await store.apply(WORDED, [note(f"{position}-4", "samovar")], [], position + 3)
            assert await self._matched(store, "samovar") == [f"{position}-4"]
            await store.apply(WORDED, [], [f"{position}-4"], position + 4)
            await store.maintain(WORDED, full=True)
            assert await self._matched(store, "samovar") == []
            await store.bury(WORDED, [f"{position}-5"], position + 5)
            assert f"{position}-5" not in await self._matched(store, "kettle")

    async def test_what_came_last_ranks_as_what_was_there(self, store: VectorStore) -> None:
        await store.prepare(WORDED)
        await store.apply(WORDED, said(60), [], 1)
        await store.apply(WORDED, [note("old", "samovar with steam")], [], 2)
        await store.maintain(WORDED, full=True)
        await store.apply(WORDED, [note("new", "samovar with steam")], [], 3)
        hits = await store.match(WORDED, ALL, "samovar steam", limit=2)
        assert {hit.key for hit in hits} == {"old", "new"}
        assert hits[0].score == pytest.approx(hits[1].score, rel=0.5)

    async def test_match_in_what_was_empty_when_it_was_maintained(self, store: VectorStore) -> None:
        await store.prepare(WORDED)
        await store.maintain(WORDED, full=True)
        assert await self._matched(store, "kettle") == []
        await store.apply(WORDED, [], ["gone", "too"], 1)
        await store.maintain(WORDED, full=True)
        await store.apply(WORDED, [note("a", "the first kettle")], [], 2)
        assert await self._matched(store, "kettle") == ["a"]
        await store.maintain(WORDED, full=True)
        await store.apply(WORDED, [note("b", "the second kettle")], [], 3)
        assert set(await self._matched(store, "kettle")) == {"a", "b"}

    async def test_match_filters_before_the_limit(self, store: VectorStore) -> None:
        items = said(60)
        await store.prepare(WORDED)
        await store.apply(WORDED, items, ["gone"], 1)
        best = having(items, "kettle tea")
        for where in self.filters:
            wanted = {it.key for it in items if matches(content_of(it), where)} & best
            found = await store.match(WORDED, ALL, "kettle tea", limit=100, where=where)
            assert {hit.key for hit in found} == wanted, where
        await store.apply(
            WORDED, [note("rare", "tea " + "cup milk sugar " * 20, owner="rare")], [], 2
        )
        [hit] = await store.match(WORDED, ALL, "tea", limit=1, where={"owner": "rare"})
        assert hit.key == "rare"

    async def test_impossible_matches_are_refused(self, store: VectorStore) -> None:
        await store.prepare(WORDED)
        for where, field in REFUSED_FILTERS:
            with pytest.raises(Refused) as refused:
                await store.match(WORDED, ALL, "kettle", where=where)
            assert refused.value.field == field, where
        for limit in (0, -1, 10**9):
            with pytest.raises(Refused) as refused:
                await store.match(WORDED, ALL, "kettle", limit=limit)
            assert refused.value.field == "limit"
        with pytest.raises(Refused) as refused:
            await store.match(NOTES, ALL, "kettle")
        assert refused.value.field == "mode"
        with pytest.raises(NotFound):
            await store.match(replace(WORDED, name="unknown"), ALL, "kettle")

    async def test_hostile_questions_are_only_words(self, store: VectorStore) -> None:
        await store.prepare(WORDED)
        items = [*said(20), *(note(text, text, owner=text) for text in HOSTILE)]
        await store.apply(WORDED, items, [], 1)
        for question in HOSTILE_QUESTIONS:
            assert set(await self._matched(store, question)) == having(items, question), question
        await store.maintain(WORDED, full=True)
        for question in HOSTILE_QUESTIONS:
            assert set(await self._matched(store, question)) == having(items, question), question

    @pytest.mark.parametrize("collection", [WORDED, PLAIN], ids=lambda it: it.full_text)
    async def test_forms_of_a_word(self, store: VectorStore, collection: Collection) -> None:
        texts = {
            "run": "Running water, WATERS that run",
            "cafe": "Un café à Paris, deux cafe\u0301s",
            "strasse": "Die STRASSE und die Straße",
            "cjk": "東京都に住んでいます",
            "num": "version 3.11 of snake_case.py",
            "the": "To be or not to be",
            "hindi": "हिन्दी में पाठ",
            "blank": "",
        }
        await store.prepare(collection)
        await store.apply(collection, [note(k, t) for k, t in texts.items()], [], 1)
        is_stemmed = collection.full_text == "english"
        for question, keys in {
            "runs": {"run"} if is_stemmed else set(),
            "running": {"run"},
            "CAFE": {"cafe"},
            "Café": {"cafe"},
            "strasse": {"strasse"},
            "straße": {"strasse"},
            "京都": {"cjk"},
            "東京": {"cjk"},
            "snake": {"num"},
            "3.11": {"num"},
            "to be": {"the"},
            "हिन्दी": {"hindi"},
            "!!": set(),
        }.items():
            assert set(await self._matched(store, question, collection)) == keys, question

    async def test_a_scope_is_matched_only_what_it_sees(self, store: VectorStore) -> None:
        items = [replace_text(it, f"kettle {it.key}") for it in owned(60)]
        await store.prepare(OWNED_WORDED)
        await store.apply(OWNED_WORDED, items, ["gone"], 1)
        await store.maintain(OWNED_WORDED, full=True)
        for scope in SCOPES:
            seen = {it.key: it for it in items if scope.sees(RESERVED, it.content.tags)}
            hits = await store.match(OWNED_WORDED, scope, "kettle", limit=200)
            assert {hit.key for hit in hits} == set(seen), scope
            for hit in hits:
                for name in RESERVED:
                    assert hit.tags.get(name) == seen[hit.key].content.tags[name]
        mine = [it for it in items if it.content.tags[TENANT_ID] == "acme"]
        scope = Scope("acme", sees_all=True)
        for limit in (1, len(mine)):
            hits = await store.match(OWNED_WORDED, scope, "kettle", limit=limit)
            assert len(hits) == limit
            assert {hit.key for hit in hits} <= {it.key for it in mine}

    async def test_words_put_by_hand_are_told_of(self, store: VectorStore) -> None:
        """They are no part of a digest: who compares contents must see that they are others."""
        await store.prepare(WORDED)
        item = note("a", "the kettle")
        await store.apply(WORDED, [item, note("b", "a samovar")], [], 1)
        await self.raw_words(store, WORDED, "a", "b")
        assert set(await self._matched(store, "samovar")) == {"a", "b"}
        held = {it.stamp.key: it for it in await store.contents(WORDED, ["a", "b"])}
        assert held["a"].stamp.digest == item.digest
        assert not is_like(item.content, held["a"].content)
        assert is_like(note("b", "a samovar").content, held["b"].content)

    async def test_what_is_worded_is_held_and_scanned_as_any(self, store: VectorStore) -> None:
        items: Sequence[Item] = said(30)
        await store.prepare(WORDED)
        await store.apply(WORDED, items, ["gone"], 3)
        held = await store.contents(WORDED, [*(item.key for item in items), "gone"])
        by_key = {it.stamp.key: it for it in held}
        assert by_key["gone"].content is None
        assert all(is_like(item.content, by_key[item.key].content) for item in items)
        stamps = await self._stamps(store, WORDED)
        assert [stamp.key for stamp in stamps] == sorted(by_key)
        found = await store.search(WORDED, ALL, query(1), limit=100)
        exact = await store.search(WORDED, ALL, query(1), limit=100, exact=True)
        assert [hit.key for hit in found] == [hit.key for hit in exact]
        assert {hit.key for hit in found} == {item.key for item in items}
