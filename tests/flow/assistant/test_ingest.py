"""Folders go in once, by what has changed, and whole; removal takes everything along."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant import keeping, removing, room, writing
from polyplane.domains.assistant.arrivals import Arrival, Outcome
from polyplane.domains.assistant.course import ALL, IngestReport, Wanted, ingest
from polyplane.domains.assistant.models import Document, DocumentChunk
from polyplane.domains.assistant.parsing.parsed import CHUNKER_VERSION, Chunk, ChunkOptions, Parsed
from polyplane.domains.assistant.processing import Given, ReadDocuments, work_of
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.domains.assistant.verifying import process_document, verify_data_consistency
from polyplane.model.blob import BlobState

WITHIN_S = 60.0
PAGE = "# {name}\n\n{words}\n\n## Second\n\nMore about the {name}, in other words.\n"


def fill(folder: Path, *names: str) -> None:
    """Some documents, of an age at which their stamps are trusted."""
    for name in names:
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(name=name, words=f"All that is known of {name}. " * 80))


async def rows(plane: pp.Plane, caller: pp.Caller) -> dict[str, Document]:
    """The documents of the tenant, by the last part of their names."""
    async with plane.acting(caller).read() as session:
        query = sa.select(Document).where(Document.tenant_id == caller.tenant)
        return {Path(it.name).name: it for it in await session.scalars(query)}


async def chunks(plane: pp.Plane, caller: pp.Caller, document: UUID) -> dict[UUID, str]:
    """The chunks of a document in their order: id and text."""
    async with plane.acting(caller).read() as session:
        query = sa.select(DocumentChunk).where(DocumentChunk.document_id == document)
        found = await session.scalars(query.order_by(DocumentChunk.ordinal))
        return {it.id: it.text for it in found}


def counted(report: IngestReport) -> dict[str, Any]:
    """What is not zero of the report, but for times and sizes."""
    names = ("files", "new", "changed", "again", "unchanged", "skipped", "still_failed", "ready")
    more = ("failed", "gone", "removed", "chunks_new", "chunks_gone")
    return {name: value for name in names + more if (value := getattr(report, name))}


async def held(plane: pp.Plane, caller: pp.Caller) -> dict[str, int]:
    """How much of the tenant there is: rows, vectors, files."""
    acting = plane.acting(caller)
    async with acting.read() as session:
        counts = [
            (
                await session.execute(
                    sa.select(sa.func.count()).where(it.tenant_id == caller.tenant)
                )
            ).scalar_one()
            for it in (Document, DocumentChunk)
        ]
    await plane.caught_up(ProcessedDocuments, DocumentChunks, timeout_s=WITHIN_S)
    vectors = [
        len(await acting[it].search("anything", limit=100))
        for it in (ProcessedDocuments, DocumentChunks)
    ]
    blobs = await acting.blobs.list(states=[BlobState.COMMITTED], limit=200)
    names = ("documents", "chunks", "document vectors", "chunk vectors", "files")
    return dict(zip(names, [*counts, *vectors, len(blobs)], strict=True))


async def test_a_folder_goes_in_once(plane: pp.Plane, caller: pp.Caller, tmp_path: Path) -> None:
    """And again only what has changed; what fails stops nothing; removal takes all along."""
    fill(tmp_path, "kettles", "cats", "below/tea")
    (tmp_path / "same.md").write_bytes((tmp_path / "cats.md").read_bytes())
    (tmp_path / "empty.txt").touch()
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.7 and no more")
    first = await ingest(plane, caller, [tmp_path])
    assert counted(first) | {"chunks_new": 0} == {
        "files": 6, "new": 6, "ready": 4, "failed": 2, "chunks_new": 0
    }  # fmt: skip
    assert {Path(it.name).name for it in first.failures} == {"empty.txt", "torn.pdf"}
    assert all(it.code and it.reason for it in first.failures)
    assert first.is_whole and first.is_settled and not first.is_clean
    documents = await rows(plane, caller)
    assert {it.state for it in documents.values()} == {"ready", "failed"}
    cats, same = documents["cats.md"], documents["same.md"]
    assert cats.blob_id is not None and same.blob_id is not None
    acting = plane.acting(caller)
    one, other = [await acting.blobs.head(it) for it in (cats.blob_id, same.blob_id)]
    assert one.id != other.id and one.key == other.key  # one object
    hits = await plane.acting(caller)[DocumentChunks].search("what is known of tea", limit=1)
    assert hits[0].tags["document_id"] == str(documents["tea.md"].id)

    for wanted in (ALL, Wanted(check=True)):
        again = await ingest(plane, caller, [tmp_path], wanted)
        assert counted(again) == {"files": 6, "unchanged": 6, "still_failed": 2}

    before = await chunks(plane, caller, documents["kettles.md"].id)
    path = tmp_path / "kettles.md"
    path.write_text(path.read_text().replace("in other words", "in the same words"))
    (tmp_path / "cats.md").unlink()
    third = await ingest(plane, caller, [tmp_path], Wanted(remove_gone=True))
    assert (third.changed, third.gone, third.removed) == (1, 1, 1)
    assert (third.chunks_new, third.chunks_gone) == (1, 1)
    after = await chunks(plane, caller, documents["kettles.md"].id)
    assert len(after.keys() & before.keys()) == len(before) - 1  # the rest are the same rows
    found = await held(plane, caller)
    assert found["documents"] == found["files"] == 5
    assert found["document vectors"] == 3 and found["chunks"] == found["chunk vectors"] >= 3

    removed, _ = await removing.remove(
        plane, caller, [it.id for it in (await rows(plane, caller)).values()]
    )
    assert removed == 5
    assert set((await held(plane, caller)).values()) == {0}
    drift = await plane.verify(ProcessedDocuments, DocumentChunks, pp.Blob, timeout_s=WITHIN_S)
    assert drift.clean, drift


async def test_reading_again_touches_only_what_changes(
    plane: pp.Plane, caller: pp.Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "kettles", "cats")
    await ingest(plane, caller, [tmp_path])
    documents = await rows(plane, caller)
    before = {it.id: await chunks(plane, caller, it.id) for it in documents.values()}
    forced = await ingest(plane, caller, [tmp_path], Wanted(again=True))
    assert counted(forced) == {"files": 2, "again": 2, "ready": 2}
    assert forced.chunks_same == sum(map(len, before.values()))
    assert forced.chunks_moved == forced.chunks_gone == 0
    # A chunker of another version: what it cuts alike stays the row that it was.
    monkeypatch.setattr(keeping, "CHUNKER_VERSION", CHUNKER_VERSION + 1)
    monkeypatch.setattr(
        "polyplane.domains.assistant.processing.CHUNKER_VERSION", CHUNKER_VERSION + 1
    )
    newer = await ingest(plane, caller, [tmp_path])
    assert counted(newer) == {"files": 2, "again": 2, "ready": 2}
    assert {it.chunker_version for it in (await rows(plane, caller)).values()} == {
        CHUNKER_VERSION + 1
    }
    assert {it.id: await chunks(plane, caller, it.id) for it in documents.values()} == before
    again = await ingest(plane, caller, [tmp_path])
    assert counted(again) == {"files": 2, "unchanged": 2}


async def test_who_takes_in_the_same_at_once_takes_it_once(
    plane: pp.Plane, caller: pp.Caller, tmp_path: Path
) -> None:
    fill(tmp_path, *(f"page{number}" for number in range(12)))
    reports = await asyncio.gather(*(ingest(plane, caller, [tmp_path]) for _ in range(3)))
    assert sum(it.new for it in reports) == 12
    assert sum(it.ready for it in reports) == 12
    assert all(it.new + it.unchanged + it.again + it.changed == 12 for it in reports)
    documents = await rows(plane, caller)
    assert len(documents) == 12
    assert {it.state for it in documents.values()} == {"ready"}
    assert len(await plane.acting(caller).blobs.list(limit=200)) == 12  # and not one more
    drift = await plane.verify(DocumentChunks, pp.Blob, timeout_s=WITHIN_S)
    assert drift.clean, drift


async def test_what_was_read_of_an_older_content_is_not_written(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    taken = await keeping.take(plane, caller, [Arrival("upload", "a.md", b"# First\n\nOne.\n")])
    assert taken.work is not None and taken.landed[0].id is not None
    await work_of(plane, caller, taken.work, wait_s=WITHIN_S)
    document = taken.landed[0].id
    now = await keeping.take(plane, caller, [Arrival("upload", "a.md", b"# Second\n\nTwo.\n")])
    assert now.landed[0].outcome is Outcome.CHANGED and now.landed[0].id == document
    assert now.work is not None
    assert (await work_of(plane, caller, now.work, wait_s=WITHIN_S)).is_over
    kept = await chunks(plane, caller, document)
    async with plane.acting(caller).write() as tx:
        row = await tx.get(Document, document)
        assert row is not None
        row.state = "received"
    older = Parsed("text/markdown", "First", {}, 4, (Chunk(0, 0, 4, "One."),))
    late = writing.Read(document, "a.md", "0" * 64, older)
    done = await writing.write(plane, caller, [late], ChunkOptions(), CHUNKER_VERSION)
    assert not done and await chunks(plane, caller, document) == kept
    saga = await plane.acting(caller).sagas.start(ReadDocuments, Given(documents=[str(document)]))
    assert (await work_of(plane, caller, saga, wait_s=WITHIN_S)).chunks_same == len(kept)


async def test_a_bad_document_among_good_ones_fails_alone(
    plane: pp.Plane, caller: pp.Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What truth refuses, too; and a file that nobody gives any more."""
    files = [Arrival("upload", f"{n}.txt", f"text {n}".encode()) for n in range(5)]
    files.append(Arrival("upload", "nul.txt", b"a\0b\xff\xfe\0"))
    files.append(
        Arrival("upload", "denied.txt", None, code="unreachable", reason="Permission denied")
    )
    made = writing._outcome

    def outcome(it: writing.Read) -> Any:
        found, after = made(it)
        if it.name == "3.txt" and found[0] == "ready":  # as a parser of tomorrow may
            return (*found[:-2], -1, found[-1]), after
        return found, after

    monkeypatch.setattr(writing, "_outcome", outcome)
    taken = await keeping.take(plane, caller, files)
    assert taken.work is not None
    work = await work_of(plane, caller, taken.work, wait_s=WITHIN_S)
    documents = await rows(plane, caller)
    states = {name: (it.state, it.failure_code) for name, it in documents.items()}
    assert [states[f"{n}.txt"] for n in (0, 1, 2, 4)] == [("ready", None)] * 4
    assert states["3.txt"] == ("failed", "damaged")
    assert states["denied.txt"] == ("failed", "unreachable")
    assert documents["denied.txt"].blob_id is None
    assert work.ready >= 4 and "3.txt" in {it.name for it in work.failures}


async def test_links_lead_to_nothing_outside(
    plane: pp.Plane, caller: pp.Caller, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    fill(inside, "kettles")
    fill(outside, "secret")
    (inside / "out.md").symlink_to(outside / "secret.md")
    (inside / "in.md").symlink_to(inside / "kettles.md")
    (inside / "circle").symlink_to(inside)
    (inside / ".hidden.md").write_text("hidden")
    os.mkfifo(inside / "pipe.md")
    report = await ingest(plane, caller, [inside], Wanted(globs=["*.md"]))
    assert set(await rows(plane, caller)) == {"kettles.md", "in.md"}
    assert report.is_clean


async def test_the_functions_of_the_seed(plane: pp.Plane, caller: pp.Caller) -> None:
    """process_document stores metadata and embeddings; what is missing is read again."""
    document = uuid4()
    made = await process_document(
        plane, document, None, b"# Kettles\n\nThey whistle.\n", tenant=caller.tenant
    )
    assert made == {"postgres_id": str(document), "lancedb_status": "stored"}
    broken = await process_document(plane, uuid4(), None, b"", tenant=caller.tenant)
    assert broken["lancedb_status"].startswith("failed: ")
    async with plane.acting(caller).write() as tx:  # behind the back of who reads
        gone = sa.delete(DocumentChunk).where(DocumentChunk.document_id == document)
        await tx.execute(gone)
    found = await verify_data_consistency(plane, tenant=caller.tenant, timeout_s=WITHIN_S)
    assert str(document) in found.read_again
    assert found.after.clean
    assert await chunks(plane, caller, document)
    assert not (
        await verify_data_consistency(plane, tenant=caller.tenant, timeout_s=WITHIN_S)
    ).read_again


async def test_contents_on_their_way_are_few() -> None:
    contents = room.Contents(bytes_max=10)
    contents.keep("a", b"12345")
    contents.keep("b", b"12345")
    contents.keep("c", b"1")
    assert contents.take("a") is None
    assert contents.take("b") == b"12345" and contents.take("b") is None
    contents.keep("d", b"123456789")
    assert contents.take("c") == b"1" and contents.take("d") == b"123456789"
