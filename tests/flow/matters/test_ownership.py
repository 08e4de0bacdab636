"""Which store owns what: the seed's matrix is in it, and it is true of real stores."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

import polyplane as pp
from polyplane.domains import agents, assistant, laboratory
from polyplane.domains.assistant.matters.models_made import ModelOutput
from polyplane.domains.assistant.matters.outputs import ModelOutputs
from polyplane.domains.assistant.models import Document, DocumentChunk
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.ops.ownership import Holding
from polyplane.runtime.declared import Declared
from polyplane.runtime.ownership import ownership_of

MATRIX = {
    "User Profiles": {"assistant.user_profiles"},
    "OAuth Tokens": {"assistant.oauth_tokens"},
    "Tasks": {"assistant.tasks"},
    "Messages": {"assistant.messages", "assistant.message_threads"},
    "Calendar Events": {"assistant.calendar_events", "assistant.calendar_overrides"},
    "Document Embeddings": {"processed_documents", "document_chunks"},
    "Document Chunks": {"document_chunks", "assistant.document_chunks"},
    "Search Indexes": {"processed_documents", "document_chunks", "model_outputs"},
    "AI Model Outputs": {"model_outputs", "assistant.model_outputs"},
}
"""The rows of the seed, and what they are here. What it has LanceDB own follows from a table: only
the embeddings and indexes are LanceDB's, and they can be made again."""


def holdings(*applications: pp.Application, **settings: object) -> dict[str, Holding]:
    """What there is, by name."""
    given = pp.Settings.load(environ={}, **settings)
    return {it.what: it for it in ownership_of(Declared.of(applications, (), (), ()), given)}


def test_every_row_of_the_seeds_matrix_is_there() -> None:
    found = holdings(assistant.application)
    for row, names in MATRIX.items():
        for name in names:
            holding = found[name]
            is_table = name.startswith("assistant.")
            assert holding.store == ("postgresql" if is_table else "lancedb"), row
            assert holding.is_owned == is_table, row
            assert all(found[source].is_owned for source in holding.follows_from), row


def test_it_is_read_off_the_declarations() -> None:
    applications = (laboratory.application, agents.application, assistant.application)
    found = holdings(*applications)
    declared = Declared.of(applications, (), (), ())
    assert {it.declared_as for it in found.values() if it.declared_as} == {
        it.__name__ for it in (*declared.models, *declared.projections, *declared.streams)
    }
    assert (found["telemetry"].store, found["telemetry"].is_owned) == ("clickhouse", True)
    assert (found["can_use"].store, found["can_use"].kind) == ("ladybug", "graph")
    assert found["blobs"].is_owned
    moved = holdings(
        assistant.application,
        vector_url="qdrant://127.0.0.1",
        vector_tables={"document_chunks": "pieces"},
    )
    assert (moved["pieces"].store, moved["pieces"].follows_from) == (
        "qdrant",
        ("assistant.document_chunks",),
    )
    with pytest.raises(pp.Misconfigured, match="no projection"):
        holdings(assistant.application, vector_tables={"document_chunk": "pieces"})
    with pytest.raises(pp.Misconfigured, match="another collection"):
        holdings(assistant.application, vector_tables={"document_chunks": "model_outputs"})


async def fill(plane: pp.Plane, caller: pp.Caller) -> None:
    """A document with chunks, and what a model made."""
    async with plane.acting(caller).write() as tx:
        told = {"tenant_id": caller.tenant, "owner_id": caller.user}
        document = Document(
            **told, source="upload", name="a", title="Kettles", chunk_count=2, summary="On kettles."
        )
        document.state, document.failure_code, document.failure_reason = "failed", "x", "x"
        output = ModelOutput(**told, model="m", purpose="p", prompt="x", content="A kettle boils.")
        tx.add_all([document, output])
        await tx.flush()
        for ordinal, text in enumerate(("Kettles boil water.", "They may be broken.")):
            tx.add(
                DocumentChunk(
                    **told,
                    document_id=document.id,
                    ordinal=ordinal,
                    start_at=0,
                    end_at=len(text),
                    text=text,
                    digest=f"{ordinal}",
                    chunker_version=1,
                )
            )


async def held(plane: pp.Plane, projection: type[pp.Vectors[Any, Any]]) -> dict[str, str | None]:
    """Key -> digest of what the store really holds of what readers read."""
    reading = plane.opened.generations.readings[projection.name]
    store = plane.opened.stores.vector
    assert store is not None
    found = [stamp async for page in store.scan(reading.collection) for stamp in page]
    return {stamp.key: stamp.digest for stamp in found if stamp.digest is not None}


async def test_what_follows_can_be_made_again_and_holds_nothing_else(
    plane: pp.Plane, ada: pp.Caller
) -> None:
    await fill(plane, ada)
    await plane.caught_up()
    every: list[type[pp.Vectors[Any, Any]]] = [ProcessedDocuments, DocumentChunks, ModelOutputs]
    for projection in every:
        before = await held(plane, projection)
        async with plane.acting(pp.Caller("tests", ada.tenant)).read() as session:
            for key in before:
                row: Any = await session.get(projection.model, UUID(key))
                assert row is None or row.tenant_id == ada.tenant
        rebuilt = await plane.rebuild(projection, timeout_s=60)
        assert rebuilt.collection != rebuilt.before
        assert await held(plane, projection) == before
        drift = await plane.verify(projection)
        assert (drift.missing, drift.stale, drift.extra) == (0, 0, 0)


async def test_another_name_is_another_collection_beside(
    own_settings: pp.Settings, tenant: str
) -> None:
    """Renamed while there is something in it, nothing is lost: it is built anew, then read."""
    caller = pp.Caller("tests", tenant)

    def plane_of(tables: dict[str, str]) -> pp.Plane:
        settings = own_settings.model_copy(update={"vector_tables": tables})
        return pp.Plane(applications=[assistant.application], settings=settings)

    async with plane_of({"model_outputs": "made_by_models"}) as plane:
        await fill(plane, caller)
        await plane.caught_up()
        before = await held(plane, ModelOutputs)
        assert len(before) == 1
        active = plane.opened.generations.row("model_outputs", "active")
        assert active is not None
        assert active.name == "made_by_models"
    async with plane_of({}) as plane:
        await plane.settled(None, ModelOutputs)
        await plane.opened.generations.current(["model_outputs"])
        assert await held(plane, ModelOutputs) == before
        active = plane.opened.generations.row("model_outputs", "active")
        assert active is not None
        assert active.name == "model_outputs_g2"
        assert (await plane.verify(ModelOutputs)).extra == 0
