"""What a reader of vectors makes of what a store gives: modes, pages, marks, second opinions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from polyplane.errors import Misconfigured, NotFound, Refused, ScopeViolated, StoreDown, Unavailable
from polyplane.model.found import Found, Match
from polyplane.model.fusion import fused
from polyplane.model.items import Hit, Item, Vector
from polyplane.model.scope import Scope
from polyplane.runtime.alarms import Alarms
from polyplane.runtime.generations import Reading
from polyplane.runtime.searching import FUSED, QUESTION_MAX, VectorReader
from polyplane.stores.protocol import Spent
from polyplane.stores.vector import lance
from polyplane.stores.vector.lance import LanceStore
from polyplane.testing.samples import ALL, NOTES, note, notes
from polyplane.testing.vector_matching import OWNED_WORDED, WORDED, said

Reader = VectorReader[Any]
TEXTS = {
    "a": "the kettle is broken",
    "b": "a kettle and its lid",
    "c": "steam of the kettle, kettle",
    "d": "cats & dogs <b>",
}


class Letters:
    """Texts by the letters they have: deterministic, and enough to tell some apart."""

    identity = "letters"
    dimensions = NOTES.dimensions
    costs = False
    spent = Spent()

    def __init__(self) -> None:
        self.down = False

    async def embed(self, texts: Sequence[str]) -> Any:
        if self.down:
            raise Unavailable("The embedder is down.")
        counted = [[text.count(c) + 0.1 for c in "abdeiklt"] for text in texts]
        found = np.asarray(counted, np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture
async def store() -> LanceStore:
    store = await lance.connect("lancedb://memory://", durable=False)
    for collection in (WORDED, NOTES, OWNED_WORDED):
        await store.prepare(collection)
    return store


@pytest.fixture
def letters() -> Letters:
    return Letters()


def reader(store: LanceStore, letters: Letters, **changed: Any) -> Reader:
    """A reader of what is worded."""
    given: dict[str, Any] = {
        "collection": WORDED,
        "scope": ALL,
        "marks": (),
        "full_text": "english",
    }
    given |= changed
    reading = Reading(given["collection"], letters, derived=True)

    async def refresh() -> None:
        return None

    return VectorReader(
        given["scope"],
        given["marks"],
        lambda: reading,
        refresh,
        store,
        Alarms(),
        full_text=given["full_text"],
    )


async def put(store: LanceStore, letters: Letters, texts: dict[str, str]) -> None:
    """Items with these texts, embedded."""
    vectors = await letters.embed(list(texts.values()))
    items = [
        Item(key, "0", Vector(text, {}, vector))
        for (key, text), vector in zip(texts.items(), vectors, strict=True)
    ]
    await store.apply(WORDED, items, [], 1)


async def test_each_mode(store: LanceStore, letters: Letters) -> None:
    await put(store, letters, TEXTS)
    asking = reader(store, letters)
    near = [h.key for h in await asking.search("broken kettle")]
    by_words = await asking.find("broken kettle", mode="text")
    assert {it.key for it in by_words.hits} == {"a", "b", "c"}
    assert [it.ranks for it in by_words.hits] == [{"text": 1}, {"text": 2}, {"text": 3}]
    by_meaning = await asking.find("broken kettle", mode="vector")
    assert [it.key for it in by_meaning.hits] == near
    both = await asking.find("broken kettle")
    assert (both.mode, both.more, both.degraded) == ("hybrid", False, "")
    wanted = fused({"vector": near, "text": [it.key for it in by_words.hits]})
    assert [(it.key, it.score, it.ranks) for it in both.hits] == wanted
    for it in (*both.hits, *by_words.hits, *by_meaning.hits):
        marked = [it.text[start:end] for start, end in it.highlights]
        assert set(marked) <= {"kettle", "broken"}
    assert next(it for it in both.hits if it.key == "c").highlights == ((13, 19), (21, 27))


async def test_without_full_text_there_is_one_mode(store: LanceStore, letters: Letters) -> None:
    await store.apply(NOTES, notes(3), [], 1)
    asking = reader(store, letters, collection=NOTES, full_text="")
    found = await asking.find("text")
    assert (found.mode, len(found.hits), found.degraded) == ("vector", 3, "")
    assert all(it.highlights for it in found.hits)
    for mode in ("text", "hybrid"):
        with pytest.raises(Refused) as refused:
            await asking.find("text", mode=mode)
        assert refused.value.field == "mode"


async def test_while_the_full_text_is_built(store: LanceStore, letters: Letters) -> None:
    """Readers are still at a collection of before."""
    await store.apply(NOTES, notes(3), [], 1)
    asking = reader(store, letters, collection=NOTES)
    found = await asking.find("text", mode="hybrid")
    assert (len(found.hits), found.degraded) == (
        3,
        "The full text is being built: by meaning alone.",
    )
    with pytest.raises(StoreDown):
        await asking.find("text", mode="text")


async def test_when_the_embedder_is_down(store: LanceStore, letters: Letters) -> None:
    await put(store, letters, TEXTS)
    letters.down = True
    asking = reader(store, letters)
    found = await asking.find("kettle")
    assert {it.key for it in found.hits} == {"a", "b", "c"}
    assert found.degraded == "The embedder does not answer: by words alone."
    with pytest.raises(Unavailable):
        await asking.find("kettle", mode="vector")
    with pytest.raises(Unavailable):
        await asking.search("kettle")
    assert (await asking.find("kettle", mode="text")).degraded == ""


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
@pytest.mark.parametrize("is_maintained", [False, True])
async def test_pages_do_not_overlap_and_miss_nothing(
    store: LanceStore,
    letters: Letters,
    mode: Literal["vector", "text", "hybrid"],
    is_maintained: bool,
) -> None:
    """With many equal ones, between which a store chooses as it likes."""
    texts = [f"kettle {'steam' * (i % 3)}" for i in range(60)]
    await put(store, letters, {f"k{i:02}": text for i, text in enumerate(texts)})
    if is_maintained:
        await store.maintain(WORDED, full=True)
    asking = reader(store, letters)
    whole = await asking.find("kettle", mode=mode, limit=100)
    assert (len(whole.hits), whole.more) == (60, False)
    for size in (1, 7, 30):
        paged: list[Match] = []
        while True:
            page = await asking.find("kettle", mode=mode, limit=size, offset=len(paged))
            paged += page.hits
            if not page.more:
                break
            assert len(page.hits) == size
        assert paged == list(whole.hits), size
    assert (await asking.find("kettle", mode=mode, offset=500)).hits == ()


async def test_filters_narrow_both_parts(store: LanceStore, letters: Letters) -> None:
    await store.apply(WORDED, said(100), [], 1)
    asking = reader(store, letters)
    for mode in ("vector", "text", "hybrid"):
        found = await asking.find("kettle tea", mode=mode, tags={"owner": "ada"}, limit=100)
        assert {it.tags["owner"] for it in found.hits} == {"ada"}, mode


async def test_more_like_this(store: LanceStore, letters: Letters) -> None:
    items = [*said(40), note("twin"), note("twinned")]
    items[-1].content = replace(items[-1].content, embedding=items[-2].content.embedding)
    await store.apply(WORDED, items, ["gone"], 1)
    asking = reader(store, letters)
    found = await asking.similar("twin", limit=5)
    assert found.hits[0].key == "twinned"
    assert found.more
    pages = [await asking.similar("twin", limit=10, offset=at) for at in range(0, 50, 10)]
    keys = [it.key for page in pages for it in page.hits]
    assert sorted(keys) == sorted(it.key for it in items if it.key != "twin")
    for key in ("gone", "never", "", "it's"):
        with pytest.raises(NotFound):
            await asking.similar(key)


async def test_a_second_opinion(store: LanceStore, letters: Letters) -> None:
    await put(store, letters, TEXTS)
    asking = reader(store, letters)

    async def backwards(question: str, matches: Sequence[Match]) -> list[float]:
        assert question == "kettle"
        return [float(i) for i in range(len(matches))]

    plain = await asking.find("kettle")
    again = await asking.find("kettle", rerank=backwards)
    assert [it.key for it in again.hits] == [it.key for it in reversed(plain.hits)]
    assert [it.score for it in again.hits] == [3.0, 2.0, 1.0, 0.0]
    assert (again.degraded, again.hits[0].ranks) == ("", plain.hits[-1].ranks)
    page = await asking.find("kettle", rerank=backwards, limit=2, offset=2)
    assert page.hits == again.hits[2:]


async def _raises(_question: str, _matches: Sequence[Match]) -> list[float]:
    raise KeyError("a fault in it")


async def _too_few(_question: str, _matches: Sequence[Match]) -> list[float]:
    return [1.0]


async def _no_numbers(_question: str, matches: Sequence[Match]) -> list[float]:
    return [float("nan")] * len(matches)


async def _for_ever(_question: str, _matches: Sequence[Match]) -> list[float]:
    await asyncio.Event().wait()
    return []


@pytest.mark.parametrize("rerank", [_raises, _too_few, _no_numbers, _for_ever])
async def test_a_second_opinion_that_fails_is_done_without(
    store: LanceStore, letters: Letters, rerank: Any
) -> None:
    await put(store, letters, TEXTS)
    asking = reader(store, letters)
    plain = await asking.find("kettle")
    found = await asking.find("kettle", rerank=rerank, rerank_timeout_s=0.05)
    assert found.hits == plain.hits
    assert found.degraded.startswith("Not ranked again: ")


async def test_what_cannot_be_asked(store: LanceStore, letters: Letters) -> None:
    asking = reader(store, letters, scope=Scope("acme"), marks=("tenant_id",))
    asking._marks = ()  # of the sample, which nobody owns
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("limit", lambda: asking.find("x", limit=0)),
        ("limit", lambda: asking.find("x", limit=1_001)),
        ("offset", lambda: asking.find("x", offset=-1)),
        ("offset", lambda: asking.find("x", limit=10, offset=991)),
        ("offset", lambda: asking.similar("x", limit=10, offset=991)),
        ("mode", lambda: asking.find("x", mode="best")),  # type: ignore[arg-type]
        ("question", lambda: asking.find("x" * (QUESTION_MAX + 1))),
        ("question", lambda: asking.find("\ud800")),
    ]
    for field, call in calls:
        with pytest.raises(Refused) as refused:
            await call()
        assert refused.value.field == field
    nobody = reader(store, letters)
    nobody._reading = lambda: Reading(WORDED, None, derived=True)
    with pytest.raises(Misconfigured):
        await nobody.find("x")
    assert (await asking.find("")).hits == (await asking.find("?!")).hits == ()


async def test_what_a_store_shows_of_others_is_noticed(
    store: LanceStore, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [note(f"m{i}", f"kettle {i}", tenant_id="acme", owner_id=None) for i in range(3)]
    theirs = [note(f"t{i}", f"kettle {i}", tenant_id="other", owner_id=None) for i in range(3)]
    await store.apply(OWNED_WORDED, [*mine, *theirs], [], 1)
    seen = {
        "collection": OWNED_WORDED,
        "scope": Scope("acme"),
        "marks": ("tenant_id", "owner_id"),
    }
    asking = reader(store, letters, **seen)
    for found in (await asking.find("kettle"), await asking.find("kettle", mode="text")):
        assert {it.key for it in found.hits} == {it.key for it in mine}
    assert {it.key for it in (await asking.similar("m0")).hits} == {"m1", "m2"}
    with pytest.raises(NotFound):
        await asking.similar("t0")
    with pytest.raises(Refused):
        await asking.find("kettle", tags={"tenant_id": "other"})
    monkeypatch.setattr(lance, "narrowed", lambda _collection, _scope, where: where)
    for call in (
        asking.find("kettle", mode="text"),
        asking.find("kettle", mode="vector"),
        asking.similar("t0"),
        asking.similar("m0"),
    ):
        with pytest.raises(ScopeViolated):
            await call


async def test_hybrid_ranks_as_many_whatever_the_page(
    store: LanceStore, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    original = LanceStore.match

    async def counted(self: LanceStore, *args: Any, **kwargs: Any) -> list[Hit]:
        asked.append(kwargs["limit"])
        return await original(self, *args, **kwargs)

    monkeypatch.setattr(LanceStore, "match", counted)
    await put(store, letters, TEXTS)
    asking = reader(store, letters)
    found = [await asking.find("kettle", limit=3, offset=at) for at in (0, 3, 100)]
    assert len(set(asked)) == 1
    assert asked[0] > FUSED
    assert isinstance(found[0], Found)
