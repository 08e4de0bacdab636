"""Vectors that cost money: paid for once, for whose text it is, and what was spent is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from httpx import AsyncClient
from pydantic import SecretStr
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.errors import StoreDown
from polyplane.marks import Secret
from polyplane.runtime import embeddings, searching
from polyplane.serve.api.embedding import embedder_of
from polyplane.serve.cli.status import embedder_table
from polyplane.truth.embeddings import EmbeddingUsage
from tests.conftest import PlaneOf
from tests.embeddings_endpoint import DIMENSIONS, Endpoint, tokens
from tests.flow.things import becomes, by_hand

MODEL = f"tiny-{DIMENSIONS}"
ROWS = 40


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Memo(Base):
    """A text of a tenant."""

    __tablename__ = "memo"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = marks.tenant()
    body: Mapped[str]


class Diary(Base):
    """A text that nobody may see."""

    __tablename__ = "diary"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[Secret[str]] = marks.secret()


class MemoSearch(pp.Vectors[Memo]):
    """Memos by what they say."""

    def derive(self, memo: Memo, /) -> pp.Vector | None:
        """The body."""
        return pp.Vector(memo.body)


class DiarySearch(pp.Vectors[Diary]):
    """Diaries by what they say, for whoever may."""

    secrets = True

    def derive(self, diary: Diary, /) -> pp.Vector | None:
        """The body, in clear."""
        return pp.Vector(diary.body.reveal())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint of the test's own."""
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def paid(own_settings: pp.Settings, endpoint: Endpoint) -> pp.Settings:
    """Settings of a plane whose embedder costs something."""
    changed = {
        "embedder_url": SecretStr(endpoint.base),
        "embedder_model": "tiny",
        "embedder_dimensions": DIMENSIONS,
        "embedder_batch_texts": 16,
        "embedder_price": Decimal("2.5"),
    }
    return own_settings.model_copy(update=changed)


async def ready(plane: pp.Plane) -> None:
    """Return when all that is committed is applied, and nothing is being filled or embedded."""
    await plane.caught_up()

    async def filled() -> set[bool]:
        await plane.opened.generations.refresh()
        return {reading.filled for reading in plane.opened.generations.readings.values()}

    await becomes(filled, {True}, within_s=30)
    await plane.caught_up()


def total(days: Sequence[EmbeddingUsage], *names: str) -> tuple[Any, ...]:
    """The sums over all days."""
    return tuple(sum(getattr(it, name) for it in days) for name in names)


async def kept(plane: pp.Plane) -> int:
    """How many vectors are kept."""
    ((count,),) = await by_hand(plane, "SELECT count(*) FROM polyplane.embedding")
    return int(count)


FILL = (
    "INSERT INTO memo (id, tenant_id, body)"
    " SELECT n, 'acme', 'memo about matter ' || n FROM generate_series(%s::int, %s::int) n"
)


async def test_no_text_is_paid_for_twice(
    plane_of: PlaneOf,
    paid: pp.Settings,
    own_settings: pp.Settings,
    endpoint: Endpoint,
    client_of: Callable[[pp.Plane], AsyncClient],
) -> None:
    """Not by a rebuild, nor by going to another model and back; what was spent is told by all."""
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=paid)
    await ready(plane)
    await by_hand(plane, FILL, 1, ROWS)
    await ready(plane)
    assert set(endpoint.texts) == {f"memo about matter {n}" for n in range(1, ROWS + 1)}
    assert max(len(body["input"]) for _, _, body in endpoint.requests) <= 16
    asked = len(endpoint.requests)
    again = "VALUES (99, 'acme', 'memo about matter 1')"
    await by_hand(plane, f"INSERT INTO memo (id, tenant_id, body) {again}")
    await ready(plane)
    assert len(endpoint.requests) == asked

    await plane.rebuild(MemoSearch)
    assert len(endpoint.requests) == asked
    assert (await plane.verify()).clean
    assert len(endpoint.requests) == asked

    ada = plane.acting(pp.Caller("ada", "acme"))
    [hit, *_] = await ada[MemoSearch].search("memo about matter 7", limit=1)
    assert (hit.key, len(endpoint.requests)) == ("7", asked + 1)
    days = await plane.embeddings.usage()  # two of them around midnight
    texts = endpoint.texts
    spent = sum(map(tokens, texts))
    assert {it.model for it in days} == {MODEL}
    assert total(days, "texts", "tokens", "requests", "failed") == (
        len(texts),
        spent,
        asked + 1,
        0,
    )
    assert total(days, "kept") >= (ROWS + 2,)
    assert total(days, "cost") == (spent * Decimal("2.5") / 1_000_000,)

    async with client_of(plane) as client:
        metrics = (await client.get("/metrics")).text
    assert f'polyplane_embedding_tokens_total{{model="{MODEL}"}} {float(spent)}' in metrics
    status = await embedder_of(plane)
    assert status is not None and (status.model, status.costs) == (MODEL, True)
    assert total(status.days, "tokens") == (spent,)
    table = embedder_table(status.model_dump(mode="json"))
    assert table.row_count == len(status.days)
    await plane.close()

    other = own_settings.model_copy(update={"embedder_url": SecretStr("deterministic://32")})
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=other)
    await plane.caught_up()
    reading = plane.opened.generations.readings["memo_search"]
    assert (reading.collection.dimensions, reading.collection.generation) == (32, 3)
    assert (await plane.verify()).clean
    await plane.close()
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=paid)
    await plane.caught_up()
    assert plane.opened.generations.readings["memo_search"].collection.generation == 2
    assert (await plane.verify()).clean
    assert len(endpoint.requests) == asked + 1
    assert total(await plane.embeddings.usage(), "texts") == (len(texts),)


async def test_a_proof_is_of_nothing_that_is_kept(
    plane_of: PlaneOf, paid: pp.Settings, endpoint: Endpoint
) -> None:
    """What is kept wrongly is found by --deep, and is right then, so that it can be mended."""
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=paid)
    await by_hand(plane, FILL, 1, 3)
    await ready(plane)
    wrong = b"\x00\x00\x80\x3f" + bytes(4 * (DIMENSIONS - 1))
    await by_hand(plane, "UPDATE polyplane.embedding SET vector = %s::bytea", wrong)
    await plane.rebuild(MemoSearch)
    assert (await plane.verify()).clean
    assert (await plane.verify(deep=True)).stale == 3
    mended = await plane.repair(MemoSearch, deep=True)
    assert mended.left.clean
    assert (await plane.verify(deep=True)).clean


async def test_whose_it_is(plane_of: PlaneOf, paid: pp.Settings, endpoint: Endpoint) -> None:
    """The same text of another tenant is another, and goes with its tenant; what is searched for,
    and what is secret, is never kept."""
    plane = await plane_of(
        models=[Memo, Diary], projections=[MemoSearch, DiarySearch], settings=paid
    )
    rows = "(1, 'acme', 'one'), (2, 'acme', 'two'), (3, 'umbrella', 'one')"
    await by_hand(plane, f"INSERT INTO memo (id, tenant_id, body) VALUES {rows}")
    async with plane.write(actor="ada") as tx:
        tx.add(Diary(id=1, body=Secret("one")))
    await ready(plane)
    assert (set(endpoint.texts), endpoint.texts.count("one") >= 3) == ({"one", "two"}, True)
    assert await kept(plane) == 3
    asked = len(endpoint.texts)
    for _ in range(2):
        await plane.acting(pp.Caller("ada", "acme"))[MemoSearch].search("one")
    assert (len(endpoint.texts), await kept(plane)) == (asked + 2, 3)

    assert await plane.embeddings.forget(tenant="acme", texts=["two", "never"]) == 1
    assert await plane.embeddings.forget(tenant="umbrella") == 1
    assert await kept(plane) == 1
    assert await plane.embeddings.forget() == 1
    assert "one" not in str(await by_hand(plane, "SELECT * FROM polyplane.embedding_usage"))


@pytest.mark.long
async def test_a_lost_cache_only_costs(
    plane_of: PlaneOf, paid: pp.Settings, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its tables everything goes on, at the price of asking again."""
    monkeypatch.setattr(embeddings, "AGAIN_S", 0.0)
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=paid)
    await by_hand(plane, FILL, 1, 2)
    await ready(plane)
    asked = len(endpoint.texts)
    await by_hand(plane, "UPDATE polyplane.embedding SET vector = '\\x00'")  # of no known length
    await plane.rebuild(MemoSearch)
    assert len(endpoint.texts) == asked + 2
    await by_hand(plane, "DROP TABLE polyplane.embedding, polyplane.embedding_usage")
    await by_hand(plane, FILL, 3, 4)
    await plane.rebuild(MemoSearch)
    assert len(endpoint.texts) >= asked + 2 + 4
    assert (await plane.verify()).clean


async def test_who_searches_is_not_held_back_for_long(
    plane_of: PlaneOf, paid: pp.Settings, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that wants to be left alone for a minute is left alone, and that is said."""
    monkeypatch.setattr(searching, "EMBEDDED_S", 0.5)
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=paid)
    await ready(plane)
    endpoint.answer = lambda _: (429, {"Retry-After": "60"}, b"")
    reader = plane.acting(pp.Caller("ada", "acme"))[MemoSearch]
    with pytest.raises(StoreDown):
        await reader.search("anything")


async def test_what_came_before_a_failure_is_kept_and_counted(
    plane_of: PlaneOf, paid: pp.Settings, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there are never more of them than may be, nor older ones."""
    monkeypatch.setattr(embeddings, "_SLICE_TEXTS", 4)
    monkeypatch.setattr(embeddings, "_REQUESTS", 0)
    settings = paid.model_copy(update={"embedder_cache_rows": 3})
    plane = await plane_of(models=[Memo], projections=[MemoSearch], settings=settings)
    embedder, memory = plane.opened.stores.embedder, plane.embeddings
    assert embedder is not None
    texts, whose = [f"text {n}" for n in range(10)], [""] * 10
    real = embedder.embed

    async def breaks(some: Any) -> Any:
        if "text 8" in some:
            raise StoreDown("broken")
        return await real(some)

    with monkeypatch.context() as patch:
        patch.setattr(embedder, "embed", breaks)
        with pytest.raises(StoreDown):
            await memory.embed(embedder, texts, whose)
    assert await kept(plane) == 8
    vectors = await memory.embed(embedder, texts, whose)
    assert sorted(endpoint.texts) == sorted(texts)
    assert (vectors == await embedder.embed(texts)).all()

    old = "UPDATE polyplane.embedding SET used_at = now() - interval '%s days' WHERE mac IN"
    some = "(SELECT mac FROM polyplane.embedding ORDER BY used_at, mac LIMIT 5)"
    await by_hand(plane, f"{old} {some}".replace("%s", "31"))
    assert await memory.sweep() == 7
    assert await kept(plane) == 3
    await by_hand(plane, "UPDATE polyplane.embedding SET used_at = now() - interval '2 days'")
    await asyncio.gather(*(memory.embed(embedder, texts, whose) for _ in range(3)))
    fresh = "SELECT count(*) FROM polyplane.embedding WHERE used_at > now() - interval '1 hour'"
    assert await by_hand(plane, fresh) == [(10,)]
