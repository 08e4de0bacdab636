"""One small application, for the tests of the command line."""

from __future__ import annotations

from typing import TypedDict
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.orm import Mapped

import polyplane as pp
from polyplane.web import Caller, PlaneOf, TokenHeader


class Note(pp.Model):
    """What is true."""

    __tablename__ = "cli_note"
    metadata = pp.metadata()

    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    body: Mapped[str]


class Tags(TypedDict):
    """What a search may filter by."""

    owner: str


class NoteSearch(pp.Vectors[Note, Tags]):
    """What follows from it, without an embedder."""

    dimensions = 2

    def derive(self, row: Note, /) -> pp.Vector[Tags]:
        """A vector from the lengths of its texts."""
        embedding = [float(len(row.body)), float(len(row.owner))]
        return pp.Vector(row.body, tags={"owner": row.owner}, embedding=embedding)


def routes() -> APIRouter:
    """One route to write with, and one to search with."""
    router = APIRouter()

    @router.post("/notes", status_code=201)
    async def create(plane: PlaneOf, caller: Caller, token: TokenHeader, body: str) -> UUID:
        note = Note(owner=caller.actor, body=body)
        async with plane.write(actor=caller.actor, tenant=caller.tenant) as tx:
            tx.add(note)
        assert tx.token is not None
        token.give(tx.token)
        return note.id

    @router.get("/search")
    async def search(plane: PlaneOf, token: TokenHeader) -> list[str]:
        await token.wait(NoteSearch)
        return [hit.text for hit in await plane[NoteSearch].search([1.0, 1.0], limit=100)]

    return router


application = pp.Application(
    name="notebook", models=[Note], projections=[NoteSearch], routes=routes
)
