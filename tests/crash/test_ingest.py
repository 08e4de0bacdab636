"""Whoever dies while documents are taken in: what was acknowledged is read, nothing is in part."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.contents import assistant
from polyplane.domains.assistant.course import ingest
from polyplane.domains.assistant.models import Document, DocumentChunk
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.model.blob import BlobState
from tests.conftest import PlaneOf
from tests.crash.children import Died
from tests.crash.nursery import Nursery

BATCH = 10
FILES = 4 * BATCH
WAIT_S = 60.0
CALLER = pp.Caller("crash")
KILLS = (
    ("blob.many_put", 2),
    ("blob.many_committing", 3),
    ("saga.remote_begun", 1),
    ("saga.remote_called", 1),
)


def fill(folder: Path) -> None:
    """Documents of some chunks each."""
    folder.mkdir()
    for number in range(FILES):
        words = f"All that there is to say about kettle {number}. " * 60
        (folder / f"{number}.md").write_text(f"# Kettle {number}\n\n{words}\n\n## More\n\n{words}")


async def halves(plane: pp.Plane) -> list[str]:
    """Documents that say another number of chunks than they have."""
    counted = sa.func.count(DocumentChunk.id)
    query = (
        sa.select(Document.name, Document.chunk_count, counted)
        .outerjoin(DocumentChunk, DocumentChunk.document_id == Document.id)
        .group_by(Document.id)
    )
    async with plane.acting(CALLER).read() as session:
        return [name for name, said, there in await session.execute(query) if said != there]


async def states(plane: pp.Plane) -> Counter[str]:
    """How many documents are in which state."""
    async with plane.acting(CALLER).read() as session:
        return Counter(await session.scalars(sa.select(Document.state)))


@pytest.mark.timeout(180)
async def test_a_killed_ingest_is_gone_on_with(
    own_settings: pp.Settings, plane_of: PlaneOf, tmp_path: Path
) -> None:
    fill(tmp_path / "folder")
    nursery = Nursery(Path(mkdtemp(prefix="polyplane-ingesters-")), "ingester")
    await nursery.start()
    names = ("database_url", "nats_url", "cache_url", "objects_url", "vector_url")
    given = {name: own_settings.url(name) for name in names}
    given |= {"home": str(own_settings.home), "namespace": own_settings.namespace}
    order = {"settings": given, "folder": str(tmp_path / "folder"), "batch": BATCH}
    try:
        for step, nth in KILLS:
            child = await nursery.bear()
            child.say(json.dumps({**order, "step": step, "nth": nth}))
            assert (await child.hear("blown", WAIT_S))["blown"] == step
            with suppress(Died):
                await asyncio.wait_for(child.gone.wait(), WAIT_S)
    finally:
        await nursery.stop()
    plane = await plane_of(applications=[assistant()])
    assert await halves(plane) == []
    taken = sum((await states(plane)).values())
    async with asyncio.timeout(WAIT_S):  # the sagas of the dead are taken up
        while set(await states(plane)) - {"ready"}:
            await asyncio.sleep(0.1)
    assert await halves(plane) == []
    report = await ingest(plane, CALLER, [tmp_path / "folder"])
    assert report.is_clean and report.is_settled
    assert (report.new, report.files) == (FILES - taken, FILES)
    assert await states(plane) == {"ready": FILES} and await halves(plane) == []
    drift = await plane.verify(ProcessedDocuments, DocumentChunks, pp.Blob, timeout_s=WAIT_S)
    assert drift.clean, drift
    blobs = await plane.blobs.list(states=[BlobState.COMMITTED], limit=200)
    assert len(blobs) == FILES  # none that no document refers to
