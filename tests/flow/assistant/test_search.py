"""Documents are searched: with what truth says of them, and also when a store is down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy import make_url

import polyplane as pp
from polyplane.domains.assistant.contents import assistant
from polyplane.domains.assistant.models import Document, DocumentChunk
from polyplane.domains.assistant.searching import Among, search_documents, similar_documents
from polyplane.embedded import Engines
from polyplane.errors import TruthDown
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf, settings_in
from tests.flow.deeds import caller as a_caller
from tests.flow.things import by_hand

BASE = "http://127.0.0.1/api/v1/assistant/"
ADA, EVE = uuid4(), uuid4()
TEXTS = {
    "kettles": (
        "How to descale a kettle: boil vinegar in it.",
        "A kettle that leaks is repaired with solder.",
    ),
    "cats": ("Cats sleep all day, and hunt at night.", "A cat's whiskers tell how wide a gap is."),
    "tea": ("Tea leaves unfold in water that has just boiled.",),
}


@pytest.fixture(scope="module")
async def plane(
    engines: Engines, chdb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """The assistant with documents, for tests that only read."""
    settings = await settings_in(tmp_path_factory.mktemp("search"), engines, chdb_url)
    async with pp.Plane(applications=[assistant()], settings=settings) as plane:
        await fill(plane)
        yield plane


async def fill(plane: pp.Plane) -> None:
    """Some documents of everybody, one of Ada's and one of another tenant."""
    for title, texts in TEXTS.items():
        await put(plane, "acme", title, texts)
    await put(plane, "acme", "secret kettles", ["Ada's own kettle."], owner=ADA)
    await put(plane, "other", "their kettles", ["The kettle of others."])
    await plane.caught_up()


async def put(
    plane: pp.Plane, tenant: str, title: str, texts: Sequence[str], owner: UUID | None = None
) -> UUID:
    """A document that was read, as its saga leaves it; its id."""
    acting = plane.acting(caller(tenant=tenant, sees_all=True))
    blob = await acting.blobs.put(title.encode(), name=title)
    document = Document(
        id=uuid4(),
        tenant_id=tenant,
        owner_id=owner,
        source="folder",
        name=f"/{title}.md",
        title=title,
        media_type="text/plain" if title == "tea" else "text/markdown",
        state="ready",
        blob_id=blob.id,
        sha256=blob.sha256,
        chunker_version=1,
        chunk_count=len(texts),
        summary=" ".join(texts),
    )
    starts = [sum(map(len, texts[:ordinal])) for ordinal in range(len(texts))]
    async with acting.write() as tx:
        tx.add(document)
        await tx.session.flush()
        for ordinal, (at, text) in enumerate(zip(starts, texts, strict=True)):
            chunk = DocumentChunk(
                tenant_id=tenant,
                owner_id=owner,
                document_id=document.id,
                ordinal=ordinal,
                start_at=at,
                end_at=at + len(text),
                text=text,
                digest=blake2b(text.encode(), digest_size=16).hexdigest(),
                title=title,
                media_type=document.media_type,
                chunker_version=1,
            )
            tx.add(chunk)
    return document.id


@asynccontextmanager
async def client_of(plane: pp.Plane) -> AsyncIterator[AsyncClient]:
    """A client of the API, as the operator for the tenant acme."""
    transport = ASGITransport(app=create_app(plane, plane.declared.applications))
    headers = {"X-Tenant": "acme", "Authorization": f"Bearer {ops_token(plane.settings.home)}"}
    async with AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client


@pytest.fixture
async def client(plane: pp.Plane) -> AsyncIterator[AsyncClient]:
    """The same, of the plane of all tests."""
    async with client_of(plane) as client:
        yield client


def caller(user: UUID = EVE, tenant: str = "acme", *, sees_all: bool = False) -> pp.Caller:
    """Somebody of a tenant."""
    return a_caller(tenant, user, sees_all=sees_all)


async def titles(plane: pp.Plane, who: pp.Caller, question: str, **given: Any) -> set[str]:
    """The titles of the documents that are found."""
    answer = await search_documents(plane, who, question, **given)
    assert answer.degraded == ""
    return {it.document.title for it in answer.hits}


async def test_what_is_found_is_shown_with_truth(plane: pp.Plane, client: AsyncClient) -> None:
    answer = await search_documents(plane, caller(), "repairing leaking kettles")
    assert (answer.mode, answer.more, answer.degraded) == ("hybrid", False, "")
    first = answer.hits[0]
    assert first.document.title == "kettles"
    assert first.chunk.text == TEXTS["kettles"][1]
    marked = [first.chunk.text[start:end] for start, end in first.highlights]
    assert marked == ["kettle", "leaks", "repaired"]
    assert first.ranks == {"vector": 1, "text": 1}
    params = {"question": "repairing leaking kettles", "mode": "text"}
    got = (await client.get("search", params=params)).raise_for_status().json()
    asked = {"question": "repairing leaking kettles", "mode": "text", "limit": 2, "offset": 0}
    posted = (await client.post("search", json=asked)).raise_for_status().json()
    assert posted["hits"] == got["hits"][:2]
    hit = posted["hits"][0]
    assert hit["document"]["name"] == "/kettles.md"
    assert (hit["ordinal"], hit["start_at"]) == (1, len(TEXTS["kettles"][0]))
    assert [hit["text"][a:b] for a, b in hit["highlights"]] == marked
    assert hit["excerpt"] == [0, len(hit["text"])]
    assert (posted["degraded"], posted["reason"], hit["ranks"]) == (
        False,
        None,
        {"vector": None, "text": 1},
    )


async def test_who_finds_what(plane: pp.Plane) -> None:
    everybodys = {"kettles"}
    assert await titles(plane, caller(), "kettle", mode="text") == everybodys
    assert await titles(plane, caller(ADA), "kettle", mode="text") == {"kettles", "secret kettles"}
    seeing = caller(sees_all=True)
    assert await titles(plane, seeing, "kettle", mode="text") == {"kettles", "secret kettles"}
    other = caller(tenant="other")
    assert await titles(plane, other, "kettle") == {"their kettles"}
    assert await titles(plane, caller(tenant="nobody"), "kettle") == set()


async def test_filters_and_pages(plane: pp.Plane, client: AsyncClient) -> None:
    plain = Among(media_type="text/plain")
    assert await titles(plane, caller(), "boiling water", among=plain) == {"tea"}
    answer = await search_documents(plane, caller(), "kettle", mode="text", limit=1)
    assert (len(answer.hits), answer.more) == (1, True)
    further = await search_documents(plane, caller(), "kettle", mode="text", limit=1, offset=1)
    assert (len(further.hits), further.more) == (1, False)
    assert further.hits[0].chunk.id != answer.hits[0].chunk.id
    one = {"question": "kettle", "document_id": str(answer.hits[0].document.id)}
    found = (await client.post("search", json=one)).raise_for_status().json()
    assert {it["document"]["title"] for it in found["hits"]} == {"kettles"}
    wrongs: list[dict[str, Any]] = [
        {"question": ""},
        {"question": "x", "mode": "best"},
        {"question": "x", "limit": 0},
        {"question": "x", "offset": -1},
        {"question": "x" * 5_000},
        {"question": "x", "tenant_id": "other"},
        {},
    ]
    for wrong in wrongs:
        assert (await client.post("search", json=wrong)).status_code == 422, wrong
        assert (await client.get("search", params=wrong)).status_code == 422, wrong


async def test_documents_like_one(plane: pp.Plane, client: AsyncClient) -> None:
    rows = await by_hand(plane, "SELECT title, id FROM assistant.documents")
    ids: dict[Any, Any] = dict(rows)
    hits, more = await similar_documents(plane, caller(ADA), ids["kettles"])
    assert hits[0].document.title == "secret kettles"
    assert {it.document.title for it in hits} == {"secret kettles", "cats", "tea"}
    assert not more
    seen, _ = await similar_documents(plane, caller(EVE), ids["kettles"])
    assert {it.document.title for it in seen} == {"cats", "tea"}
    for hidden in ("secret kettles", "their kettles"):
        with pytest.raises(pp.NotFound):
            await similar_documents(plane, caller(EVE), ids[hidden])
    page = (await client.get(f"documents/{ids['cats']}/similar?limit=1")).raise_for_status().json()
    assert (len(page["hits"]), page["more"]) == (1, True)
    assert (await client.get(f"documents/{uuid4()}/similar")).status_code == 404


async def test_what_is_poorer_when_something_is_down(plane_of: PlaneOf) -> None:
    """First the vectors, then truth itself; before that, the vectors are only behind."""
    plane = await plane_of(applications=[assistant()])
    await fill(plane)
    async with client_of(plane) as client:
        await _without_vectors(plane, client)
        async with _no_database(plane):
            with pytest.raises(TruthDown):
                await search_documents(plane, caller(), "kettle")
            refused = await client.get("search", params={"question": "kettle"})
            assert refused.status_code == 503


async def test_what_is_gone_from_truth_is_left_out(plane_of: PlaneOf) -> None:
    """Though the vectors still have it: nobody projects any more."""
    plane = await plane_of(applications=[assistant()])
    await fill(plane)
    await plane.opened.crew.end("projector document_chunks")
    await by_hand(plane, "DELETE FROM assistant.documents WHERE title = 'kettles'")
    edited = "UPDATE assistant.document_chunks SET text = 'No samovar.' WHERE title = 'tea'"
    await by_hand(plane, edited)
    answer = await search_documents(plane, caller(), "kettle boiled", mode="text")
    assert [it.chunk.text for it in answer.hits] == ["No samovar."]
    assert answer.hits[0].highlights == ()


async def _without_vectors(plane: pp.Plane, client: AsyncClient) -> None:
    """PostgreSQL finds by words what each caller may see."""
    rows = await by_hand(plane, "SELECT title, id FROM assistant.documents")
    ids: dict[Any, Any] = dict(rows)
    _break_vectors(plane)
    answer = await search_documents(plane, caller(), "How do I repair a kettle that leaks?")
    assert answer.degraded.startswith("By words alone, from PostgreSQL: ")
    assert answer.hits[0].chunk.text == TEXTS["kettles"][1]
    assert {it.document.title for it in answer.hits} == {"kettles"}
    marked = [answer.hits[0].chunk.text[a:b] for a, b in answer.hits[0].highlights]
    assert marked == ["kettle", "leaks", "repaired"]
    theirs = await search_documents(plane, caller(ADA), "kettle")
    assert {it.document.title for it in theirs.hits} == {"kettles", "secret kettles"}
    others = await search_documents(plane, caller(tenant="other"), "kettle")
    assert {it.document.title for it in others.hits} == {"their kettles"}
    pages = [
        await search_documents(plane, caller(ADA), "kettle", limit=1, offset=at) for at in range(4)
    ]
    assert [len(it.hits) for it in pages] == [1, 1, 1, 0]
    assert [it.more for it in pages] == [True, True, False, False]
    assert len({it.hits[0].chunk.id for it in pages[:3]}) == 3
    plain = Among(media_type="text/plain")
    only = await search_documents(plane, caller(), "kettle boiled", among=plain)
    assert {it.document.title for it in only.hits} == {"tea"}
    for question in ("'", '"kettle', "kettle | !", "or", "the of", "a:* & b", "\\", "x" * 4_000):
        await search_documents(plane, caller(), question)
    shown = (await client.get("search", params={"question": "kettle"})).raise_for_status().json()
    assert shown["degraded"] is True
    assert shown["reason"].startswith("By words alone")
    assert (await client.get(f"documents/{ids['cats']}/similar")).status_code == 503


def _break_vectors(plane: pp.Plane) -> None:
    """As a disk that gives nothing back."""
    url = plane.settings.url("vector_url")
    assert url is not None
    for file in Path(url.removeprefix("lancedb://")).glob("*.lance/data/*"):
        file.write_bytes(b"")
    for folder in Path(url.removeprefix("lancedb://")).glob("*.lance/_indices/*/*"):
        folder.write_bytes(b"")


@asynccontextmanager
async def _no_database(plane: pp.Plane) -> AsyncIterator[None]:
    """Nobody gets in any more, and who is in is thrown out, until the block ends."""
    url = make_url(plane.settings.url("database_url") or "")
    server = url.set(database="postgres").render_as_string(hide_password=False)
    alter = f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS'
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as admin:
        await admin.execute(f"{alter} false".encode())
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [url.database],
        )
        try:
            yield
        finally:
            await admin.execute(f"{alter} true".encode())
